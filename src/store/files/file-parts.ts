/** What the files are made of. */
import type { Clock } from '../../common/clock.ts'
import type { Limits } from '../../common/limits.ts'
import type { Acknowledgement } from '../acknowledgement.ts'
import type { Journaling, Memory, Persisting } from '../byte-ports.ts'
import type { MetadataFiles } from '../file-ports.ts'
import type { MetadataBuckets, MetadataContents, MetadataService } from '../ports.ts'
import type { FileLimits } from './limits.ts'
import type { HorizonHolders } from './published-extents.ts'

export type FilesMetadata = MetadataFiles &
  Pick<MetadataBuckets, 'bucket'> &
  Pick<MetadataContents, 'allocateContentId'> &
  Pick<MetadataService, 'revision' | 'flush'>

/** Room on the disk and how many files there are, for statfs(2). */
export interface FileSpace {
  space(): Promise<{
    readonly totalBytes: number
    readonly freeBytes: number
    /** Of the free ones, those that writes may take. */
    readonly availableBytes: number
    readonly files: number
  }>
}

export interface FilesParts {
  readonly metadata: FilesMetadata
  readonly memory: Memory
  readonly journal: Journaling
  readonly persisting: Persisting
  readonly acknowledgement: Acknowledgement
  readonly readers: HorizonHolders
  readonly space: FileSpace
  readonly limits: Limits
  readonly fileLimits: FileLimits
  readonly clock: Clock
  /** S3 owner of what is made through the mount: id of a user. */
  readonly owner: string
  /** Something failed that no caller waits for. It is tried again, or told by a later sync. */
  readonly onFailure: (failure: FileFailure) => void
}

export interface FileFailure {
  readonly inode: number
  readonly doing: 'publish' | 'journal' | 'drop' | 'durable'
  readonly cause: unknown
}
