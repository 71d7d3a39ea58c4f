/** Runs transactions and reads, and applies what etcd says of them. What is promised, and why it holds: etcd-stage.ts. */
import { AssertionFailed } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Committed, OrderedStoreLimits } from '../ports.ts'
import { Fifo } from '../stage/fifo.ts'
import { RowLayer } from '../stage/row-layer.ts'
import type { Barrier } from './barrier.ts'
import { counterOf, isCounterKey } from './counter-parts.ts'
import type { EtcdStoreSettings } from './etcd-options.ts'
import type { EtcdFigures } from './figures.ts'
import { GroupSender, type DecidedGroup } from './group-sender.ts'
import { Guesses, type Member } from './guesses.ts'
import { LiveJobs, type Job } from './jobs.ts'
import { decodeRow, type EtcdLayout, type Incarnation } from './layout.ts'
import type { Listeners } from './listeners.ts'
import type { Etcd, EtcdFailure, WatchedChange } from './ports.ts'
import type { AppliedRow, Replica } from './replica.ts'
import type { Session } from './session.ts'
import { TrackedView, type RunRecord } from './tracked-view.ts'
import { Waiting, type Resting } from './waiting.ts'
import { notKnown, timeUp, unavailable } from './words.ts'

export interface RunnerParts {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly settings: EtcdStoreSettings
  readonly replica: Replica
  readonly session: Session
  readonly incarnation: Incarnation
  readonly barrier: Barrier
  readonly listeners: Listeners
  readonly signal: AbortSignal
  /** The store has stopped, or was fenced. */
  readonly isOver: () => boolean
  readonly fenced: () => void
  /** What is here is to be loaded anew. */
  readonly wentBack: () => void
  /** Why changes do not arrive at present. */
  readonly trouble: () => string | undefined
}

const BACK_OFF_MS_MAX = 64
const DURABLE = Promise.resolve()

export class Runner {
  readonly #parts: RunnerParts
  readonly #settings: EtcdStoreSettings
  readonly #replica: Replica
  readonly #guesses = new Guesses<Job>()
  readonly #sender: GroupSender
  readonly #live: LiveJobs
  readonly #waiting = new Waiting()
  /** Those that run again come first. */
  readonly #again = new Fifo<Job>()
  readonly #transactions = new Fifo<Job>()
  readonly #reads = new Fifo<Job>()
  /** What must not happen during a run. */
  readonly #betweenRuns = new Fifo<() => void>()
  limits: OrderedStoreLimits
  #running: Job | undefined
  #isLoading = false
  /** An action of `#betweenRuns` is being carried out. */
  #isActing = false
  #runs = 0
  #conflicts = 0
  #staleReads = 0
  #watchdogArmed = false

  constructor(parts: RunnerParts, limits: OrderedStoreLimits) {
    this.#parts = parts
    this.#settings = parts.settings
    this.#replica = parts.replica
    this.limits = limits
    const { signal, settings, isOver } = parts
    this.#live = new LiveJobs({
      clock: settings.clock,
      signal,
      onDue: () => this.#betweenRunsDo(() => this.#expire()),
    })
    this.#sender = new GroupSender({
      ...parts,
      guesses: this.#guesses,
      isBlocked: () => this.#isLoading || isOver(),
      betweenRuns: (action) => this.#betweenRunsDo(action),
      refuse: (members, error) => this.#refuse(members, error),
      runAgain: (members) => this.#evict(writtenBy(members), members),
    })
  }

  /** Of etcd. */
  set operationsMax(operationsMax: number) {
    this.#sender.operationsMax = operationsMax
  }

  get figures(): Omit<EtcdFigures, 'barriers' | 'barriersMs' | 'outages'> {
    const [conflicts, staleReads, underWay] = [this.#conflicts, this.#staleReads, this.#live.size]
    return { ...this.#sender.figures, conflicts, staleReads, underWay }
  }

  submit(fn: Job['fn'], writable: boolean): Promise<unknown> {
    const { clock, readMsMax, transactMsMax, queueLengthMax } = this.#settings
    if (this.#live.size >= queueLengthMax)
      return Promise.reject(new TidegateError('SlowDown', `${this.#live.size} metadata transactions wait already`))
    const deadlineMs = clock.monotonicMs() + (writable ? transactMsMax : readMsMax)
    return new Promise((resolve, reject) => {
      const started = { runs: 0, conflicts: 0, isIdle: false, view: undefined, mustSee: undefined, isOver: false }
      const job: Job = { fn, writable, deadlineMs, resolve, reject, ...started }
      this.#live.add(job)
      if (writable) {
        this.#transactions.push(job)
        this.#pump()
      } else if (this.#isStale(job)) this.#readStale(job)
      else this.#passBarrier(job, () => this.#awaitRevision(job))
    })
  }

  /** Resolves when nothing is under way. */
  idle(): Promise<void> {
    return this.#live.empty()
  }

  /** Applies whole revisions, in order, between runs. */
  apply(changes: readonly WatchedChange[]): Promise<void> {
    return this.#betweenRunsDone(() => {
      for (let at = 0; at < changes.length && !this.#parts.isOver();) {
        const revision = changes[at]!.modRevision
        const first = at
        while (at < changes.length && changes[at]!.modRevision === revision) at++
        this.#applyRevision(revision, changes.slice(first, at))
      }
    })
  }

  /** Nothing is read or run any more until `loaded`. */
  loading(): Promise<void> {
    this.#isLoading = true
    return this.#betweenRunsDone(() => this.#parts.listeners.rolledBack())
  }

  /** `marks`: revisions of this node's marks, by the name of their group and then index of the component. */
  loaded(marks: ReadonlyMap<string, ReadonlyMap<number, Revision>>): Promise<void> {
    return this.#betweenRunsDone(() => {
      const group = this.#sender.take()
      if (group !== undefined) {
        const marked = marks.get(group.name)
        for (const [index, component] of group.components.entries()) {
          const revision = marked?.get(index)
          if (revision !== undefined) this.#tell(component.members as readonly Member<Job>[], revision)
        }
        for (const { job } of this.#guesses.clearSent()) this.#runAgain(job)
      }
      this.#isLoading = false
      for (const { job } of this.#guesses.take(new RowLayer(), () => true)) this.#runAgain(job)
      this.#runAgainIdle(this.#waiting.takeAll())
      this.#wakeWaiting()
    })
  }

  /**
   * Etcd is away. Nobody waits for it any longer but those of whom it is not known whether they took effect; reads are told what is known
   * here, if that is wanted.
   */
  etcdWent(failure: EtcdFailure): void {
    this.#betweenRunsDo(() => {
      const sent = new Set(this.#guesses.sent.map(({ job }) => job))
      const waiting = this.#live.all().filter((job) => !sent.has(job))
      const isServed = (job: Job): boolean => this.#isStale(job)
      // Those that have not passed the barrier are refused by it, and read then.
      for (const job of waiting.filter(isServed)) if (job.mustSee !== undefined) job.mustSee = 0
      this.#giveUp(new Set(waiting.filter((job) => !isServed(job))), () => unavailable(failure))
      this.#wakeWaiting()
    })
  }

  /** Ends all that is under way with the error. */
  failAll(error: Error): void {
    const running = this.#running
    if (running !== undefined) this.#abandon(running)
    for (const { job } of this.#guesses.sent) this.#end(job, () => job.reject(notKnown(error)))
    for (const job of this.#live.all()) this.#end(job, () => job.reject(error))
  }

  #passBarrier(job: Job, then: () => void): void {
    this.#parts.barrier.join().then(
      (revision) => {
        job.mustSee = revision
        then()
      },
      (error: unknown) => {
        if (this.#isStale(job)) return this.#readStale(job)
        // One that rested may run again by now, or be on its way: then it has no need of this barrier.
        if (!job.writable || this.#waiting.endRest(job)) this.#end(job, () => job.reject(unavailable(error)))
      },
    )
  }

  #isStale({ writable }: Job): boolean {
    return !writable && this.#settings.staleReads && this.#parts.barrier.away !== undefined
  }

  #readStale(job: Job): void {
    job.mustSee = 0
    this.#staleReads++
    this.#awaitRevision(job)
  }

  #awaitRevision(job: Job): void {
    this.#waiting.read(job)
    this.#wakeWaiting()
    this.#pump()
  }

  #end(job: Job, tell: () => void): void {
    if (this.#live.remove(job)) tell()
  }

  /** Starts what may run next; with nothing to run, a group is sent. */
  #pump(): void {
    // What an action brings about waits until it is over: a run that began in its midst would see some of the revisions that are being applied.
    if (this.#isActing) return
    while (this.#running === undefined) {
      const action = this.#betweenRuns.shift()
      if (action !== undefined) {
        this.#act(action)
        continue
      }
      const job = this.#next()
      if (job === undefined) return this.#sender.send(this.#runs)
      if (!job.isOver) this.#run(job)
    }
  }

  #act(action: () => void): void {
    this.#isActing = true
    try {
      action()
    } finally {
      this.#isActing = false
    }
  }

  #next(): Job | undefined {
    if (this.#isLoading) return undefined
    const read = this.#reads.shift()
    if (read !== undefined || this.#guesses.isDoomed) return read
    const { groupRowsMax, backlogRowsMax, backlogBytesMax } = this.#settings
    if (this.#guesses.openRows >= groupRowsMax) this.#sender.send(this.#runs)
    if (this.#guesses.rows >= backlogRowsMax || this.#guesses.bytes >= backlogBytesMax) return undefined
    return this.#again.shift() ?? this.#transactions.shift()
  }

  #betweenRunsDo(action: () => void): void {
    this.#betweenRuns.push(action)
    this.#pump()
  }

  #betweenRunsDone(action: () => void): Promise<void> {
    return new Promise((resolve) => {
      this.#betweenRunsDo(() => {
        action()
        resolve()
      })
    })
  }

  #run(job: Job): void {
    const view: TrackedView = new TrackedView(this.#replica, {
      limits: this.limits,
      revision: this.#replica.revision,
      guesses: job.writable && !job.isIdle ? this.#guesses : undefined,
      writable: job.writable,
      onPark: () => this.#park(job, view),
    })
    this.#running = job
    job.view = view
    job.runs++
    this.#runs++
    if (!this.#watchdogArmed) this.#armWatchdog()
    const settle = (finish: () => void): void => {
      if (job.view !== view) return
      view.close()
      job.view = undefined
      this.#running = undefined
      if (this.#settings.forceRetry && job.runs === 1) this.#run(job)
      else {
        finish()
        this.#pump()
      }
    }
    runNow(job.fn, view).then(
      (value) => settle(() => this.#finish(job, view, value)),
      (error: unknown) =>
        settle(() => {
          if (!job.writable || view.refusal !== undefined) this.#end(job, () => job.reject(error as Error))
          else this.#rest(job, view.record, () => job.reject(error as Error))
        }),
    )
  }

  #finish(job: Job, view: TrackedView, value: unknown): void {
    const { written, refusal, record, rewrittenKeys, untoldKeys, stamps } = view
    if (job.isOver) return
    if (refusal !== undefined) return this.#end(job, () => job.reject(refusal))
    if (written === undefined) return this.#end(job, () => job.resolve(value))
    if (written.size === 0) {
      const told = (): void => job.resolve({ value, revision: this.#replica.revision, durable: DURABLE })
      return this.#rest(job, record, told)
    }
    if (job.isIdle) {
      // Not idle this time: what it wrote must go over the guesses.
      job.isIdle = false
      return this.#again.push(job)
    }
    const member = { job, number: this.#runs, value, record, written, rewrittenKeys, untoldKeys, stamps }
    this.#guesses.add({ ...member, isDoomed: false })
  }

  /** It asks for a row that is not known yet. */
  #park(job: Job, view: TrackedView): void {
    if (job.view !== view) return
    view.close()
    job.view = undefined
    this.#running = undefined
    this.#waiting.park(job, this.#runs)
    queueMicrotask(() => this.#pump())
  }

  #rest(job: Job, record: RunRecord, tell: () => void): void {
    this.#waiting.rest({ job, record, number: job.isIdle ? 0 : this.#runs, tell })
    if (job.mustSee === undefined) this.#passBarrier(job, () => this.#betweenRunsDo(() => this.#wakeWaiting()))
    else this.#wakeWaiting()
  }

  #wakeWaiting(): void {
    if (this.#isLoading) return
    const ready = this.#waiting.takeReady({ revision: this.#replica.revision, oldest: this.#guesses.oldest })
    for (const job of ready.reads) this.#reads.push(job)
    for (const { job, tell } of ready.rested) this.#end(job, tell)
    for (const job of ready.unparked) this.#again.push(job)
  }

  /** They may write nothing again, so they are tried without guesses, where nothing but other commits can disturb them. */
  #runAgainIdle(disturbed: readonly Resting[]): void {
    for (const { job } of disturbed) {
      job.isIdle = true
      this.#runAgain(job)
    }
  }

  #runAgain(job: Job): void {
    if (job.isOver) return
    job.conflicts++
    this.#conflicts++
    if (job.conflicts === 1) return this.#again.push(job)
    const { clock, fillRandom } = this.#settings
    const random = new Uint8Array(1)
    fillRandom(random)
    const backOffMs = Math.min(2 ** job.conflicts, BACK_OFF_MS_MAX) * (random[0]! / 256)
    const resume = (): void => {
      this.#again.push(job)
      this.#pump()
    }
    clock.sleep(backOffMs, this.#parts.signal).then(resume, () => {})
  }

  #tell(members: readonly Member<Job>[], revision: Revision): void {
    for (const { job, value } of members) {
      this.#end(job, () => job.resolve({ value, revision, durable: DURABLE } satisfies Committed<unknown>))
    }
  }

  #refuse(members: readonly Member<Job>[], error: Error): void {
    for (const { job } of members) this.#end(job, () => job.reject(error))
    this.#evict(writtenBy(members), members)
  }

  /** Rows are not what they seemed: takes back who read them. `gone` are members that have been taken out already, or are to be. */
  #evict(changed: RowLayer, gone: readonly Member<Job>[] = []): void {
    const isGone = new Set(gone)
    const taken = this.#guesses.take(changed, (member) => isGone.has(member))
    for (const { written } of taken) changed.setAll(written)
    this.#runAgainIdle(this.#waiting.takeTouched(changed))
    for (const { job } of new Set([...gone, ...taken])) this.#runAgain(job)
    this.#wakeWaiting()
  }

  #applyRevision(revision: Revision, changes: readonly WatchedChange[]): void {
    const { layout, session } = this.#parts
    const rows: AppliedRow[] = []
    const rewritten = new Set<ByteString>()
    const seen = this.#sender.observe(changes)
    for (const { key: etcdKey, value: row } of changes) {
      const key = layout.keyOf(etcdKey)
      if (key === undefined) {
        const isSession = etcdKey === layout.session(this.#settings.node)
        if (isSession && !session.isOurs(row) && revision > session.modRevision) return this.#parts.fenced()
        continue
      }
      const decoded = row && decodeRow(row, revision)
      if (decoded?.rewritten === true) rewritten.add(key)
      rows.push({ key, value: decoded?.value ?? null, untold: decoded?.untold === true })
    }
    const deleted = rows.flatMap(({ key, value }) => (value === null ? [key] : []))
    const gone = this.#parts.listeners.aboutToGo(deleted, (key) => this.#replica.get(key))
    this.#replica.apply(revision, rows, seen.commit)
    this.#parts.listeners.gone(gone, revision)
    if (rows.length > 0) {
      const keys = rows.map(({ key }) => (isCounterKey(key) ? counterOf(key) : key))
      this.#parts.listeners.committed(keys, rewritten)
    }
    if (seen.decided === undefined) {
      const changed = new RowLayer()
      for (const { key } of rows) changed.set(key, null)
      this.#evict(changed)
    } else this.#decided(revision, seen.decided)
    this.#sender.applied()
  }

  #decided(revision: Revision, { tookEffect, isExclusive }: DecidedGroup): void {
    const members = this.#guesses.clearSent()
    const done = members.filter((member) => tookEffect.has(member))
    this.#tell(done, revision)
    this.#runAgainIdle(this.#waiting.takeOvertaken(done))
    const failed = members.filter((member) => !tookEffect.has(member))
    // Others hold back for a moment, so that it can be the next one.
    if (isExclusive) for (const { job } of failed) job.conflicts = 0
    this.#evict(writtenBy(failed), failed)
  }

  #expire(): void {
    const outOfTime = new Set(this.#live.due())
    const isDue = ({ job }: Member<Job>): boolean => outOfTime.has(job)
    const sent = this.#guesses.sent.filter(isDue)
    for (const member of sent) {
      const answered = this.#sender.answerFor(member)
      if (answered !== undefined) this.#tell([member], answered)
      else this.#end(member.job, () => member.job.reject(timeUp({ ...this.#facts(member.job), isSent: true })))
    }
    this.#giveUp(outOfTime, (job) => timeUp({ ...this.#facts(job), isSent: false }))
  }

  /** None of them has been sent. */
  #giveUp(jobs: ReadonlySet<Job>, errorFor: (job: Job) => Error): void {
    const open = this.#guesses.open.filter(({ job }) => jobs.has(job))
    for (const job of jobs) this.#end(job, () => job.reject(errorFor(job)))
    this.#waiting.forget(jobs)
    if (open.length > 0) this.#evict(writtenBy(open), open)
  }

  #facts({ writable, conflicts }: Job): { isRead: boolean; conflicts: number; trouble: string | undefined } {
    return {
      isRead: !writable,
      conflicts,
      trouble: this.#sender.trouble ?? this.#parts.trouble() ?? this.#replica.trouble,
    }
  }

  #abandon(job: Job): void {
    job.view?.close()
    job.view = undefined
    this.#running = undefined
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
        this.#abandon(job)
        const stalled = new AssertionFailed(`a transaction awaits nothing but its reads: ${stallMsMax} ms are over`)
        this.#end(job, () => job.reject(stalled))
        this.#pump()
      } else if (this.#running !== undefined) this.#armWatchdog()
    }
    clock.sleep(stallMsMax, this.#parts.signal).then(rung, () => {})
  }
}

function writtenBy(members: readonly Member<Job>[]): RowLayer {
  const rows = new RowLayer()
  for (const { written } of members) rows.setAll(written)
  return rows
}

/** Calls `fn` now; what it throws at once becomes a rejection. */
function runNow(fn: Job['fn'], view: TrackedView): Promise<unknown> {
  try {
    return fn(view)
  } catch (error) {
    return Promise.reject(error)
  }
}
