/** `GET /kv/v1/{bucket}`: ordered scans, their pages and cursors. */
// needs: curl
import { beforeAll, describe, expect, it } from 'vitest'
import type { KvClient, ScanEntry, ScanOptions } from '../../../src/client/kv-client.ts'
import { linesOf, problemOf, useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'kvs,many'])
const { curl } = suite
let kv: KvClient

/** In UTF-8 byte order, which is not that of UTF-16. */
const KEYS = ['a', 'a/1', 'a/2', 'a/3/x', 'b', 'c/', 'c//', 'd', 'e\u0301', 'é', '\uFFFD', '\u{10000}', '\u{1F44B}']
const MANY = 2_500
const manyKey = (index: number): string => `k/${String(index).padStart(5, '0')}`

interface Page {
  readonly page: { readonly revision: number; readonly cursor: string | null }
}

beforeAll(async () => {
  kv = suite.client('kvs')
  for (const key of KEYS.toReversed())
    await kv.put(key, `value of ${key}`, { contentType: 'text/x', metadata: { k: 'ä' } })
  await kv.put('a/3/x', Buffer.alloc(1024 * 1024 + 1, 'L'))
  await kv.put('d', Buffer.from([0, 255]), { ttlSeconds: 1_000 })
  const many = suite.client('many')
  for (let from = 0; from < MANY; from += 500) {
    const operations = Array.from(
      { length: 500 },
      (_, at) => ({ op: 'put', key: manyKey(from + at), value: `${from + at}` }) as const,
    )
    await many.batch(operations)
  }
}, 120_000)

async function keysOf(options: ScanOptions, client: KvClient = kv): Promise<string[]> {
  const keys: string[] = []
  for await (const entry of client.scan(options)) keys.push(entry.key)
  return keys
}

describe('a scan', () => {
  it('is NDJSON: a line a key, and one that closes the page', async () => {
    const answer = await curl('/kvs')
    const lines = linesOf<Record<string, unknown>>(answer)
    expect(lines.slice(0, -1).map(({ key }) => key)).toEqual(KEYS)
    expect(lines[0]).toEqual({
      key: 'a',
      revision: expect.any(Number),
      etag: (await kv.head('a'))?.etag,
      size: 10,
      modified: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    })
    expect(lines.find(({ key }) => key === 'd')).toMatchObject({ expires: expect.stringMatching(/Z$/) })
    const { page } = lines.at(-1) as unknown as Page
    expect(page.cursor).toBeNull()
    expect(page.revision).toBeGreaterThanOrEqual((await kv.head('d'))?.revision ?? Infinity)
  })

  it.each<[ScanOptions, string[]]>([
    [{ prefix: 'a/' }, ['a/1', 'a/2', 'a/3/x']],
    [{ prefix: 'a' }, ['a', 'a/1', 'a/2', 'a/3/x']],
    [{ prefix: 'a/3/x' }, ['a/3/x']],
    [{ prefix: 'nothing' }, []],
    [{ start: 'b', end: 'd' }, ['b', 'c/', 'c//']],
    [{ start: 'a/2', end: 'b' }, ['a/2', 'a/3/x']],
    [{ prefix: 'a/', start: 'a/2' }, ['a/2', 'a/3/x']],
    [{ prefix: 'a/', end: 'a/2' }, ['a/1']],
    [{ prefix: 'a/', start: '0', end: 'z' }, ['a/1', 'a/2', 'a/3/x']],
    [{ start: 'd', end: 'd' }, []],
    [{ start: 'z', end: 'b' }, []],
    [{ start: '\uFFFD' }, ['\uFFFD', '\u{10000}', '\u{1F44B}']],
    [{ prefix: 'é' }, ['é']],
    [{ prefix: 'e' }, ['e\u0301']],
  ])('of %j', async (options, keys) => {
    expect(await keysOf(options)).toEqual(keys)
    expect(await keysOf({ ...options, reverse: true })).toEqual(keys.toReversed())
    for (const limit of [1, 2, 100]) {
      expect(await keysOf({ ...options, limit })).toEqual(keys.slice(0, limit))
      expect(await keysOf({ ...options, limit, reverse: true })).toEqual(keys.toReversed().slice(0, limit))
    }
  })

  it('of keys alone says nothing else', async () => {
    const lines = linesOf(await curl('/kvs?keys=true'))
    expect(lines.slice(0, -1)).toEqual(KEYS.map((key) => ({ key })))
  })

  it('of values has them in base64, but for the large', async () => {
    const lines = linesOf(await curl('/kvs?values=true&prefix=a'))
    expect(lines[0]).toMatchObject({
      key: 'a',
      value: Buffer.from('value of a').toString('base64'),
      contentType: 'text/x',
      metadata: { k: 'ä' },
    })
    expect(lines[3]).toMatchObject({ key: 'a/3/x', value: null, size: 1024 * 1024 + 1 })
    expect(lines[3]).not.toHaveProperty('metadata')
    const byKey = new Map<string, ScanEntry>()
    for await (const entry of kv.scan({ values: true })) byKey.set(entry.key, entry)
    expect(byKey.get('d')?.value).toEqual(Buffer.from([0, 255]))
    expect(byKey.get('a/3/x')?.value).toBeUndefined()
  })
})

describe('pages', () => {
  it('hold 1,000 keys, and a scan has as many as its limit needs', async () => {
    const lines = linesOf(await curl('/many?limit=100000'))
    const pages = lines.flatMap((line, index) => ('page' in line ? [index] : []))
    expect(pages.length).toBeGreaterThanOrEqual(3)
    for (const [at, index] of pages.entries()) {
      expect(index - (at === 0 ? -1 : (pages[at - 1] ?? 0)) - 1).toBeLessThanOrEqual(1_000)
    }
    expect(pages.at(-1)).toBe(lines.length - 1)
    expect(lines.filter((line) => 'key' in line).map(({ key }) => key)).toEqual(
      Array.from({ length: MANY }, (_, index) => manyKey(index)),
    )
    expect(linesOf(await curl('/many')).filter((line) => 'key' in line)).toHaveLength(1_000)
  })

  it.each([{ reverse: false }, { reverse: true }])('go on by cursor, $reverse', async ({ reverse }) => {
    const many = suite.client('many')
    const keys: string[] = []
    let cursor: string | undefined
    do {
      const page = await many.scanPage({ reverse, limit: 700, cursor })
      expect(page.entries.length).toBeLessThanOrEqual(700)
      keys.push(...page.entries.map(({ key }) => key))
      cursor = page.cursor
    } while (cursor !== undefined)
    const all = Array.from({ length: MANY }, (_, index) => manyKey(index))
    expect(keys).toEqual(reverse ? all.toReversed() : all)
    expect(await keysOf({ reverse, limit: 1_500 }, many)).toEqual(keys.slice(0, 1_500))
  })

  it('have every key that was there throughout exactly once, whatever is written meanwhile (C31)', async () => {
    const many = suite.client('many')
    const ended = new AbortController()
    const writer = (async () => {
      for (let round = 0; !ended.signal.aborted; round++) {
        await many.put(`${manyKey((round * 37) % MANY)}-new`, 'x')
        await many.delete(`${manyKey((round * 91) % MANY)}-new`)
        await many.put(manyKey((round * 53) % MANY), `again ${round}`)
      }
    })()
    try {
      for (let scan = 0; scan < 3; scan++) {
        const keys: string[] = []
        let cursor: string | undefined
        let revision = 0
        do {
          const page = await many.scanPage({ limit: 150, cursor })
          expect(page.revision).toBeGreaterThanOrEqual(revision)
          revision = page.revision
          keys.push(...page.entries.map(({ key }) => key))
          cursor = page.cursor
        } while (cursor !== undefined)
        expect(new Set(keys).size).toBe(keys.length)
        expect(keys.filter((key) => !key.endsWith('-new'))).toEqual(
          Array.from({ length: MANY }, (_, index) => manyKey(index)),
        )
      }
    } finally {
      ended.abort()
      await writer
    }
  })

  it('a cursor names a place, so the key that it names may go', async () => {
    const first = await kv.scanPage({ prefix: 'a', limit: 2 })
    expect(first.entries.map(({ key }) => key)).toEqual(['a', 'a/1'])
    await kv.delete('a/1')
    const second = await kv.scanPage({ prefix: 'a', limit: 2, cursor: first.cursor })
    expect(second.entries.map(({ key }) => key)).toEqual(['a/2', 'a/3/x'])
    await kv.put('a/1', 'back')
  })
})

it.each([
  'limit=0',
  'limit=100001',
  'limit=x',
  'limit=',
  'limit=1.5',
  'reverse=maybe',
  'cursor=%FF',
  'cursor=made-up',
  'made-up=1',
  'limit=1&limit=2',
  'keys=true&values=true',
  'wait=1',
  'from=1',
  'delimiter=/',
])('refuses ?%s', async (query) => {
  expect(problemOf(await curl(`/kvs?${query}`))).toBe('400 InvalidArgument')
})
