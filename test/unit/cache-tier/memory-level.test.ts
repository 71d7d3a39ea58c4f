import { beforeEach, expect, test } from 'vitest'
import { MemoryLevel, type FetchBlock, type FetchRun } from '../../../src/cache-tier/memory-level.ts'
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

/** A block that grows elsewhere: as long as it is when it is asked for. */
function growing(): { bytes: number; readonly fetch: FetchBlock; readonly asked: number[] } {
  const block = { bytes: 10, asked: [] as number[] }
  const fetchGrowing: FetchBlock = async (_segment, _block, slabOffset, { needed, held }) => {
    const { bytes } = block
    block.asked.push(needed)
    if (held) expect(slab.view(held.slabOffset, held.length).every((byte) => byte === held.length)).toBe(true)
    await scheduler.delay(1)
    slab.view(slabOffset, bytes).fill(bytes)
    return bytes
  }
  return Object.assign(block, { fetch: fetchGrowing })
}

test('a block that is here and too short is fetched again and replaced; what is lent of the old one stays until it is given back', async () => {
  const block = growing()
  const short = await scheduler.until(memory.lend(ONE, 0, 10, block.fetch), 'lending')
  block.bytes = 30
  expect(memory.pin({ segment: ONE, block: 0, holder: 1 }, 1e9)).toBeTypeOf('function')
  const long = await scheduler.until(memory.lend(ONE, 0, 25, block.fetch), 'lending')
  expect([short.length, long.length, block.asked]).toEqual([10, 30, [10, 25]])
  expect([memory.bytesHeld, memory.bytesPinned, slab.freeSlots]).toEqual([256, 256, SLOTS - 2])
  expect(slab.view(short.slabOffset, 10).every((byte) => byte === 10)).toBe(true)
  memory.giveBack(short.lease)
  expect(slab.freeSlots).toBe(SLOTS - 1)
  memory.giveBack(long.lease)
  // Still pinned, and evicted as any other once it is not.
  memory.unpin({ segment: ONE, block: 0, holder: 1 })
  for (let slot = 0; slot < SLOTS; slot++) expect(await memory.acquire('stream')).toBeTypeOf('number')
  expect([memory.bytesHeld, memory.stats.evictions]).toEqual([0, 1])
})

test('who needs more than the fetch that he joined was begun for fetches again; the first reader gets what he asked for', async () => {
  const block = growing()
  const few = memory.lend(ONE, 0, 10, block.fetch)
  await new Promise((resolve) => setImmediate(resolve))
  block.bytes = 40
  const more = memory.lend(ONE, 0, 40, block.fetch)
  expect((await scheduler.until(few, 'lending')).length).toBe(10)
  expect((await scheduler.until(more, 'lending')).length).toBe(40)
  expect(block.asked).toEqual([10, 40])
  await expect(scheduler.until(memory.lend(ONE, 0, 41, block.fetch), 'lending')).rejects.toMatchObject({
    code: 'DataLost',
  })
})

test('a fetch for a peer is joined by readers here, who fetch for themselves if it fails; its failure is told to peers', async () => {
  let failing = true
  const flaky: FetchBlock = async (...where) => {
    const fails = failing
    await scheduler.delay(1)
    if (fails) throw new Error('not here')
    return await fetch(...where)
  }
  const peers = [1, 2].map(() => memory.lendToPeer(ONE, 0, 1, flaky))
  expect(memory.isFetching(ONE, 0)).toBe(false)
  const reading = lend(ONE, 0)
  const outcomes = Promise.allSettled(peers)
  await new Promise((resolve) => setImmediate(resolve))
  failing = false
  expect((await scheduler.until(reading, 'lending')).length).toBe(256)
  expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(fetches).toEqual(['1/0'])
  const own = lend(ONE, 1)
  expect(memory.isFetching(ONE, 1)).toBe(true)
  const joined = memory.lendToPeer(ONE, 1, 1, flaky)
  await scheduler.until(Promise.all([own, joined]), 'lending')
  expect(fetches).toEqual(['1/0', '1/1'])
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

/** Each block of a run arrives when it is told to. */
function runs(): {
  fetchRun: FetchRun
  asked: string[]
  arrive: (block: number) => Promise<void>
  fail: (block: number) => Promise<void>
} {
  const asked: string[] = []
  const blocks = new Map<number, PromiseWithResolvers<number>>()
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  return {
    asked,
    fetchRun: (segment, firstBlock, slots) => {
      asked.push(`${segment[0]}/${firstBlock}+${slots.length}`)
      return slots.map((slabOffset, index) => {
        const arriving = Promise.withResolvers<number>()
        blocks.set(firstBlock + index, arriving)
        return arriving.promise.then((length) => {
          slab.view(slabOffset, length).fill(firstBlock + index)
          return length
        })
      })
    },
    arrive: (block) => {
      blocks.get(block)?.resolve(256)
      return settled()
    },
    fail: (block) => {
      blocks.get(block)?.reject(new Error('remote'))
      return settled()
    },
  }
}

/** Room for 8 blocks fetched ahead. */
function larger(): void {
  slab = new Slab({ bytes: 32 * 256, slotBytes: 256, poison: true })
  memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: scheduler.clock })
}

test('prefetch brings a run in by one fetch; who reads a block of it waits for that block alone', async () => {
  larger()
  const { fetchRun, asked, arrive } = runs()
  expect(memory.prefetch({ segment: ONE, firstBlock: 4, count: 3 }, fetchRun)).toBe(3)
  expect(memory.prefetch({ segment: ONE, firstBlock: 4, count: 3 }, fetchRun)).toBe(3)
  expect(asked).toEqual(['1/4+3'])
  const lending = Array.from({ length: 5 }, () => lend(ONE, 5))
  await arrive(5)
  const [lent] = await Promise.all(lending)
  expect(slab.view(lent?.slabOffset ?? 0, 256).every((byte) => byte === 5)).toBe(true)
  expect(fetches).toEqual([])
  await arrive(4)
  await arrive(6)
  expect(memory.bytesHeld).toBe(3 * 256)
})

test('a run leaves out what is here or on its way', async () => {
  larger()
  const { fetchRun, asked, arrive } = runs()
  await scheduler.until(lend(ONE, 2), 'lending')
  expect(memory.prefetch({ segment: ONE, firstBlock: 1, count: 4 }, fetchRun)).toBe(4)
  expect(asked).toEqual(['1/1+1', '1/3+2'])
  expect(memory.prefetch({ segment: ONE, firstBlock: 3, count: 3 }, fetchRun)).toBe(3)
  expect(asked).toEqual(['1/1+1', '1/3+2', '1/5+1'])
  for (const block of [1, 3, 4, 5]) await arrive(block)
  expect(memory.prefetch({ segment: ONE, firstBlock: 1, count: 5 }, fetchRun)).toBe(5)
  expect(asked.length).toBe(3)
})

test('a failure ahead is nobody’s: who waits for the block has it fetched for himself, once', async () => {
  larger()
  const { fetchRun, fail } = runs()
  const free = slab.freeSlots
  memory.prefetch({ segment: ONE, firstBlock: 5, count: 1 }, fetchRun)
  memory.prefetch({ segment: ONE, firstBlock: 9, count: 1 }, fetchRun)
  const lending = Promise.all([lend(ONE, 5), lend(ONE, 5)])
  await fail(9)
  expect(slab.freeSlots).toBe(free - 1)
  await fail(5)
  await scheduler.until(lending, 'lending')
  expect(fetches).toEqual(['1/5'])
})

test('blocks fetched ahead hold a share of memory: of more there is no fetch, and those waiting longest are idle again', async () => {
  larger()
  const { fetchRun, asked, arrive } = runs()
  expect(memory.prefetch({ segment: ONE, firstBlock: 0, count: 20 }, fetchRun)).toBe(8)
  expect(memory.prefetch({ segment: TWO, firstBlock: 50, count: 1 }, fetchRun)).toBe(0)
  for (let block = 0; block < 8; block++) await arrive(block)
  expect(memory.prefetch({ segment: TWO, firstBlock: 50, count: 2 }, fetchRun)).toBe(2)
  for (const block of [50, 51]) await arrive(block)
  expect(asked).toEqual(['1/0+8', '2/50+2'])
  // 24 more blocks that are used fill the rest of memory: blocks 0 and 1, over the share, made room, the other six did not.
  for (let block = 100; block < 124; block++) {
    memory.giveBack((await scheduler.until(lend(TWO, block), 'lending')).lease)
  }
  expect(memory.residentBytes(ONE, 0, 2 * 256)).toBe(0)
  expect(memory.residentBytes(ONE, 2 * 256, 6 * 256)).toBe(6 * 256)
})

test('a block fetched ahead makes room for who needs a slot when nothing else can', async () => {
  larger()
  const { fetchRun, arrive } = runs()
  memory.prefetch({ segment: ONE, firstBlock: 0, count: 8 }, fetchRun)
  for (let block = 0; block < 8; block++) await arrive(block)
  for (let slot = 0; slot < 32; slot++) expect(await memory.acquire('stream')).toBeTypeOf('number')
  expect([memory.bytesHeld, memory.stats.evictions]).toEqual([0, 8])
})

test('who waits for a slot gets one that was fetched ahead as soon as it has arrived', async () => {
  larger()
  const { fetchRun, arrive } = runs()
  memory.prefetch({ segment: ONE, firstBlock: 0, count: 1 }, fetchRun)
  for (let slot = 0; slot < 31; slot++) await memory.acquire('stream')
  const waiting = memory.acquire('journal')
  await arrive(0)
  expect(await waiting).toBeTypeOf('number')
})

test('prefetch never waits for memory: when all of it is held it does nothing', async () => {
  const { fetchRun, asked } = runs()
  const held = await scheduler.until(Promise.all([0, 1, 2, 3].map((block) => lend(ONE, block))), 'lending')
  expect(memory.prefetch({ segment: TWO, firstBlock: 0, count: 1 }, fetchRun)).toBe(0)
  expect([memory.stats.waits, asked]).toEqual([0, []])
  for (const { lease } of held) memory.giveBack(lease)
})
