/**
 * How transactions run over rows that several nodes write (docs/decisions/0016).
 *
 *     queued -> running -> guessed -> sent -> decided -> told
 *                  ^           \        \         |
 *                  +------------+--------+--------+   what was read changed, or a compare failed: run again
 *
 * - **Running**: one after another, in this process, each over the replica (replica.ts) with the guesses of those before it laid over (guesses.ts). Its view
 *   notes what it reads.
 * - **Guessed**: its writes are in sight of those that run after it. Nobody is told. A change of what it read, by another node, takes it back, and with it those that read what it wrote.
 * - **Sent**: one group at a time is on its way (group-sender.ts), cut into components (components.ts) of which etcd applies those whose compares hold.
 * - **Decided**: by the watch alone. Every group writes the clock with its name, and each of its components that takes effect a mark, so when the revision of the group is applied here
 *   it is known what became of it, whether the call was answered or not; and since all that came before has been applied too, what runs again starts from what is true.
 * - **Told**: then, so whoever was told finds it here, and it is durable.
 *
 * No function ever runs over a state that never was: while something that is on its way is known to fail, no transaction is started. Revisions are applied between runs, never during one.
 *
 * **Reads** run over the replica without guesses, once it has reached a barrier that was called after they came (C5). **A transaction that wrote nothing**, or threw, is held until the same, and
 * until the guesses that it read are decided; if by then what it read has changed it runs again.
 *
 * A row that is stamped with its revision is not known before it is decided; a transaction that asks for it is *parked* until then.
 *
 * Everything ends: reads and transactions have deadlines. A transaction whose time is up while it is on its way is refused with `Unavailable`, and whether it took effect is not known
 * (`details.outcome`: `unknown`); here it will be seen if it did.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type {
  Change,
  Committed,
  OrderedStoreLimits,
  ReadOptions,
  ReadView,
  Transaction,
  WatchOptions,
} from '../ports.ts'
import type { LogKeeper } from '../stage/log-keeper.ts'
import type { CommitListener, DurableRows, GoneListener } from '../stage/ports.ts'
import { Barrier } from './barrier.ts'
import type { EtcdFigures, SharedStore } from './figures.ts'
import { Follower } from './follower.ts'
import type { Job } from './jobs.ts'
import { Listeners } from './listeners.ts'
import { Runner, type RunnerParts } from './runner.ts'
import { fencedError, unavailable } from './words.ts'

export interface EtcdStageParts extends Omit<
  RunnerParts,
  'listeners' | 'barrier' | 'signal' | 'isOver' | 'fenced' | 'wentBack' | 'trouble'
> {
  readonly log: LogKeeper
  readonly keyBytesMax: number
}

export class EtcdStage implements SharedStore {
  readonly isShared = true
  readonly #parts: EtcdStageParts
  readonly #listeners = new Listeners()
  readonly #barrier: Barrier
  readonly #runner: Runner
  readonly #follower: Follower
  readonly #stopping = new AbortController()
  #watching: Promise<void> = Promise.resolve()
  /** Submitted while etcd is away. */
  #waiting = 0
  #state: 'new' | 'serving' | 'draining' | 'fenced' | 'stopped' = 'new'

  constructor(parts: EtcdStageParts) {
    this.#parts = parts
    const { etcd, layout, settings } = parts
    const { operationsMax, bytesMax, clock, awayAfterMs, waitAwayMsMax, onAway } = settings
    this.#barrier = new Barrier({
      etcd,
      layout,
      clock,
      awayAfterMs,
      waitAwayMsMax,
      seen: () => parts.replica.through,
      onAway: (failure) => {
        onAway(unavailable(failure).message)
        this.#runner.etcdWent(failure)
      },
      onBack: () => onAway(undefined),
    })
    const of = {
      ...parts,
      barrier: this.#barrier,
      listeners: this.#listeners,
      signal: this.#stopping.signal,
      isOver: () => this.#state === 'fenced' || this.#state === 'stopped',
      fenced: () => this.#fence(),
      wentBack: () => this.#follower.loadAnew(),
      trouble: () => this.#follower.trouble,
    }
    this.#runner = new Runner(of, { operationsMax, bytesMax, keyBytesMax: parts.keyBytesMax })
    this.#follower = new Follower({ ...of, runner: this.#runner })
  }

  /** Of etcd too, once it has started. */
  get limits(): OrderedStoreLimits {
    return this.#runner.limits
  }

  async start(): Promise<void> {
    assert(this.#state === 'new', 'a store is started once')
    const { replica } = this.#parts
    await replica.open()
    try {
      const { operationsMax } = await this.#follower.start()
      const { limits } = this.#runner
      this.#runner.limits = { ...limits, operationsMax: Math.min(limits.operationsMax, operationsMax.ofOne) }
      this.#runner.operationsMax = operationsMax.ofEtcd
    } catch (error) {
      await this.#follower.stop()
      await replica.stop()
      throw unavailable(error)
    }
    this.#state = 'serving'
    this.#watching = this.#barrier.watch(this.#stopping.signal)
  }

  async drain(): Promise<void> {
    if (this.#state === 'serving') this.#state = 'draining'
    await this.#runner.idle()
    await this.#parts.replica.written()
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return
    const opened = this.#state !== 'new'
    this.#state = 'stopped'
    const stopped = new TidegateError('Unavailable', 'the metadata store has stopped')
    this.#stopping.abort(stopped)
    this.#runner.failAll(stopped)
    if (!opened) return
    await this.#watching
    await this.#follower.stop()
    await this.#parts.replica.stop()
  }

  read<T>(fn: (view: ReadView) => Promise<T>, _options?: ReadOptions): Promise<T> {
    return this.#submit(fn, false) as Promise<T>
  }

  transact<T>(fn: (tx: Transaction) => Promise<T>, _options?: ReadOptions): Promise<Committed<T>> {
    return this.#submit(fn, true) as Promise<Committed<T>>
  }

  revision(): Revision {
    return this.#parts.replica.revision
  }

  get away(): string | undefined {
    const { away } = this.#barrier
    return away && unavailable(away).message
  }

  get figures(): EtcdFigures {
    const { answers: barriers, answersMs: barriersMs, outages } = this.#barrier.figures
    return { ...this.#runner.figures, barriers, barriersMs, outages }
  }

  durableRevision(): Revision {
    return this.#parts.replica.revision
  }

  /** What is visible is durable; it waits until watchers and `readDurable` can be told of it as well. */
  flush(): Promise<void> {
    return this.#parts.replica.written()
  }

  watch(
    prefix: ByteString,
    fromRevision: Revision,
    signal: AbortSignal,
    options?: WatchOptions,
  ): AsyncIterable<Change> {
    return this.#parts.log.watch(prefix, fromRevision, signal, options)
  }

  readDurable<T>(fn: (rows: DurableRows) => T): T {
    if (this.#state === 'new' || this.#state === 'stopped')
      throw new TidegateError('Unavailable', `the metadata store is ${this.#state}`)
    return this.#parts.replica.readDurable(fn)
  }

  neededAfter(revision: Revision): void {
    this.#parts.log.keys.neededAfter(revision)
  }

  onCommit(listener: CommitListener): () => void {
    return this.#listeners.onCommit(listener)
  }

  onGone(prefix: ByteString, listener: GoneListener): () => void {
    return this.#listeners.onGone(prefix, listener)
  }

  /** Never because a commit was undone, which nobody is told of before; only when the replica is loaded anew. */
  onRollback(listener: () => void): () => void {
    return this.#listeners.onRollback(listener)
  }

  #submit(fn: Job['fn'], writable: boolean): Promise<unknown> {
    if (this.#state === 'serving') {
      const isAway = this.#barrier.away !== undefined
      const isStale = !writable && this.#parts.settings.staleReads
      return isAway && !isStale ? this.#submitWhenBack(fn, writable) : this.#runner.submit(fn, writable)
    }
    if (this.#state === 'fenced') return Promise.reject(fencedError(this.#parts.settings.node))
    return Promise.reject(new TidegateError('Unavailable', `the metadata store is ${this.#state}`))
  }

  /** @throws Unavailable when etcd does not come back in time, or before it was sure that this began */
  async #submitWhenBack(fn: Job['fn'], writable: boolean): Promise<unknown> {
    if (this.#waiting >= this.#parts.settings.queueLengthMax)
      throw new TidegateError('SlowDown', `${this.#waiting} metadata transactions wait for etcd already`)
    this.#waiting++
    try {
      await this.#barrier.back()
    } catch (error) {
      throw unavailable(error)
    } finally {
      this.#waiting--
    }
    return await this.#submit(fn, writable)
  }

  #fence(): void {
    if (this.#state === 'fenced' || this.#state === 'stopped') return
    this.#state = 'fenced'
    this.#runner.failAll(fencedError(this.#parts.settings.node))
    this.#parts.settings.onFenced()
  }
}
