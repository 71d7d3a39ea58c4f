import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { decodeCursor, encodeCursor } from '../../../../src/gateway/kv/scan-cursor.ts'
import { registerScanOrWatchRoute } from '../../../../src/gateway/kv/scan-or-watch.ts'
import { send, type Answer } from '../s3/door-harness.ts'
import { problemText, putValue } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

interface Line {
  key?: string
  page?: { revision: number; cursor: string | null }
  [member: string]: unknown
}

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerScanOrWatchRoute, registerBatchRoute])
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
})
afterEach(() => kv.stop())

function scan(query = '', headers: Record<string, string> = {}): Promise<Answer> {
  return send(kv.port, `GET /kv/v1/b${query}`, { headers })
}

function linesOf(answer: Answer): Line[] {
  expect(answer.headers['content-type']).toBe('application/x-ndjson')
  expect(answer.text.endsWith('\n')).toBe(true)
  return answer.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
}

const keysOf = (lines: readonly Line[]): string[] => lines.flatMap(({ key }) => (key === undefined ? [] : [key]))

it('lists keys in order with what the entry says, and closes the page', async () => {
  await putValue(kv, 'b"\n\u00e9', 'blue')
  await putValue(kv, 'a', 'green!')
  const lines = linesOf(await scan())
  const entry = { etag: expect.stringMatching(/^[0-9a-f]{32}$/), modified: '2023-11-14T22:13:20.000Z' }
  expect(lines).toEqual([
    { ...entry, key: 'a', size: 6, revision: expect.any(Number) },
    { ...entry, key: 'b"\n\u00e9', size: 4, revision: expect.any(Number) },
    { page: { revision: expect.any(Number), cursor: null } },
  ])
})

it('takes prefix, start, end, reverse, limit and keys', async () => {
  for (const key of ['a', 'b/1', 'b/2', 'b/3', 'c']) await putValue(kv, key, key)
  const keys = async (query: string): Promise<string[]> => keysOf(linesOf(await scan(query)))
  expect(await keys('?prefix=b%2F')).toEqual(['b/1', 'b/2', 'b/3'])
  expect(await keys('?start=b/2&end=c')).toEqual(['b/2', 'b/3'])
  expect(await keys('?reverse=true&limit=2')).toEqual(['c', 'b/3'])
  expect(linesOf(await scan('?keys=true&prefix=a'))).toEqual([{ key: 'a' }, { page: expect.any(Object) }])
})

it('goes on where a cursor says, until there is no more (C31)', async () => {
  const wanted = Array.from({ length: 25 }, (_, index) => `k${String(index).padStart(2, '0')}`)
  for (const key of wanted) await putValue(kv, key, key)
  const seen: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const lines: Line[] = linesOf(await scan(`?limit=7${cursor === '' ? '' : `&cursor=${cursor}`}`))
    seen.push(...keysOf(lines))
    cursor = lines.at(-1)?.page?.cursor ?? null
  }
  expect(seen).toEqual(wanted)
})

it('streams more than a page, a page line after each', async () => {
  const operations = Array.from({ length: 1000 }, (_, index) => ({ op: 'put', key: `k${1000 + index}`, text: '' }))
  for (const half of [operations, operations.map((each) => ({ ...each, key: `x${each.key}` }))]) {
    await send(kv.port, 'POST /kv/v1/b:batch', {
      body: JSON.stringify({ operations: half }),
      headers: { 'content-type': 'application/json' },
    })
  }
  const lines = linesOf(await scan('?limit=1500&keys=true'))
  expect(keysOf(lines)).toHaveLength(1500)
  expect(lines.flatMap((line, index) => (line.page ? [index] : []))).toEqual([1000, 1501])
  expect(lines.at(-1)?.page?.cursor).not.toBeNull()
  expect(kv.outcomes.at(-1)).toMatchObject({ operation: 'KvScan', status: 200, bytesOut: expect.any(Number) })
})

it('brings values along, and leaves no reader or lease behind (C12, C13)', async () => {
  await putValue(kv, 'large', Buffer.alloc(100_000, 'x'))
  await putValue(kv, 'small', 'tiny')
  const [large, small] = linesOf(await scan('?values=true'))
  expect(Buffer.from(String(large?.['value']), 'base64').equals(Buffer.alloc(100_000, 'x'))).toBe(true)
  expect(small).toMatchObject({ value: 'dGlueQ==', contentType: 'application/octet-stream' })
  expect([kv.store.readers, kv.store.leases]).toEqual([0, 0])
})

it('shows no value that may not be read', async () => {
  await putValue(kv, 'open', 'o')
  await putValue(kv, 'secret', Buffer.alloc(10_000))
  kv.deny(({ action, key }) => action === 's3:GetObject' && key === 'secret')
  const lines = linesOf(await scan('?values=true'))
  expect(lines[0]).toMatchObject({ key: 'open', value: 'bw==' })
  expect(lines[1]).toMatchObject({ key: 'secret', value: null, denied: true })
  expect(kv.store.readers).toBe(0)
})

it('authorises listing, with the prefix as a fact for policies (C35)', async () => {
  await scan('?prefix=p%2F')
  expect(kv.asked).toMatchObject([{ action: 's3:ListBucket', bucket: 'b', context: { 's3:prefix': 'p/' } }])
  kv.deny(({ action }) => action === 's3:ListBucket')
  expect(problemText(await scan())).toMatch(/^403 AccessDenied/)
  expect((await scan('', { 'x-test-user': 'anonymous' })).status).toBe(401)
})

it('refuses parameters that it does not know or understand, by name (C36)', async () => {
  const refused = async (query: string): Promise<string> => problemText(await scan(query))
  expect(await refused('?colour=red')).toBe('400 InvalidArgument: unknown parameter "colour"')
  expect(await refused('?prefix=a&prefix=b')).toBe(
    '400 InvalidArgument: the parameter "prefix" is given more than once',
  )
  expect(await refused('?limit=0')).toMatch(/"limit" "0" is no whole number from 1 to 100000/)
  expect(await refused('?limit=ten')).toMatch(/"limit" must have the form/)
  expect(await refused('?reverse=yes')).toMatch(/"reverse" must be one of true, false/)
  expect(await refused('?cursor=nonsense')).toMatch(/"cursor" "nonsense" is none that a scan gave/)
  expect(await refused('?keys=true&values=true')).toMatch(/exclude each other/)
  expect(await refused('?from=7')).toMatch(/"from" is for watch=true/)
  expect(problemText(await send(kv.port, 'GET /kv/v1/nowhere'))).toMatch(/^404 NoSuchBucket/)
})

it('takes the parameters of a presigned URL out of the query', async () => {
  expect((await scan('?X-Amz-Signature=abc&X-Amz-Date=d&limit=1')).status).toBe(200)
})

it('ends with an error line when something fails in the middle', async () => {
  for (const key of ['a', 'b']) await putValue(kv, key, Buffer.alloc(5000))
  const whole = kv.store.keyValues.scan.bind(kv.store.keyValues)
  let pages = 0
  Object.assign(kv.store.keyValues, {
    scan: async (request: Parameters<typeof whole>[0]) => {
      if (pages++ > 0) throw new TidegateError('DataLost', 'gone')
      return await whole({ ...request, limit: 1 })
    },
  })
  const lines = linesOf(await scan())
  expect(lines.map((line) => Object.keys(line)[0])).toEqual(['key', 'page', 'error'])
  expect(lines[2]?.['error']).toMatchObject({ code: 'DataLost', status: 500 })
  expect(kv.outcomes.at(-1)).toMatchObject({ operation: 'KvScan' })
})

it('closes all readers when a value cannot be read', async () => {
  for (const key of ['a', 'b', 'c']) await putValue(kv, key, Buffer.alloc(5000))
  Object.assign(kv.store.reading, { read: () => Promise.reject(new TidegateError('DataLost', 'gone')) })
  expect(problemText(await scan('?values=true'))).toMatch(/^500 DataLost/)
  expect(kv.store.readers).toBe(0)
})

it('has cursors that stand for any key, and refuses all else', () => {
  for (const key of ['a', 'a/b', '\u{1F600}\n', '\0']) expect(decodeCursor(encodeCursor(key))).toBe(key)
  for (const bad of ['', 'MQ', 'Mg', '!!', `${encodeCursor('a')}=`, 'Mf8'])
    expect(() => decodeCursor(bad)).toThrow('cursor')
})

it('reads parameters as the one canonicaliser does (lesson 5.1.11)', async () => {
  await putValue(kv, '\u00e9 1', 'x')
  expect(keysOf(linesOf(await scan('?prefix=%C3%A9+&keys=true')))).toEqual(['\u00e9 1'])
  for (const query of ['?prefix=%ff', '?prefix=%', '?%zz=1', '?__proto__=%C3']) {
    expect(problemText(await scan(query))).toMatch(/^400 InvalidArgument.*is not percent-encoded UTF-8/)
  }
  expect(problemText(await scan('?prefix=a&prefix=b'))).toMatch(/"prefix" is given more than once/)
  expect(problemText(await scan('?__proto__=1'))).toMatch(/unknown parameter "__proto__"/)
})

it('holds a few values for a client that does not read, not a page of them', async () => {
  for (let index = 0; index < 12; index++) await putValue(kv, `k${index}`, 'x'.repeat(1024 * 1024))
  const socket = connect(kv.port, '127.0.0.1')
  const head = once(socket, 'data')
  socket.write('GET /kv/v1/b?values=true HTTP/1.1\r\nHost: x\r\n\r\n')
  await head
  socket.pause()
  await new Promise((resolve) => setTimeout(resolve, 300))
  // Those that were not read yet are open still: they take no memory.
  expect(kv.store.readers).toBeGreaterThan(0)
  socket.destroy()
  await expect.poll(() => [kv.store.readers, kv.store.leases]).toEqual([0, 0])
})
