import { expect, it } from 'vitest'
import type { RequestSlot } from '../../../../../src/gateway/fuse/channel/ports.ts'
import { SlotPool } from '../../../../../src/gateway/fuse/channel/slot-pool.ts'

const OPTIONS = { writeBytesMax: 4096, slotCount: 3 }

function slotAt(pool: SlotPool, index: number): RequestSlot {
  const slot = pool.slots[index]
  if (slot === undefined) throw new Error(`no slot ${index}`)
  return slot
}

it('has slots side by side in shared memory, seen as bytes and as words', () => {
  const pool = new SlotPool(OPTIONS)
  expect(pool.slotBytes).toBe(8192)
  expect(pool.memory.length).toBe(3 * 8192)
  pool.memory.set([1, 2, 0, 0], 8192)
  const second = slotAt(pool, 1)
  expect([second.bytes[0], second.bytes[1], second.words[0]]).toEqual([1, 2, 0x201])
  expect(second.bytes.buffer).toBeInstanceOf(SharedArrayBuffer)
})

it('takes a batch as the addon wrote it, and forgets the one before', () => {
  const pool = new SlotPool(OPTIONS)
  const batch: RequestSlot[] = []
  pool.control.set([2, 100, 0, 40], 4)
  pool.takeBatch(2, batch)
  expect(batch.map(({ index, length }) => [index, length])).toEqual([
    [2, 100],
    [0, 40],
  ])
  pool.control.set([1, 64], 4)
  pool.takeBatch(1, batch)
  expect(batch.map(({ index, length }) => [index, length])).toEqual([[1, 64]])
})

it('keeps a slot once, and says at release whether reading waits for it', () => {
  const pool = new SlotPool(OPTIONS)
  const slot = slotAt(pool, 2)
  expect(() => pool.release(slot)).toThrow('is not kept')
  pool.keep(slot)
  expect(() => pool.keep(slot)).toThrow('is kept already')
  expect([...pool.control.subarray(0, 4)]).toEqual([0, 0, 0, 1])
  expect(pool.release(slot)).toBe(false)
  pool.keep(slot)
  pool.control[0] = 1
  expect(pool.release(slot)).toBe(true)
})

it.for([
  { writeBytesMax: 0, slotCount: 1 },
  { writeBytesMax: 5000, slotCount: 1 },
  { writeBytesMax: 4096, slotCount: 0 },
  { writeBytesMax: 4096, slotCount: 100_000 },
])('refuses sizes that the kernel would: %o', (options) => {
  expect(() => new SlotPool(options)).toThrow('assertion failed')
})
