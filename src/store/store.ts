/** Puts the store's parts together over the ports it is given (docs/ARCHITECTURE.md). */
import type { Clock } from '../common/clock.ts'
import type { Revision } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { AckLevel } from '../common/model.ts'
import { Acknowledgement } from './acknowledgement.ts'
import { OpenBodies } from './bodies.ts'
import { StoreBuckets } from './buckets.ts'
import type { Hashing, Journaling, Memory, Persisting, Replicating } from './byte-ports.ts'
import type { Store } from './doors.ts'
import type { MetadataFiles } from './file-ports.ts'
import type { FileFailure, FileSpace } from './files/file-parts.ts'
import { StoreFiles } from './files/files.ts'
import { DEFAULT_FILE_LIMITS, type FileLimits } from './files/limits.ts'
import { StoreKeyValues } from './key-values.ts'
import { StoreObjects } from './objects.ts'
import type { Metadata } from './ports.ts'
import { Readers } from './reading.ts'
import { Reservations } from './reservations.ts'
import { StoreUploads } from './uploads.ts'
import { createWatching } from './watching/watching.ts'

export interface StoreOptions {
  readonly metadata: Metadata
  readonly memory: Memory
  readonly journal: Journaling
  readonly hashing: Hashing
  readonly persisting: Persisting
  /** Undefined: there are no other nodes. */
  readonly replicating?: Replicating | undefined
  readonly limits: Limits
  readonly clock: Clock
  /** Level of buckets that are made without one. */
  readonly defaultAck: AckLevel
  readonly files: {
    readonly metadata: MetadataFiles
    readonly space: FileSpace
    /** S3 owner of what the mount makes. */
    readonly owner: string
    readonly limits?: FileLimits | undefined
    readonly onFailure: (failure: FileFailure) => void
  }
}

export interface RunningStore extends Store {
  readonly reading: Readers
  readonly files: StoreFiles
  /** Revision of the oldest reader, or the current one: what was dropped later must be kept (C12). */
  horizon(): Revision
  /** Bodies under way and objects open for reading. */
  activity(): { bodies: number; readers: number; reservedSlots: number }
  /** Gives up bodies under way and ends watchers; at shutdown, once the doors have drained. */
  stop(): Promise<void>
}

export function createStore(options: StoreOptions): RunningStore {
  const { metadata, memory, journal, hashing, persisting, replicating, limits, clock } = options
  const reservations = new Reservations({
    slotsMax: memory.bodySlotsMax,
    waitMsMax: limits.admissionWaitMsMax,
    clock,
  })
  const acknowledgement = new Acknowledgement({ journal, persisting, replicating, contents: metadata })
  const bodies = new OpenBodies({
    memory,
    journal,
    hashing,
    persisting,
    contents: metadata,
    buckets: metadata,
    replicating,
    reservations,
    limits,
    clock,
  })
  const readers = new Readers({ memory, contents: metadata, blockBytes: limits.blockBytes })
  const objects = new StoreObjects({ metadata, bodies, readers, acknowledgement, limits })
  const uploads = new StoreUploads({ metadata, bodies, objects, readers, hashing, acknowledgement, limits })
  const keyValues = new StoreKeyValues({
    metadata,
    bodies,
    objects,
    readers,
    acknowledgement,
    memory,
    limits,
    clock,
  })
  const watching = createWatching({ metadata, clock })
  const files = new StoreFiles({
    ...options.files,
    metadata: { ...metadata, ...options.files.metadata },
    memory,
    journal,
    persisting,
    acknowledgement,
    readers,
    limits,
    fileLimits: options.files.limits ?? DEFAULT_FILE_LIMITS,
    clock,
  })
  return {
    buckets: new StoreBuckets({ metadata, acknowledgement, defaultAck: options.defaultAck }),
    objects,
    reading: readers,
    bodies,
    uploads,
    keyValues,
    watching,
    files,
    horizon: () => readers.horizon(metadata.revision()),
    activity: () => ({ bodies: bodies.count, readers: readers.count, reservedSlots: reservations.taken }),
    stop: async () => {
      watching.stop()
      try {
        await files.drain()
      } finally {
        await files.stop()
        await bodies.discardAll()
      }
    },
  }
}
