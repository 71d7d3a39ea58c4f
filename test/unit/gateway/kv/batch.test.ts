import { hash } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { computeChecksum } from '../../../../src/common/checksums.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { send } from '../s3/door-harness.ts'
import { jsonOf, post, problemText } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

type Result = Readonly<Record<string, unknown>>

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerBatchRoute])
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
})
afterEach(() => kv.stop())

async function batch(operations: readonly unknown[], headers?: Record<string, string>): Promise<Result[]> {
  const answer = await post(kv, 'b:batch', { operations }, headers)
  expect(answer.text).toMatch(/^\{"results"/)
  return (jsonOf(answer) as unknown as { results: Result[] }).results
}

async function refusal(body: unknown): Promise<string> {
  return problemText(await post(kv, 'b:batch', body))
}

it('does many operations, each with a status of its own', async () => {
  const put = { op: 'put', key: 'a', text: 'blue', contentType: 'text/plain', metadata: { Owner: 'm\u00e9' } }
  await batch([put])
  const results = await batch([
    { op: 'get', key: 'a' },
    { op: 'get', key: 'none' },
    { op: 'exists', key: 'a' },
    { op: 'exists', key: 'none' },
    { op: 'delete', key: 'none' },
    { op: 'put', key: 'c', value: 'AAE=', ttl: 60 },
  ])
  const revision = expect.any(Number)
  expect(results).toEqual([
    {
      status: 200,
      value: 'Ymx1ZQ==',
      etag: hash('md5', 'blue'),
      revision,
      size: 4,
      contentType: 'text/plain',
      modified: '2023-11-14T22:13:20.000Z',
      metadata: { owner: 'm\u00e9' },
    },
    { status: 404, code: 'NoSuchKey', detail: expect.any(String) },
    { status: 200, exists: true },
    { status: 200, exists: false },
    { status: 204, existed: false, revision },
    { status: 200, etag: hash('md5', Buffer.from([0, 1])), revision, expires: '2023-11-14T22:14:20.000Z' },
  ])
})

it('stores what an S3 PUT stores', async () => {
  await batch([{ op: 'put', key: 'a', text: 'blue' }])
  const { checksum, owner, attributes } = await kv.store.objects.head({ bucket: 'b', key: 'a' }, {})
  expect(checksum).toEqual({
    algorithm: 'CRC64NVME',
    type: 'FULL_OBJECT',
    value: computeChecksum('CRC64NVME', Buffer.from('blue')),
  })
  expect([owner, attributes]).toEqual(['alice', { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }])
})

it('takes conditions by ETag and by revision', async () => {
  const [made] = await batch([{ op: 'put', key: 'a', text: '1', ifNoneMatch: '*' }])
  const results = await batch([
    { op: 'put', key: 'a', text: '2', ifNoneMatch: '*' },
    { op: 'put', key: 'a', text: '2', ifMatch: `"r${String(made?.['revision'])}"` },
    { op: 'put', key: 'a', text: '3', ifMatch: `"${String(made?.['etag'])}"` },
    { op: 'put', key: 'none', text: '', ifMatch: '*' },
    { op: 'delete', key: 'none', ifMatch: '"r1"' },
    { op: 'delete', key: 'a', ifMatch: `"${hash('md5', '2')}"` },
  ])
  expect(results.map(({ status }) => status)).toEqual([412, 200, 412, 412, 412, 204])
  expect(results[3]).toMatchObject({ code: 'PreconditionFailed' })
})

it('does operations on one key in their order, however many there are', async () => {
  const operations = Array.from({ length: 400 }, (_, index) =>
    index % 2 === 0 ? { op: 'put', key: 'k', text: `${index}` } : { op: 'get', key: 'k' },
  )
  const results = await batch(operations)
  const got = results.flatMap(({ value }) =>
    value === undefined ? [] : [Buffer.from(value as string, 'base64').toString()],
  )
  expect(got).toEqual(Array.from({ length: 200 }, (_, index) => `${index * 2}`))
})

it('reads values out of segments, and leaves nothing open (C12, C13)', async () => {
  const value = Buffer.alloc(300_000, 'x')
  await batch([{ op: 'put', key: 'large', value: value.toString('base64') }])
  const [result] = await batch([{ op: 'get', key: 'large' }])
  expect(Buffer.from(String(result?.['value']), 'base64').equals(value)).toBe(true)
  Object.assign(kv.store.reading, { read: () => Promise.reject(new TidegateError('DataLost', 'gone')) })
  expect(
    await batch([
      { op: 'get', key: 'large' },
      { op: 'exists', key: 'large' },
    ]),
  ).toEqual([
    { status: 500, code: 'DataLost', detail: 'gone' },
    { status: 200, exists: true },
  ])
  expect([kv.store.readers, kv.store.leases, kv.store.openBodies.size]).toEqual([0, 0, 0])
})

it('gets no value over 1 MiB, and no more than 16 MiB in all', async () => {
  const value = Buffer.alloc(1024 * 1024)
  const put = (key: string, bytes: Buffer): Promise<unknown> =>
    kv.store.objects.put({
      bucket: 'b',
      key,
      body: { kind: 'bytes', bytes, digests: { md5: '', checksums: {} } },
      attributes: { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' },
      checksum: undefined,
      owner: 'alice',
      conditions: {},
      ack: undefined,
    })
  await put('over', Buffer.alloc(value.length + 1))
  await put('just', value)
  expect((await batch([{ op: 'get', key: 'over' }]))[0]).toMatchObject({ status: 413, code: 'EntityTooLarge' })
  const results = await batch(Array.from({ length: 18 }, () => ({ op: 'get', key: 'just' })))
  expect(results.map(({ status }) => status)).toEqual([...Array<number>(16).fill(200), 413, 413])
  expect(kv.store.readers).toBe(0)
})

it('authorises each operation by itself (lesson 5.1.18)', async () => {
  await batch([{ op: 'put', key: 'a', text: '' }])
  kv.asked.length = 0
  kv.deny(({ action, key }) => action === 's3:GetObject' && key === 'a')
  const results = await batch(['get', 'exists', 'delete'].map((op) => ({ op, key: 'a' })))
  expect(results.map(({ status }) => status)).toEqual([403, 403, 204])
  expect(kv.asked.map(({ action, key }) => `${action} ${key}`)).toEqual([
    's3:GetObject a',
    's3:GetObject a',
    's3:DeleteObject a',
  ])
})

it('lets nobody unknown send a body (lesson 5.1.18)', async () => {
  const answer = await post(kv, 'b:batch', { operations: [] }, { 'x-test-user': 'anonymous' })
  expect(problemText(answer)).toMatch(/^401 Unauthenticated/)
})

it('refuses what is malformed by its place, before anything is done', async () => {
  const put = { op: 'put', key: 'a', text: '' }
  const refused = (...operations: unknown[]): Promise<string> => refusal({ operations: [put, ...operations] })
  expect(await refused({ op: 'fetch', key: 'a' })).toBe(
    '400 InvalidArgument: the member "operations[1].op" must be one of get, put, delete, exists',
  )
  expect(await refused({ op: 'get' })).toMatch(/"operations\[1\].key" is missing/)
  expect(await refused({ op: 'get', key: '' })).toMatch(/"operations\[1\].key" is empty/)
  expect(await refused({ op: 'get', key: 'a', ttl: 3 })).toMatch(/"operations\[1\].ttl" is not known here/)
  expect(await refused({ op: 'put', key: 'a' })).toMatch(/needs either "value" or "text"/)
  expect(await refused({ op: 'put', key: 'a', value: '!' })).toMatch(/"operations\[1\].value" is no base64/)
  expect(await refused({ op: 'put', key: 'a', text: '', ttl: 0 })).toMatch(/"operations\[1\].ttl" is no number from/)
  expect(await refused({ op: 'put', key: 'a', text: '', metadata: { a: 1 } })).toMatch(/metadata.a" is no text/)
  expect(await refused({ op: 'put', key: 'a', text: '', metadata: { 'a b': '' } })).toMatch(/"a b" cannot be sent/)
  expect(await refused({ op: 'put', key: 'a', text: '', metadata: { a: 'x\ny' } })).toMatch(/control character/)
  expect(await refused({ op: 'put', key: 'a', text: '', contentType: 'a\r\nb: c' })).toMatch(/content type/)
  expect(await refused({ op: 'put', key: 'a', text: '', contentType: 'a'.repeat(1025) })).toMatch(/1025 characters/)
  expect(await refused(7)).toMatch(/"operations\[1\]" is no object/)
  expect(await refusal({ operations: Array.from({ length: 1001 }, () => put) })).toMatch(/more than 1000/)
  expect(await refusal({ operations: {} })).toMatch(/"operations" is no list/)
  expect(await refusal({ operations: [], more: 1 })).toMatch(/"more" is not known here/)
  expect(await refusal('{"operations": [')).toMatch(/^400 InvalidRequest/)
  const large = { op: 'put', key: 'a', value: Buffer.alloc(1024 * 1024 + 1).toString('base64') }
  expect(await refused(large)).toMatch(/^413 EntityTooLarge/)
  expect(await kv.store.keyValues.exist('b', ['a'])).toMatchObject({ exist: [false] })
})

it('refuses unknown parameters, types and levels', async () => {
  const body = { operations: [] }
  expect(problemText(await post(kv, 'b:batch?x=1', body))).toMatch(/unknown parameter "x"/)
  expect((await post(kv, 'b:batch', body, { 'content-type': 'text/xml' })).status).toBe(415)
  expect(problemText(await post(kv, 'b:batch', body, { 'x-tidegate-ack': 'soon' }))).toMatch(/x-tidegate-ack "soon"/)
  expect((await send(kv.port, 'GET /kv/v1/b:batch')).status).toBe(405)
})

it('holds a signed body to its signature (lesson 5.1.6)', async () => {
  const body = JSON.stringify({ operations: [{ op: 'put', key: 'a', text: 'x' }] })
  const signed = (sha256: string) => post(kv, 'b:batch', body, { 'x-amz-content-sha256': sha256 })
  expect(problemText(await signed(hash('sha256', 'another')))).toMatch(/^400 BadDigest/)
  expect(await kv.store.keyValues.exist('b', ['a'])).toMatchObject({ exist: [false] })
  expect((await signed(hash('sha256', body))).status).toBe(200)
})

it('refuses a body that is no UTF-8, in which two keys would become one (lesson 5.1.11)', async () => {
  const body = Buffer.from('{"operations":[{"op":"put","key":"k\xff","text":""}]}', 'latin1')
  const answer = await send(kv.port, 'POST /kv/v1/b:batch', { body, headers: { 'content-type': 'application/json' } })
  expect(problemText(answer)).toBe('400 InvalidRequest: the body is not UTF-8')
  expect(await kv.store.keyValues.exist('b', ['k\ufffd'])).toMatchObject({ exist: [false] })
})
