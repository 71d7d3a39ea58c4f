import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AssertionFailed } from '../../../src/common/assert.ts'
import type { ByteString } from '../../../src/common/ids.ts'
import type { KeyRange, Row, Transaction } from '../../../src/meta/ports.ts'
import { MemoryBackend, MemoryDisk } from '../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../src/meta/memory/memory-store.ts'
import { decodeLog, encodeLog, logKey, logRange, parseLogKey } from '../../../src/meta/stage/change-log.ts'
import { addCounters, decodeCounters } from '../../../src/meta/stage/counters.ts'
import { Fifo } from '../../../src/meta/stage/fifo.ts'
import { mergedScan } from '../../../src/meta/stage/merged-scan.ts'
import { stageSettings } from '../../../src/meta/stage/options.ts'
import { RowLayer } from '../../../src/meta/stage/row-layer.ts'
import { decodeState, encodeState, STATE_KEY } from '../../../src/meta/stage/stage-state.ts'

const anyKey = fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\xff'), minLength: 1, maxLength: 4 })
const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1')

describe('RowLayer', () => {
  test('keeps its keys in order, however writes and scans take turns', () => {
    fc.assert(
      fc.property(fc.array(fc.array(anyKey, { maxLength: 40 }), { maxLength: 8 }), (rounds) => {
        const layer = new RowLayer()
        const expected = new Set<string>()
        for (const round of rounds) {
          for (const key of round) {
            layer.set(key as ByteString, null)
            expected.add(key)
          }
          expect(layer.sortedKeys()).toEqual([...expected].sort())
        }
      }),
    )
  })

  test('counts bytes of keys and values, once a key', () => {
    const layer = new RowLayer()
    layer.set('key' as ByteString, bytes('12345'))
    layer.set('key' as ByteString, bytes('1'))
    layer.set('other' as ByteString, null)
    expect([layer.size, layer.bytes]).toEqual([2, 9])
    layer.set('other' as ByteString, bytes('22'))
    layer.set('key' as ByteString, null)
    expect([layer.size, layer.bytes]).toEqual([2, 10])
  })
})

describe('mergedScan', () => {
  const anyLayer = fc.array(fc.tuple(anyKey, fc.option(fc.string({ maxLength: 1 }))), { maxLength: 30 })

  test('is a scan of the layers written one over the other', () => {
    fc.assert(
      fc.property(
        fc.array(anyLayer, { minLength: 1, maxLength: 4 }),
        fc.record({ start: anyKey, end: anyKey, limit: fc.integer({ min: 0, max: 12 }), reverse: fc.boolean() }),
        (layers, { start, end, limit, reverse }) => {
          const disk = new MemoryDisk()
          const flat = new Map<string, string>()
          const above: RowLayer[] = []
          for (const [i, rows] of layers.entries()) {
            const layer = new RowLayer()
            for (const [key, value] of rows) {
              layer.set(key as ByteString, value === null ? null : bytes(value))
              if (value === null) flat.delete(key)
              else flat.set(key, value)
            }
            if (i === 0) disk.write([layer.rows])
            else above.unshift(layer)
          }
          const range = { start, end } as KeyRange
          const found = mergedScan(above, new MemoryBackend({ disk }), { range, limit, reverse })
          const keys = [...flat.keys()].filter((key) => key >= start && key < end).sort()
          if (reverse) keys.reverse()
          const expected = keys
            .slice(0, limit)
            .map((key): Row => ({ key: key as ByteString, value: bytes(flat.get(key)!) }))
          expect(found).toEqual(expected)
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('change log', () => {
  test('a row gives back what was logged, under a prefix and from a revision on', () => {
    const large = bytes('x'.repeat(300))
    const row = encodeLog(
      [
        { revision: 2 ** 40, changes: new Map([['a\xff' as ByteString, bytes('1')]]) },
        {
          revision: 2 ** 40 + 5,
          changes: new Map<ByteString, Uint8Array | null>([
            ['a' as ByteString, null],
            ['b' as ByteString, bytes('')],
            ['ab' as ByteString, large],
            [`a${'l'.repeat(1000)}` as ByteString, bytes('y'.repeat(301))],
          ]),
        },
      ],
      300,
    )
    expect(decodeLog(row, 'a' as ByteString, 0)).toEqual([
      { revision: 2 ** 40, rows: [{ key: 'a\xff', value: bytes('1'), deleted: false }] },
      {
        revision: 2 ** 40 + 5,
        rows: [
          { key: 'a', value: undefined, deleted: true },
          { key: 'ab', value: large, deleted: false },
          { key: `a${'l'.repeat(1000)}`, value: undefined, deleted: false },
        ],
      },
    ])
    expect(decodeLog(row, 'b' as ByteString, 2 ** 40 + 1)).toHaveLength(1)
    expect(decodeLog(row, 'b' as ByteString, 2 ** 40 + 6)).toEqual([])
    expect(() => decodeLog(row.subarray(0, row.length - 350), '' as ByteString, 0)).toThrow(AssertionFailed)
  })

  test('keys sort by revision, and the range of a revision begins with the row that ends at or after it', () => {
    const revisions = [1, 255, 256, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER - 1]
    const keys = revisions.map((revision) => logKey(revision, 3))
    expect(keys.toSorted()).toEqual(keys)
    expect(keys.map(parseLogKey)).toEqual(revisions.map((lastRevision) => ({ lastRevision, revisions: 3 })))
    const { start, end } = logRange(256, 2 ** 32)
    expect(keys.filter((key) => key >= start && key < end)).toEqual(keys.slice(2, 4))
  })

  test('a format of the state row that is not known is refused in words', async () => {
    const state = { revision: 2 ** 45, reservedThrough: 2 ** 46, trimmedThrough: 7, loggedRevisions: 9 }
    expect(decodeState(encodeState(state))).toEqual(state)
    const newer = encodeState(state)
    newer[0] = 2
    const disk = new MemoryDisk()
    disk.write([new Map([[STATE_KEY, newer]])])
    const store = createMemoryStore({ backend: new MemoryBackend({ disk }) })
    await expect(store.start()).rejects.toThrow('metadata format 2')
  })

  test('only watched prefixes are logged', async () => {
    const disk = new MemoryDisk()
    const store = createMemoryStore({ backend: new MemoryBackend({ disk }), watchedPrefixes: ['D' as ByteString] })
    await store.start()
    const put = (key: string): Promise<unknown> => store.transact(async (tx) => tx.put(key as ByteString, bytes('v')))
    await put('I1')
    await store.flush()
    const logged = (): string[] => [...disk.rows.rows.keys()].filter((key) => key.startsWith('J'))
    expect(logged()).toEqual([])
    await Promise.all([put('D1'), put('I2')])
    await store.flush()
    expect(logged()).toHaveLength(1)
    await store.stop()
  })
})

test('counters are signed safe integers, and a sum beyond them is a bug', () => {
  const anyCount = fc.maxSafeInteger()
  fc.assert(
    fc.property(fc.array(anyCount, { minLength: 1, maxLength: 4 }), (counts) => {
      expect(decodeCounters(addCounters(undefined, counts), counts.length)).toEqual(counts.map((count) => count + 0))
    }),
  )
  const most = addCounters(undefined, [Number.MAX_SAFE_INTEGER])
  expect(() => addCounters(most, [1])).toThrow(AssertionFailed)
  expect(() => decodeCounters(most, 2)).toThrow(AssertionFailed)
})

test('a Fifo gives back in order, over thousands', () => {
  const fifo = new Fifo<number>()
  let next = 0
  let expected = 0
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < 37; i++) fifo.push(next++)
    for (let i = 0; i < (round < 100 ? 10 : 60) && fifo.length > 0; i++) {
      expect(fifo.peek()).toBe(expected)
      expect(fifo.shift()).toBe(expected++)
    }
    expect(fifo.length).toBe(next - expected)
  }
  while (fifo.length > 0) expect(fifo.shift()).toBe(expected++)
  expect(fifo.shift()).toBeUndefined()
  expect(expected).toBe(next)
})

test('options that contradict each other are refused', () => {
  expect(() => stageSettings({ groupRowsMax: 11, backlogRowsMax: 10 })).toThrow(AssertionFailed)
  expect(() => stageSettings({ operationsMax: 0 })).toThrow(AssertionFailed)
})

test('writing a row of the store’s own is a bug', async () => {
  const store = createMemoryStore()
  await store.start()
  for (const key of [STATE_KEY, logKey(1, 1), '' as ByteString]) {
    await expect(store.transact(async (tx) => tx.put(key, bytes('v')))).rejects.toThrow(AssertionFailed)
  }
  const writing = store.read(async (view) => (view as Transaction).put('a' as ByteString, bytes('')))
  await expect(writing).rejects.toThrow(AssertionFailed)
  await store.stop()
})
