/**
 * The seams of persistence: the file system it stands on, the memory it writes from, and what it needs to know of
 * metadata. Nothing here imports another layer; src/main.ts fits the parts together.
 */
import type { ContentId, Revision, SegmentId } from '../common/ids.ts'
import type { StoredRun } from '../common/model.ts'

/**
 * The file system, as far as durability needs it. Errors are Node's (`code` ENOSPC, ENOENT, EIO, ...).
 *
 * Durable means: contents after `OpenFile.sync`, names (creation, rename, removal) after `syncDirectory` of the
 * directory they lie in. Nothing else is promised after a power cut; the twin in test/sim forgets all the rest.
 */
export interface FileSystem {
  open(path: string, mode: 'read' | 'create' | 'write'): Promise<OpenFile>
  /**
   * Atomic; replaces `to`. Durable after `syncDirectory` of both directories; after a power cut before that the file has
   * either name, or both, but never none.
   */
  rename(from: string, to: string): Promise<void>
  /** No error when there is no such file. */
  remove(path: string): Promise<void>
  /** Names in it, unordered; empty when there is no such directory. */
  list(directory: string): Promise<string[]>
  makeDirectory(path: string): Promise<void>
  syncDirectory(path: string): Promise<void>
  space(path: string): Promise<{ freeBytes: number; totalBytes: number }>
}

export interface OpenFile {
  /** Bytes read; fewer than asked only at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number>
  /** Writes all of it or throws; `bytes` may be reused once it settled. */
  write(bytes: Uint8Array, position: number): Promise<void>
  truncate(length: number): Promise<void>
  /** fdatasync: contents and length are durable once it resolves. */
  sync(): Promise<void>
  size(): Promise<number>
  close(): Promise<void>
}

/** Slots of one block each in the slab, and the cache that readers find blocks in. Provided by cache-tier. */
export interface BlockMemory {
  readonly slab: SharedArrayBuffer
  /** A free slot (its offset in the slab). Evicts clean blocks. @throws SlowDown after the admission time (C19) */
  acquire(purpose: 'journal' | 'stream' | 'read'): Promise<number>
  /** Gives back a slot that was never published. */
  release(slabOffset: number): void
  /** Readers may now find the first `length` bytes of this block here. Called again as an open block grows; it stays pinned. */
  publish(segment: SegmentId, block: number, slabOffset: number, length: number): void
  /** The block's bytes are on disk and will not grow: from now on it may be evicted. */
  settle(segment: SegmentId, block: number): void
  /** The segment is gone. */
  forget(segment: SegmentId): void
}

/** What recovery, flushing and reclaim ask of metadata; satisfied by meta's namespace. */
export interface SegmentIndex {
  /** `copies`: nodes that are about to hold the same bytes. */
  segmentOpened(segment: SegmentId, copies?: readonly number[]): Promise<IndexCommit<void>>
  segmentChanged(segment: SegmentId, state: 'sealed' | 'persisted', bytes: number): Promise<IndexCommit<void>>
  segmentRemoved(segment: SegmentId): Promise<IndexCommit<void>>
  segment(segment: SegmentId): Promise<IndexedSegment | undefined>
  /** As `segment`, once what was on its way before is decided, and durable: a change of which somebody was told that nobody knows, too. @throws Unavailable, SlowDown when that takes too long */
  decidedSegment(segment: SegmentId): Promise<IndexedSegment | undefined>
  segments(after: SegmentId | undefined, limit: number): Promise<IndexedSegment[]>
  dismantle(horizon: Revision): Promise<IndexCommit<{ steps: number; emptied: readonly SegmentId[] }>>
  contentLiesAt(run: StoredRun): Promise<boolean>
  contentMoved(from: StoredRun, to: StoredRun): Promise<IndexCommit<boolean>>
  bytesLost(
    segment: SegmentId,
    from: number,
    to: number,
  ): Promise<{ removedMemory: number; lost: { bucket: string; key: string }[] }>
  revision(): Revision
  durableRevision(): Revision
  /** Resolves when everything visible now is durable; rejects when some of it was undone. */
  flush(): Promise<void>
}

export interface IndexCommit<T> {
  readonly value: T
  readonly revision: Revision
  readonly durable: Promise<void>
}

export interface IndexedSegment {
  readonly segment: SegmentId
  readonly state: 'open' | 'sealed' | 'persisted'
  readonly bytes: number
  readonly liveBytes: number
  /** Whose it is, where several nodes share the metadata. */
  readonly node?: number
  /** Nodes that hold the same bytes. Absent: it was never copied; empty: it was, and wants another partner. */
  readonly copies?: readonly number[]
}

/** A body in a segment, as the frame that precedes it says. `label` is what its names can be rebuilt from (C17). */
export interface SegmentBody {
  readonly content: ContentId
  /** Of the body's first byte. */
  readonly offset: number
  readonly length: number
  readonly label: string
}
