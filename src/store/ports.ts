/**
 * What the store needs of metadata, bytes, memory and hashing. The providers (meta, persist, cache-tier) satisfy these
 * structurally and never import this file; src/main.ts puts them together.
 */
import type { ContentId, Revision, SegmentId } from '../common/ids.ts'
import type {
  AckLevel,
  BucketRecord,
  Conditions,
  Extent,
  ListPage,
  ListRequest,
  ListVersionsPage,
  ListVersionsRequest,
  ObjectAttributes,
  ObjectChecksum,
  ObjectVersion,
  StoredRun,
  UploadPart,
  UploadRecord,
  Versioning,
} from '../common/model.ts'

import type { TokenRecord } from './access.ts'
import type {
  MetadataScanPage,
  MetadataTransactRequest,
  MetadataTransactResult,
  ScanRequest,
  WatchEvent,
} from './kv-types.ts'

/** A commit that is visible; `durable` settles when it survives power loss (see meta/ports.ts, Committed). */
export interface Commit<T> {
  readonly value: T
  readonly revision: Revision
  readonly durable: Promise<void>
}

/** What a publish stores as the object's body. */
export type PublishBody =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  /** A run that the journal has made as durable as was asked. The publish makes its content record, with one reference. */
  | { readonly kind: 'run'; readonly run: StoredRun }

export interface PublishRequest {
  readonly bucket: string
  readonly key: string
  readonly body: PublishBody
  readonly size: number
  readonly etag: string
  readonly owner: string
  readonly attributes: ObjectAttributes
  readonly checksum: ObjectChecksum | undefined
  readonly conditions: Conditions
  readonly ack: AckLevel
  readonly ttlMs?: number | undefined
}

export interface MetadataBuckets {
  createBucket(request: { name: string; owner: string; region: string; ack: AckLevel }): Promise<Commit<BucketRecord>>
  /** @throws NoSuchBucket */
  bucket(name: string): Promise<BucketRecord>
  listBuckets(request: { prefix: string; after: string; limit: number }): Promise<BucketRecord[]>
  /** @throws NoSuchBucket, BucketNotEmpty */
  deleteBucket(name: string): Promise<Commit<void>>
  setVersioning(name: string, versioning: Exclude<Versioning, 'off'>): Promise<Commit<void>>
}

export interface MetadataObjects {
  /** Swaps the entry in one transaction, conditions checked inside it. What it replaces is kept as a version or dropped. */
  publish(request: PublishRequest): Promise<Commit<ObjectVersion>>
  /** By reference; source conditions and existence are checked in the same transaction. */
  copy(request: {
    source: { bucket: string; key: string; versionId?: string | undefined }
    sourceConditions: Conditions
    bucket: string
    key: string
    attributes: ObjectAttributes | undefined
    tags: Readonly<Record<string, string>> | undefined
    owner: string
    conditions: Conditions
    ack: AckLevel
  }): Promise<Commit<{ target: ObjectVersion; source: ObjectVersion }>>
  /**
   * The current version, or the one named. @throws NoSuchBucket, NoSuchKey, NoSuchVersion; MethodNotAllowed when a
   * version id names a delete marker; NoSuchKey with `details.deleteMarker` true and `details.versionId` when the current one is a delete marker.
   */
  lookup(bucket: string, key: string, versionId?: string): Promise<ObjectVersion>
  /** S3 delete rules: a marker in a versioned bucket, removal otherwise or when a version is named. */
  remove(request: {
    bucket: string
    key: string
    versionId?: string | undefined
    conditions: Conditions
    owner: string
  }): Promise<Commit<{ versionId: string | undefined; deleteMarker: boolean; existed: boolean }>>
  setTags(
    address: { bucket: string; key: string; versionId?: string | undefined },
    tags: Readonly<Record<string, string>>,
  ): Promise<Commit<{ versionId: string | undefined }>>
  list(request: ListRequest): Promise<ListPage>
  listVersions(request: ListVersionsRequest): Promise<ListVersionsPage>
}

export interface MetadataContents {
  /** A fresh content id. The journal writes it beside the bytes before the publish names it. */
  allocateContentId(): Promise<ContentId>
  /** Extents that cover `[offset, offset + length)` of a content, in order, clipped to it. */
  extents(content: ContentId, offset: number, length: number): Promise<Extent[]>
  /** Parts of a completed content, with sizes and checksums; empty for a content that came from one PUT. */
  contentParts(content: ContentId, after: number, limit: number): Promise<{ parts: UploadPart[]; truncated: boolean }>
  partRange(content: ContentId, partNumber: number): Promise<{ offset: number; length: number } | undefined>
  /** Segments that a content lies in (for raising a copy's source to its level, C16), at most `limit` per call. */
  contentSegments(content: ContentId): Promise<SegmentId[]>
}

export interface MetadataUploads {
  createUpload(request: Omit<UploadRecord, 'uploadId' | 'initiatedMs'>): Promise<Commit<UploadRecord>>
  /** @throws NoSuchUpload, also when bucket or key are not the upload's */
  upload(bucket: string, key: string, uploadId: string): Promise<UploadRecord>
  /** Puts or replaces a part; the content of a replaced one is dropped. `run` undefined for a part of 0 bytes. */
  putPart(request: {
    bucket: string
    key: string
    uploadId: string
    partNumber: number
    run: StoredRun | undefined
    size: number
    etag: string
    checksum: ObjectChecksum | undefined
  }): Promise<Commit<UploadPart>>
  /**
   * A part by reference to a range of an object, in bounded steps (C2). A source whose body lies inline cannot be referred
   * to: @throws ConditionalRequestConflict, and the store then journals those bytes and calls putPart.
   */
  copyPart(request: {
    source: { bucket: string; key: string; versionId?: string | undefined }
    sourceConditions: Conditions
    range: { offset: number; length: number } | undefined
    bucket: string
    key: string
    uploadId: string
    partNumber: number
    etag: string
    checksum: ObjectChecksum | undefined
  }): Promise<Commit<{ part: UploadPart; source: ObjectVersion }>>
  listParts(request: { bucket: string; key: string; uploadId: string; after: number; limit: number }): Promise<{
    upload: UploadRecord
    parts: UploadPart[]
    truncated: boolean
  }>
  listUploads(request: {
    bucket: string
    prefix: string
    delimiter: string
    keyMarker: string
    uploadIdMarker: string
    limit: number
  }): Promise<{
    uploads: UploadRecord[]
    commonPrefixes: string[]
    truncated: boolean
    nextKeyMarker?: string
    nextUploadIdMarker?: string
  }>
  /**
   * Publishes the named parts as one object by moving references, in bounded steps (C11, C2). The caller has checked
   * numbers, order, etags, sizes and checksums against the parts; here each part must still be the one with that etag.
   * Completing the same upload twice with the same parts gives the same result again while its object is current.
   */
  completeUpload(request: {
    bucket: string
    key: string
    uploadId: string
    parts: readonly { partNumber: number; etag: string }[]
    etag: string
    checksum: ObjectChecksum | undefined
    conditions: Conditions
    ack: AckLevel
  }): Promise<Commit<ObjectVersion>>
  abortUpload(bucket: string, key: string, uploadId: string): Promise<Commit<void>>
}

export type SegmentState = 'open' | 'sealed' | 'persisted'

export interface SegmentRecord {
  readonly segment: SegmentId
  readonly state: SegmentState
  /** Bytes of the data region; 0 while open. */
  readonly bytes: number
  /** Bytes of the leaves that lie in it and are referred to at all. */
  readonly liveBytes: number
}

export interface MetadataSegments {
  /** Recorded before the first content that names it can be durable. */
  segmentOpened(segment: SegmentId): Promise<Commit<void>>
  /** Compare-and-swap along open -> sealed -> persisted (C23). */
  segmentChanged(segment: SegmentId, state: Exclude<SegmentState, 'open'>, bytes: number): Promise<Commit<void>>
  /** Ascending by id, after `after`, at most `limit`. */
  segments(after: SegmentId | undefined, limit: number): Promise<SegmentRecord[]>
  segment(segment: SegmentId): Promise<SegmentRecord | undefined>
  /** Forgets segments whose bytes are gone. */
  segmentRemoved(segment: SegmentId): Promise<Commit<void>>
  /**
   * One bounded step of reclaim: dismantles contents that were dropped at or before `horizon` and whose drop is durable (C12).
   * Returns how many rows it took; 0 when there is nothing left to do now.
   */
  dismantle(horizon: Revision): Promise<Commit<{ steps: number; emptied: readonly SegmentId[] }>>
  /** Whether this content still lies at this place; for compaction and recovery. */
  contentLiesAt(run: StoredRun): Promise<boolean>
  /** Compaction: the same bytes now lie in `to`. False when the content has gone meanwhile. */
  contentMoved(from: StoredRun, to: StoredRun): Promise<Commit<boolean>>
  /**
   * Recovery only: every object and part whose content has bytes in `[from, to)` of the segment, removed when it was written
   * with ack `memory`, else reported (C18).
   */
  bytesLost(
    segment: SegmentId,
    from: number,
    to: number,
  ): Promise<{ removedMemory: number; lost: { bucket: string; key: string }[] }>
}

export interface MetadataValues {
  /** One page in key order, at one revision. Values of up to `valueBytesMax` come along until the page holds a few MiB of them. */
  scan(request: ScanRequest): Promise<MetadataScanPage>
  /**
   * Compares and operations in one transaction (C1). When a compare needs the bytes of a body that does not lie inline, nothing is
   * done and the answer says which. @throws TransactionTooLarge, InvalidCounter, InvalidArgument (a key written twice)
   */
  transactValues(request: MetadataTransactRequest): Promise<Commit<MetadataTransactResult>>
  /** Which keys name an object, in order, at one revision. With `leading`, looks no further than the first that does not. */
  presence(
    bucket: string,
    keys: readonly string[],
    leading: boolean,
  ): Promise<{ present: readonly boolean[]; revision: Revision }>
  /** One bounded step: removes what has expired by now. `expired` is 0 when there is nothing left to do now. */
  expire(): Promise<Commit<{ expired: number }>>
}

export interface MetadataTokens {
  /** @throws InvalidRequest when there are too many */
  putToken(token: TokenRecord): Promise<Commit<void>>
  /** Kept decoded when hot. */
  token(id: string): Promise<TokenRecord | undefined>
  listTokens(after: string, limit: number): Promise<TokenRecord[]>
  /** False when there is none. */
  removeToken(id: string): Promise<Commit<boolean>>
}

/** A change of what keys name, of any bucket. Durable when it is told. */
export type MetadataChange = WatchEvent & { readonly bucket: string }

/** Whole revisions: every change after the batch before, up to and including `through`. Without changes it only says how far. */
export interface MetadataChangeBatch {
  readonly events: readonly MetadataChange[]
  readonly through: Revision
}

export interface MetadataChanges {
  /**
   * Every change from the revision (inclusive) on, in order, until the signal aborts. A batch comes soon after the call, and
   * then whenever something has become durable. @throws RevisionGone
   */
  watch(fromRevision: Revision, signal: AbortSignal): AsyncIterable<MetadataChangeBatch>
}

export interface MetadataService {
  revision(): Revision
  durableRevision(): Revision
  /** Resolves when everything visible now is durable. */
  flush(): Promise<void>
}

export interface Metadata
  extends
    MetadataBuckets,
    MetadataObjects,
    MetadataContents,
    MetadataUploads,
    MetadataSegments,
    MetadataValues,
    MetadataTokens,
    MetadataChanges,
    MetadataService {}
