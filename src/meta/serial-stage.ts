/**
 * The embedded engines' way to strict serializability: transactions and reads run one after another, so none can meet
 * another's half-done work and nothing needs a lock (C1). What makes that fast is that no transaction waits for the disk:
 *
 *   queued -> running -> visible -> durable
 *                 \          \
 *                  thrown     undone
 *
 * - **Running**: the function reads what is visible and gathers its writes in a layer of its own. It awaits nothing but
 *   its reads, which are answered at once, so it is over within microtasks. One that stays longer than `stallMsMax` would
 *   hold everybody up: it is failed with an assertion.
 * - **Visible**: its writes are laid over the committed rows, it has the next revision, and `transact` settles. It belongs
 *   to the open group.
 * - **Durable**: when no transaction waits to run and no other group is on its way, the open group is closed (a little later if
 *   nobody waits for it, so that it gathers more): `beforeCommit` makes the bytes durable that it names (C15), the backend writes all of it in one batch with one sync,
 *   and every `durable` promise of the group settles. Meanwhile the next group gathers.
 * - **Undone**: when a group cannot be made durable, everything visible that is not durable goes with it, the open group
 *   too, because it may have read what is gone. Revisions handed out to undone commits are not used again; `revision()`
 *   goes back to the durable one. A function that was running meanwhile is run again, for the same reason.
 *
 * What a read finds among visible rows that are not durable, it tells only when they are: nobody is told what a crash could take
 * back, unless he asked for that (`tell: 'visible'`). The same holds for what a transaction throws after such a read.
 *
 * Writes that are not durable are bounded in rows and bytes: above the bound transactions wait (reads do not), and are
 * refused with `SlowDown` after `admissionWaitMsMax`.
 */
import { assert, AssertionFailed, must } from '../common/assert.ts'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { ByteString, Revision } from '../common/ids.ts'
import type {
  Change,
  Committed,
  OrderedStoreLimits,
  ReadOptions,
  ReadView,
  Transaction,
  WatchOptions,
} from './ports.ts'
import { CommitGroup } from './stage/commit-group.ts'
import { Fifo } from './stage/fifo.ts'
import { LogKeeper } from './stage/log-keeper.ts'
import { stageMetrics, type StageMetrics } from './stage/metrics.ts'
import { stageSettings, type StageOptions, type StageSettings } from './stage/options.ts'
import type { Backend, CommitListener, DurableRows, EmbeddedStore } from './stage/ports.ts'
import { decodeState, REPLICA_KEY, STATE_KEY } from './stage/stage-state.ts'
import { StageView } from './stage/stage-view.ts'
import { VisibleRows } from './stage/visible-rows.ts'

/** One call of `read` or `transact`. */
interface Job {
  readonly fn: (view: StageView) => Promise<unknown>
  readonly writable: boolean
  /** What it reads need not be durable to be told. */
  readonly early: boolean
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  /** When a transaction that waits for room in the backlog is refused. */
  deadlineMs: number
  runs: number
  /** Of the present run. */
  view: StageView | undefined
}

export class SerialStage implements EmbeddedStore {
  readonly limits: OrderedStoreLimits
  readonly #backend: Backend
  readonly #settings: StageSettings
  readonly #visible: VisibleRows
  readonly #log: LogKeeper
  readonly #transactions = new Fifo<Job>()
  readonly #reads = new Fifo<Job>()
  readonly #commitListeners = new Set<CommitListener>()
  readonly #rollbackListeners = new Set<() => void>()
  readonly #stopping = new AbortController()
  #metrics: StageMetrics | undefined
  #state: 'new' | 'serving' | 'draining' | 'stopped' = 'new'
  #running: Job | undefined
  #open = new CommitGroup()
  #committing: CommitGroup | undefined
  /** Last revision that is visible. */
  #revision: Revision = 0
  /** Last revision handed out, which may have been undone. */
  #revisionHandedOut: Revision = 0
  /** Counts undoings. */
  #generation = 0
  #idleWaiters: (() => void)[] = []
  #watchdogArmed = false
  #admissionTimerArmed = false
  #groupTimerArmed = false

  constructor(backend: Backend, options: StageOptions = {}) {
    this.#backend = backend
    this.#settings = stageSettings(options)
    this.#visible = new VisibleRows(backend)
    this.#log = new LogKeeper(backend, this.#settings)
    const { operationsMax, bytesMax } = this.#settings
    this.limits = { operationsMax, bytesMax, keyBytesMax: backend.keyBytesMax }
  }

  async start(): Promise<void> {
    assert(this.#state === 'new', 'a store is started once')
    this.#metrics = stageMetrics()
    await this.#backend.open()
    try {
      if (this.#backend.get(REPLICA_KEY) !== undefined)
        throw new TidegateError(
          'Unavailable',
          'the metadata directory holds a copy of metadata in etcd, not metadata of its own',
        )
      this.#revisionHandedOut = await this.#log.open()
    } catch (error) {
      await this.#backend.close()
      throw commitFailure(error)
    }
    this.#revision = this.#log.durableRevision
    this.#state = 'serving'
  }

  async drain(): Promise<void> {
    if (this.#state === 'serving') this.#state = 'draining'
    if (this.#running !== undefined || this.#transactions.length > 0 || this.#reads.length > 0) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve))
    }
    await this.flush()
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return
    const opened = this.#state !== 'new'
    this.#state = 'stopped'
    this.#stopping.abort(new TidegateError('Unavailable', 'the metadata store has stopped'))
    this.#failQueued()
    this.#log.stop()
    if (!opened) return
    // Commits that nobody waits for may have been acknowledged as visible, so they are made durable here too.
    await this.flush().catch(() => {})
    await this.#backend.close()
  }

  read<T>(fn: (view: ReadView) => Promise<T>, options?: ReadOptions): Promise<T> {
    return this.#submit(fn, { writable: false, early: options?.tell === 'visible' }) as Promise<T>
  }

  transact<T>(fn: (tx: Transaction) => Promise<T>, options?: ReadOptions): Promise<Committed<T>> {
    return this.#submit(fn, { writable: true, early: options?.tell === 'visible' }) as Promise<Committed<T>>
  }

  revision(): Revision {
    return this.#revision
  }

  durableRevision(): Revision {
    return this.#log.durableRevision
  }

  async flush(): Promise<void> {
    const durable = this.#wantDurable()
    this.#commitOpenGroup()
    await durable
  }

  /** As the port says. A change is shown only once it is durable, so no watcher is told of what may be undone. */
  watch(
    prefix: ByteString,
    fromRevision: Revision,
    signal: AbortSignal,
    options?: WatchOptions,
  ): AsyncIterable<Change> {
    return this.#log.watch(prefix, fromRevision, signal, options)
  }

  readDurable<T>(fn: (rows: DurableRows) => T): T {
    if (this.#state === 'new' || this.#state === 'stopped') {
      throw new TidegateError('Unavailable', `the metadata store is ${this.#state}`)
    }
    const backend = this.#backend
    const { revision } = decodeState(backend.get(STATE_KEY))
    return fn({
      revision,
      get: (key) => backend.get(key),
      scan: (range, limit) => backend.scan(range, limit, false),
      changedKeys: (after, groups) => this.#log.keys.changed(backend, after, { through: revision, groups }),
    })
  }

  neededAfter(revision: Revision): void {
    this.#log.keys.neededAfter(revision)
  }

  onCommit(listener: CommitListener): () => void {
    this.#commitListeners.add(listener)
    return () => void this.#commitListeners.delete(listener)
  }

  onRollback(listener: () => void): () => void {
    this.#rollbackListeners.add(listener)
    return () => void this.#rollbackListeners.delete(listener)
  }

  #submit(fn: Job['fn'], { writable, early }: { writable: boolean; early: boolean }): Promise<unknown> {
    if (this.#state !== 'serving') {
      return Promise.reject(new TidegateError('Unavailable', `the metadata store is ${this.#state}`))
    }
    return new Promise((resolve, reject) => {
      const job: Job = { fn, writable, early, resolve, reject, deadlineMs: 0, runs: 0, view: undefined }
      if (this.#running === undefined && !(writable && this.#mustWait())) this.#run(job)
      else this.#enqueue(job)
    })
  }

  #enqueue(job: Job): void {
    const queue = job.writable ? this.#transactions : this.#reads
    if (queue.length >= this.#settings.queueLengthMax) {
      return job.reject(new TidegateError('SlowDown', `${queue.length} metadata transactions wait already`))
    }
    job.deadlineMs = this.#settings.clock.monotonicMs() + this.#settings.admissionWaitMsMax
    queue.push(job)
    this.#pump()
  }

  /** Starts what may run next; with nothing to run, the open group is committed. */
  #pump(): void {
    if (this.#running !== undefined) return
    const read = this.#reads.shift()
    if (read !== undefined) return this.#run(read)
    if (this.#transactions.length > 0 && !this.#backlogFull()) return this.#run(this.#transactions.shift()!)
    if (this.#open.wanted || this.#transactions.length > 0 || this.#settings.unwantedGroupMsMax === 0)
      this.#commitOpenGroup()
    else this.#armGroupTimer()
    if (this.#transactions.length > 0) this.#armAdmissionTimer()
    else for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #mustWait(): boolean {
    return this.#transactions.length > 0 || this.#backlogFull()
  }

  #backlogFull(): boolean {
    const { backlogRowsMax, backlogBytesMax } = this.#settings
    return this.#visible.pendingRows >= backlogRowsMax || this.#visible.pendingBytes >= backlogBytesMax
  }

  #run(job: Job): void {
    // A transaction reads at the last revision handed out, undone ones included, so that its own is always the one after:
    // versions say so of themselves, and one that was undone must not share its revision with one that came instead.
    const revision = job.writable ? this.#revisionHandedOut : this.#revision
    const view = new StageView(this.#visible, revision, { limits: this.limits, writable: job.writable })
    const generation = this.#generation
    this.#running = job
    job.view = view
    job.runs++
    if (!this.#watchdogArmed) this.#armWatchdog()
    const settle = (finish: () => void): void => {
      if (job.view !== view) return
      view.close()
      // What it read has been undone meanwhile, or a test wants every function run twice.
      if (generation !== this.#generation || (this.#settings.forceRetry && job.runs === 1)) return this.#run(job)
      job.view = undefined
      this.#running = undefined
      finish()
      this.#pump()
    }
    runNow(job.fn, view).then(
      (value) => settle(() => this.#finish(job, view, value)),
      (error: unknown) => settle(() => this.#tell(job, view, () => job.reject(error as Error))),
    )
  }

  #finish(job: Job, view: StageView, value: unknown): void {
    const written = view.written
    if (view.refusal !== undefined) return job.reject(view.refusal)
    if (written === undefined) return this.#tell(job, view, () => job.resolve(value))
    if (written.size > 0) {
      if (this.#revisionHandedOut >= this.#log.reservedThrough) return job.reject(outOfRevisions())
      this.#makeVisible(view)
      if (!job.early) this.#open.wanted = true
    }
    // One that wrote nothing rests on what it read alone.
    const durable = written.size > 0 || view.provisional ? this.#pendingDurable() : ALREADY_DURABLE
    job.resolve({ value, revision: this.#revision, durable } satisfies Committed<unknown>)
  }

  /** Tells the outcome of a job that wrote nothing, once what it rests on is durable; a commit has `durable` for that. */
  #tell(job: Job, view: StageView, outcome: () => void): void {
    if (!view.provisional || job.early) return outcome()
    this.#wantDurable().then(outcome, () => this.#runAgain(job))
  }

  /** What it read has been undone. */
  #runAgain(job: Job): void {
    if (this.#state === 'stopped') return job.reject(this.#stopping.signal.reason as Error)
    job.deadlineMs = this.#settings.clock.monotonicMs() + this.#settings.admissionWaitMsMax
    if (this.#running === undefined) this.#run(job)
    else (job.writable ? this.#transactions : this.#reads).push(job)
  }

  #makeVisible(view: StageView): void {
    const written = must(view.written, 'what a transaction wrote')
    const changes = written.rows
    const revision = ++this.#revisionHandedOut
    this.#revision = revision
    this.#visible.apply(written)
    this.#open.transactions++
    this.#open.lastRevision = revision
    const watched = this.#log.watched(changes, view.untoldKeys)
    if (watched !== undefined) this.#open.logged.push({ revision, changes: watched })
    if (this.#commitListeners.size > 0) {
      const keys = [...changes.keys()]
      for (const listener of this.#commitListeners) listener(keys, view.rewrittenKeys)
    }
    if (this.#visible.openRows >= this.#settings.groupRowsMax) this.#commitOpenGroup()
  }

  /** Settles when everything visible now is durable. */
  #pendingDurable(): Promise<void> {
    if (this.#open.transactions > 0) return this.#open.durable
    return this.#committing?.durable ?? ALREADY_DURABLE
  }

  #wantDurable(): Promise<void> {
    this.#open.wanted = true
    return this.#pendingDurable()
  }

  /** One timer, for the open group that nobody waits for. */
  #armGroupTimer(): void {
    const group = this.#open
    if (group.transactions === 0 || this.#groupTimerArmed) return
    this.#groupTimerArmed = true
    const { clock, unwantedGroupMsMax } = this.#settings
    const rung = (): void => {
      this.#groupTimerArmed = false
      group.wanted = true
      this.#pump()
    }
    clock.sleep(unwantedGroupMsMax, this.#stopping.signal).then(rung, () => {})
  }

  #commitOpenGroup(): void {
    if (this.#committing !== undefined || this.#open.transactions === 0) return
    const group = this.#open
    this.#open = new CommitGroup()
    this.#committing = group
    void this.#commitGroup(group)
  }

  async #commitGroup(group: CommitGroup): Promise<void> {
    const { clock, beforeCommit } = this.#settings
    const startedMs = clock.monotonicMs()
    const rows = this.#visible.closeGroup()
    const prepared = this.#log.prepare(group.lastRevision, { commits: group.logged, changes: rows })
    try {
      await beforeCommit()
      await this.#backend.commit([rows, prepared.rows])
    } catch (error) {
      return this.#undo(group, commitFailure(error))
    }
    this.#visible.groupCommitted()
    this.#committing = undefined
    prepared.committed()
    this.#metrics?.groupCommitted({
      transactions: group.transactions,
      rows: rows.size,
      durationMs: clock.monotonicMs() - startedMs,
    })
    group.resolve()
    this.#pump()
  }

  #undo(group: CommitGroup, failure: TidegateError): void {
    const later = this.#open
    this.#open = new CommitGroup()
    this.#committing = undefined
    this.#visible.undoPending()
    this.#revision = this.#log.durableRevision
    this.#generation++
    this.#metrics?.groupFailed({ transactions: group.transactions + later.transactions })
    for (const listener of this.#rollbackListeners) listener()
    group.reject(failure)
    later.reject(failure)
    this.#pump()
  }

  #failQueued(): void {
    const stopped = this.#stopping.signal.reason as Error
    const running = this.#running
    if (running !== undefined) this.#abandon(running, stopped)
    for (const queue of [this.#reads, this.#transactions]) {
      for (let job = queue.shift(); job !== undefined; job = queue.shift()) job.reject(stopped)
    }
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #abandon(job: Job, error: Error): void {
    job.view?.close()
    job.view = undefined
    this.#running = undefined
    job.reject(error)
  }

  /** One timer, however many jobs run: whoever is running when it is armed must be gone when it rings. */
  #armWatchdog(): void {
    const job = this.#running
    const view = job?.view
    const { clock, stallMsMax } = this.#settings
    this.#watchdogArmed = true
    const rung = (): void => {
      this.#watchdogArmed = false
      if (job !== undefined && view !== undefined && this.#running === job && job.view === view) {
        this.#abandon(job, new AssertionFailed(`a transaction awaits nothing but its reads: ${stallMsMax} ms are over`))
        this.#pump()
      } else if (this.#running !== undefined) {
        this.#armWatchdog()
      }
    }
    clock.sleep(stallMsMax, this.#stopping.signal).then(rung, () => {})
  }

  /** One timer, for the transaction that has waited longest for room in the backlog. */
  #armAdmissionTimer(): void {
    if (this.#admissionTimerArmed) return
    this.#admissionTimerArmed = true
    const { clock, admissionWaitMsMax } = this.#settings
    const rung = (): void => {
      this.#admissionTimerArmed = false
      const nowMs = clock.monotonicMs()
      for (let job = this.#transactions.peek(); job !== undefined && job.deadlineMs <= nowMs;) {
        this.#transactions.shift()
        job.reject(new TidegateError('SlowDown', `the metadata backlog stayed full for ${admissionWaitMsMax} ms`))
        job = this.#transactions.peek()
      }
      this.#pump()
    }
    const waitMs = Math.max(1, Math.ceil(this.#transactions.peek()!.deadlineMs - clock.monotonicMs()))
    clock.sleep(waitMs, this.#stopping.signal).then(rung, () => {})
  }
}

const ALREADY_DURABLE = Promise.resolve()

/** Calls `fn` now; what it throws at once becomes a rejection. */
function runNow(fn: Job['fn'], view: StageView): Promise<unknown> {
  try {
    return fn(view)
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Only after very many commits in a row that could not be made durable. */
function outOfRevisions(): TidegateError {
  return new TidegateError('Unavailable', 'every reserved revision was handed out and none became durable')
}

function commitFailure(error: unknown): TidegateError {
  if (isTidegateError(error, 'StorageFull') || isTidegateError(error, 'Unavailable')) return error
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
    return new TidegateError('StorageFull', 'no space is left for metadata', { cause: error })
  }
  return new TidegateError('Unavailable', 'metadata could not be made durable', { cause: error })
}
