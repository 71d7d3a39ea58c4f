import { afterEach, describe, expect, test } from 'vitest'
import { utf8Bytes, utf8Text } from '../../../../../src/common/ids.ts'
import type { ScanPage, ScanRequest } from '../../../../../src/meta/namespace/values/scan.ts'
import { Random, randomKey, testSeed } from '../../../../model/random.ts'
import { fixture, type Fixture } from '../fixture.ts'
import { STORES } from './stores.ts'

const SEED = testSeed()
const MIB = 1024 * 1024
const EVERYTHING: ScanRequest = {
  bucket: 'box',
  prefix: '',
  start: '',
  end: '',
  after: undefined,
  reverse: false,
  limit: 1000,
  values: false,
  valueBytesMax: 0,
}

const open: Fixture[] = []

afterEach(async () => {
  for (const made of open.splice(0)) await made.stop()
})

async function begun(making: Promise<Fixture>): Promise<Fixture> {
  const made = await making
  open.push(made)
  await made.bucket('box')
  return made
}

function keysOf(page: ScanPage): string[] {
  return page.keys.map(({ key }) => key)
}

async function paged(made: Fixture, request: ScanRequest): Promise<string[]> {
  const keys: string[] = []
  for (let { after } = request; ;) {
    const page = await made.namespace.scan({ ...request, after })
    expect(page.keys.length).toBeLessThanOrEqual(request.limit)
    keys.push(...keysOf(page))
    if (page.next === undefined) return keys
    expect(page.next).toBe(keys.at(-1))
    after = page.next
  }
}

/** What a scan should give, from a flat list of keys. */
function expected(keys: Iterable<string>, request: ScanRequest): string[] {
  const sorted = [...keys].map(utf8Bytes).sort((a, b) => (a < b ? -1 : 1))
  const [prefix, start, end] = [utf8Bytes(request.prefix), utf8Bytes(request.start), utf8Bytes(request.end)]
  const after = request.after === undefined ? undefined : utf8Bytes(request.after)
  const kept = sorted.filter((key) => {
    if (!key.startsWith(prefix) || key < start || (end !== '' && key >= end)) return false
    return after === undefined || (request.reverse ? key < after : key > after)
  })
  return (request.reverse ? kept.toReversed() : kept).map(utf8Text)
}

function randomRequest(random: Random, keys: readonly string[]): ScanRequest {
  const someKey = (): string => {
    const key = Array.from(random.chance(0.6) && keys.length > 0 ? random.pick(keys) : randomKey(random))
    return key.slice(0, random.chance(0.5) ? key.length : random.below(key.length + 1)).join('')
  }
  return {
    ...EVERYTHING,
    prefix: random.chance(0.5) ? '' : someKey(),
    start: random.chance(0.6) ? '' : someKey(),
    end: random.chance(0.6) ? '' : someKey(),
    after: random.chance(0.6) ? undefined : someKey(),
    reverse: random.chance(0.6),
    limit: random.chance(0.5) ? 1 + random.below(5) : 1000,
  }
}

describe.each(STORES)(`scan over %s (seed ${SEED})`, (_name, begin) => {
  test('C31: random ranges, both ways, page by page, against a sorted list of odd keys', async () => {
    const random = new Random(SEED)
    for (let round = 0; round < 8; round++) {
      const made = await begun(begin({ forceRetry: round % 2 === 0 }))
      const keys = new Set<string>()
      const expired = new Set<string>()
      for (let i = 0; i < 80; i++) {
        const key = randomKey(random)
        const ttl = random.chance(0.2)
        await made.put('box', key, ttl ? { ttlMs: 1000 } : {})
        keys.add(key)
        if (ttl) expired.add(key)
        else expired.delete(key)
        if (!random.chance(0.15)) continue
        const gone = random.pick([...keys])
        await made.remove('box', gone)
        keys.delete(gone)
      }
      made.clock.ms += 1000
      const live = [...keys].filter((key) => !expired.has(key))
      for (let i = 0; i < 150; i++) {
        const request = randomRequest(random, [...keys])
        expect(await paged(made, request), JSON.stringify(request)).toEqual(expected(live, request))
      }
    }
  })

  test('similar names, both ways: an object, a directory of its name, its marker, and what sorts between', async () => {
    const made = await begun(begin())
    const ordered = ['a', 'a\0', 'a-b', 'a/', 'a/..', 'a//', 'a//b', 'a/b', 'a/b/', 'a0', '\u{ffff}', '\u{1f600}']
    for (const key of ordered) await made.put('box', key)
    expect(await paged(made, EVERYTHING)).toEqual(ordered)
    expect(await paged(made, { ...EVERYTHING, reverse: true })).toEqual(ordered.toReversed())
    expect(await paged(made, { ...EVERYTHING, reverse: true, limit: 1 })).toEqual(ordered.toReversed())
    expect(await paged(made, { ...EVERYTHING, reverse: true, prefix: 'a/', end: 'a/b/' })).toEqual(
      ordered.slice(3, 8).toReversed(),
    )
  })

  test('values come along up to their limit, inline and by content; what is larger is shown without', async () => {
    const made = await begun(begin())
    await made.put('box', 'a', { bytes: 'hello' })
    await made.put('box', 'b', { run: await made.run(100) })
    await made.put('box', 'c', { run: await made.run(101) })
    const { keys, revision } = await made.namespace.scan({ ...EVERYTHING, values: true, valueBytesMax: 100 })
    expect(keys.map(({ key, version }) => [key, version?.body.kind])).toEqual([
      ['a', 'inline'],
      ['b', 'content'],
      ['c', undefined],
    ])
    expect(keys[0]).toMatchObject({ size: 5, expiresMs: undefined, version: { key: 'a', size: 5 } })
    expect(keys[0]?.revision).toBe(keys[0]?.version?.revision)
    expect(revision).toBe(made.namespace.revision())
    expect((await made.namespace.scan(EVERYTHING)).keys.every(({ version }) => version === undefined)).toBe(true)
  })

  test('a page ends early for the bytes of its values, with at least one key', async () => {
    const made = await begun(begin())
    const sizes = [5 * MIB, 3 * MIB, MIB, MIB, 0, 9 * MIB]
    for (const [index, size] of sizes.entries()) {
      await made.put('box', `k${index}`, size > 0 ? { run: await made.run(size) } : {})
    }
    const request = { ...EVERYTHING, values: true, valueBytesMax: 8 * MIB }
    const pages: string[][] = []
    for (let after: string | undefined, more = true; more; more = after !== undefined) {
      const page = await made.namespace.scan({ ...request, after })
      pages.push(keysOf(page))
      after = page.next
    }
    expect(pages).toEqual([['k0'], ['k1', 'k2'], ['k3', 'k4', 'k5']])
  })
})

test('no such bucket; an empty bucket; a prefix that no key can have', async () => {
  const made = await begun(fixture())
  await expect(made.namespace.scan({ ...EVERYTHING, bucket: 'none' })).rejects.toMatchObject({ code: 'NoSuchBucket' })
  for (const reverse of [false, true]) {
    expect((await made.namespace.scan({ ...EVERYTHING, reverse })).keys).toEqual([])
    expect((await made.namespace.scan({ ...EVERYTHING, reverse, prefix: 'x'.repeat(2000) })).keys).toEqual([])
  }
  await made.put('box', 'x'.repeat(1024))
  for (const reverse of [false, true]) {
    const long = {
      start: 'x'.repeat(1023),
      end: 'x'.repeat(3000),
      after: reverse ? 'y'.repeat(3000) : 'w'.repeat(3000),
    }
    expect((await made.namespace.scan({ ...EVERYTHING, reverse, ...long })).keys).toHaveLength(1)
  }
})

test('keys of a versioned bucket that are deleted do not show', async () => {
  const made = await begun(fixture())
  await made.namespace.setVersioning('box', 'enabled')
  for (const key of ['a', 'd/b', 'd/c', 'e/f']) await made.put('box', key)
  for (const key of ['d/b', 'e/f']) await made.remove('box', key)
  expect(await paged(made, { ...EVERYTHING, reverse: true })).toEqual(['d/c', 'a'])
  expect(await paged(made, EVERYTHING)).toEqual(['a', 'd/c'])
})

/** Counts what a namespace reads while `fn` runs. */
async function readsOf(made: Fixture, fn: () => Promise<unknown>): Promise<{ scans: number; rows: number }> {
  const counted = { scans: 0, rows: 0 }
  const read = made.store.read.bind(made.store)
  made.store.read = (reading) =>
    read((view) =>
      reading({
        revision: view.revision,
        provisional: view.provisional,
        get: (key) => view.get(key),
        getMany: (keys) => view.getMany(keys),
        counters: (key, width) => view.counters(key, width),
        scan: async (...rest) => {
          const rows = await view.scan(...rest)
          counted.scans++
          counted.rows += rows.length
          return rows
        },
        scanMany: async (...rest) => {
          const found = await view.scanMany(...rest)
          counted.scans++
          counted.rows += found.flat().length
          return found
        },
      }),
    )
  await fn()
  made.store.read = read
  return counted
}

describe('what a page backwards reads', () => {
  test('of a flat directory: its own rows and few more, wherever it begins', async () => {
    const made = await begun(fixture())
    const key = (i: number): string => `d/key-${String(i).padStart(5, '0')}`
    const keys = Array.from({ length: 5000 }, (_, i) => key(i))
    await Promise.all(keys.map((each) => made.put('box', each)))
    const request = { ...EVERYTHING, reverse: true, limit: 100 }
    for (const range of [{}, { after: key(2500) }, { end: key(2500) }, { prefix: 'd/key-02' }, { start: key(1) }]) {
      const reads = await readsOf(made, async () => {
        expect((await made.namespace.scan({ ...request, ...range })).keys).toHaveLength(100)
      })
      expect(reads.scans, JSON.stringify(range)).toBeLessThanOrEqual(3)
      expect(reads.rows, JSON.stringify(range)).toBeLessThanOrEqual(104)
    }
    const narrow = await readsOf(made, () =>
      made.namespace.scan({ ...request, limit: 1000, start: key(100), end: key(105) }),
    )
    expect(narrow.rows).toBe(5)
  })

  test('of many directories of one object: a few scans', async () => {
    const made = await begun(fixture())
    const keys = Array.from({ length: 3000 }, (_, i) => `dir-${String(i).padStart(5, '0')}/x/only`)
    await Promise.all(keys.map((key) => made.put('box', key)))
    const reads = await readsOf(made, async () => {
      const page = await made.namespace.scan({ ...EVERYTHING, reverse: true, after: 'dir-02' })
      expect(keysOf(page)).toEqual(keys.slice(1000, 2000).toReversed())
    })
    expect(reads.scans).toBeLessThan(60)
  })
})
