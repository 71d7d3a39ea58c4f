/**
 * The store as the three doors call it. The store implements these; a door is handed them by src/main.ts.
 *
 * Every method settles once its result is visible to every later read on any door, and, for writes, once it is as
 * durable as the request asked (C15-C18). A write that rejects has published nothing, except that `Unavailable` with
 * `details.published` was published as safely as `journal` and waited in vain for the remote store. Methods may be called concurrently. Errors are `TidegateError`s from the table.
 */
import type {
  AckLevel,
  BucketRecord,
  ChecksumAlgorithm,
  ListPage,
  ListRequest,
  ListVersionsPage,
  ListVersionsRequest,
  ObjectVersion,
  UploadPart,
  UploadRecord,
  Conditions,
  Versioning,
} from '../common/model.ts'
import type {
  BodyDigests,
  BodyId,
  CompleteUploadRequest,
  CopyObjectRequest,
  CopyPartRequest,
  CopyResult,
  DeleteResult,
  ObjectAddress,
  OpenedObject,
  PartResult,
  PutObjectRequest,
  PutPartRequest,
  PutResult,
  ReaderId,
  SlabSlice,
} from './types.ts'

import type { SharedFileLocks } from '../common/file-locks.ts'
import type { ByteString, InodeId, Revision } from '../common/ids.ts'
import type {
  FileChange,
  FileChanges,
  FileDescription,
  FileEntry,
  FileKind,
  FileNode,
  FilePiece,
  FileResidency,
  FileSystemStatistics,
  HandleId,
  NewFile,
  OpenedFile,
} from '../common/file-model.ts'
import type {
  ScanPage,
  ScanRequest,
  TransactionRequest,
  TransactionResult,
  WatchBatch,
  WatcherId,
  WatchRequest,
} from './kv-types.ts'

export interface Buckets {
  /** @throws BucketAlreadyOwnedByYou, BucketAlreadyExists, InvalidBucketName, TooManyBuckets */
  create(request: { name: string; owner: string; region: string; ack?: AckLevel | undefined }): Promise<BucketRecord>
  /** @throws NoSuchBucket */
  get(name: string): Promise<BucketRecord>
  /** Ascending by name, after `after`, at most `limit`. */
  list(request: { prefix: string; after: string; limit: number }): Promise<BucketRecord[]>
  /** @throws BucketNotEmpty while there is an object, a version or a delete marker; uploads in progress are aborted. */
  delete(name: string): Promise<void>
  setVersioning(name: string, versioning: Exclude<Versioning, 'off'>): Promise<void>
}

export interface Objects {
  put(request: PutObjectRequest): Promise<PutResult>
  /** By reference: no byte is copied. */
  copy(request: CopyObjectRequest): Promise<CopyResult>
  /** @throws NoSuchKey, NoSuchVersion, MethodNotAllowed (a delete marker named by its version id), NotModified, PreconditionFailed */
  head(address: ObjectAddress, conditions: Conditions): Promise<ObjectVersion>
  /** `head`, and holds the content for reading until `Reading.close`. */
  open(address: ObjectAddress, conditions: Conditions): Promise<OpenedObject>
  delete(address: ObjectAddress, conditions: Conditions, ack?: AckLevel): Promise<DeleteResult>
  setTags(address: ObjectAddress, tags: Readonly<Record<string, string>>): Promise<{ versionId: string | undefined }>
  list(request: ListRequest): Promise<ListPage>
  listVersions(request: ListVersionsRequest): Promise<ListVersionsPage>
  /** Parts an object was completed from, after `after`, at most `limit`; empty for a single PUT. */
  parts(address: ObjectAddress, after: number, limit: number): Promise<{ parts: UploadPart[]; truncated: boolean }>
  /** Byte range of one part (from 1) of an opened object. @throws InvalidPart when there is no such part */
  partRange(reader: ReaderId, partNumber: number): Promise<{ offset: number; length: number }>
}

export interface Reading {
  /**
   * At least one byte and at most up to `length` bytes of an opened object's content, from `offset`; never across a block. The slice stays
   * in memory until `release`. Not for inline bodies, whose bytes come with the version. Pages are checksummed (C14).
   * @throws DataLost when the bytes cannot be had intact from any tier
   */
  read(reader: ReaderId, offset: number, length: number): Promise<SlabSlice>
  /** The slab's bytes at a slice: a view, valid until `release`. */
  view(slice: SlabSlice): Uint8Array
  /** Call when the socket's write is done or its connection closed (C13); `lease` numbers are never reused. */
  release(lease: number): void
  close(reader: ReaderId): void
}

/** Streaming a body into the slab. One owner per body, calls in sequence. */
export interface Bodies {
  /**
   * Reserves memory for a body before any byte of it is read, waiting at most the admission time (C19).
   * `expectedLength` undefined when unknown. `algorithms`: extra digests wanted beside MD5; `sha256` the payload hash.
   * @throws SlowDown, StorageFull
   */
  open(request: {
    expectedLength: number | undefined
    algorithms: readonly ChecksumAlgorithm[]
    sha256: boolean
    /** Bucket and key it is meant for, written beside the bytes so that names can be rebuilt from segments (C17). */
    label: { bucket: string; key: string }
    /** The level that its write will ask for, where that is known before its bytes come; else the bucket's. */
    ack?: AckLevel | undefined
  }): Promise<BodyId>
  /** Copies the bytes into the slab. Resolves when the caller may send more (back-pressure); `bytes` may then be reused. */
  append(body: BodyId, bytes: Uint8Array): Promise<void>
  /** No more bytes. Resolves with the digests of all of it. The caller compares them before it publishes or discards. */
  finish(body: BodyId): Promise<{ length: number; digests: BodyDigests }>
  /** Gives everything back, whatever state the body is in; a no-op once a put has it, which then gives back what it must. */
  discard(body: BodyId): Promise<void>
}

export interface Uploads {
  create(request: Omit<UploadRecord, 'uploadId' | 'initiatedMs'>): Promise<UploadRecord>
  /** @throws NoSuchUpload */
  get(request: { bucket: string; key: string; uploadId: string }): Promise<UploadRecord>
  putPart(request: PutPartRequest): Promise<PartResult>
  copyPart(request: CopyPartRequest): Promise<PartResult>
  listParts(request: {
    bucket: string
    key: string
    uploadId: string
    after: number
    limit: number
  }): Promise<{ upload: UploadRecord; parts: UploadPart[]; truncated: boolean }>
  /** Ordered by key, then upload id. `after` names the last one of the page before. */
  list(request: {
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
  /** Moves references, copies no byte (C11). @throws InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest, NoSuchUpload */
  complete(request: CompleteUploadRequest): Promise<PutResult>
  abort(request: { bucket: string; key: string; uploadId: string }): Promise<void>
}

/** Beside `Objects`, which puts, gets and deletes single keys: what S3 has no operation for. */
export interface KeyValues {
  scan(request: ScanRequest): Promise<ScanPage>
  /** Strictly serializable. @throws TransactionTooLarge, InvalidCounter, InvalidArgument (a key written twice) */
  transact(request: TransactionRequest): Promise<TransactionResult>
  /** Which keys name an object, in order, at one revision. */
  exist(bucket: string, keys: readonly string[]): Promise<{ exist: readonly boolean[]; revision: Revision }>
  /** How many of the keys, from the first on, name an object: the first that does not ends the count. */
  countLeading(bucket: string, keys: readonly string[]): Promise<{ count: number; revision: Revision }>
  /**
   * Holds an object's bytes in this node's memory for a time: brings them there, and keeps them from being evicted.
   * `durationMs` 0 lets them go. Resolves with the bytes held, 0 for a body that lies in the metadata.
   * @throws NoSuchKey; StorageFull when the share of memory that may be pinned would be passed
   */
  pin(address: ObjectAddress, durationMs: number): Promise<{ bytes: number }>
}

/** Changes of what keys name, told once they are durable. */
export interface Watching {
  /** The last revision that watchers could have been told of. */
  revision(): Revision
  /** @throws NoSuchBucket, RevisionGone, SlowDown when there are too many watchers */
  open(request: WatchRequest): Promise<WatcherId>
  /**
   * Resolves with the next events as soon as there are any, or with none after `waitMs`. At most `limit` events, unless
   * one revision alone has more. One call at a time for a watcher. @throws RevisionGone when they are no longer kept
   */
  next(watcher: WatcherId, options: { waitMs: number; limit: number }): Promise<WatchBatch>
  /** Ends a `next` under way with no events. */
  close(watcher: WatcherId): void
}

/**
 * The namespace as a file system. Inode 0 is the mount's root, whose directories are the buckets. Metadata errors are those of
 * store/file-ports.ts; sizes and offsets are bytes. What a write has put is seen by every later read of this node at once; other doors
 * see it when it is published: at `fsync`, at the last `release` of a handle that wrote, after `publishAgeMsMax`, or under pressure (C20).
 */
export interface Files {
  /** Advisory locks that other nodes see too; undefined where no other node has these files. */
  readonly locks?: SharedFileLocks | undefined
  node(inode: InodeId): Promise<FileNode>
  find(parent: InodeId, name: ByteString): Promise<FileNode>
  entries(
    directory: InodeId,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }>
  parentOf(directory: InodeId): Promise<InodeId>
  makeFile(
    parent: InodeId,
    name: ByteString,
    made: NewFile & {
      readonly kind: Exclude<FileKind, 'directory'>
      readonly target?: ByteString
      readonly device?: number
    },
  ): Promise<FileNode>
  makeDirectory(parent: InodeId, name: ByteString, made: NewFile): Promise<FileNode>
  link(inode: InodeId, parent: InodeId, name: ByteString): Promise<FileNode>
  linkTarget(inode: InodeId): Promise<ByteString>
  remove(parent: InodeId, name: ByteString): Promise<void>
  removeDirectory(parent: InodeId, name: ByteString): Promise<void>
  rename(
    from: { readonly parent: InodeId; readonly name: ByteString },
    to: { readonly parent: InodeId; readonly name: ByteString },
    mode: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void>
  /** Size too, which cuts or extends what is not published yet. */
  change(inode: InodeId, changes: FileChanges): Promise<FileNode>

  open(inode: InodeId, options: { readonly write: boolean; readonly truncate: boolean }): Promise<OpenedFile>
  /** `makeFile` and `open` in one: nobody can take it away in between. @throws FileExists */
  create(parent: InodeId, name: ByteString, made: NewFile, options: { readonly write: boolean }): Promise<OpenedFile>
  /** `read` when all of it is in memory; undefined: ask `read`. */
  readNow(handle: HandleId, offset: number, length: number): readonly FilePiece[] | undefined
  /** The pieces of `[offset, offset + length)`, clipped to the size; slices of the slab are the caller's to release. */
  read(handle: HandleId, offset: number, length: number): Promise<readonly FilePiece[]>
  /** `write` when there is room for it at once; false: nothing was written, and `write` waits for room. */
  writeNow(handle: HandleId, offset: number, bytes: Uint8Array, append: boolean): boolean
  /** Copies the bytes before it resolves. With `append` the offset is the end of the file. @throws StorageFull, SlowDown */
  write(handle: HandleId, offset: number, bytes: Uint8Array, append: boolean): Promise<void>
  /** Whether something was written, by any handle, that is not published yet. */
  isUnpublished(handle: HandleId): boolean
  /** Resolves when what was written is published and as durable as the bucket's level says (C20). */
  sync(handle: HandleId): Promise<void>
  /** A descriptor was closed: what was written is published, without waiting for a sync. */
  flush(handle: HandleId): Promise<void>
  release(handle: HandleId): Promise<void>
  /** fallocate(2): `allocate` grows the file unless `keepSize`; `punch` and `zero` make holes of whole ranges. */
  allocate(
    handle: HandleId,
    range: { readonly offset: number; readonly length: number },
    what: { readonly kind: 'allocate' | 'punch' | 'zero'; readonly keepSize: boolean },
  ): Promise<void>
  /**
   * copy_file_range(2): resolves with the bytes copied, of which there may be fewer than asked for, and 0 at the end of the source. By
   * reference where that is worth it; so is the size of what one call copies. Holes are copied as holes.
   * @throws InvalidArgument when the ranges are in one file and overlap
   */
  copyRange(
    from: { readonly handle: HandleId; readonly offset: number },
    to: { readonly handle: HandleId; readonly offset: number },
    length: number,
  ): Promise<number>
  /** SEEK_DATA and SEEK_HOLE. Undefined when there is none (ENXIO). */
  seek(handle: HandleId, offset: number, what: 'data' | 'hole'): Promise<number | undefined>

  attribute(inode: InodeId, name: ByteString): Promise<Uint8Array>
  attributeNames(inode: InodeId): Promise<readonly ByteString[]>
  setAttribute(inode: InodeId, name: ByteString, value: Uint8Array, mode: 'set' | 'create' | 'replace'): Promise<void>
  removeAttribute(inode: InodeId, name: ByteString): Promise<void>

  /** The file that a whole key names, in bytes; of `a/` the marker. @throws NoSuchBucket, NoSuchKey */
  findKey(bucket: string, key: ByteString): Promise<FileNode>
  /** Keys of a bucket in byte order, after `after`, at most `limit`; names are whole keys. @throws NoSuchBucket */
  keyEntries(
    bucket: string,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }>
  describe(inode: InodeId): Promise<FileDescription>
  /** Where the bytes are, without reading any. @throws EntityTooLarge when they are too many to be looked through */
  residency(inode: InodeId): Promise<FileResidency>

  statistics(): Promise<FileSystemStatistics>
  /** For caches outside; see `FileChange`. Returns what ends it. */
  onChanges(listener: (changes: readonly FileChange[]) => void): () => void
}

/** Everything a door is handed. */
export interface Store {
  readonly buckets: Buckets
  readonly objects: Objects
  readonly reading: Reading
  readonly bodies: Bodies
  readonly uploads: Uploads
  readonly keyValues: KeyValues
  readonly watching: Watching
}
