/**
 * The memory level behind the level port. Memory lends its slots instead of copying out of them, and fetches what it lacks, so this adapter
 * copies; what is kept, found, forgotten and evicted is decided by the memory level itself.
 */
import type { CacheLevel, CacheLevelStats } from '../../src/cache-tier/ports.ts'
import type { MemoryLevel } from '../../src/cache-tier/memory-level.ts'
import type { Slab } from '../../src/cache-tier/slab.ts'
import type { SegmentId } from '../../src/common/ids.ts'

export class MemoryCacheLevel implements CacheLevel {
  readonly #memory: MemoryLevel
  readonly #slab: Slab
  readonly #forgotten = new Set<SegmentId>()
  readonly #stats = { writes: 0, dropped: 0, misses: 0 }
  #pending: Promise<void>[] = []

  constructor(memory: MemoryLevel, slab: Slab) {
    this.#memory = memory
    this.#slab = slab
  }

  get bytesHeld(): number {
    return this.#memory.bytesHeld
  }

  get bytesMax(): number {
    return this.#slab.slots * this.#slab.slotBytes
  }

  get stats(): CacheLevelStats {
    const { hits, evictions } = this.#memory.stats
    return { hits, evictions, badPages: 0, ...this.#stats }
  }

  read(segment: SegmentId, block: number, into: Uint8Array): Promise<number | undefined> {
    const lent = this.#memory.lendNow(segment, block, 1)
    if (!lent) {
      this.#stats.misses++
      return Promise.resolve(undefined)
    }
    into.set(this.#slab.view(lent.slabOffset, lent.length))
    this.#memory.giveBack(lent.lease)
    return Promise.resolve(lent.length)
  }

  keep(segment: SegmentId, block: number, bytes: Uint8Array): void {
    const copy = Buffer.from(bytes)
    this.#pending.push(this.#add(segment, block, copy))
  }

  async #add(segment: SegmentId, block: number, bytes: Buffer): Promise<void> {
    const slabOffset = await this.#memory.acquire('read')
    const here = this.#memory.lendNow(segment, block, 1)
    if (here) this.#memory.giveBack(here.lease)
    if (here || this.#forgotten.has(segment)) {
      this.#memory.release(slabOffset)
      this.#stats.dropped++
      return
    }
    this.#slab.view(slabOffset, bytes.length).set(bytes)
    this.#memory.publish(segment, block, slabOffset, bytes.length)
    this.#memory.settle(segment, block)
    this.#stats.writes++
  }

  forget(segment: SegmentId): void {
    this.#forgotten.add(segment)
    this.#memory.forget(segment)
  }

  residentBytes(segment: SegmentId, offset: number, length: number): number {
    return this.#memory.residentBytes(segment, offset, length)
  }

  async settled(): Promise<void> {
    await Promise.all(this.#pending)
    this.#pending = []
  }
}
