import { expect, test } from 'vitest'
import { MemoryLevel } from '../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { TINY_LIMITS } from '../../sim/life.ts'
import { Scheduler } from '../../sim/scheduler.ts'

test('counts the bytes of a range that are in memory, block by block', async () => {
  const { blockBytes } = TINY_LIMITS
  const slab = new Slab({ bytes: 8 * blockBytes, slotBytes: blockBytes })
  const memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: new Scheduler().clock })
  const segment = 'a'.repeat(32) as SegmentId
  expect(memory.residentBytes(segment, 0, 10 * blockBytes)).toBe(0)
  memory.publish(segment, 1, await memory.acquire('stream'), blockBytes)
  memory.publish(segment, 2, await memory.acquire('stream'), 10)
  expect(memory.residentBytes(segment, 0, 10 * blockBytes)).toBe(blockBytes + 10)
  expect(memory.residentBytes(segment, blockBytes + 5, blockBytes)).toBe(blockBytes)
  expect(memory.residentBytes(segment, 2 * blockBytes + 4, 100)).toBe(6)
  expect(memory.residentBytes(segment, 2 * blockBytes + 20, 100)).toBe(0)
  expect(memory.residentBytes('b'.repeat(32) as SegmentId, 0, 10 * blockBytes)).toBe(0)
})
