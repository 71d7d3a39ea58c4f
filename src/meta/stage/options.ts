import { systemClock, type Clock } from '../../common/clock.ts'
import type { ByteString } from '../../common/ids.ts'
import { assert } from '../../common/assert.ts'
import type { KeyLogSettings } from './key-log.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** What a caller may set on any embedded store. */
export interface StageOptions {
  readonly clock?: Clock
  /**
   * Awaited for every group of commits before the group is committed: it makes durable the bytes that the group's commits
   * name (C15). When it rejects the group is undone, as by a failed commit.
   */
  readonly beforeCommit?: () => Promise<void>
  /** Most puts, deletes and adds of a transaction, each key counted once (C2). */
  readonly operationsMax?: number
  /** Most bytes of keys and values that a transaction writes (C2). */
  readonly bytesMax?: number
  /** For tests (C1): every function passed to `read` or `transact` runs twice, and the first run is thrown away. */
  readonly forceRetry?: boolean
  /** A transaction or read that takes longer than this awaits something other than its reads: a bug, and asserted. */
  readonly stallMsMax?: number
  /** Rows that may be visible and not yet durable before new transactions wait. */
  readonly backlogRowsMax?: number
  readonly backlogBytesMax?: number
  /** A group is committed when no transaction waits to run, or when it holds this many rows. */
  readonly groupRowsMax?: number
  /**
   * How long a group of commits that nobody waits for (`tell: 'visible'`, and no `flush`) gathers more of its kind before it is
   * committed, so that thousands of small steps of a file system share a sync. 0: not at all.
   */
  readonly unwantedGroupMsMax?: number
  /** How long a transaction may wait for the backlog to shrink before it is refused with `SlowDown`. */
  readonly admissionWaitMsMax?: number
  /** Transactions and reads that may wait; more are refused with `SlowDown`. */
  readonly queueLengthMax?: number
  /** Revisions that the change log keeps (C7); 0 keeps no log, and `watch` is refused. */
  readonly changeLogRevisionsMax?: number
  /** Only keys that begin with one of these are logged for `watch`. Default: all. Counters never are. */
  readonly watchedPrefixes?: readonly ByteString[]
  /** Larger values are not logged: a watcher is told that the row changed, not to what. */
  readonly loggedValueBytesMax?: number
  /** Which keys changed is logged besides, for whoever copies the rows elsewhere (key-log.ts). Default: no. */
  readonly keyLog?: KeyLogSettings | undefined
}

export type StageSettings = Required<StageOptions>

const DEFAULT_STAGE_SETTINGS: StageSettings = {
  clock: systemClock,
  beforeCommit: () => Promise.resolve(),
  operationsMax: 8192,
  bytesMax: 16 * MIB,
  forceRetry: false,
  stallMsMax: 10_000,
  backlogRowsMax: 32_768,
  backlogBytesMax: 64 * MIB,
  groupRowsMax: 8192,
  unwantedGroupMsMax: 0,
  admissionWaitMsMax: 30_000,
  queueLengthMax: 65_536,
  changeLogRevisionsMax: 100_000,
  watchedPrefixes: ['' as ByteString],
  loggedValueBytesMax: 512,
  keyLog: undefined,
}

/** The options over the defaults, with the relations between them asserted. */
export function stageSettings(options: StageOptions): StageSettings {
  const settings: StageSettings = { ...DEFAULT_STAGE_SETTINGS }
  for (const [name, value] of Object.entries(options))
    if (value !== undefined) Object.assign(settings, { [name]: value })
  assert(settings.operationsMax > 0 && settings.bytesMax > 0, 'a transaction may write something')
  assert(settings.groupRowsMax > 0 && settings.groupRowsMax <= settings.backlogRowsMax, 'a group fits the backlog')
  assert(settings.bytesMax <= settings.backlogBytesMax, 'a transaction fits the backlog')
  return settings
}
