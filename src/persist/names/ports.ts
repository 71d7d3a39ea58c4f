/**
 * Names: the rows of metadata in the remote store (docs/decisions/0013). What shipping them asks of metadata, and what the rest of the
 * gateway asks of it.
 */
import type { ByteString, Revision, SegmentId } from '../../common/ids.ts'
import type { Extent } from '../../common/model.ts'

export interface NameRow {
  readonly key: ByteString
  /** Undefined: the row is gone. */
  readonly value: Uint8Array | undefined
}

export interface NamesDelta {
  /** Revision after which it begins. */
  readonly after: Revision
  readonly through: Revision
  /** Each row that changed, once, as it is at `through`, ascending. */
  readonly rows: readonly NameRow[]
  /** Segments with live bytes that were not in the remote store at `through`. */
  readonly unpersisted: readonly SegmentId[]
}

/** One object as a commit left it, enough to put it back without the rows around it. */
export interface NameRecord {
  readonly revision: Revision
  readonly bucket: string
  readonly key: string
  /** Rows `B` of its bucket, `I` and `D` of itself, as they are stored; inline bytes lie in `I`. */
  readonly bucketRow: Uint8Array
  readonly inode: number
  readonly inodeRow: Uint8Array
  readonly entryRow: Uint8Array
  /** Of a body that is not inline, in order. */
  readonly extents: readonly Extent[]
}

/** Satisfied by meta. Which rows are names is metadata's business: neither counters nor the change log are. */
export interface NamesSource {
  revision(): Revision
  durableRevision(): Revision
  flush(): Promise<void>
  /**
   * Undefined when the change log does not reach back to `after`, or more than `bytesMax` have changed since. `captured` is called in the very
   * turn of the capture, long before it can be returned, with the segments it waits for: nobody can have removed one of them yet.
   */
  delta(
    after: Revision,
    bytesMax: number,
    captured?: (unpersisted: readonly SegmentId[]) => void,
  ): Promise<NamesDelta | undefined>
  /** Whether the change log reaches back to that revision. */
  reachesBack(after: Revision): boolean
  /** One page of all rows, after that key; at most about `bytesMax`. `next` undefined: it was the last. */
  basePage(
    after: ByteString | undefined,
    bytesMax: number,
  ): Promise<{ rows: readonly NameRow[]; next: ByteString | undefined; revision: Revision }>
  /**
   * For each, in order, the object as it is by now, at least as new as the commit: who was told of that must find it or something later.
   * Undefined for what a record cannot tell (gone since, bytes not arrived, too many pieces): the next delta does.
   */
  describe(published: readonly PublishedName[]): Promise<(NameRecord | undefined)[]>
  segment(
    segment: SegmentId,
  ): Promise<{ readonly state: 'open' | 'sealed' | 'persisted'; readonly liveBytes: number } | undefined>
  /** The greatest id of a segment that there is; undefined: there is none. */
  newestSegment(): Promise<SegmentId | undefined>
  /** What changed up to this revision need not be told again. */
  shipped(revision: Revision): void
  /** Durably notes in the data directory, and nowhere else, what is about to be put (intents.ts), and forgets others. */
  noteIntent(intent: NotedIntent, forgotten: readonly string[]): Promise<void>
  /** What was noted, by lives before this one too; the oldest first. */
  intents(): readonly NotedIntent[]
}

export interface NotedIntent {
  /** Of the capture or the base, as in the names of its objects. */
  readonly random: string
  readonly revision: Revision
}

export interface PublishedName {
  readonly bucket: string
  readonly key: string
  readonly inode: number
  readonly revision: Revision
}

/** What store, flusher and reclaimer ask of names. Where there is no stream, `noNames` answers. */
export interface Names {
  /**
   * Resolves when the remote store names what this durable commit published; its segments are persisted already. Shared by all who
   * wait. @throws Unavailable after `persistWaitMsMax`, or when names stop: it stays published, and is named later
   */
  named(published: PublishedName): Promise<void>
  /**
   * Resolves when the remote store holds everything up to this durable revision: for what no record tells, such as what is gone. Waits for
   * the bytes of others too. @throws as `named`
   */
  covered(revision: Revision): Promise<void>
  /** A captured delta waits for it: it must be neither dropped nor reclaimed, however dead it is by now. */
  holds(segment: SegmentId): boolean
  /** Whether a segment whose last reference was dropped at that revision may go from the remote store. */
  mayRemove(segment: SegmentId, emptiedAt: Revision): boolean
}
