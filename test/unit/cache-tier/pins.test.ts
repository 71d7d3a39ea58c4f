/** Pins of the memory level: blocks that stay for a time whatever else is read. */
import { beforeEach, expect, test } from 'vitest'
import { MemoryLevel, type FetchBlock } from '../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const SLOTS = 12
const PINNED_MAX = 3
const [ONE, TWO] = ['1', '2'].map((digit) => digit.repeat(32)) as [SegmentId, SegmentId]
let scheduler: Scheduler
let slab: Slab
let memory: MemoryLevel
let fetches: string[]

beforeEach(() => {
  scheduler = new Scheduler()
  slab = new Slab({ bytes: SLOTS * 256, slotBytes: 256, poison: true })
  memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: scheduler.clock })
  fetches = []
})

const fetch: FetchBlock = async (segment, block, slabOffset) => {
  fetches.push(`${segment[0]}/${block}`)
  slab.view(slabOffset, 256).fill(block)
  return 256
}

async function bring(segment: SegmentId, block: number): Promise<void> {
  memory.giveBack((await memory.lend(segment, block, 256, fetch)).lease)
}

async function pin(block: number, untilMs: number, holder = 1): Promise<(() => void) | undefined> {
  await bring(ONE, block)
  return memory.pin({ segment: ONE, block, holder }, untilMs)
}

/** Reads so much else, twice, that nothing stays that need not. */
async function flood(): Promise<void> {
  for (let round = 0; round < 2; round++) for (let block = 0; block < 3 * SLOTS; block++) await bring(TWO, block)
}

/** Whether a block is still there. */
async function isHeld(block: number): Promise<boolean> {
  const before = fetches.length
  await bring(ONE, block)
  return fetches.length === before
}

test('a pinned block stays until its time is over, and counts; others go', async () => {
  await pin(0, 1000)
  await bring(ONE, 1)
  expect([memory.bytesPinned, memory.bytesPinnedMax]).toEqual([256, PINNED_MAX * 256])
  scheduler.nowMs = 999
  await flood()
  expect(await isHeld(0)).toBe(true)
  expect(await isHeld(1)).toBe(false)
  scheduler.nowMs = 1100
  await flood()
  expect(memory.bytesPinned).toBe(0)
  expect(await isHeld(0)).toBe(false)
})

test('pins hold a share of memory only, and room comes back as they end', async () => {
  for (let block = 0; block < PINNED_MAX; block++) expect(await pin(block, 1000 + block)).toBeTypeOf('function')
  expect(await pin(PINNED_MAX, 5000)).toBeUndefined()
  expect(await pin(0, 5000, 2), 'another holder of a block that is pinned anyway').toBeTypeOf('function')
  scheduler.nowMs = 1001
  expect(await pin(PINNED_MAX, 5000)).toBeTypeOf('function')
  expect(memory.bytesPinned).toBe(PINNED_MAX * 256)
  await flood()
  expect([await isHeld(0), await isHeld(1), await isHeld(2)]).toEqual([true, false, true])
})

test('all that is not pinned can still be had at once', async () => {
  for (let block = 0; block < PINNED_MAX; block++) await pin(block, 1000)
  const leases = []
  for (let block = 0; block < SLOTS - PINNED_MAX; block++) leases.push(await memory.lend(TWO, block, 256, fetch))
  expect(memory.stats.waits).toBe(0)
  const waiting = memory.acquire('stream')
  expect(memory.stats.waits).toBe(1)
  memory.unpin({ segment: ONE, block: 1, holder: 1 })
  expect(await waiting, 'who waits is served by an unpin').toBeTypeOf('number')
  for (const { lease } of leases) memory.giveBack(lease)
})

test('of two ends the later counts; each holder has its own', async () => {
  await pin(0, 1000)
  await pin(0, 500)
  await pin(0, 2000, 2)
  memory.unpin({ segment: ONE, block: 0, holder: 2 })
  scheduler.nowMs = 999
  await flood()
  expect(await isHeld(0)).toBe(true)
  memory.unpin({ segment: ONE, block: 0, holder: 1 })
  memory.unpin({ segment: ONE, block: 0, holder: 1 })
  await flood()
  expect(await isHeld(0)).toBe(false)
})

test('a call is taken back to what was before, unless somebody asked for longer since', async () => {
  const first = await pin(0, 1000)
  const second = await pin(0, 2000)
  first?.()
  scheduler.nowMs = 1500
  expect(memory.bytesPinned).toBe(256)
  scheduler.nowMs = 0
  second?.()
  scheduler.nowMs = 999
  expect(memory.bytesPinned).toBe(256)
  scheduler.nowMs = 1000
  expect(memory.bytesPinned).toBe(0)
  const third = await pin(0, 2000)
  third?.()
  third?.()
  expect(memory.bytesPinned).toBe(0)
})

test('pins are forgotten with their segment, leased or not, and a late taking back does nothing', async () => {
  const undo = await pin(0, 1000)
  await pin(1, 1000)
  const { lease } = await memory.lend(ONE, 1, 256, fetch)
  memory.forget(ONE)
  expect(memory.bytesPinned).toBe(0)
  memory.giveBack(lease)
  undo?.()
  memory.unpin({ segment: ONE, block: 1, holder: 1 })
  expect(slab.freeSlots).toBe(SLOTS)
  expect(memory.pin({ segment: ONE, block: 0, holder: 1 }, 1000), 'nothing is there to be held').toBeTypeOf('function')
  expect(memory.bytesPinned).toBe(0)
})

test('an open block can be pinned, and stays once it is settled', async () => {
  const slot = await memory.acquire('journal')
  memory.publish(ONE, 0, slot, 10)
  memory.pin({ segment: ONE, block: 0, holder: 1 }, 1000)
  memory.publish(ONE, 0, slot, 256)
  memory.settle(ONE, 0)
  await flood()
  expect(await isHeld(0)).toBe(true)
  scheduler.nowMs = 1100
  await flood()
  expect(await isHeld(0)).toBe(false)
})

test('an open block that is unpinned is still not evicted', async () => {
  const slot = await memory.acquire('journal')
  memory.publish(ONE, 0, slot, 256)
  memory.pin({ segment: ONE, block: 0, holder: 1 }, 1000)
  memory.unpin({ segment: ONE, block: 0, holder: 1 })
  await flood()
  expect(await isHeld(0)).toBe(true)
})
