/* oxlint-disable unicorn/no-thenable -- the API's word for what a transaction does */
import { Readable } from 'node:stream'
import { afterEach, expect, it } from 'vitest'
import {
  createKvClient,
  KvError,
  type BatchOperation,
  type KvClient,
  type KvClientOptions,
} from '../../../src/client/kv-client.ts'
import {
  BATCH_CODES,
  BATCH_CONTENT_TYPE,
  BatchReader,
  encodeBatchFrame,
  encodeBatchHead,
} from '../../../src/common/batch-framing.ts'
import { fakeGateway, sendProblem, type FakeGateway } from './fake-gateway.ts'

let gateway: FakeGateway | undefined
const clients: KvClient[] = []

async function against(
  answer: Parameters<typeof fakeGateway>[0],
  options: Partial<KvClientOptions> = {},
): Promise<{ kv: KvClient; seen: FakeGateway['seen'] }> {
  gateway = await fakeGateway(answer)
  const kv = createKvClient({ url: gateway.url, bucket: 'b', token: 'tgt_x', ...options })
  clients.push(kv)
  return { kv, seen: gateway.seen }
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  await gateway?.close()
  gateway = undefined
})

it.each([
  ['plain', '/kv/v1/b/plain'],
  ['a//b', '/kv/v1/b/a//b'],
  ['../x', '/kv/v1/b/../x'],
  ['.', '/kv/v1/b/.'],
  ['..', '/kv/v1/b/..'],
  ['%2e%2e/', '/kv/v1/b/%252e%252e/'],
  ['/', '/kv/v1/b//'],
  ['\0', '/kv/v1/b/%00'],
  ['a b?c#d&e=f', '/kv/v1/b/a%20b%3Fc%23d%26e%3Df'],
  ['日本/👋', '/kv/v1/b/%E6%97%A5%E6%9C%AC/%F0%9F%91%8B'],
  ['a\\b', '/kv/v1/b/a%5Cb'],
])('names key %j as it is', async (key, target) => {
  const { kv, seen } = await against((response) => response.end())
  await kv.get(key)
  expect(seen.map((request) => request.target)).toEqual([target])
})

it('refuses an empty key, which would name the bucket, and text that is none', async () => {
  const { kv, seen } = await against((response) => response.end())
  await expect(kv.delete('')).rejects.toMatchObject({ code: 'InvalidKey' })
  await expect(kv.get('\ud800')).rejects.toMatchObject({ code: 'InvalidKey' })
  expect(seen).toEqual([])
})

it('puts what it is told, in headers and parameters', async () => {
  const { kv, seen } = await against((response) =>
    response.writeHead(200, { etag: '"e"', 'x-tidegate-revision': '7', 'x-tidegate-pinned': '0' }).end(),
  )
  const result = await kv.put('k', 'grün', {
    ttlSeconds: 0.5,
    pinSeconds: 9,
    ifMatch: 6,
    ack: 'persisted',
    contentType: 'text/plain',
    metadata: { owner: 'me', name: '日本' },
  })
  expect(result).toEqual({ etag: 'e', revision: 7, expires: undefined, pinned: 0 })
  expect(seen[0]).toMatchObject({
    method: 'PUT',
    target: '/kv/v1/b/k?ttl=0.5&pin=9',
    body: Buffer.from('grün'),
    headers: {
      authorization: 'Bearer tgt_x',
      'content-length': '5',
      'content-type': 'text/plain',
      'if-match': '"r6"',
      'x-tidegate-ack': 'persisted',
      'x-tidegate-meta-owner': 'me',
      'x-tidegate-meta-name': '=?UTF-8?B?5pel5pys?=',
    },
  })
})

it('gets bytes with their attributes, and undefined where there is nothing', async () => {
  const { kv, seen } = await against((response, _request, number) => {
    if (number > 0) return sendProblem(response, 404, 'NoSuchKey')
    response
      .writeHead(206, {
        etag: '"e"',
        'content-type': 'text/plain',
        'content-range': 'bytes 2-5/100',
        'last-modified': 'Sun, 22 Nov 2026 10:00:00 GMT',
        'x-tidegate-revision': '7',
        'x-tidegate-expires': '2026-11-22T11:00:00.000Z',
        'x-tidegate-meta-name': '=?UTF-8?B?5pel5pys?=',
      })
      .end('\u0000\u0001ab')
  })
  const found = await kv.get('k', { range: { start: 2, end: 6 }, ifNoneMatch: 'old' })
  expect(found).toMatchObject({
    bytes: Buffer.from('\u0000\u0001ab'),
    etag: 'e',
    revision: 7,
    size: 100,
    contentType: 'text/plain',
    modified: new Date('2026-11-22T10:00:00Z'),
    expires: new Date('2026-11-22T11:00:00Z'),
    metadata: { name: '日本' },
    pinned: undefined,
  })
  expect(found?.text()).toBe('\u0000\u0001ab')
  expect(seen[0]?.headers).toMatchObject({ range: 'bytes=2-5', 'if-none-match': '"old"' })
  expect(await kv.get('k', { range: { last: 3 } })).toBeUndefined()
  expect(seen[1]?.headers).toMatchObject({ range: 'bytes=-3' })
  expect(await kv.head('k')).toBeUndefined()
})

it('rejects with what the problem document says', async () => {
  const { kv } = await against((response) => sendProblem(response, 412, 'PreconditionFailed'))
  const failure: unknown = await kv.put('k', 'v', { ifNoneMatch: '*' }).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(KvError)
  expect(failure).toMatchObject({
    code: 'PreconditionFailed',
    status: 412,
    detail: 'a detail of PreconditionFailed',
    requestId: '0123456789ABCDEF',
    problem: { key: 'k' },
  })
})

it('knows the code of an answer without a body', async () => {
  const { kv } = await against((response) => response.writeHead(304, { 'x-tidegate-error': 'NotModified' }).end())
  await expect(kv.head('k', { ifNoneMatch: 'e' })).rejects.toMatchObject({ code: 'NotModified', status: 304 })
})

const CAS = { ifMatch: 'e' }
it.each([
  ['a get, after 503', 503, 'Unavailable', (kv: KvClient) => kv.get('k'), 4],
  ['a put, after 503', 503, 'Unavailable', (kv: KvClient) => kv.put('k', 'v'), 4],
  ['a compare-and-swap, after 503', 503, 'Unavailable', (kv: KvClient) => kv.put('k', 'v', CAS), 1],
  ['a compare-and-swap that had no room', 503, 'SlowDown', (kv: KvClient) => kv.put('k', 'v', CAS), 4],
  ['an increment, after 503', 503, 'Unavailable', (kv: KvClient) => kv.increment('k'), 1],
  ['a transaction, after 503', 503, 'Unavailable', (kv: KvClient) => kv.transaction({}), 1],
  ['a stream', 503, 'SlowDown', (kv: KvClient) => kv.put('k', Readable.from([Buffer.from('v')])), 1],
  ['what is refused', 403, 'AccessDenied', (kv: KvClient) => kv.get('k'), 1],
] as const)('sends again only what cannot do harm: %s', async (_name, status, code, call, times) => {
  const { kv, seen } = await against((response) => sendProblem(response, status, code))
  await expect(call(kv)).rejects.toMatchObject({ code, status })
  expect(seen.length).toBe(times)
})

it.each([
  ['a get', (kv: KvClient) => kv.get('k'), 4],
  ['a delete', (kv: KvClient) => kv.delete('k'), 4],
  ['a compare-and-swap', (kv: KvClient) => kv.put('k', 'v', CAS), 1],
  ['a create', (kv: KvClient) => kv.put('k', 'v', { ifNoneMatch: '*' }), 1],
  ['an increment', (kv: KvClient) => kv.increment('k'), 1],
] as const)('does not send again blindly what got no answer: %s', async (_name, call, times) => {
  const { kv, seen } = await against((response) => response.destroy())
  await expect(call(kv)).rejects.toMatchObject({ code: 'NoAnswer', status: 0 })
  expect(seen.length).toBe(times)
})

it('gets an answer in the end', async () => {
  const { kv } = await against((response, _request, number) =>
    number < 2 ? sendProblem(response, 503, 'SlowDown') : response.end('here'),
  )
  expect((await kv.get('k'))?.text()).toBe('here')
})

it('says that nobody listens, and that nothing came in time', async () => {
  const { kv } = await against(() => undefined, { retries: 0, idleTimeoutMs: 50 })
  await expect(kv.get('k')).rejects.toMatchObject({ code: 'NoAnswer', detail: expect.stringContaining('50 ms') })
  await gateway?.close()
  await expect(kv.get('k')).rejects.toMatchObject({ code: 'NoAnswer', detail: expect.stringContaining('ECONNREFUSED') })
})

it('ends with the caller’s signal, as its reason', async () => {
  const { kv } = await against(() => undefined)
  const abort = new AbortController()
  const call = kv.get('k', { signal: abort.signal })
  setTimeout(() => abort.abort(), 20)
  await expect(call).rejects.toMatchObject({ name: 'AbortError' })
})

it('streams bodies up, with their length when it is known', async () => {
  const { kv, seen } = await against((response) => response.end())
  const chunks = [Buffer.alloc(70_000, 'a'), Buffer.alloc(70_000, 'b')]
  await kv.put('k', Readable.from(chunks), { size: 140_000 })
  await kv.put('k', ReadableStream.from(chunks))
  for (const request of seen) expect(request.body.equals(Buffer.concat(chunks))).toBe(true)
  expect(seen.map(({ headers }) => headers['content-length'])).toEqual(['140000', undefined])
})

it('fails with the source of a body', async () => {
  const { kv } = await against((response) => response.end())
  const source = new Readable({
    read() {
      this.destroy(new Error('the disk is gone'))
    },
  })
  await expect(kv.put('k', source)).rejects.toMatchObject({ detail: expect.stringContaining('the disk is gone') })
})

it('scans page after page, and tells a scan that broke off', async () => {
  const line = (key: string): string =>
    `${JSON.stringify({ key, revision: 1, etag: 'e', size: 1, modified: '2026-11-22T10:00:00Z', value: 'dg==' })}\n`
  const { kv, seen } = await against((response, request, number) => {
    if (request.target.includes('bad')) return void response.end(line('a'))
    if (request.target.includes('worse'))
      return void response.end(`${line('a')}{"error":{"code":"DataLost","status":500,"detail":"gone"}}\n`)
    response.write(`${line(`a${number}`)}{"page":{"revision":3,"cursor":"more"}}\n`)
    response.end(`${line(`b${number}`)}{"page":{"revision":4,"cursor":${number === 0 ? '"c/1"' : 'null'}}}\n`)
  })
  const keys: string[] = []
  for await (const entry of kv.scan({ prefix: 'p&', values: true }))
    keys.push(`${entry.key}=${entry.value?.toString()}`)
  expect(keys).toEqual(['a0=v', 'b0=v', 'a1=v', 'b1=v'])
  expect(seen.map(({ target }) => target)).toEqual([
    '/kv/v1/b?prefix=p%26&limit=10000&values=true',
    '/kv/v1/b?prefix=p%26&limit=10000&cursor=c%2F1&values=true',
  ])
  expect(await kv.scanPage({ reverse: true })).toMatchObject({ cursor: undefined, revision: 4 })
  expect(seen.at(-1)?.target).toBe('/kv/v1/b?reverse=true')
  await expect(kv.scanPage({ prefix: 'bad' })).rejects.toMatchObject({ code: 'NoAnswer' })
  await expect(kv.scanPage({ prefix: 'worse' })).rejects.toMatchObject({ code: 'DataLost' })
})

it('speaks of bytes and large numbers in transactions, not of base64 and strings', async () => {
  const { kv, seen } = await against((response) =>
    response.end(
      JSON.stringify({
        succeeded: true,
        revision: 15,
        results: [
          { exists: true, value: '/w==', revision: 7, size: 1 },
          { value: '9007199254740993', revision: 15 },
        ],
      }),
    ),
  )
  const result = await kv.transaction({
    compare: [{ key: 'c', target: 'value', operator: '=', operand: new Uint8Array([1]) }],
    then: [
      { op: 'get', key: 'a' },
      { op: 'increment', key: 'n', delta: 2n ** 62n },
    ],
    else: [{ op: 'put', key: 'p', value: 'me', ttlSeconds: 30 }],
  })
  expect(JSON.parse(seen[0]?.body.toString() ?? '')).toEqual({
    compare: [{ key: 'c', target: 'value', operator: '=', operand: 'AQ==' }],
    then: [
      { op: 'get', key: 'a' },
      { op: 'increment', key: 'n', delta: '4611686018427387904' },
    ],
    else: [{ op: 'put', key: 'p', value: 'bWU=', ttl: 30 }],
  })
  expect(result.results).toMatchObject([
    { op: 'get', exists: true, value: Buffer.from([255]) },
    { op: 'increment', value: 9_007_199_254_740_993n },
  ])
})

it('frames a batch without base64, and takes its answer apart however it is cut', async () => {
  const answered = Buffer.concat([
    encodeBatchHead('answer', 3),
    encodeBatchFrame({ code: 200, key: '', fields: { etag: 'e', revision: 7, modifiedMs: 5 }, valueBytes: 3 }),
    Buffer.from([0, 255, 10]),
    encodeBatchFrame({ code: 412, key: '', fields: { errorCode: 'PreconditionFailed' }, valueBytes: 0 }),
    encodeBatchFrame({ code: 204, key: '', fields: { existed: true, revision: 9 }, valueBytes: 0 }),
  ])
  const { kv, seen } = await against((response, _request, number) => {
    response.writeHead(200, { 'content-type': BATCH_CONTENT_TYPE })
    if (number === 1) return void response.end(answered.subarray(0, -1))
    for (const byte of answered) response.write(Buffer.from([byte]))
    response.end()
  })
  const operations: BatchOperation[] = [
    { op: 'get', key: '../a' },
    { op: 'put', key: 'p', value: Buffer.alloc(100_000, 'x'), ifMatch: 4, ttlSeconds: 0.5, metadata: { a: 'ä' } },
    { op: 'delete', key: 'd' },
  ]
  const results = await kv.batch(operations)
  expect(results).toMatchObject([
    { status: 200, value: Buffer.from([0, 255, 10]), etag: 'e', revision: 7, size: 3, modified: new Date(5) },
    { status: 412, code: 'PreconditionFailed', value: undefined },
    { status: 204, existed: true, revision: 9 },
  ])
  const pieces = [...new BatchReader('request').read(seen[0]?.body ?? Buffer.alloc(0))]
  expect(pieces.slice(0, 3)).toEqual([
    { kind: 'count', count: 3 },
    { kind: 'frame', frame: { code: BATCH_CODES.get, key: '../a', fields: {}, valueBytes: 0 } },
    {
      kind: 'frame',
      frame: {
        code: BATCH_CODES.put,
        key: 'p',
        fields: { ifMatch: '"r4"', ttlMs: 500, metadata: { a: 'ä' } },
        valueBytes: 100_000,
      },
    },
  ])
  await expect(kv.batch(operations)).rejects.toMatchObject({ code: 'NoAnswer' })
  const large = { op: 'put', key: 'l', value: Buffer.alloc(8 * 1024 * 1024 + 1) } as const
  await expect(kv.batch([large])).rejects.toMatchObject({ code: 'EntityTooLarge' })
  const long = { op: 'put', key: 'k'.repeat(1_025), value: '' } as const
  await expect(kv.batch([long])).rejects.toMatchObject({ code: 'KeyTooLong' })
  await expect(kv.batch([{ op: 'get', key: 'k'.repeat(8_193) }])).rejects.toMatchObject({ code: 'KeyTooLong' })
  await expect(kv.batch(Array(1_001).fill(operations[0]))).rejects.toMatchObject({ code: 'InvalidArgument' })
})
