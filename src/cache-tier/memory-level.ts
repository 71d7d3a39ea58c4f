/**
 * The memory level of the cache: blocks of segments in the slab, found by `(segment, block)`.
 *
 * A block is in one of these states:
 *
 *   open      held by its writer: readable, growing, never evicted (`publish` .. `settle`)
 *   leased    being sent; never evicted while a lease is out (C13)
 *   pinned    somebody asked that it stay for a time: not in the order of eviction at all until then, so that many pins do
 *             not make an eviction long. Pins together hold a share of memory only
 *   ahead     fetched ahead of a reader that has not come to it yet: evicted after all idle ones, since it was fetched for
 *             nothing then. Such blocks together hold a share of memory; over that the oldest become idle
 *   idle      evicted when a slot is needed, in the order of S3-FIFO
 *
 * Slots are also lent to writers that gather a body (`acquire('stream')`). Who finds no slot waits in line, first the
 * journal (which frees memory by writing), then the rest in order of arrival, at most the admission time (C19).
 */
import { assert, must } from '../common/assert.ts'
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import { sharesFailure, type BlockNeed, type Fetching, type FetchKind } from './fetching.ts'
import { S3Fifo } from './s3-fifo.ts'
import type { Slab } from './slab.ts'
import { SlotLines } from './slot-lines.ts'
import { TimedPins } from './timed-pins.ts'

interface Block {
  readonly key: string
  readonly slabOffset: number
  length: number
  leases: number
  /** Still written to by its owner. */
  open: boolean
  /** Its segment is gone, or more of it came in another slot: this one is freed with the last lease. */
  forgotten: boolean
}

interface Wanted {
  readonly needed: number
  readonly fetch: FetchBlock
  readonly kind: Exclude<FetchKind, 'ahead'>
}

export interface MemoryLevelStats {
  hits: number
  misses: number
  evictions: number
  waits: number
}

export interface BlockPin {
  readonly segment: SegmentId
  readonly block: number
  /** Whose pin it is: each of several has an end of its own. */
  readonly holder: number
}

export interface LentBlock {
  readonly slabOffset: number
  readonly length: number
  readonly lease: number
}

/** Fills a slot with a block and returns its length. */
export type FetchBlock = (segment: SegmentId, block: number, slabOffset: number, need: BlockNeed) => Promise<number>

/** Fills slots with blocks that follow each other; resolves for each with its length. */
export type FetchRun = (
  segment: SegmentId,
  firstBlock: number,
  slabOffsets: readonly number[],
) => readonly Promise<number>[]

export interface BlockRun {
  readonly segment: SegmentId
  readonly firstBlock: number
  readonly count: number
}

/** Share of the slots that blocks fetched ahead may hold together, under way or not read yet. */
const AHEAD_SHARE_MAX = 0.25
/** Bytes that may be on their way at once for blocks that nobody waits for: the line to the remote store is there for others too. */
const AHEAD_FETCHING_BYTES_MAX = 32 * 1024 * 1024
/** Bytes that one run may fetch: a reader who catches up waits for all of it. */
const RUN_BYTES_MAX = 8 * 1024 * 1024
/** Share of the slots that pins may hold together; bodies under way, readers and the journal have the rest. */
const PINNED_SHARE_MAX = 0.25
/** How often a block that was evicted at once is fetched again for one reader. */
const LEND_ATTEMPTS_MAX = 8

export class MemoryLevel {
  readonly slab: SharedArrayBuffer
  readonly stats: MemoryLevelStats = { hits: 0, misses: 0, evictions: 0, waits: 0 }
  readonly #slab: Slab
  readonly #limits: Limits
  readonly #clock: Clock
  readonly #blocks = new Map<string, Block>()
  readonly #policy = new S3Fifo<string>()
  readonly #leases = new Map<number, Block>()
  readonly #fetching = new Map<string, Fetching>()
  /** Fetched ahead and not read since, the oldest first; not in the order of eviction. */
  readonly #ahead = new Set<string>()
  #aheadFetching = 0
  readonly #bySegment = new Map<SegmentId, Set<number>>()
  readonly #lines: SlotLines
  readonly #pins = new TimedPins<string>()
  #nextLease = 1

  constructor(options: { slab: Slab; limits: Limits; clock: Clock }) {
    this.#slab = options.slab
    this.slab = options.slab.buffer
    this.#limits = options.limits
    this.#clock = options.clock
    this.#lines = new SlotLines({ clock: options.clock, waitMsMax: options.limits.admissionWaitMsMax })
  }

  get slots(): number {
    return this.#slab.slots
  }

  get bytesHeld(): number {
    return this.#blocks.size * this.#slab.slotBytes
  }

  get bytesPinned(): number {
    this.#endPins('now')
    return this.#pins.size * this.#slab.slotBytes
  }

  get bytesPinnedMax(): number {
    return Math.floor(this.#slab.slots * PINNED_SHARE_MAX) * this.#slab.slotBytes
  }

  /** Memory that blocks fetched ahead may hold together. */
  get bytesAheadMax(): number {
    return Math.floor(this.#slab.slots * AHEAD_SHARE_MAX) * this.#slab.slotBytes
  }

  get leases(): number {
    return this.#leases.size
  }

  /** @throws SlowDown when no slot came free within the admission time */
  async acquire(purpose: 'journal' | 'stream' | 'read'): Promise<number> {
    const line = purpose === 'journal' ? 'urgent' : 'waiting'
    const slot = this.#lines.isBefore(line) ? undefined : this.#takeForUse()
    if (slot !== undefined) return slot
    this.stats.waits++
    return await this.#lines.wait(line)
  }

  /** What was fetched ahead gives way to who needs a slot now. */
  #takeForUse(): number | undefined {
    const slot = this.#takeOrEvict()
    if (slot !== undefined || this.#ahead.size === 0) return slot
    this.#endAhead()
    return this.#takeOrEvict()
  }

  #takeOrEvict(): number | undefined {
    const free = this.#slab.take()
    if (free !== undefined) return free
    this.#endPins('when due')
    const key = this.#policy.evict((candidate) => {
      const block = must(this.#blocks.get(candidate), 'block in the policy')
      return block.open || block.leases > 0
    })
    if (key === undefined) return undefined
    const block = must(this.#blocks.get(key), 'evicted block')
    this.#drop(block)
    this.stats.evictions++
    return block.slabOffset
  }

  /** Gives back a slot that was never published. */
  release(slabOffset: number): void {
    this.#give(slabOffset)
  }

  #give(slabOffset: number): void {
    this.#slab.give(slabOffset)
    this.#serveWaiters()
  }

  #serveWaiters(): void {
    this.#lines.serve(() => this.#takeForUse())
  }

  /** See BlockMemory.publish: readers may find the first `length` bytes of the block; its owner still writes to it. */
  publish(segment: SegmentId, block: number, slabOffset: number, length: number): void {
    const key = blockKey(segment, block)
    const known = this.#blocks.get(key)
    if (known) {
      assert(known.open && known.slabOffset === slabOffset && length >= known.length, 'an open block only grows')
      known.length = length
      return
    }
    this.#add(segment, block, { key, slabOffset, length, leases: 0, open: true, forgotten: false })
  }

  settle(segment: SegmentId, block: number): void {
    const known = this.#blocks.get(blockKey(segment, block))
    if (!known?.open) return
    known.open = false
    this.#serveWaiters()
  }

  forget(segment: SegmentId): void {
    for (const index of this.#bySegment.get(segment) ?? []) {
      const block = must(this.#blocks.get(blockKey(segment, index)), 'block of a segment')
      this.#policy.remove(block.key)
      this.#pins.forget(block.key)
      this.#drop(block)
      block.forgotten = true
      if (block.leases === 0) this.#give(block.slabOffset)
    }
  }

  /**
   * Lends a block, fetching it when it is not here; however many ask for it at once, it is fetched once. `needed` bytes from
   * its start must be there: an open block may still be shorter. Give the lease back with `giveBack`.
   */
  async lend(segment: SegmentId, block: number, needed: number, fetch: FetchBlock): Promise<LentBlock> {
    return await this.#lend(segment, block, { needed, fetch, kind: 'reader' })
  }

  /** `lend` on behalf of another node, by a fetch that may give up sooner than one for this node: those here who joined it do not fail with it. */
  async lendToPeer(segment: SegmentId, block: number, needed: number, fetch: FetchBlock): Promise<LentBlock> {
    return await this.#lend(segment, block, { needed, fetch, kind: 'peer' })
  }

  /** Whether this node fetches the block right now for itself, from wherever it may be. */
  isFetching(segment: SegmentId, block: number): boolean {
    const under = this.#fetching.get(blockKey(segment, block))
    return under !== undefined && under.kind !== 'peer'
  }

  async #lend(segment: SegmentId, block: number, wanted: Wanted): Promise<LentBlock> {
    const { needed } = wanted
    for (let attempt = 0; attempt < LEND_ATTEMPTS_MAX; attempt++) {
      const lent = this.#lendHere(segment, block, needed)
      if (attempt === 0) this.stats[lent ? 'hits' : 'misses']++
      if (lent) return lent
      const got = await this.#fetchOnce(segment, block, wanted)
      // One that was begun for fewer bytes may rightly have brought fewer.
      if (got.length < needed && got.needed >= needed) {
        throw new TidegateError(
          'DataLost',
          `block ${block} of segment ${segment} holds ${got.length} of ${needed} bytes`,
        )
      }
      // Between the fetch and this turn the block may have been evicted for somebody else: then it is fetched again.
    }
    throw new TidegateError('SlowDown', `memory is too short to hold block ${block} of segment ${segment}`)
  }

  /** How many of these bytes of a segment are here right now; nobody's use of them. */
  residentBytes(segment: SegmentId, offset: number, length: number): number {
    const { blockBytes } = this.#limits
    const end = offset + length
    let bytes = 0
    for (let index = Math.floor(offset / blockBytes); index * blockBytes < end; index++) {
      const held = this.#blocks.get(blockKey(segment, index))
      if (!held) continue
      const start = index * blockBytes
      bytes += Math.max(0, Math.min(end, start + held.length) - Math.max(offset, start))
    }
    return bytes
  }

  /** `lend` for a block that is here; undefined when it is not. */
  lendNow(segment: SegmentId, block: number, needed: number): LentBlock | undefined {
    const lent = this.#lendHere(segment, block, needed)
    if (lent) this.stats.hits++
    return lent
  }

  #lendHere(segment: SegmentId, block: number, needed: number): LentBlock | undefined {
    const found = this.#blocks.get(blockKey(segment, block))
    if (!found || found.length < needed) return undefined
    if (this.#ahead.delete(found.key)) this.#policy.insert(found.key, this.#slab.slotBytes)
    else this.#policy.touch(found.key)
    return this.#lease(found)
  }

  /**
   * Brings blocks in without lending them, in as few runs as they lie in; those that are here or on their way are left out. Never
   * waits for memory. Returns how many from the first on are here or will be.
   */
  prefetch({ segment, firstBlock, count }: BlockRun, fetch: FetchRun): number {
    const run: number[] = []
    const blocksMax = Math.max(1, Math.floor(RUN_BYTES_MAX / this.#slab.slotBytes))
    const end = firstBlock + count
    let block = firstBlock
    for (; block < end; block++) {
      const key = blockKey(segment, block)
      const isComing = this.#blocks.has(key) || this.#fetching.has(key)
      if (isComing || run.length === blocksMax) this.#fetchAhead(segment, block - run.length, run.splice(0), fetch)
      if (isComing) continue
      const slabOffset = this.#takeAhead(run.length)
      if (slabOffset === undefined) break
      run.push(slabOffset)
    }
    this.#fetchAhead(segment, block - run.length, run, fetch)
    return block - firstBlock
  }

  /** `gathered`: slots of a run that is not under way yet. */
  #takeAhead(gathered: number): number | undefined {
    if (this.#lines.length > 0) return undefined
    const bytes = (this.#aheadFetching + gathered + 1) * this.#slab.slotBytes
    return bytes > Math.min(this.bytesAheadMax, AHEAD_FETCHING_BYTES_MAX) ? undefined : this.#takeOrEvict()
  }

  #fetchAhead(segment: SegmentId, firstBlock: number, slots: readonly number[], fetch: FetchRun): void {
    if (slots.length === 0) return
    for (const [index, arriving] of fetch(segment, firstBlock, slots).entries()) {
      const block = firstBlock + index
      const key = blockKey(segment, block)
      this.#aheadFetching++
      const length = this.#arrive(segment, block, { slabOffset: slots[index] as number, arriving, isAhead: true })
      this.#fetching.set(key, { length, kind: 'ahead', needed: 0 })
      length
        .catch(() => undefined)
        .finally(() => {
          this.#aheadFetching--
          this.#fetching.delete(key)
          this.#endAheadOverShare()
          this.#serveWaiters()
        })
    }
  }

  #endAheadOverShare(): void {
    while ((this.#ahead.size + this.#aheadFetching) * this.#slab.slotBytes > this.bytesAheadMax) {
      if (this.#ahead.size === 0) return
      this.#endAhead()
    }
  }

  /** The oldest of the blocks fetched ahead is idle from now on. */
  #endAhead(): void {
    const key = must(this.#ahead.values().next().value, 'block fetched ahead')
    this.#ahead.delete(key)
    this.#policy.insert(key, this.#slab.slotBytes)
  }

  /** Resolves with the length of the block, which was in memory a moment ago, and how much of it was asked for. */
  async #fetchOnce(
    segment: SegmentId,
    block: number,
    wanted: Wanted,
  ): Promise<{ readonly length: number; readonly needed: number }> {
    const key = blockKey(segment, block)
    const under = this.#fetching.get(key)
    if (under) {
      const joined = sharesFailure(under, wanted.kind) ? under.length : under.length.catch(() => undefined)
      const length = await joined
      return length === undefined ? await this.#fetchOnce(segment, block, wanted) : { length, needed: under.needed }
    }
    const length = this.#fetch(segment, block, wanted).finally(() => this.#fetching.delete(key))
    this.#fetching.set(key, { length, kind: wanted.kind, needed: wanted.needed })
    return { length: await length, needed: wanted.needed }
  }

  async #fetch(segment: SegmentId, block: number, { fetch, needed }: Wanted): Promise<number> {
    const slabOffset = await this.acquire('read')
    const short = this.#blocks.get(blockKey(segment, block))
    const held = short && this.#lease(short)
    const arriving = fetch(segment, block, slabOffset, { needed, held }).finally(
      () => held && this.giveBack(held.lease),
    )
    return await this.#arrive(segment, block, { slabOffset, arriving, isAhead: false })
  }

  async #arrive(
    segment: SegmentId,
    index: number,
    {
      slabOffset,
      arriving,
      isAhead,
    }: { readonly slabOffset: number; readonly arriving: Promise<number>; readonly isAhead: boolean },
  ): Promise<number> {
    let length: number
    try {
      length = await arriving
    } catch (error) {
      this.#give(slabOffset)
      throw error
    }
    const key = blockKey(segment, index)
    const other = this.#blocks.get(key)
    if (other && (other.open || other.length >= length)) {
      // Published by its writer meanwhile: the same bytes, perhaps more of them.
      this.#give(slabOffset)
      return other.length
    }
    const block = { key, slabOffset, length, leases: 0, open: false, forgotten: false }
    if (other) this.#supersede(other, block)
    else this.#add(segment, index, block, isAhead ? 'ahead' : 'idle')
    return length
  }

  /** More of a block that grew elsewhere: it takes the other's place in the order of eviction, among the pins and all. */
  #supersede(other: Block, block: Block): void {
    this.#blocks.set(block.key, block)
    other.forgotten = true
    if (other.leases === 0) this.#give(other.slabOffset)
  }

  #lease(block: Block): LentBlock {
    block.leases++
    const lease = this.#nextLease++
    this.#leases.set(lease, block)
    return { slabOffset: block.slabOffset, length: block.length, lease }
  }

  giveBack(lease: number): void {
    const block = this.#leases.get(lease)
    if (!block) return
    this.#leases.delete(lease)
    this.#unlease(block)
  }

  #unlease(block: Block): void {
    block.leases--
    assert(block.leases >= 0, 'a lease is given back once')
    if (block.leases > 0) return
    if (block.forgotten) this.#give(block.slabOffset)
    else if (!block.open) this.#serveWaiters()
  }

  /**
   * Keeps a block that is here from being evicted until then, for one holder of any number; of two ends the later one counts.
   * Returns what takes this call back, or undefined when the share of memory that may be pinned is used up.
   * @param untilMs of the monotonic clock
   */
  pin({ segment, block, holder }: BlockPin, untilMs: number): (() => void) | undefined {
    const key = blockKey(segment, block)
    // Its segment was removed since it was lent.
    if (!this.#blocks.has(key)) return () => undefined
    if (!this.#pins.has(key) && (this.#pins.size + 1) * this.#slab.slotBytes > this.bytesPinnedMax) {
      this.#endPins('now')
      if ((this.#pins.size + 1) * this.#slab.slotBytes > this.bytesPinnedMax) return undefined
    }
    const before = this.#pins.end(key, holder)
    if (before !== undefined && before >= untilMs) return () => undefined
    this.#pins.set(key, holder, untilMs)
    this.#policy.remove(key)
    return () => {
      // Somebody asked for longer since then, or nobody holds it any more.
      if (this.#pins.end(key, holder) !== untilMs) return
      if (before === undefined) this.unpin({ segment, block, holder })
      else this.#pins.set(key, holder, before)
    }
  }

  unpin({ segment, block, holder }: BlockPin): void {
    const key = blockKey(segment, block)
    if (!this.#pins.unset(key, holder)) return
    this.#policy.insert(key, this.#slab.slotBytes)
    this.#serveWaiters()
  }

  /** Blocks whose pins have ended may be evicted again. */
  #endPins(sweep: 'when due' | 'now'): void {
    if (this.#pins.size === 0) return
    for (const key of this.#pins.takeEnded(this.#clock.monotonicMs(), sweep)) {
      this.#policy.insert(key, this.#slab.slotBytes)
    }
  }

  #add(segment: SegmentId, index: number, block: Block, from: 'idle' | 'ahead' = 'idle'): void {
    this.#blocks.set(block.key, block)
    if (from === 'ahead') this.#ahead.add(block.key)
    else this.#policy.insert(block.key, this.#slab.slotBytes)
    const ofSegment = this.#bySegment.get(segment)
    if (ofSegment) ofSegment.add(index)
    else this.#bySegment.set(segment, new Set([index]))
  }

  #drop(block: Block): void {
    this.#blocks.delete(block.key)
    this.#ahead.delete(block.key)
    const segment = block.key.slice(0, 32) as SegmentId
    const ofSegment = must(this.#bySegment.get(segment), 'blocks of a segment')
    ofSegment.delete(Number(block.key.slice(33)))
    if (ofSegment.size === 0) this.#bySegment.delete(segment)
  }
}

function blockKey(segment: SegmentId, block: number): string {
  return `${segment}/${block}`
}
