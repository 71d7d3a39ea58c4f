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
import type { CommitListener, DurableRows, EmbeddedStore } from '../stage/ports.ts'
import { Follower } from './follower.ts'
import type { Job } from './jobs.ts'
import { Listeners } from './listeners.ts'
import { Runner, type RunnerParts } from './runner.ts'
import { fencedError, unavailable } from './words.ts'

export interface EtcdStageParts extends Omit<RunnerParts, 'listeners' | 'signal' | 'isOver' | 'fenced' | 'trouble'> {
  readonly log: LogKeeper
  readonly keyBytesMax: number
}

export class EtcdStage implements EmbeddedStore {
  readonly isShared = true
  readonly #parts: EtcdStageParts
  readonly #listeners = new Listeners()
  readonly #runner: Runner
  readonly #follower: Follower
  readonly #stopping = new AbortController()
  #state: 'new' | 'serving' | 'draining' | 'fenced' | 'stopped' = 'new'

  constructor(parts: EtcdStageParts) {
    this.#parts = parts
    const { operationsMax, bytesMax } = parts.settings
    const of = {
      ...parts,
      listeners: this.#listeners,
      signal: this.#stopping.signal,
      isOver: () => this.#state === 'fenced' || this.#state === 'stopped',
      fenced: () => this.#fence(),
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

  /** Never because a commit was undone, which nobody is told of before; only when the replica is loaded anew. */
  onRollback(listener: () => void): () => void {
    return this.#listeners.onRollback(listener)
  }

  #submit(fn: Job['fn'], writable: boolean): Promise<unknown> {
    if (this.#state === 'serving') return this.#runner.submit(fn, writable)
    if (this.#state === 'fenced') return Promise.reject(fencedError(this.#parts.settings.node))
    return Promise.reject(new TidegateError('Unavailable', `the metadata store is ${this.#state}`))
  }

  #fence(): void {
    if (this.#state === 'fenced' || this.#state === 'stopped') return
    this.#state = 'fenced'
    this.#runner.failAll(fencedError(this.#parts.settings.node))
    this.#parts.settings.onFenced()
  }
}
