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
import type { ByteString, InodeId, SegmentId } from '../common/ids.ts'
import type { AckLevel, StoredRun } from '../common/model.ts'
import type { FileChange, FileChanges, FileEntry, FileKind, FileNode, FileTime, NewFile } from '../common/file-model.ts'
import type { Commit } from './ports.ts'

/** `[offset, offset + length)` of a file becomes these bytes, or a hole. */
export interface FileEdit {
  readonly offset: number
  readonly length: number
  readonly run: StoredRun | undefined
  /** Where in the run these bytes begin; absent: at its start. Several edits of one publish may name parts of one run, which is one content. */
  readonly runOffset?: number | undefined
}

export interface PublishFileRequest {
  readonly inode: InodeId
  /** In order; none overlaps another. Ignored when `inline` is given. */
  readonly edits: readonly FileEdit[]
  /** The whole content, when it is small enough to lie in the inode. */
  readonly inline: Uint8Array | undefined
  /** Afterwards: what lies behind it is dropped, what is missing before it is a hole. */
  readonly size: number
  /** Undefined leaves `modified` as it is (an allocation beyond the end changes it too: then it is given). */
  readonly modified: FileTime | undefined
  readonly ack: AckLevel
}

/** Where bytes of a file lie; what lies between two of them is a hole. */
export interface FileExtents {
  readonly inline: Uint8Array | undefined
  readonly extents: readonly {
    readonly offset: number
    readonly length: number
    readonly segment: SegmentId
    readonly segmentOffset: number
  }[]
  readonly size: number
}

export interface MetadataFiles {
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

  /** Everything but directories; of a symlink `target` is the content. @throws FileExists */
  makeFile(
    parent: InodeId,
    name: ByteString,
    made: NewFile & {
      readonly kind: Exclude<FileKind, 'directory'>
      readonly target?: ByteString | undefined
      readonly device?: number | undefined
      /** S3 owner of what the mount makes. */
      readonly owner: string
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
  /** `[offset, offset + length)` of the published content, clipped to its size. */
  fileExtents(inode: InodeId, offset: number, length: number): Promise<FileExtents>
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
}
