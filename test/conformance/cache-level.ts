/** What every level of the cache does alike (src/cache-tier/ports.ts): memory and disk run this suite. */
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { CacheLevel } from '../../src/cache-tier/ports.ts'
import type { SegmentId } from '../../src/common/ids.ts'

export const BLOCK_BYTES = 4096
export const PAGE_BYTES = 1024

export interface CacheLevelHarness {
  /** A started level for so many whole blocks, and a view of the slab's slots, which are BLOCK_BYTES apart. */
  create(blocks: number): Promise<{ level: CacheLevel; slot: (offset: number) => Uint8Array }>
  /** Resolves when what was offered has been taken or dropped. */
  settled(): Promise<void>
  dispose(): Promise<void>
}

/** Bytes that tell which block they are of. */
export function blockBytes(segment: SegmentId, block: number, length = BLOCK_BYTES): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at++) bytes[at] = (block * 31 + at * 7 + segment.charCodeAt(0) + (at >> 8)) & 0xff
  return bytes
}

export function pageCrcs(bytes: Uint8Array): Uint32Array {
  return Uint32Array.from({ length: Math.ceil(bytes.length / PAGE_BYTES) }, (_, page) =>
    crc32(bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
  )
}

export function segment(digit: string): SegmentId {
  return digit.repeat(32) as SegmentId
}

const [ONE, TWO, SCAN] = [segment('1'), segment('2'), segment('5')]

export function testCacheLevel(name: string, harness: CacheLevelHarness): void {
  describe(`cache level: ${name}`, () => {
    let level: CacheLevel
    let slot: (offset: number) => Uint8Array
    const start = async (blocks: number): Promise<void> => void ({ level, slot } = await harness.create(blocks))
    beforeEach(() => start(64))
    afterEach(() => harness.dispose())

    const keep = async (id: SegmentId, block: number, length = BLOCK_BYTES): Promise<void> => {
      const bytes = blockBytes(id, block, length)
      level.keep(id, block, bytes, pageCrcs(bytes))
      await harness.settled()
    }
    const read = async (id: SegmentId, block: number, at = 0): Promise<Buffer | undefined> => {
      const length = await level.read(id, block, slot(at))
      return length === undefined ? undefined : Buffer.from(slot(at).subarray(0, length))
    }

    test('gives back what it was given, whole blocks and short ones, and nothing else', async () => {
      await keep(ONE, 0)
      await keep(ONE, 1)
      await keep(ONE, 2, 1500)
      await keep(TWO, 7, 1)
      expect(await read(ONE, 0)).toEqual(blockBytes(ONE, 0))
      expect(await read(ONE, 2)).toEqual(blockBytes(ONE, 2, 1500))
      expect(await read(TWO, 7)).toEqual(blockBytes(TWO, 7, 1))
      expect(await read(ONE, 1, BLOCK_BYTES)).toEqual(blockBytes(ONE, 1))
      expect(await read(TWO, 0)).toBeUndefined()
      expect(level.stats).toMatchObject({ hits: 4, misses: 1, writes: 4, badPages: 0 })
    })

    test('copies what is offered before `keep` returns: the giver may reuse the bytes', async () => {
      const bytes = blockBytes(ONE, 0)
      level.keep(ONE, 0, bytes, pageCrcs(bytes))
      bytes.fill(0xa5)
      await harness.settled()
      expect(await read(ONE, 0)).toEqual(blockBytes(ONE, 0))
    })

    test('forgets a segment and no other, also what is still on its way', async () => {
      await keep(ONE, 0)
      await keep(TWO, 0)
      const bytes = blockBytes(ONE, 1)
      level.keep(ONE, 1, bytes, pageCrcs(bytes))
      level.forget(ONE)
      await harness.settled()
      expect([await read(ONE, 0), await read(ONE, 1)]).toEqual([undefined, undefined])
      expect(await read(TWO, 0)).toEqual(blockBytes(TWO, 0))
      expect(level.residentBytes(ONE, 0, 10 * BLOCK_BYTES)).toBe(0)
      level.forget(segment('f'))
    })

    test('tells which bytes of a range are here', async () => {
      await keep(ONE, 1)
      await keep(ONE, 2, 10)
      expect(level.residentBytes(ONE, 0, 10 * BLOCK_BYTES)).toBe(BLOCK_BYTES + 10)
      expect(level.residentBytes(ONE, BLOCK_BYTES + 5, BLOCK_BYTES)).toBe(BLOCK_BYTES)
      expect(level.residentBytes(ONE, 2 * BLOCK_BYTES + 4, 100)).toBe(6)
      expect(level.residentBytes(TWO, 0, BLOCK_BYTES)).toBe(0)
    })

    test('offering a block twice keeps it once', async () => {
      await keep(ONE, 0)
      const held = level.bytesHeld
      await keep(ONE, 0)
      expect(level.bytesHeld).toBe(held)
      expect(await read(ONE, 0)).toEqual(blockBytes(ONE, 0))
    })

    test('never holds more than its bytes, and goes on taking what is new', async () => {
      for (let block = 0; block < 600; block++) {
        await keep(ONE, block)
        expect(level.bytesHeld).toBeLessThanOrEqual(level.bytesMax)
      }
      expect(level.stats.evictions).toBeGreaterThan(300)
      expect(await read(ONE, 599)).toEqual(blockBytes(ONE, 599))
      expect(await read(ONE, 0)).toBeUndefined()
    })

    test('a scan of many times its size does not evict what is used again', async () => {
      const hot = Array.from({ length: 16 }, (_, block) => block)
      for (const block of hot) await keep(ONE, block)
      for (let round = 0; round < 2; round++) for (const block of hot) await read(ONE, block)
      for (let block = 0; block < 500; block++) {
        await keep(SCAN, block)
        if (block % 25 === 0) for (const one of hot) await read(ONE, one)
      }
      let found = 0
      for (const block of hot) if ((await read(ONE, block)) !== undefined) found++
      expect(found).toBe(hot.length)
    })

    test('reads of one block at once all get it, and its bytes stay while it is read', async () => {
      await keep(ONE, 3)
      const all = await Promise.all([0, 1, 2, 3].map((at) => read(ONE, 3, at * BLOCK_BYTES)))
      for (const bytes of all) expect(bytes).toEqual(blockBytes(ONE, 3))
    })

    test('offers in a burst: some may be dropped, none is wrong, and all are accounted for', async () => {
      for (let block = 0; block < 200; block++) {
        const bytes = blockBytes(TWO, block)
        level.keep(TWO, block, bytes, pageCrcs(bytes))
      }
      await harness.settled()
      expect(level.stats.writes + level.stats.dropped).toBe(200)
      for (let block = 0; block < 200; block++) {
        const bytes = await read(TWO, block)
        if (bytes) expect(bytes).toEqual(blockBytes(TWO, block))
      }
    })
  })
}
