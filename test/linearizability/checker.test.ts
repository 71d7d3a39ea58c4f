import { describe, expect, it } from 'vitest'
import { checkLinearizable, type HistoryEntry } from './checker.ts'
import { kvModel, withLearnedOutcomes, type KvOperation, type KvOutput } from './kv-model.ts'

type Entry = HistoryEntry<KvOperation, KvOutput>

function entry(operation: KvOperation, times: readonly [number, number], output?: KvOutput): Entry {
  return { operation, calledAt: times[0], returnedAt: output === undefined ? Infinity : times[1], output }
}

const put = (value: string, times: readonly [number, number], revision?: number): Entry =>
  entry({ kind: 'put', key: 'k', value }, times, revision === undefined ? undefined : { kind: 'written', revision })
const get = (times: readonly [number, number], value?: string, revision = 0): Entry =>
  entry({ kind: 'get', key: 'k' }, times, {
    kind: 'found',
    seen: value === undefined ? undefined : { value, revision },
  })

function accepted(...history: Entry[]): boolean {
  return checkLinearizable(kvModel, withLearnedOutcomes(history)).linearizable
}

describe('the checker of histories', () => {
  it('accepts what one client does', () => {
    expect(accepted(put('a', [0, 1], 1), get([2, 3], 'a', 1), put('b', [4, 5], 2), get([6, 7], 'b', 2))).toBe(true)
  })

  it('lets concurrent reads see either side of a write, but not go back', () => {
    const write = put('b', [10, 20], 2)
    const before = put('a', [0, 1], 1)
    expect(accepted(before, write, get([11, 12], 'a', 1), get([13, 14], 'b', 2))).toBe(true)
    expect(accepted(before, write, get([11, 12], 'b', 2), get([13, 14], 'a', 1))).toBe(false)
  })

  it('rejects a stale read', () => {
    expect(accepted(put('a', [0, 1], 1), put('b', [2, 3], 2), get([4, 5], 'a', 1))).toBe(false)
  })

  it('rejects a lost write, and a value that nobody wrote', () => {
    expect(accepted(put('a', [0, 1], 1), get([2, 3]))).toBe(false)
    expect(accepted(get([2, 3], 'x', 1))).toBe(false)
  })

  it('lets an unknown write take effect late or never', () => {
    const unknown = put('b', [2, Infinity])
    expect(accepted(put('a', [0, 1], 1), unknown, get([3, 4], 'a', 1), get([90, 91], 'b', 2))).toBe(true)
    expect(accepted(put('a', [0, 1], 1), unknown, get([90, 91], 'a', 1))).toBe(true)
    expect(accepted(put('a', [0, 1], 1), unknown, get([3, 4], 'b', 2), get([90, 91], 'a', 1))).toBe(false)
  })

  it('holds revisions to the order of commits (C3)', () => {
    expect(accepted(put('a', [0, 1], 5), put('b', [2, 3], 4))).toBe(false)
    expect(accepted(put('a', [0, 1], 5), get([2, 3], 'a', 6))).toBe(false)
  })

  it('lets only one of two compare-and-swaps on the same value through', () => {
    const cas = (value: string, revision: number): Entry =>
      entry({ kind: 'cas', key: 'k', expected: 'a', value }, [10, 20], { kind: 'written', revision })
    expect(accepted(put('a', [0, 1], 1), cas('b', 2))).toBe(true)
    expect(accepted(put('a', [0, 1], 1), cas('b', 2), cas('c', 3))).toBe(false)
    const refused = entry({ kind: 'cas', key: 'k', expected: 'a', value: 'c' }, [10, 20], { kind: 'refused' })
    expect(accepted(put('a', [0, 1], 1), cas('b', 2), refused)).toBe(true)
    expect(accepted(put('a', [0, 1], 1), refused)).toBe(false)
  })

  it('rejects transactions that skewed each other', () => {
    const transaction = (read: string, written: string, revision: number): Entry =>
      entry(
        {
          kind: 'transaction',
          compares: [{ key: read, expected: undefined }],
          puts: [{ key: written, value: `by ${read}` }],
        },
        [0, 10],
        { kind: 'written', revision },
      )
    expect(accepted(transaction('a', 'b', 1))).toBe(true)
    expect(accepted(transaction('a', 'b', 1), transaction('b', 'a', 2))).toBe(false)
  })

  it('rejects a scan that is torn between two writes', () => {
    const write = (key: string, times: readonly [number, number], revision: number): Entry =>
      entry({ kind: 'put', key, value: key }, times, { kind: 'written', revision })
    const scan = (...keys: [string, number][]): Entry =>
      entry({ kind: 'scan' }, [0, 100], {
        kind: 'scanned',
        seen: keys.map(([key, revision]) => ({ key, value: key, revision })),
      })
    const writes = [write('a', [1, 2], 1), write('b', [3, 4], 2)]
    expect(accepted(...writes, scan(['a', 1]))).toBe(true)
    expect(accepted(...writes, scan(['b', 2]))).toBe(false)
  })

  it('adds up increments', () => {
    const increment = (value: string, revision: number): Entry =>
      entry({ kind: 'increment', key: 'n', delta: 1 }, [0, 10], { kind: 'written', revision, value })
    expect(accepted(increment('2', 2), increment('1', 1))).toBe(true)
    expect(accepted(increment('1', 2), increment('1', 1))).toBe(false)
  })

  it('rejects a correct history once one of its outputs is changed', () => {
    const history: Entry[] = []
    for (let i = 0; i < 40; i++) {
      history.push(put(`v${i}`, [i * 10, i * 10 + 25], i + 1), get([i * 10 + 26, i * 10 + 29], `v${i}`, i + 1))
    }
    const plausible = history.filter((_, index) => index % 2 === 0 || index === history.length - 1)
    expect(accepted(...plausible)).toBe(true)
    const changed = [...plausible.slice(0, -1), get([4000, 4001], 'v7', 8)]
    expect(accepted(...changed)).toBe(false)
  })
})
