/**
 * Keeps the change log: what a group adds to it, what is trimmed along with the group, and what watchers read from it.
 * Its state moves on only when the group that carries it is durable.
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Change, WatchOptions } from '../ports.ts'
import { decodeLog, encodeLog, logKey, logRange, parseLogKey, type LoggedCommit } from './change-log.ts'
import { KeyLog } from './key-log.ts'
import type { StageSettings } from './options.ts'
import type { Backend, RowChanges } from './ports.ts'
import { decodeState, encodeState, reservedAfter, STATE_KEY, type StageState } from './stage-state.ts'

/** Rows of the log that one group deletes at most. */
const TRIMMED_ROWS_MAX = 64
const NO_ROWS: readonly never[] = []

export class LogKeeper {
  readonly #backend: Backend
  readonly #settings: StageSettings
  /** Of what is durable. */
  #state: StageState = decodeState(undefined)
  readonly keys: KeyLog
  #wakers = new Set<() => void>()
  #stopped = false

  constructor(backend: Backend, settings: StageSettings) {
    this.#backend = backend
    this.#settings = settings
    this.keys = new KeyLog(backend, settings.keyLog)
  }

  get durableRevision(): Revision {
    return this.#state.revision
  }

  /** Numbers above it may not be handed out. */
  get reservedThrough(): Revision {
    return this.#state.reservedThrough
  }

  /** Reads where the store stands and reserves revisions. Returns the last one that may have been handed out before. */
  async open(): Promise<Revision> {
    const found = decodeState(this.#backend.get(STATE_KEY))
    const state = { ...found, reservedThrough: reservedAfter(found.reservedThrough) }
    await this.#backend.commit([this.keys.open(state.revision), new Map([[STATE_KEY, encodeState(state)]])])
    this.#state = state
    return found.reservedThrough
  }

  /** The rows to write when all rows were replaced by those of `revision`, of which no log tells; `committed` as of `prepare`. */
  restart(revision: Revision): { rows: RowChanges; committed: () => void } {
    const state = { revision, reservedThrough: reservedAfter(revision), trimmedThrough: revision, loggedRevisions: 0 }
    const keys = this.keys.restart(revision)
    return {
      rows: new Map([...keys.rows, [STATE_KEY, encodeState(state)]]),
      committed: () => {
        keys.committed()
        this.#state = state
        this.#wake()
      },
    }
  }

  /** The part of a commit that watchers may be told of; undefined when there is none. */
  watched(changes: RowChanges, untoldKeys: ReadonlySet<ByteString>): RowChanges | undefined {
    const { changeLogRevisionsMax, watchedPrefixes } = this.#settings
    if (changeLogRevisionsMax === 0) return undefined
    if (untoldKeys.size === 0 && watchedPrefixes.some((prefix) => prefix === '')) return changes
    const watched = new Map<ByteString, Uint8Array | null>()
    for (const [key, value] of changes) {
      if (untoldKeys.has(key)) continue
      if (watchedPrefixes.some((prefix) => key.startsWith(prefix))) watched.set(key, value)
    }
    return watched.size === 0 ? undefined : watched
  }

  /** The rows to write along with a group that ends with `revision`, and what follows once they are durable. */
  prepare(
    revision: Revision,
    { commits, changes }: { commits: readonly LoggedCommit[]; changes: RowChanges },
  ): { rows: RowChanges; committed: () => void } {
    const rows = new Map<ByteString, Uint8Array | null>()
    let { trimmedThrough, loggedRevisions } = this.#state
    const last = commits.at(-1)
    if (last !== undefined) {
      rows.set(logKey(last.revision, commits.length), encodeLog(commits, this.#settings.loggedValueBytesMax))
      loggedRevisions += commits.length
    }
    if (loggedRevisions > this.#settings.changeLogRevisionsMax) {
      const oldest = this.#backend.keys(logRange(trimmedThrough + 1, this.#state.revision), TRIMMED_ROWS_MAX)
      for (const key of oldest) {
        const { lastRevision, revisions } = parseLogKey(key)
        if (loggedRevisions - revisions < this.#settings.changeLogRevisionsMax) break
        rows.set(key, null)
        loggedRevisions -= revisions
        trimmedThrough = lastRevision
      }
    }
    const state = { revision, reservedThrough: reservedAfter(revision), trimmedThrough, loggedRevisions }
    rows.set(STATE_KEY, encodeState(state))
    const keys = this.keys.prepare(revision, changes, rows)
    return {
      rows,
      committed: () => {
        keys.committed()
        this.#state = state
        this.#wake()
      },
    }
  }

  stop(): void {
    this.#stopped = true
    this.#wake()
  }

  /** A watcher reads one row of the log at a time, so a slow one holds back nobody and no memory grows for it. */
  async *watch(
    prefix: ByteString,
    fromRevision: Revision,
    signal: AbortSignal,
    { through = Infinity, progress = false }: WatchOptions = {},
  ): AsyncGenerator<Change, void, void> {
    if (this.#settings.changeLogRevisionsMax === 0) throw new TidegateError('NotImplemented', 'no change log is kept')
    let next = Math.max(fromRevision, 1)
    while (!signal.aborted && next <= through) {
      if (this.#stopped) throw new TidegateError('Unavailable', 'the metadata store has stopped')
      const { trimmedThrough, revision } = this.#state
      if (next <= trimmedThrough) throw revisionGone(next, trimmedThrough)
      const [row] = next > revision ? [] : this.#backend.scan(logRange(next, revision), 1, false)
      if (row === undefined) {
        next = Math.max(next, revision + 1)
        if (progress) yield { revision, rows: NO_ROWS }
        if (signal.aborted || next > through) return
        // While the taker had it, more may have come.
        if (this.#state.revision === revision && !this.#stopped) await this.#changed(signal)
        continue
      }
      for (const change of decodeLog(row.value, prefix, next)) {
        if (change.revision > through) return
        yield change
        if (signal.aborted) return
      }
      next = parseLogKey(row.key).lastRevision + 1
    }
  }

  /** Resolves when the log may have grown, the signal aborts or the store stops. */
  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wakers.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#wakers.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }

  #wake(): void {
    for (const wake of this.#wakers) wake()
  }
}

function revisionGone(revision: Revision, trimmedThrough: Revision): TidegateError {
  const oldest = trimmedThrough + 1
  return new TidegateError(
    'RevisionGone',
    `changes of revision ${revision} are no longer kept, only from ${oldest} on`,
    {
      details: { revision, oldest },
    },
  )
}
