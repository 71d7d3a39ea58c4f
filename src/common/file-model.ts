/**
 * The namespace as files, for the mount: what a file system's calls ask and answer. Names in a directory are ByteStrings (one char
 * a byte), because POSIX names are bytes; those that are not UTF-8 name nothing and cannot be made. Structured-clonable throughout.
 */
import type { ByteString, InodeId, Revision } from './ids.ts'
import type { AckLevel } from './model.ts'

export const FILE_KINDS = [
  'file',
  'directory',
  'symlink',
  'fifo',
  'socket',
  'character-device',
  'block-device',
] as const
export type FileKind = (typeof FILE_KINDS)[number]

/** Since the epoch; nanoseconds 0 to 999,999,999. */
export interface FileTime {
  readonly seconds: number
  readonly nanoseconds: number
}

/** One file, directory or special file. `inode` names it for as long as anything refers to it. */
export interface FileNode {
  readonly inode: InodeId
  readonly kind: FileKind
  /** Permission bits with set-uid, set-gid and sticky: 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** Names that refer to it: 0 once it is unlinked and still open. Of a directory 1, which is to say that they are not counted. */
  readonly links: number
  /** Of device files; 0 otherwise. */
  readonly device: number
  readonly accessed: FileTime
  readonly modified: FileTime
  readonly changed: FileTime
  /** Bytes that are not holes, as far as is known without looking. */
  readonly storedBytes: number
}

export interface FileEntry {
  readonly name: ByteString
  readonly node: FileNode
}

/** Who made something, and with which permission bits (the umask is applied already). */
export interface NewFile {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** What is absent stays. `now` means the store's clock. Changing anything sets `changed` to now. */
export interface FileChanges {
  readonly mode?: number | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly size?: number | undefined
  readonly accessed?: FileTime | 'now' | undefined
  readonly modified?: FileTime | 'now' | undefined
  /** Who changes it may not keep set-uid and set-gid (a write or chown by somebody without CAP_FSETID). */
  readonly dropPrivileges?: boolean | undefined
}

export type HandleId = number

export interface OpenedFile {
  readonly handle: HandleId
  readonly node: FileNode
}

/** A piece of what was read, in order: bytes at hand, a slice of the slab lent until `Reading.release`, or a hole. */
export type FilePiece =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'slab'; readonly slabOffset: number; readonly length: number; readonly lease: number }
  | { readonly kind: 'hole'; readonly length: number }

export interface FileSystemStatistics {
  readonly blockBytes: number
  readonly blocks: number
  readonly blocksFree: number
  /** Of the free ones, those that writes may take: below a reserve they are refused (C19). */
  readonly blocksAvailable: number
  readonly files: number
  readonly nameBytesMax: number
}

/** What S3 and KV know of a file and stat(2) does not say. Of the published content. */
export interface FileDescription {
  /** Undefined once it is unlinked. The key of a directory ends in a slash; of a bucket it is empty. */
  readonly place: { readonly bucket: string; readonly key: string } | undefined
  /** Not of directories. */
  readonly object:
    | {
        readonly etag: string
        readonly revision: Revision
        readonly ack: AckLevel
      }
    | undefined
}

/** Where a file's bytes are right now. */
export interface FileResidency {
  /** Bytes that a read finds in this node's memory. */
  readonly memory: number
  /** Bytes that lie in memory only: written, and not yet in the journal. */
  readonly dirty: number
  /** Bytes in local segments that are not in the remote store yet. */
  readonly journal: number
  /** Bytes in the remote store. */
  readonly remote: number
  /** Bytes that lie with the metadata. */
  readonly metadata: number
}

/** What no longer is what a cache outside may think: told after the change is visible. */
export type FileChange =
  | { readonly kind: 'entry'; readonly parent: InodeId; readonly name: ByteString }
  | { readonly kind: 'node'; readonly inode: InodeId }
  /** Bytes that were written are gone, and older ones show instead: also to who wrote them. */
  | { readonly kind: 'content'; readonly inode: InodeId }
