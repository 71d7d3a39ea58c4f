import type { Revision, SegmentId } from '../../common/ids.ts'

/** How far behind the remote store is, and why. */
export interface NamesStatus {
  /** The remote store holds the namespace as it was at this revision; -1: in no state. */
  readonly shippedThrough: Revision
  readonly durableRevision: Revision
  /** For how long something has waited to be shipped. */
  readonly behindMs: number
  /** When the shipped state was captured, ms since 1970. */
  readonly stateMs: number
  readonly heldThrough: Revision | undefined
  readonly heldBytes: number
  /** Segments that must arrive before the capture may leave. */
  readonly heldUpBy: readonly SegmentId[]
  /** Writes that wait to be acknowledged as `persisted`. */
  readonly writesWaiting: number
  readonly baseBytes: number
  readonly deltas: number
  readonly deltaBytes: number
  /** A new base is written once the deltas take more. */
  readonly baseDueBytes: number
  /** Of the one that is being written. */
  readonly baseBytesWritten: number | undefined
  readonly backups: number
  readonly unreadableBackups: readonly string[]
  readonly nextBackupMs: number | undefined
  readonly lastError: string | undefined
  /** Where several nodes share the namespace: number of the one that ships the names; undefined: none does. */
  readonly holder?: number | undefined
}
