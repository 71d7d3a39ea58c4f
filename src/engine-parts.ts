/** What the engine is made of, and what it says while it runs: see engine.ts. */
import type { Clock } from './common/clock.ts'
import type { BackgroundJob } from './common/background.ts'
import type { SegmentId } from './common/ids.ts'
import type { Limits } from './common/limits.ts'
import type { AckLevel } from './common/model.ts'
import type { PageReader } from './cache-tier/ports.ts'
import type { EngineAttach } from './engine-attach.ts'
import type { EngineNeighbours } from './engine-neighbours.ts'
import type { EngineCopies } from './engine-copies.ts'
import type { EmbeddedStore } from './meta/stage/ports.ts'
import type { Hashing } from './persist/hashing/ports.ts'
import type { DeviceMemory, JournalDevice } from './persist/journal/device.ts'
import type { FileSystem } from './persist/ports.ts'
import type { RecoveryReport } from './persist/recovery.ts'
import type { RemoteStore } from './persist/remote/ports.ts'
import type { SegmentPlaces } from './persist/segment-files.ts'

export interface EngineParts {
  readonly clock: Clock
  readonly limits: Limits
  readonly fileSystem: FileSystem
  readonly places: SegmentPlaces
  /** Undefined: segments are adopted under `places.store`, beside the metadata, and there are no names. */
  readonly remote?: EngineRemote | undefined
  /** Undefined: no bucket can be attached, and those that were are refused at the start. */
  readonly attach?: EngineAttach | undefined
  /** Of this node among those that share the metadata, from 1. Undefined: it shares them with nobody. */
  readonly nodeNumber?: number | undefined
  /** The other nodes. Undefined: what lies with them alone cannot be read. */
  readonly neighbours?: EngineNeighbours | undefined
  /** Undefined: there are no other nodes to copy segments to, and nothing is `replicated`. */
  readonly copies?: EngineCopies | undefined
  readonly slabBytes: number
  readonly defaultAck: AckLevel
  readonly diskReserveBytes: number | undefined
  /** Twins: threads in production, inline in the simulation. */
  readonly createDevice: (memory: DeviceMemory & { buffer: SharedArrayBuffer }) => JournalDevice
  readonly createHashing: (slab: SharedArrayBuffer) => Hashing
  /** `beforeCommit` is to be awaited before every metadata sync (C15). */
  readonly createOrderedStore: (beforeCommit: () => Promise<void>) => EmbeddedStore
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly random: () => number
  readonly onEvent: (event: EngineEvent) => void
  /** Scribble over slots that are given back; for tests. */
  readonly poison?: boolean
  /** The simulation drives the rounds itself. */
  readonly backgroundJobs?: boolean
}

export type EngineEvent =
  | { readonly kind: 'recovered'; readonly report: RecoveryReport }
  | { readonly kind: 'segment-broken'; readonly segment: SegmentId; readonly cause: unknown }
  | {
      readonly kind: 'persist-failed'
      readonly segment: SegmentId
      readonly action: string
      readonly attempt: number
      readonly cause: unknown
    }
  | { readonly kind: 'bad-block'; readonly segment: SegmentId; readonly block: number }
  /** Persisted, referred to, and not in the remote store. */
  | { readonly kind: 'segment-missing'; readonly segment: SegmentId }
  | { readonly kind: 'job-failed'; readonly job: string; readonly cause: unknown }
  /** A change of an attached bucket could not be carried out yet. */
  | {
      readonly kind: 'carry-out-failed'
      readonly bucket: string
      readonly key: string
      readonly attempt: number
      readonly cause: unknown
    }
  /** The same key was changed here and outside: ours is listed, lies under another key now, or gave way. */
  | {
      readonly kind: 'conflict'
      readonly bucket: string
      readonly key: string
      readonly ended: 'listed' | 'set-aside' | 'gave-way'
      readonly as: string | undefined
    }

/** A remote store that may outlive this node. */
export interface EngineRemote {
  readonly store: RemoteStore
  /** `adopting`: it is a directory, and `places.store` is the same; `uploading`: it is reached over a network. */
  readonly carries: 'adopting' | 'uploading'
  readonly guard: RemoteWatch
  readonly names: {
    readonly intervalMs: number
    readonly backupIntervalMs: number
    readonly backupsKept: number
    /** A new base is written once the deltas are larger than the last one, and than this; by default so that bases are rare. */
    readonly basedOnBytesMin?: number | undefined
  }
  readonly collectIntervalMs: number
  /** How long a stop waits for what is not carried yet; it is safe here, and goes with the next start. */
  readonly drainMsMax: number
  /** Blocks and segments kept on local disk; undefined: none are. */
  readonly disk?: EngineDiskLevel | undefined
}

/** Whether the store still is this node's (remote-guard.ts). */
export interface RemoteWatch {
  /** 32 hex digits. */
  readonly holder: string
  verified(): Promise<void>
  verifiedNow(): Promise<void>
  /** Resolves when a look that began after the call has found it ours. */
  verifiedAfresh(): Promise<void>
  /** Since when, ms since 1970; undefined as long as that is not known. */
  readonly sinceMs: number | undefined
  readonly job: BackgroundJob
}

export interface EngineDiskLevel {
  readonly directory: string
  readonly bytesMax: number
  /** It gives way while less than this is free; more than the reserve for writes. */
  readonly freeBytesMin: number
  readonly createReader: (slab: SharedArrayBuffer) => PageReader
}
