/** What a stream of names is made of (names-stream.ts). */
import type { Clock } from '../../common/clock.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import type { RemoteStore } from '../remote/ports.ts'
import type { ToldObjects } from './loading.ts'
import type { Lineage } from './object-names.ts'
import type { NamesSource } from './ports.ts'
import type { Standing } from './shared/tenure.ts'

export interface NamesStreamOptions {
  readonly source: NamesSource
  readonly remote: RemoteStore
  /** Who holds the remote store: `holder` of its marker. */
  readonly lineage: Lineage
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  /** Changes are shipped about this often. */
  readonly intervalMs: number
  readonly backupIntervalMs: number
  readonly backupsKept: number
  /** How long `named` waits. */
  readonly waitMsMax: number
  readonly mayDelete: () => Promise<boolean>
  /** Resolves when a look at the remote store that began after the call has found it ours. */
  readonly held: () => Promise<void>
  /** Since when it is ours, ms since 1970; undefined as long as that is not known. */
  readonly heldSinceMs: () => number | undefined
  /** Somebody waits for these segments to arrive. */
  readonly hurry?: (segments: readonly SegmentId[]) => void
  /** What failed and is tried again, but for rounds, whose failures the job's runner tells. */
  readonly onFailure: (cause: unknown) => void
  readonly deltaBytesMax?: number
  readonly basedOnBytesMin?: number
  /** Where several nodes take turns (shared/shared-names.ts). */
  readonly turns?: TakesTurns | undefined
}

/** What a stream that goes on from another node's tells and is told. */
export interface TakesTurns {
  /** What the one before has told. */
  readonly told: ToldObjects | undefined
  unchangedThrough(after: Revision): Revision | undefined
  /** The others know it when it resolves; nothing that it makes superfluous goes before. @throws when it is another's turn */
  publish(standing: Standing): Promise<void>
  /** It holds what another life wrote. */
  refused(reason: string): void
}
