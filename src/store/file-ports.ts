/**
 * What the store needs of metadata to show the namespace as files. Provided by meta/namespace/files, which satisfies it
 * structurally.
 *
 * The mount's root is inode 0: its entries are the buckets, each with the root directory of that bucket. Every method is one
 * transaction or one read (C1, C2); times are taken from the store's clock inside it. Errors: NoSuchKey (no such name, or the
 * directory it is in is gone), StaleFile (an inode that is gone), NotADirectory, IsADirectory, FileExists, DirectoryNotEmpty,
 * CrossBucket, TooManyLinks, InvalidKey (a name that cannot be: empty, with a slash or NUL, not UTF-8, `.` or `..`), KeyTooLong.
 *
 * An object that S3 or KV made has no owner, mode or times of its own: it is shown with defaults (meta/namespace/files/types.ts). A directory is made
 * explicit by a change in it (C25). In a versioned bucket a removal writes a delete marker, and a write through the mount changes the
 * current version, which keeps its version id.
 */
import type { ByteString, ContentId, InodeId } from '../common/ids.ts'
import type { AckLevel, StoredRun } from '../common/model.ts'
import type {
  ClonedRange,
  CloneRangeRequest,
  CompactionPiece,
  CompactionPlan,
  FileExtents,
  PublishFileRequest,
} from '../common/file-contents.ts'
import type { SharedFileLocks } from '../common/file-locks.ts'
import type {
  FileChange,
  FileChanges,
  FileDescription,
  FileEntry,
  FileKind,
  FileNode,
  NewFile,
} from '../common/file-model.ts'
import type { Commit } from './ports.ts'

export interface MetadataFiles {
  /** Other nodes change files as well: what was asked of one that is open may be old. */
  readonly isShared?: boolean | undefined
  /** Where they do. */
  readonly locks?: SharedFileLocks | undefined
  fileNode(inode: InodeId): Promise<FileNode>
  findFile(parent: InodeId, name: ByteString): Promise<FileNode>
  /** In byte order of what listings call the name (a directory's ends in a slash), after `after`, at most `limit`. */
  fileEntries(
    directory: InodeId,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }>
  /** Parent of a directory, for `..`; of a bucket's root it is 0. */
  parentOf(directory: InodeId): Promise<InodeId>

  /**
   * Everything but directories; of a symlink `target` is the content. In a directory with set-gid it belongs to that directory's
   * group. @throws FileExists
   */
  makeFile(
    parent: InodeId,
    name: ByteString,
    made: NewFile & {
      readonly kind: Exclude<FileKind, 'directory'>
      readonly target?: ByteString | undefined
      readonly device?: number | undefined
      /** S3 owner of what the mount makes. */
      readonly owner: string
      /**
       * Told which inode it will be, in which bucket, in the transaction (so perhaps more than once; the last one counts): before anybody
       * can find it, and so take it away.
       */
      readonly willBe?: ((inode: InodeId, bucket: string) => void) | undefined
    },
  ): Promise<Commit<FileNode>>
  /** Under inode 0 a bucket. Shows to S3 as the marker `name/` (C25). @throws FileExists */
  makeDirectory(
    parent: InodeId,
    name: ByteString,
    made: NewFile & { readonly owner: string },
  ): Promise<Commit<FileNode>>
  /** @throws TooManyLinks beyond 64 (C28), IsADirectory */
  linkFile(inode: InodeId, parent: InodeId, name: ByteString): Promise<Commit<FileNode>>
  /**
   * Takes a name away. With `keep` an inode that lost its last one stays until `dropFile` (it is open), and is found again after a
   * crash by `orphanedFiles`. Resolves with the inode and whether it is gone.
   */
  removeFile(
    parent: InodeId,
    name: ByteString,
    options: { readonly keep: boolean; readonly owner: string },
  ): Promise<Commit<{ readonly inode: InodeId; readonly gone: boolean }>>
  /** @throws DirectoryNotEmpty */
  removeDirectory(parent: InodeId, name: ByteString): Promise<Commit<void>>
  /**
   * Atomic. A target file is replaced (kept as by `removeFile` when `keep` says so), a target directory only by a directory and
   * when it is empty. @throws InvalidArgument when a directory would come to lie under itself
   */
  renameFile(
    from: { readonly parent: InodeId; readonly name: ByteString },
    to: { readonly parent: InodeId; readonly name: ByteString },
    options: {
      readonly mode: 'replace' | 'no-replace' | 'exchange'
      readonly keep: (inode: InodeId) => boolean
    },
  ): Promise<Commit<{ readonly replaced: InodeId | undefined; readonly gone: boolean }>>
  dropFile(inode: InodeId): Promise<Commit<void>>
  /**
   * From now on asked inside every transaction of any door (a PUT over a file, a DELETE, an expiry) by which an inode loses its last
   * name: whether it is open, and so stays until `dropFile` (C27). Called once, at the start. The answer may come from a
   * transaction that is then run again or refused.
   */
  keepFiles(isOpen: (inode: InodeId) => boolean): void
  /** Unlinked inodes that were open when the process ended; for the start. */
  orphanedFiles(limit: number): Promise<readonly InodeId[]>

  /** Everything but size. */
  changeFile(inode: InodeId, changes: Omit<FileChanges, 'size'>): Promise<Commit<FileNode>>
  /** Content and size; gives the file a new opaque ETag and forgets its checksum (C29). */
  publishFile(request: PublishFileRequest): Promise<Commit<FileNode>>
  /**
   * Copies no byte. A new opaque ETag as `publishFile`. Undefined, with nothing changed, where bytes lie inline and so must be copied.
   * @throws InvalidArgument when the ranges are in one file and overlap
   */
  cloneRange(request: CloneRangeRequest): Promise<Commit<ClonedRange | undefined>>
  /** Of the next `limit` files that publishes have left in too many pieces (C30), those to be compacted. */
  fragmentedFiles(
    after: InodeId | undefined,
    limit: number,
  ): Promise<{ readonly inodes: readonly InodeId[]; readonly last: InodeId | undefined }>
  /** Undefined at the end of the file, or when it is gone. */
  planCompaction(inode: InodeId, from: number, runBytesMax: number): Promise<CompactionPlan | undefined>
  /**
   * Puts a run of the same bytes, or references, in the place of the pieces: no byte, time, ETag or version id changes, and no
   * watcher is told. False when other pieces are there by now.
   */
  compactFile(request: {
    readonly inode: InodeId
    readonly pieces: readonly CompactionPiece[]
    readonly run: StoredRun | undefined
    readonly ack: AckLevel
  }): Promise<Commit<boolean>>
  /** A file has been gone through. `rows` as all its plans said; undefined when it is to be gone through again. */
  settleCompaction(inode: InodeId, rows: ContentId | undefined): Promise<Commit<void>>
  /** `[offset, offset + length)` of the published content, clipped to its size. */
  fileExtents(inode: InodeId, offset: number, length: number): Promise<FileExtents>
  /**
   * SEEK_DATA and SEEK_HOLE in the published content: the first offset at or after this one that has bytes, or has none; the end
   * is a hole. Undefined when there is none, and at or beyond the end.
   */
  seekFile(inode: InodeId, offset: number, what: 'data' | 'hole'): Promise<number | undefined>
  linkTarget(inode: InodeId): Promise<ByteString>

  /** @throws NoSuchAttribute */
  fileAttribute(inode: InodeId, name: ByteString): Promise<Uint8Array>
  fileAttributeNames(inode: InodeId): Promise<readonly ByteString[]>
  /** @throws FileExists with `create`, NoSuchAttribute with `replace` */
  setFileAttribute(
    inode: InodeId,
    name: ByteString,
    value: Uint8Array,
    mode: 'set' | 'create' | 'replace',
  ): Promise<Commit<void>>
  removeFileAttribute(inode: InodeId, name: ByteString): Promise<Commit<void>>

  /** Calls back after every commit that becomes visible with what it changed, whoever made it. Returns what ends that. */
  onFileChanges(listener: (changes: readonly FileChange[]) => void): () => void
  /** Where a file can be found by S3: for policies and for the journal's labels. Undefined when it is unlinked. */
  keyOf(inode: InodeId): Promise<{ readonly bucket: string; readonly key: string } | undefined>
  /** The current version that a whole key names, in bytes; of `a/` the marker. @throws NoSuchBucket, NoSuchKey */
  findKey(bucket: string, key: ByteString): Promise<FileNode>
  /** Keys in byte order after `after`, at most `limit`; names are whole keys. @throws NoSuchBucket */
  keyEntries(
    bucket: string,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }>
  describeFile(inode: InodeId): Promise<FileDescription>
}
