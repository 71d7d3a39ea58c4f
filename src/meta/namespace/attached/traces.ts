/**
 * Every change of an attached bucket leaves its trace in its own transaction (docs/decisions/0015): this is the store that the namespace runs over.
 * After each transaction's function it looks at what that has written, whichever operation it was, and writes beside it
 *
 *   Z d   for each key that names another object than before, or an object with other bytes or attributes (tracing.ts)
 *   Z m   for each directory that is somewhere else now
 *
 * The mirror's own transactions (merging, settling, stepping through a rename) go past it, to the store itself.
 *
 * Which buckets are attached is kept in memory: read in the first transaction, changed by who attaches and detaches, and read again after something
 * was undone. While there are none, a transaction costs no more than one look at that.
 */
import type { Clock } from '../../../common/clock.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { Limits } from '../../../common/limits.ts'
import type { Committed, OrderedStore, ReadOptions, ReadView, Transaction } from '../../ports.ts'
import type { CommitEvents } from '../decoded-cache.ts'
import { attachedBucket } from '../buckets.ts'
import { prefixRange } from '../keys.ts'
import type { TrackedBuckets } from './mirror-context.ts'
import { ATTACHMENTS, attachmentKey, decodeAttachment } from './rows.ts'
import { Tracing } from './tracing.ts'
import type { DirtyChange } from './types.ts'

export type DirtyListener = (changes: readonly DirtyChange[]) => void

const ATTACHMENTS_PER_SCAN = 1000
const NOTHING: readonly DirtyChange[] = []

export class Traces implements TrackedBuckets {
  readonly #store: OrderedStore
  readonly #clock: Clock
  readonly #limits: Limits
  readonly #roots = new Set<InodeId>()
  readonly #listeners = new Set<DirtyListener>()
  /** All roots are known. */
  #isLoaded = false

  constructor(store: OrderedStore & Partial<CommitEvents>, { clock, limits }: { clock: Clock; limits: Limits }) {
    this.#store = store
    this.#clock = clock
    this.#limits = limits
    // What was attached may not be any more, and the other way round.
    store.onRollback?.(() => (this.#isLoaded = false))
  }

  /**
   * The store, with the traces. `asked`: changes are somebody's, who is refused in a bucket that is being detached. Those that nobody asked for, and nobody is told of
   * (what has expired goes), are made there too: they leave their traces, and are carried out if there is time for it.
   */
  tracked({ asked }: { readonly asked: boolean }): OrderedStore {
    const store = this.#store
    return {
      // Known once it has started.
      get limits() {
        return store.limits
      },
      isShared: store.isShared,
      start: () => store.start(),
      drain: () => store.drain(),
      stop: () => store.stop(),
      read: (fn, options) => store.read(fn, options),
      transact: (fn, options) => this.#transact(fn, { options, asked }),
      revision: () => store.revision(),
      durableRevision: () => store.durableRevision(),
      flush: () => store.flush(),
      watch: (prefix, fromRevision, signal, options) => store.watch(prefix, fromRevision, signal, options),
    }
  }

  /** To be called in the transaction that attaches. A bucket's id is its root. */
  add(bucketId: number): void {
    this.#roots.add(bucketId)
  }

  remove(bucketId: number): void {
    this.#roots.delete(bucketId)
  }

  listen(listener: DirtyListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  tell(changes: readonly DirtyChange[]): void {
    if (changes.length === 0) return
    for (const listener of this.#listeners) listener(changes)
  }

  #transact<T>(
    fn: (tx: Transaction) => Promise<T>,
    { options, asked }: { readonly options: ReadOptions | undefined; readonly asked: boolean },
  ): Promise<Committed<T>> {
    let changes = NOTHING
    const committed = this.#store.transact(async (tx) => {
      const value = await fn(tx)
      // Of this run alone: one that was run before has come to nothing.
      changes = this.#isLoaded && this.#roots.size === 0 ? NOTHING : await this.#trace(tx, asked)
      return value
    }, options)
    return this.#listeners.size === 0 ? committed : this.#telling(committed, () => changes)
  }

  async #telling<T>(committed: Promise<Committed<T>>, changes: () => readonly DirtyChange[]): Promise<Committed<T>> {
    const commit = await committed
    this.tell(changes())
    return commit
  }

  async #trace(tx: Transaction, asked: boolean): Promise<readonly DirtyChange[]> {
    if (!this.#isLoaded) await this.#load(tx)
    if (this.#roots.size === 0) return NOTHING
    const tracing = new Tracing(tx, {
      roots: this.#roots,
      nowMs: Math.floor(this.#clock.nowMs()),
      limits: this.#limits,
    })
    const changes = await tracing.run()
    if (asked) await refuseDetached(tx, changes)
    return changes
  }

  async #load(view: ReadView): Promise<void> {
    let { start, end } = prefixRange(ATTACHMENTS)
    this.#roots.clear()
    for (;;) {
      const rows = await view.scan({ start, end }, ATTACHMENTS_PER_SCAN)
      for (const { key, value } of rows) this.#roots.add(decodeAttachment(key, value).bucketId)
      const last = rows.at(-1)
      if (!last || rows.length < ATTACHMENTS_PER_SCAN) break
      start = `${last.key}\0` as typeof start
    }
    this.#isLoaded = true
  }
}

/**
 * Here, in the transaction itself, so that no write is acknowledged and then forgotten with the bucket.
 * @throws InvalidBucketState of a bucket that is being detached
 */
async function refuseDetached(view: ReadView, changes: readonly DirtyChange[]): Promise<void> {
  for (const bucketId of new Set(changes.map((change) => change.bucketId))) {
    const key = attachmentKey(bucketId)
    const row = await view.get(key)
    const attachment = row && decodeAttachment(key, row)
    if (attachment?.phase !== undefined) {
      throw attachedBucket(attachment.bucket, 'is being detached, and takes no writes')
    }
  }
}
