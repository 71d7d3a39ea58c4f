/**
 * What the store needs of memory, journal, hashing and disk. Provided by cache-tier and persist, which satisfy these
 * structurally. Offsets into the slab are in bytes from its start; a slot is one block.
 */
import type { ContentId, InodeId, Revision, SegmentId } from '../common/ids.ts'
import type { ChecksumAlgorithm, StoredRun } from '../common/model.ts'
import type { BodyDigests } from './types.ts'

export interface Memory {
  /** @throws SlowDown after the admission time */
  acquire(purpose: 'stream'): Promise<number>
  release(slabOffset: number): void
  publish(segment: SegmentId, block: number, slabOffset: number, length: number): void
  settle(segment: SegmentId, block: number): void
  /** Lends a block of which at least the first `needed` bytes are there. @throws DataLost, SlowDown, Unavailable */
  lend(segment: SegmentId, block: number, needed: number): Promise<LentSlot>
  /** `lend` for what is in memory; undefined when it is not. */
  lendNow(segment: SegmentId, block: number, needed: number): LentSlot | undefined
  /**
   * Brings blocks that follow each other in without lending them; never waits. Returns how many from the first on are in memory
   * or on their way: fewer than asked when there is no room for more.
   */
  prefetch(segment: SegmentId, firstBlock: number, count: number): number
  /** Memory that blocks fetched ahead of all readers may hold together. */
  readonly aheadBytesMax: number
  /** How many of these bytes of a segment are in memory right now. */
  residentBytes(segment: SegmentId, offset: number, length: number): number
  giveBack(lease: number): void
  view(slabOffset: number, length: number): Uint8Array
  /**
   * Keeps a block that is lent right now from being evicted until then, for one holder; of two ends the later one counts.
   * Returns what takes this call back, or undefined when the share of memory that may be pinned is used up.
   * @param untilMs of the monotonic clock
   */
  pin(pin: BlockPin, untilMs: number): (() => void) | undefined
  unpin(pin: BlockPin): void
  /** Memory that pins may hold together; a block counts whole. */
  readonly pinnedBytesMax: number
  /** Slots that bodies under way may hold together. */
  readonly bodySlotsMax: number
}

export interface LentSlot {
  readonly slabOffset: number
  readonly length: number
  readonly lease: number
}

export interface BlockPin {
  readonly segment: SegmentId
  readonly block: number
  readonly holder: InodeId
}

export interface JournaledBody {
  readonly run: StoredRun
  /** Resolves when the bytes are durable. @throws StorageFull, Unavailable */
  sync(): Promise<void>
  /** After a sync that failed: whether no later one can succeed, since its segment is broken for good. */
  isLost(): boolean
  /** The body was published or given up. Call exactly once. */
  settled(): void
}

export interface JournalStream {
  readonly segment: SegmentId
  readonly length: number
  /** Blocks in order, whole but the last. Resolves when the slot's bytes need not be kept for writing. */
  write(slabOffset: number, length: number): Promise<void>
  /** With what is known of the body by now, for the footer. Resolves when it is durable. */
  finish(label: string): Promise<StoredRun>
}

export interface Journaling<Stream extends JournalStream = JournalStream> {
  /** Pieces are copied before it settles. `copied`: `Replicating.copied` is about to be asked of it. @throws Unavailable when there is no node to copy it to */
  append(
    body: {
      content: ContentId
      label: string
      pieces: readonly Uint8Array[]
      length: number
      bodyCrc: number
    },
    options?: { readonly copied: boolean },
  ): Promise<JournaledBody>
  /** `bucket`: whose it is, where that is known. */
  stream(body: { content: ContentId; bucket?: string; copied?: boolean }): Stream
  streamPublished(segment: SegmentId): void
  discardStream(stream: Stream): Promise<void>
  /** A commit that does not wait for these bytes is about to name them. */
  nameUnsynced(run: StoredRun): void
  /** Seals the open segment now if it is this one. */
  sealSoon(segment: SegmentId): void
}

/** Bytes on other nodes (C17). */
export interface Replicating {
  /** @throws Unavailable when no other node can take a copy now */
  check(): void
  /**
   * Resolves when another node has the first `through` bytes of a segment durably, or all that was appended to it so far, or every node reaches it elsewhere. Those that were
   * appended as `copied` are on their way already. @throws Unavailable
   */
  copied(segment: SegmentId, through?: number): Promise<void>
}

/** What a durable commit published. */
export interface PublishedName {
  readonly bucket: string
  readonly key: string
  readonly inode: InodeId
  readonly revision: Revision
}

export interface Persisting {
  /** Resolves when the segment is in the remote store. */
  persisted(segment: SegmentId): Promise<void>
  /**
   * Resolves when the remote store names it too, and so does not lose it with the node; its segments are there already.
   * @throws Unavailable when it takes too long: it stays published
   */
  named(published: PublishedName): Promise<void>
  /**
   * Resolves when it holds everything up to this durable revision, what was deleted by then too. `made`: what the commit of that
   * revision published. @throws as `named`
   */
  covered(revision: Revision, made: readonly PublishedName[]): Promise<void>
  /** Whether it is not in the remote store yet. */
  isLocal(segment: SegmentId): boolean
  /**
   * For bytes that are at hand: room on the disk and in the backlog (C19). Each byte is accepted once, before it is written.
   * @throws StorageFull when they would eat into the reserve; SlowDown after the admission time
   */
  accept(bytes: number): Promise<void>
  /** `accept` when the answer is known to be yes, and at once; false: ask. */
  acceptNow(bytes: number): boolean
  /** For bytes that are announced and come later, or never: room on the disk only. @throws StorageFull */
  reserve(bytes: number): Promise<void>
  /** For one body whose bytes were reserved: lets in what comes of it, piece by piece. */
  pacer(): { pace(bytes: number): Promise<void> }
}

export interface HashStream {
  /** Resolves when the bytes need not be kept for hashing. Calls are hashed in order. */
  update(slice: { slabOffset: number; length: number }): Promise<void>
  finish(): Promise<BodyDigests>
  abandon(): void
}

export interface Hashing {
  open(request: { md5: boolean; sha256: boolean; algorithms: readonly ChecksumAlgorithm[] }): HashStream
}
