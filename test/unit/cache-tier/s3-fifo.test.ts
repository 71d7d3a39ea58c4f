import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { S3Fifo } from '../../../src/cache-tier/s3-fifo.ts'
import { Random } from '../../model/random.ts'

const NONE_IN_USE = (): boolean => false

/** Hits of a trace over a cache of `size` entries. */
function hitsOfS3Fifo(trace: readonly number[], size: number): number {
  const policy = new S3Fifo<number>()
  let hits = 0
  for (const key of trace) {
    if (policy.has(key)) {
      hits++
      policy.touch(key)
      continue
    }
    if (policy.size >= size) policy.evict(NONE_IN_USE)
    policy.insert(key, 1)
  }
  return hits
}

function hitsOfLru(trace: readonly number[], size: number): number {
  const entries = new Set<number>()
  let hits = 0
  for (const key of trace) {
    if (entries.delete(key)) hits++
    else if (entries.size >= size) entries.delete(entries.values().next().value as number)
    entries.add(key)
  }
  return hits
}

test('a one-pass scan does not disturb what is used again, as it does with LRU', () => {
  const random = new Random(1)
  const trace: number[] = []
  for (let round = 0, scanned = 1000; round < 40; round++) {
    for (let hot = 0; hot < 200; hot++) trace.push(random.below(50))
    for (let cold = 0; cold < 150; cold++) trace.push(scanned++)
  }
  const [fifo, lru] = [hitsOfS3Fifo(trace, 100), hitsOfLru(trace, 100)]
  expect(fifo).toBeGreaterThan(lru * 1.1)
  expect(fifo).toBeGreaterThan(0.95 * 40 * 200)
})

test('a key that comes back soon after it was evicted goes to main and outlives newcomers', () => {
  const policy = new S3Fifo<string>()
  for (const key of ['a', 'b', 'c', 'd']) policy.insert(key, 1)
  expect(policy.evict(NONE_IN_USE)).toBe('a')
  policy.insert('a', 1)
  expect(['b', 'c', 'd'].map(() => policy.evict(NONE_IN_USE))).toEqual(['b', 'c', 'd'])
  expect(policy.has('a')).toBe(true)
})

test('entries in use are passed over, and when all are, nothing is evicted', () => {
  const policy = new S3Fifo<number>()
  for (let key = 0; key < 10; key++) policy.insert(key, 1)
  expect(policy.evict((key) => key < 9)).toBe(9)
  expect(policy.evict(() => true)).toBeUndefined()
  expect(policy.size).toBe(9)
})

test('a small queue that is all in use does not hide what main could give', () => {
  const policy = new S3Fifo<string>()
  policy.insert('old', 1)
  policy.touch('old')
  policy.insert('x', 1)
  expect(policy.evict(NONE_IN_USE), 'old moves to main').toBe('x')
  for (let key = 0; key < 20; key++) policy.insert(`pinned-${key}`, 1)
  expect(policy.evict((key) => key.startsWith('pinned'))).toBe('old')
})

test('evict ends, keeps its books and takes an entry whenever one is free, whatever the history', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('insert' as const), key: fc.nat(30), weight: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant('touch' as const), key: fc.nat(30), weight: fc.constant(0) }),
      fc.record({ kind: fc.constant('remove' as const), key: fc.nat(30), weight: fc.constant(0) }),
      fc.record({ kind: fc.constant('evict' as const), key: fc.nat(30), weight: fc.constant(0) }),
    ),
    { maxLength: 200 },
  )
  fc.assert(
    fc.property(steps, fc.nat(30), (history, pinnedBelow) => {
      const policy = new S3Fifo<number>()
      const held = new Map<number, number>()
      const inUse = (key: number): boolean => key < pinnedBelow
      for (const { kind, key, weight } of history) {
        if (kind === 'insert') {
          policy.insert(key, weight)
          if (!held.has(key)) held.set(key, weight)
        } else if (kind === 'touch') policy.touch(key)
        else if (kind === 'remove') {
          policy.remove(key)
          held.delete(key)
        } else {
          const evicted = policy.evict(inUse)
          const free = [...held.keys()].filter((candidate) => !inUse(candidate))
          expect(evicted === undefined).toBe(free.length === 0)
          if (evicted !== undefined) {
            expect(free).toContain(evicted)
            held.delete(evicted)
          }
        }
        expect(policy.size).toBe(held.size)
        expect(policy.weight).toBe([...held.values()].reduce((sum, each) => sum + each, 0))
      }
    }),
  )
})
