/**
 * What attached buckets stand on (docs/decisions/0015): the external bucket, and the mirror of it in the namespace. Provided by
 * persist/external and meta/namespace/attached, which satisfy these structurally.
 *
 * Keys here are bucket keys, in UTF-8 text: the attachment's prefix is the provider's business. ETags are without quotes.
 */
import type { InodeId, Revision, SegmentId } from '../common/ids.ts'
import type { AckLevel, ObjectAttributes, ObjectVersion, Extent } from '../common/model.ts'
import type { AttachmentRecord, ExternalBody } from '../common/external.ts'

export interface Commit<T> {
  readonly value: T
  readonly revision: Revision
  readonly durable: Promise<void>
}

// ---- the external bucket

/** As a listing tells it. */
export interface ExternalObject {
  readonly key: string
  readonly size: number
  readonly etag: string
  readonly modifiedMs: number
  readonly storageClass: string
}

/** As HEAD tells it: also what a listing does not say. */
export interface ExternalDescription extends ExternalObject {
  readonly attributes: ObjectAttributes
  /** Of a completed multipart upload, from the ETag. */
  readonly partsCount: number | undefined
}

export interface ExternalPage {
  /** Ascending by key in byte order. */
  readonly objects: readonly ExternalObject[]
  /** Common prefixes, each ending in `/`; none without a delimiter. */
  readonly prefixes: readonly string[]
  /** Everything up to this key (or prefix) was told; undefined: to the end. */
  readonly next: string | undefined
}

/** What must lie at a key for a write to happen; decided by the store, atomically. */
export type Expected =
  | { readonly kind: 'anything' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'etag'; readonly etag: string }

export interface ExternalCapabilities {
  readonly conditionalPut: boolean
  readonly conditionalDelete: boolean
  /** CompleteMultipartUpload takes `If-Match` and `If-None-Match`. */
  readonly conditionalComplete: boolean
  /** `copy` takes conditions on its target: as CopyObject does, or else in parts. */
  readonly conditionalCopy: boolean
}

export interface PieceSource {
  readonly length: number
  /** Bytes from `offset` on, whole blocks of them; called in order, again from the start on a retry. Each slice is used before the next is asked for. */
  bytes(): AsyncIterable<Uint8Array>
}

/** A part of a multipart upload: bytes of ours, or a range of an object that lies there already. */
export type UploadPiece =
  | { readonly kind: 'bytes'; readonly source: PieceSource }
  | {
      readonly kind: 'copy'
      readonly key: string
      readonly etag: string
      readonly offset: number
      readonly length: number
    }

/**
 * Errors: `NoSuchKey`, `NoSuchBucket`, `PreconditionFailed` (what was expected is not there; of `read` and copies: the source is another
 * one now: `details.side` says `source` or `target`), `AccessDenied`, `SlowDown`, `StorageFull`, `NotImplemented` (a condition that the store cannot decide), and `Unavailable` for the rest; the
 * store's own code and status in `details`. Retries what is worth retrying within its time-outs; a conditional write whose answer was lost may then meet itself: PreconditionFailed.
 */
export interface ExternalBucket {
  /** For people: where it is, without secrets. */
  readonly description: string
  /** Tries with an object of its own under a name that it removes again. @throws what is wrong with the bucket or the credentials */
  probe(): Promise<ExternalCapabilities>
  /** Names after `after`, with the prefix; at most `limit` (1..1000) objects and prefixes together. */
  list(request: {
    readonly prefix: string
    readonly after: string
    readonly delimiter: '' | '/'
    readonly limit: number
    readonly signal?: AbortSignal | undefined
  }): Promise<ExternalPage>
  head(key: string, signal?: AbortSignal): Promise<ExternalDescription | undefined>
  /** Fills the buffers one after the other from `offset` on, in one request with `If-Match`. @returns bytes read. @throws PreconditionFailed, NoSuchKey */
  read(
    of: { readonly key: string; readonly etag: string },
    offset: number,
    into: readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<number>
  /** One PUT, up to 5 GiB. */
  put(
    key: string,
    source: PieceSource,
    options: {
      readonly attributes: ObjectAttributes
      readonly expected: Expected
      readonly signal?: AbortSignal | undefined
    },
  ): Promise<{ readonly etag: string }>
  /**
   * In these parts, at most 10,000 of at least 5 MiB but for the last. Gives up what it began when it fails.
   * `aboutToComplete` is told the ETag that it will have, if that can be said, before it may be there.
   */
  putInParts(
    key: string,
    pieces: readonly UploadPiece[],
    options: {
      readonly attributes: ObjectAttributes
      readonly expected: Expected
      readonly signal?: AbortSignal | undefined
      readonly aboutToComplete?: ((etag: string) => Promise<void>) | undefined
    },
  ): Promise<{ readonly etag: string }>
  /** Up to any size (over 5 GiB in parts: then `aboutToComplete` is told as above). `attributes` undefined: those of the source. */
  copy(
    from: { readonly key: string; readonly etag: string; readonly size: number },
    key: string,
    options: {
      readonly attributes: ObjectAttributes | undefined
      readonly expected: Expected
      readonly signal?: AbortSignal | undefined
      readonly aboutToComplete?: ((etag: string) => Promise<void>) | undefined
    },
  ): Promise<{ readonly etag: string }>
  /** No error when there is nothing. */
  remove(key: string, expected: Exclude<Expected, { kind: 'absent' }>): Promise<void>
  tags(key: string): Promise<Readonly<Record<string, string>>>
  setTags(key: string, tags: Readonly<Record<string, string>>): Promise<void>
  /** Ends what is under way. */
  stop(): void
}

// ---- the mirror in the namespace

/** What the external bucket held at a key, as far as we knew, before it was changed here. */
export type Base = { readonly kind: 'absent' } | { readonly kind: 'etag'; readonly etag: string; readonly size: number }

export interface DirtyKey {
  readonly key: string
  readonly base: Base
  /** Since when something at this key has not been carried out. */
  readonly sinceMs: number
  /** Of the last change of it here. A settle names it: what was changed since stays dirty. */
  readonly revision: Revision
  /** What lies outside at this key is still the only copy of what these inodes were renamed with: it may not be overwritten or deleted before they have arrived elsewhere. */
  readonly neededBy: readonly InodeId[]
  /** Refused by the store, and waiting for somebody's decision. */
  readonly conflict: { readonly sinceMs: number; readonly outside: Base } | undefined
  /** What earlier tries may have left outside: if that is what lies there, it is an older state of ours. Absent when there was none. */
  readonly tried?: readonly Base[] | undefined
}

/** What is to be carried out for a dirty key, read at one revision. */
export interface DirtyState {
  readonly dirty: DirtyKey
  /** What the key names here now; undefined: nothing, so the external object is to go. */
  readonly version: ObjectVersion | undefined
  /** Of its body, unless it is inline: in order, holes left out. */
  readonly extents: readonly Extent[]
  /** Sizes of the parts that it was completed from; empty for one PUT. */
  readonly partSizes: readonly number[]
}

export type Scope = { readonly kind: 'deep' } | { readonly kind: 'shallow'; readonly directory: string }

export interface CoveredRange {
  readonly scope: Scope
  /** First key and last one, both in it. */
  readonly from: string
  readonly through: string
  readonly sinceMs: number
  readonly position: string
}

/** A page that was listed, to be taken over. */
export interface SeenPage {
  readonly bucketId: number
  readonly scope: Scope
  /** Everything in `(after, through]` of the scope was told; `through` undefined: to the end of it. For `deep` with a `prefix` the end is that of the prefix. */
  readonly prefix: string
  readonly after: string
  readonly through: string | undefined
  readonly objects: readonly ExternalObject[]
  readonly prefixes: readonly string[]
  /** The namespace's revision before the request was sent, and the time then. */
  readonly askedAt: Revision
  readonly askedAtMs: number
}

/**
 * `changed`, `same`: the mirror says what was seen. `kept`: it does not, and another look would not change that now: what was done here is to be done outside
 * yet, or what lies there cannot be held here. `late`: the key came into step since the look began, and nothing tells which of the two is newer: look again.
 */
export type MergedOne = 'changed' | 'same' | 'kept' | 'late'

export interface AttachedNames {
  /** Makes the bucket. @throws BucketAlreadyExists, InvalidBucketName */
  attach(request: {
    readonly bucket: string
    readonly owner: string
    readonly region: string
    readonly ack: AckLevel
    readonly attachment: Omit<AttachmentRecord, 'bucketId' | 'bucket'>
  }): Promise<Commit<AttachmentRecord>>
  change(bucket: string, attachment: AttachmentRecord): Promise<Commit<void>>
  attachments(): Promise<readonly AttachmentRecord[]>
  /** One bounded step of forgetting a bucket, entries and all; nothing outside changes. False when it is gone, whoever has its name by now. */
  forget(of: Pick<AttachmentRecord, 'bucketId' | 'bucket'>): Promise<Commit<boolean>>

  /** Up to which key (inclusive) of the scope everything from `from` on has been listed since then; undefined: not even there. `end` of the scope: '\u{10ffff}'. */
  covered(
    bucketId: number,
    scope: Scope,
    from: string,
    sinceMs: number,
  ): Promise<{ readonly through: string | undefined; readonly sinceMs: number } | undefined>
  /** Ranges that have been listed at some time, in a fixed order, after the `position` of one of them ('' for the first); at most `limit`. */
  coverage(bucketId: number, after: string, limit: number): Promise<readonly CoveredRange[]>
  /** Takes over what was seen, in bounded steps, and marks it covered. Resolves with how many keys it changed. */
  merge(page: SeenPage): Promise<Commit<number>>
  /** The same for one key that was looked at; `found` undefined: nothing is there. Resolves with what became of it. */
  mergeOne(seen: {
    readonly bucketId: number
    readonly key: string
    readonly found: ExternalDescription | undefined
    readonly askedAt: Revision
  }): Promise<Commit<MergedOne>>
  /** What was listed of it no longer counts: the next listing asks. */
  uncover(bucketId: number, prefix: string): Promise<Commit<void>>

  /** Ascending by key, at most `limit`. */
  dirtyKeys(bucketId: number, after: string, limit: number): Promise<readonly DirtyKey[]>
  dirtyState(bucketId: number, key: string): Promise<DirtyState | undefined>
  /** Calls back after commits that made keys dirty. Returns what ends that. */
  onDirty(listener: (changes: readonly { readonly bucketId: number; readonly key: string }[]) => void): () => void
  /**
   * What lay outside is as said now (`outside`: by our own write, or by looking). If the key was not changed here since `revision`, it is clean: its body becomes the external one
   * (`undefined`: the key names nothing, and is gone). Else it stays dirty, and its base is what we have `written`; of what was only looked at
   * it knows nothing, or it would be overwritten unseen. Resolves with whether it is clean.
   */
  settle(request: {
    readonly bucketId: number
    readonly key: string
    readonly revision: Revision
    readonly outside: ExternalDescription | undefined
    /**
     * The ETag that our own write of that revision was answered with. If it is that of `outside`, what lies there is byte for byte what the key named here at that
     * revision: it takes that one's place under who has it open, and what was written here since goes on lying over it. Undefined: it was looked at only.
     */
    readonly written?: string | undefined
  }): Promise<Commit<boolean>>
  /** Puts what the key names here under another key, dirty, with nothing expected there; and gives up the change here (the next merge shows theirs). False when it was changed since. */
  setAside(request: {
    readonly bucketId: number
    readonly key: string
    readonly revision: Revision
    readonly as: string
    readonly outside: ExternalDescription | undefined
  }): Promise<Commit<boolean>>
  /** Notes or (undefined) ends a conflict; `base` replaces the base, when somebody has decided against what is outside. False when nothing was changed. */
  noteConflict(request: {
    readonly bucketId: number
    readonly key: string
    readonly conflict: DirtyKey['conflict']
    readonly base?: Base | undefined
    /** That it was judged at: nothing is noted when the key was changed since. Undefined: whatever it is now. */
    readonly revision?: Revision | undefined
  }): Promise<Commit<boolean>>
  /** We are about to leave this outside: noted before, so that it is known as ours whatever is changed or killed until it is settled. The last few are remembered. */
  noteTried(request: {
    readonly bucketId: number
    readonly key: string
    readonly tried: Base
  }): Promise<Commit<boolean>>
  /** The inode has arrived at its key: nothing needs it at this one any more. */
  arrived(request: {
    readonly bucketId: number
    readonly key: string
    readonly inode: InodeId
  }): Promise<Commit<boolean>>
  /**
   * What lay outside at `from` lies at `to` too: bodies and contents that need the former refer to the latter from now on, and `to` gets a dirty row that says so, with what lies
   * there as its base; nothing is shown there. False when nothing needed it: it is to go again.
   */
  relocate(request: {
    readonly bucketId: number
    readonly from: Pick<ExternalBody, 'key' | 'etag' | 'size'>
    readonly to: { readonly key: string; readonly etag: string }
  }): Promise<Commit<boolean>>

  /** Directory renames that are not written down as dirty keys yet. */
  moves(bucketId: number): Promise<readonly DirectoryMove[]>
  /** One bounded step of that. */
  stepMove(bucketId: number, id: number): Promise<Commit<{ readonly done: boolean; readonly keys: number }>>

  /** What an external segment is, where contents refer to it. */
  externalSegment(segment: SegmentId): Promise<{ readonly bucketId: number; readonly body: ExternalBody } | undefined>
  /** Bucket id and key (a directory's ends in `/`, a bucket's root is '') of an inode; undefined when it is gone or its bucket is not attached. */
  placeOf(
    inode: InodeId,
  ): Promise<{ readonly bucketId: number; readonly bucket: string; readonly key: string } | undefined>
  revision(): Revision
}

export interface DirectoryMove {
  readonly id: number
  readonly from: string
  readonly to: string
  readonly startedMs: number
  /** Keys written down so far. */
  readonly keys: number
}

export type { AttachmentRecord, ExternalBody }
