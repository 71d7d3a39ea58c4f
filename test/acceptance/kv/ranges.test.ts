/** Ranges of a value: one, several, and such as cannot be had (RFC 9110, 14). */
// needs: curl
import { randomBytes } from 'node:crypto'
import { beforeAll, expect, it } from 'vitest'
import { problemOf, useKv } from '../../support/kv-suite.ts'
import type { CurlAnswer } from '../../support/curl.ts'

const suite = useKv(['--buckets', 'kvs'])
const { curl } = suite
/** Inline; of several blocks. */
const VALUES = { small: randomBytes(1_000), large: randomBytes(5_500_000) }
beforeAll(async () => {
  const kv = suite.client('kvs')
  for (const [key, bytes] of Object.entries(VALUES)) await kv.put(key, bytes, { contentType: 'text/x' })
})

interface Part {
  readonly headers: Readonly<Record<string, string>>
  readonly bytes: Buffer
}

/** Strictly, as RFC 2046 says it. */
function partsOf(answer: CurlAnswer): Part[] {
  const boundary = /^multipart\/byteranges; boundary="?(?<boundary>[^"]+)"?$/.exec(answer.headers['content-type'] ?? '')
    ?.groups?.['boundary']
  const body = answer.body.toString('latin1')
  const [preamble = '', ...pieces] = `\r\n${body}`.split(`\r\n--${boundary}`)
  expect([preamble.trim(), pieces.pop()?.trim()]).toEqual(['', '--'])
  return pieces.map((piece) => {
    const end = piece.indexOf('\r\n\r\n')
    const lines = piece.slice(2, end).split('\r\n')
    const headers = lines.map((line) => [line.split(': ')[0]?.toLowerCase() ?? '', line.split(': ')[1] ?? ''] as const)
    return { headers: Object.fromEntries(headers), bytes: Buffer.from(piece.slice(end + 4), 'latin1') }
  })
}

it.each(['small', 'large'] as const)('of a %s value', async (key) => {
  const bytes = VALUES[key]
  const size = bytes.length
  const range = (text: string): Promise<CurlAnswer> => curl(`/kvs/${key}`, ['-H', `Range: ${text}`])
  for (const [text, from, to] of [
    ['bytes=0-0', 0, 1],
    ['bytes=0-9', 0, 10],
    ['bytes=10-', 10, size],
    ['bytes=-7', size - 7, size],
    [`bytes=-${size * 2}`, 0, size],
    [`bytes=${size - 1}-${size + 100}`, size - 1, size],
    [`bytes=${size >> 1}-${(size >> 1) + 300}`, size >> 1, (size >> 1) + 301],
  ] as const) {
    const got = await range(text)
    expect([got.status, got.headers['content-range']], text).toEqual([206, `bytes ${from}-${to - 1}/${size}`])
    expect(got.headers['content-type']).toBe('text/x')
    expect(got.body.equals(bytes.subarray(from, to)), text).toBe(true)
  }
  for (const text of [`bytes=${size}-`, 'bytes=-0', `bytes=${size + 5}-${size + 9}`]) {
    const got = await range(text)
    expect(problemOf(got), text).toBe('416 InvalidRange')
    expect(got.headers['content-range']).toBe(`bytes */${size}`)
  }
  // What is not a range is as if it were not there.
  for (const text of ['lines=1-2', 'bytes=5-1', 'bytes=x']) expect((await range(text)).status, text).toBe(200)
})

it.each(['small', 'large'] as const)('several of a %s value', async (key) => {
  const bytes = VALUES[key]
  const size = bytes.length
  const got = await curl(`/kvs/${key}`, ['-H', 'Range: bytes=0-9,20-29,-5'])
  expect(got.status).toBe(206)
  expect(Number(got.headers['content-length'] ?? got.body.length)).toBe(got.body.length)
  const parts = partsOf(got)
  expect(parts.map(({ headers }) => headers)).toEqual(
    [`0-9`, `20-29`, `${size - 5}-${size - 1}`].map((text) => ({
      'content-type': 'text/x',
      'content-range': `bytes ${text}/${size}`,
    })),
  )
  expect(parts.map((part) => part.bytes)).toEqual([
    bytes.subarray(0, 10),
    bytes.subarray(20, 30),
    bytes.subarray(size - 5),
  ])
  const mixed = await curl(`/kvs/${key}`, ['-H', `Range: bytes=0-0,${size + 9}-`])
  expect(mixed.status).toBe(206)
  const none = await curl(`/kvs/${key}`, ['-H', `Range: bytes=${size}-,${size + 9}-`])
  expect(problemOf(none)).toBe('416 InvalidRange')
})

it('16 at most', async () => {
  const ranges = (count: number): string => Array.from({ length: count }, (_, at) => `${at * 20}-${at * 20 + 3}`).join()
  expect(partsOf(await curl('/kvs/small', ['-H', `Range: bytes=${ranges(16)}`]))).toHaveLength(16)
  const more = await curl('/kvs/small', ['-H', `Range: bytes=${ranges(17)}`])
  expect(more.status === 200 || more.status === 416 || more.status === 400, String(more.status)).toBe(true)
})

it('only of what has not changed (If-Range)', async () => {
  const { etag = '', 'last-modified': modified = '' } = (await curl('/kvs/small', ['--head'])).headers
  const status = async (value: string): Promise<number> =>
    (await curl('/kvs/small', ['-H', 'Range: bytes=0-0', '-H', `If-Range: ${value}`])).status
  expect([await status(etag), await status('"other"'), await status(modified)]).toEqual([206, 200, 206])
  expect(await status('Thu, 01 Jan 1970 00:00:00 GMT')).toBe(200)
})

it('by the client, which tells the size of the whole', async () => {
  const kv = suite.client('kvs')
  const found = await kv.get('large', { range: { start: 1_048_570, end: 1_048_590 } })
  expect(found?.bytes.equals(VALUES.large.subarray(1_048_570, 1_048_590))).toBe(true)
  expect(found?.size).toBe(VALUES.large.length)
  expect((await kv.get('small', { range: { last: 3 } }))?.bytes).toEqual(VALUES.small.subarray(-3))
  await expect(kv.get('small', { range: { start: 1_000 } })).rejects.toMatchObject({
    code: 'InvalidRange',
    status: 416,
  })
})
