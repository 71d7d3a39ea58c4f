/** `GET|HEAD|PUT|DELETE /kv/v1/{bucket}/{key}` with curl and with the client, by every form of authentication. */
// needs: curl
import { createHash, randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { basic, bearer, sigv4 } from '../../support/curl.ts'
import { runTidegate } from '../../support/command-line.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'
import type { KvClient } from '../../../src/client/kv-client.ts'

const suite = useKv(['--buckets', 'kvs'])
const { curl } = suite
let kv: KvClient
let token = ''

beforeAll(async () => {
  kv = suite.client('kvs')
  const { http, root } = suite.gateway
  const made = await runTidegate(
    ['token', 'create', '--name', 'all', '--verb', 'read', '--verb', 'write', '--verb', 'delete'],
    {
      TIDEGATE_GATEWAY: http,
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
    },
  )
  token = /tgt_\S+/.exec(made.output)?.[0] ?? ''
})

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}

describe.each([
  ['Basic', () => basic(suite.gateway.root)],
  ['a bearer token', () => bearer(token)],
  ['SigV4', () => sigv4(suite.gateway.root)],
] as const)('by %s, curl', (name, credentials) => {
  const target = `/kvs/form/${encodeURIComponent(name)}`

  it('puts, gets, heads and deletes', async () => {
    const as = credentials()
    const put = await curl(target, ['-X', 'PUT', '-H', 'Content-Type: text/plain', '--data-binary', '@-'], {
      as,
      stdin: 'blue',
    })
    expect([put.status, put.text]).toEqual([200, ''])
    expect(put.headers['etag']).toBe('"48d6215903dff56238e52e8891380c8f"')
    const revision = Number(put.headers['x-tidegate-revision'])
    expect(revision).toBeGreaterThan(0)
    expect(put.headers['x-tidegate-expires']).toBeUndefined()

    const got = await curl(target, [], { as })
    expect([got.status, got.text]).toEqual([200, 'blue'])
    expect(got.headers).toMatchObject({
      etag: '"48d6215903dff56238e52e8891380c8f"',
      'content-type': 'text/plain',
      'content-length': '4',
      'accept-ranges': 'bytes',
      'last-modified': expect.stringMatching(/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/),
      'x-tidegate-revision': String(revision),
    })

    const head = await curl(target, ['--head'], { as })
    expect([head.status, head.headers['content-length'], head.headers['etag']]).toEqual([200, '4', got.headers['etag']])
    expect(head.headers['x-tidegate-revision']).toBe(String(revision))

    const deleted = await curl(target, ['-X', 'DELETE'], { as })
    expect([deleted.status, deleted.text, deleted.headers['x-tidegate-existed']]).toEqual([204, '', 'true'])
    expect(Number(deleted.headers['x-tidegate-revision'])).toBeGreaterThan(revision)
    const again = await curl(target, ['-X', 'DELETE'], { as })
    expect([again.status, again.headers['x-tidegate-existed']]).toEqual([204, 'false'])
    expect(problemOf(await curl(target, [], { as }))).toBe('404 NoSuchKey')
  })
})

it('answers a HEAD of nothing without a body, the code in a header', async () => {
  const head = await curl('/kvs/nothing', ['--head'])
  expect([head.status, head.headers['x-tidegate-error']]).toEqual([404, 'NoSuchKey'])
  const bucket = await curl('/no-such-bucket/nothing', ['--head'])
  expect([bucket.status, bucket.headers['x-tidegate-error']]).toEqual([404, 'NoSuchBucket'])
})

it.each([0, 1, 4_096, 4_097, 65_536, 300_000, 3_000_000, 12_000_000])('keeps %i bytes as they are', async (size) => {
  const bytes = randomBytes(size)
  const key = `size/${size}`
  const put = await kv.put(key, bytes)
  expect(put.etag).toBe(md5(bytes))
  const found = await kv.get(key)
  expect(found?.bytes.equals(bytes)).toBe(true)
  expect(found).toMatchObject({ etag: put.etag, revision: put.revision, size, contentType: 'application/octet-stream' })
  const got = await curl(`/kvs/${key}`)
  expect(got.body.equals(bytes)).toBe(true)
  expect(got.headers['etag']).toBe(`"${put.etag}"`)
})

it('keeps the representation headers and metadata, and gives them back', async () => {
  const headers = {
    'Content-Type': 'text/html; charset=utf-8',
    'Cache-Control': 'max-age=60',
    'Content-Disposition': 'attachment; filename="a b.html"',
    'Content-Encoding': 'br',
    'Content-Language': 'de',
    Expires: 'Sun, 22 Nov 2026 10:00:00 GMT',
    'X-Tidegate-Meta-Owner': 'me',
    'X-Tidegate-Meta-Odd_Name.1': 'a; b=c',
  }
  const flags = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
  expect((await curl('/kvs/attributes', ['-X', 'PUT', '--data-binary', 'x', ...flags])).status).toBe(200)
  const got = await curl('/kvs/attributes')
  for (const [name, value] of Object.entries(headers)) expect(got.headers[name.toLowerCase()], name).toBe(value)
  expect(await kv.head('attributes')).toMatchObject({
    contentType: 'text/html; charset=utf-8',
    cacheControl: 'max-age=60',
    contentDisposition: 'attachment; filename="a b.html"',
    contentEncoding: 'br',
    contentLanguage: 'de',
    httpExpires: 'Sun, 22 Nov 2026 10:00:00 GMT',
    metadata: { owner: 'me', 'odd_name.1': 'a; b=c' },
  })
  // A put replaces all of it.
  await kv.put('attributes', 'y', { metadata: { name: '日本 ü' } })
  const replaced = await kv.get('attributes')
  expect(replaced).toMatchObject({ contentType: 'application/octet-stream', metadata: { name: '日本 ü' } })
  expect(replaced?.cacheControl).toBeUndefined()
})

it('takes any content type as bytes, form data and broken JSON among them', async () => {
  for (const type of [
    'application/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'text/plain',
    'x/y',
  ]) {
    const put = await curl('/kvs/type', ['-X', 'PUT', '-H', `Content-Type: ${type}`, '--data-binary', '{"a":'])
    expect(put.status, type).toBe(200)
    const got = await curl('/kvs/type')
    expect([got.headers['content-type'], got.text]).toEqual([type, '{"a":'])
  }
  expect((await curl('/kvs/type', ['-X', 'PUT', '-H', 'Content-Type:', '--data-binary', 'x'])).status).toBe(200)
  expect((await curl('/kvs/type')).headers['content-type']).toBe('application/octet-stream')
})

it('refuses more than 2 KiB of metadata', async () => {
  const put = await curl('/kvs/meta', [
    '-X',
    'PUT',
    '-H',
    `x-tidegate-meta-a: ${'x'.repeat(2_100)}`,
    '--data-binary',
    'x',
  ])
  expect(problemOf(put)).toMatch(/^400 /)
  await kv.put('meta', 'x', { metadata: { a: 'x'.repeat(2_000) } })
  expect((await kv.head('meta'))?.metadata['a']?.length).toBe(2_000)
})

it('checks Content-MD5 before anything is published', async () => {
  const digest = createHash('md5').update('right').digest('base64')
  const right = await curl('/kvs/md5', ['-X', 'PUT', '-H', `Content-MD5: ${digest}`, '--data-binary', 'right'])
  expect(right.status).toBe(200)
  const wrong = await curl('/kvs/md5', ['-X', 'PUT', '-H', `Content-MD5: ${digest}`, '--data-binary', 'wrong'])
  expect(problemOf(wrong)).toBe('400 BadDigest')
  expect((await kv.get('md5'))?.text()).toBe('right')
})

it('gives every write of a key a greater revision', async () => {
  const revisions: number[] = []
  for (let round = 0; round < 5; round++) {
    revisions.push((await kv.put('grows', String(round))).revision, (await kv.delete('grows')).revision)
  }
  expect(revisions).toEqual(revisions.toSorted((one, other) => one - other))
  expect(new Set(revisions).size).toBe(revisions.length)
})

it.each(['memory', 'journal', 'persisted'] as const)('acknowledges a put as %s', async (ack) => {
  const put = await curl(`/kvs/ack/${ack}`, ['-X', 'PUT', '-H', `x-tidegate-ack: ${ack}`, '--data-binary', ack])
  expect(put.status, put.text).toBe(200)
  await kv.put(`ack/client-${ack}`, ack, { ack })
  expect([(await kv.get(`ack/${ack}`))?.text(), (await kv.get(`ack/client-${ack}`))?.text()]).toEqual([ack, ack])
  expect((await kv.delete(`ack/${ack}`, { ack: ack === 'persisted' ? 'journal' : ack })).existed).toBe(true)
})

it('refuses levels that there are not, and those that need more than one node', async () => {
  const level = (name: string): Promise<string> =>
    curl('/kvs/ack/x', ['-X', 'PUT', '-H', `x-tidegate-ack: ${name}`, '--data-binary', 'x']).then(problemOf)
  expect(await level('never')).toBe('400 InvalidArgument')
  expect(await level('replicated')).toMatch(/^(?:400|501) /)
  expect(await kv.get('ack/x')).toBeUndefined()
})

it('pins values in memory and says how many bytes it holds', async () => {
  expect((await kv.put('pin/small', 'x', { pinSeconds: 60 })).pinned).toBe(0)
  const put = await curl('/kvs/pin/large?pin=300', ['-X', 'PUT', '--data-binary', '@-'], {
    stdin: randomBytes(2_000_000),
  })
  expect(Number(put.headers['x-tidegate-pinned'])).toBeGreaterThanOrEqual(2_000_000)
  expect((await kv.head('pin/large', { pinSeconds: 60 }))?.pinned).toBeGreaterThanOrEqual(2_000_000)
  expect((await kv.get('pin/large', { pinSeconds: 0 }))?.pinned).toBe(0)
  expect((await kv.get('pin/large'))?.pinned).toBeUndefined()
  for (const pin of ['-1', '86401', 'x', '']) {
    expect(problemOf(await curl(`/kvs/pin/large?pin=${pin}`)), `pin=${pin}`).toBe('400 InvalidArgument')
  }
})
