import { beforeEach, expect, test } from 'vitest'
import { MemoryLevel, type FetchBlock } from '../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const SLOTS = 4
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

/** Fills the slot with the block's number. */
const fetch: FetchBlock = async (segment, block, slabOffset) => {
  fetches.push(`${segment[0]}/${block}`)
  await scheduler.delay(1)
  slab.view(slabOffset, 256).fill(block)
  return 256
}

function lend(
  segment: SegmentId,
  block: number,
  needed = 256,
): Promise<{ slabOffset: number; length: number; lease: number }> {
  return memory.lend(segment, block, needed, fetch)
}

test('single flight: however many ask for a block at once, it is fetched once', async () => {
  const lent = await scheduler.until(Promise.all(Array.from({ length: 10 }, () => lend(ONE, 3))), 'lending')
  expect(fetches).toEqual(['1/3'])
  expect(new Set(lent.map(({ slabOffset }) => slabOffset)).size).toBe(1)
  expect(new Set(lent.map(({ lease }) => lease)).size).toBe(10)
  expect(memory.leases).toBe(10)
})

test('a failed fetch is told to all who wait, gives its slot back, and is tried again by the next', async () => {
  const failing: FetchBlock = () => Promise.reject(new Error('disk'))
  const outcomes = await Promise.allSettled([1, 2].map(() => memory.lend(ONE, 0, 1, failing)))
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(slab.freeSlots).toBe(SLOTS)
  expect((await scheduler.until(lend(ONE, 0), 'lending')).length).toBe(256)
})

test('C13: a leased block is never evicted; who finds no slot waits for a lease to end, in order', async () => {
  const leases = []
  for (let block = 0; block < SLOTS; block++) leases.push(await scheduler.until(lend(ONE, block), 'lending'))
  const order: string[] = []
  const waiting = [lend(TWO, 0).then(() => order.push('first')), lend(TWO, 1).then(() => order.push('second'))]
  await new Promise((resolve) => setImmediate(resolve))
  expect([order, memory.stats.waits]).toEqual([[], 2])
  const held = leases[0]
  expect(slab.view(held?.slabOffset ?? 0, 256).every((byte) => byte === 0)).toBe(true)
  for (const { lease } of leases.slice(1)) memory.giveBack(lease)
  await scheduler.until(Promise.all(waiting), 'lending')
  expect(order).toEqual(['first', 'second'])
  expect(slab.view(held?.slabOffset ?? 0, 256).every((byte) => byte === 0)).toBe(true)
})

test('C19: who waits longer than the admission time is told SlowDown, and leaves the line', async () => {
  const leases = []
  for (let block = 0; block < SLOTS; block++) leases.push(await scheduler.until(lend(ONE, block), 'lending'))
  const waiting = memory.acquire('stream')
  const told = expect(scheduler.until(waiting, 'waiting')).rejects.toMatchObject({ code: 'SlowDown' })
  await told
  expect(scheduler.nowMs).toBeGreaterThanOrEqual(TINY_LIMITS.admissionWaitMsMax)
  for (const { lease } of leases) memory.giveBack(lease)
  expect(await memory.acquire('stream')).toBeTypeOf('number')
})

test('the journal is served before those who came earlier: it frees memory by writing', async () => {
  const slots = await Promise.all(Array.from({ length: SLOTS }, () => memory.acquire('stream')))
  const order: string[] = []
  void memory.acquire('stream').then(() => order.push('stream'))
  void memory.acquire('journal').then(() => order.push('journal'))
  memory.release(slots[0] as number)
  await new Promise((resolve) => setImmediate(resolve))
  expect(order).toEqual(['journal'])
})

test('an open block is readable as far as it is written, only grows, and may go once it is settled', async () => {
  const slot = await memory.acquire('journal')
  slab.view(slot, 256).fill(7)
  memory.publish(ONE, 0, slot, 10)
  memory.giveBack((await lend(ONE, 0, 10)).lease)
  memory.publish(ONE, 0, slot, 30)
  expect((await lend(ONE, 0, 30)).length).toBe(30)
  expect(() => memory.publish(ONE, 0, slot, 20)).toThrow(/only grows/)
  const others = await Promise.all([1, 2, 3].map(() => memory.acquire('stream')))
  const waiting = memory.acquire('stream')
  memory.settle(ONE, 0)
  memory.giveBack(2)
  expect(await waiting).toBe(slot)
  for (const other of others) memory.release(other)
})

test('asking for more of a block than there is is DataLost', async () => {
  const short: FetchBlock = () => Promise.resolve(5)
  await expect(memory.lend(ONE, 0, 6, short)).rejects.toMatchObject({ code: 'DataLost' })
})

test('a forgotten segment leaves memory: what is leased with its last lease, the rest at once', async () => {
  const held = await scheduler.until(lend(ONE, 0), 'lending')
  memory.giveBack((await scheduler.until(lend(ONE, 1), 'lending')).lease)
  memory.forget(ONE)
  expect(slab.freeSlots).toBe(SLOTS - 1)
  expect(slab.view(held.slabOffset, 1)[0]).toBe(0)
  memory.giveBack(held.lease)
  memory.giveBack(held.lease)
  expect([slab.freeSlots, memory.bytesHeld, memory.leases]).toEqual([SLOTS, 0, 0])
})

test('prefetch brings a block in once, and a failure of it is nobody’s', async () => {
  memory.prefetch(ONE, 5, fetch)
  memory.prefetch(ONE, 5, fetch)
  memory.prefetch(ONE, 6, () => Promise.reject(new Error('disk')))
  await scheduler.step()
  const hitsBefore = memory.stats.hits
  memory.giveBack((await scheduler.until(lend(ONE, 5), 'lending')).lease)
  expect(fetches).toEqual(['1/5'])
  expect(memory.stats.hits + memory.stats.misses).toBeGreaterThan(hitsBefore)
})

test('prefetch never waits for memory: when all of it is held it does nothing', async () => {
  const held = await scheduler.until(Promise.all([0, 1, 2, 3].map((block) => lend(ONE, block))), 'lending')
  memory.prefetch(TWO, 0, fetch)
  expect(memory.stats.waits).toBe(0)
  for (const { lease } of held) memory.giveBack(lease)
  await scheduler.step()
  expect(fetches).not.toContain('2/0')
})
