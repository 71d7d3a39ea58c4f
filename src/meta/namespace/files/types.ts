/** What metadata adds to the nouns of the mount (common/file-model.ts). */
import type { FileChanges as Changes, NewFile as New } from '../../../common/file-model.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'

export interface NewFile extends New {
  /** S3 owner of what is made. */
  readonly owner: string
}

/** Size is changed by publishing a content. */
export type FileChanges = Omit<Changes, 'size'>

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
