/**
 * The namespace as files: the nouns of the mount, as its store asks for them (it restates them structurally, since metadata
 * imports nothing above it). Names in a directory are ByteStrings, because POSIX names are bytes.
 */
import type { ByteString, InodeId } from '../../../common/ids.ts'

export type FileKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character-device' | 'block-device'

/** Since the epoch; nanoseconds 0 to 999,999,999. Seconds may be negative. */
export interface FileTime {
  readonly seconds: number
  readonly nanoseconds: number
}

export interface FileNode {
  readonly inode: InodeId
  readonly kind: FileKind
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** Names that refer to it, older versions included; 0 once it is unlinked and still open. Of a directory 2. */
  readonly links: number
  readonly device: number
  readonly accessed: FileTime
  readonly modified: FileTime
  readonly changed: FileTime
  readonly storedBytes: number
}

export interface FileEntry {
  readonly name: ByteString
  readonly node: FileNode
}

export interface NewFile {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** S3 owner of what is made. */
  readonly owner: string
}

/** What is absent stays. `now` means the store's clock. */
export interface FileChanges {
  readonly mode?: number | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly accessed?: FileTime | 'now' | undefined
  readonly modified?: FileTime | 'now' | undefined
  readonly dropPrivileges?: boolean | undefined
}

export type FileChange =
  | { readonly kind: 'entry'; readonly parent: InodeId; readonly name: ByteString }
  | { readonly kind: 'node'; readonly inode: InodeId }

/** How what S3 or KV made is shown. */
export interface FileDefaults {
  readonly fileMode: number
  readonly directoryMode: number
  readonly uid: number
  readonly gid: number
}

/** What a `mkdir` in the root of the mount makes a bucket with. */
export interface BucketDefaults {
  readonly region: string
  readonly ack: 'memory' | 'journal' | 'replicated' | 'persisted'
}

export interface FileName {
  readonly parent: InodeId
  readonly name: ByteString
}

/** The one directory above the buckets. Has no record: only the directory time rows of keys.ts may bear its number. */
export const MOUNT_ROOT = 0
