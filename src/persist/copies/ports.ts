/**
 * Copies of segments on other nodes, for `ack=replicated` (C17): what the rest of the engine sees of them, and what they need.
 *
 *   owner    a segment of the copied lane names its partner in its row before its first byte is written. What is appended goes to the local
 *            disk and to the partner at the same time (sender.ts); what fails on the way is made up for with the whole file (recopier.ts)
 *   holder   keeps `DATA/copies/<segment>.seg`, byte by byte the owner's file, for as long as the row names it (holder.ts)
 *   heir     when the owner is lost, a holder makes the segment its own, and the file with it (take-over.ts)
 *
 * Durable: a byte of a copy once the write that carried it was answered with a sync. The names of a segment's copies are durable in metadata before
 * a byte is sent, and again before a write is acknowledged that counts on another partner. So whoever reads the row after the owner has gone
 * finds at least one node that has everything that was acknowledged.
 *
 * Never removed for a guess: a copy goes only when a read of metadata that began after the copy was looked at says that its segment is gone, is where all
 * nodes reach it, or that another copy took its place (C23).
 */
import type { BackgroundJob } from '../../common/background.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { IndexCommit, IndexedSegment } from '../ports.ts'

export interface Copies {
  /**
   * Resolves once another node has the first `through` bytes of the segment durably (all that was appended so far, if it is not given), or all nodes reach it elsewhere. Sends what is missing, to another partner if
   * need be. @throws Unavailable, after the admission time at most, when there is none
   */
  copied(segment: SegmentId, through?: number): Promise<void>
  /** It was persisted, or is gone: its copies need not be kept where everybody reaches the bytes now. Told to the holder, which may hear of it or not. */
  notNeeded(segment: SegmentId): void
  /** A block of a copy that is here, checked, into the slab; undefined when there is none or it does not reach so far. */
  read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined>
  /**
   * This node inherited the segment, durably: the copy's file becomes the journal's, cut at its last whole frame and sealed; metadata is told of that, and the flusher,
   * and it is copied again. Safe to repeat, whatever it was broken off at. False: there is no copy of it here.
   */
  adopt(segment: SegmentId): Promise<boolean>
  /** Whether a copy of it lies here. */
  holds(segment: SegmentId): Promise<boolean>
  /**
   * In recovery: a file of a segment that another node has inherited meanwhile. As long as that one has no copy elsewhere it becomes one, and is not removed. False: it is
   * not needed.
   */
  keep(segment: SegmentId, path: string): Promise<boolean>
  /** Before recovery: what was inherited and had not been moved when the process ended. */
  recover(): Promise<void>
  readonly jobs: readonly BackgroundJob[]
  status(): CopiesStatus
  stop(): Promise<void>
}

export interface CopiesStatus {
  /** Segments of others that lie here. */
  readonly heldSegments: number
  readonly heldBytes: number
  /** Segments of ours that are being written to a partner. */
  readonly openCopies: number
  /** Segments of ours that have no copy now and should. */
  readonly wantingCopies: number
  /** Whole segments that were sent again, since the start. */
  readonly recopiedSegments: number
}

/** What copies need of metadata. Reads are linearizable: they show every commit that was told before they began. */
export interface CopyIndex {
  /** Of any node. */
  segment(segment: SegmentId): Promise<IndexedSegment | undefined>
  /** This node's own. */
  segments(after: SegmentId | undefined, limit: number): Promise<IndexedSegment[]>
  segmentChanged(segment: SegmentId, state: 'sealed' | 'persisted', bytes: number): Promise<IndexCommit<void>>
  /** @throws ConditionalRequestConflict when it is not this node's */
  copiesChanged(segment: SegmentId, copies: readonly number[]): Promise<IndexCommit<void>>
}

/** One segment on its way to a partner, while it is written. Positions are those of the segment. */
export interface OutgoingCopy {
  readonly node: number
  readonly segment: SegmentId
  /**
   * Bytes that follow the last ones. They must stay as they are until the promise resolves: the partner has them, or the copy has failed. Never
   * rejects.
   */
  write(pieces: readonly Uint8Array[]): Promise<void>
  /** Resolves when the first `through` bytes are durable there. @throws Unavailable */
  sync(through: number): Promise<void>
  /** The last bytes, footer and all; the partner then has it whole. Resolves true when that is so, in a bounded time. */
  seal(footer: Uint8Array): Promise<boolean>
  /** No more is sent. Resolves when no byte is read any more. */
  abandon(): Promise<void>
  readonly failed: boolean
}

/** What the journal needs for its copied lane. */
export interface StartsCopies {
  /** A node that a new segment may be copied to. @throws Unavailable when there is none */
  partner(besides?: ReadonlySet<number>): number
  /** Resolves when the segment's row names this node, durably. */
  named(segment: SegmentId, node: number): Promise<void>
  /** The segment's row names the partner, durably. @throws Unavailable, StorageFull */
  open(segment: SegmentId, node: number): Promise<OutgoingCopy>
}
