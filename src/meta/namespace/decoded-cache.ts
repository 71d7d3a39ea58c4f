/**
 * Decoded rows of buckets, entries, inodes and tokens, by their key, so that a look-up of a hot object touches neither the ordered
 * store nor a codec. Bounded by bytes, second-chance eviction. Absent rows are not remembered.
 *
 * It is only as good as its news: the store says which keys a transaction wrote at the moment that commit becomes visible,
 * and when commits were undone. A row is dropped when it is written, and everything is dropped on a rollback; a row that is
 * not durable yet is not taken in. So what is here is what a read that starts now would be told. A row that a read brings is kept only if nothing wrote it since that read began
 * (`beginFill`): the keys written lately are remembered with the number of the commit, and a fill from before that memory is refused.
 *
 * A way is where a key leads: the slots of its bucket, directories, entry and inode, under one short name, so that one look-up does for
 * all of them. It counts only while all of them are here, and goes with the last one, so it keeps nothing alive.
 *
 * Where other processes write as well, what is here is as old as the last change that has arrived. So it answers only within a read of the store, which has
 * waited for all that was committed before it began (C5); whoever looks without one asks `answersAtOnce` first.
 *
 * Without a store that tells its commits the cache stays empty. Transactions never look here: their reads must be seen by the store.
 */
import type { ByteString, Revision } from '../../common/ids.ts'
import type { BucketRecord } from '../../common/model.ts'
import type { OrderedStore, ReadView } from '../ports.ts'
import type { Content } from './records-contents.ts'
import type { Entry, Inode } from './records-objects.ts'
import type { StoredToken } from './records-tokens.ts'

export interface CommitEvents {
  onCommit(listener: (writtenKeys: readonly ByteString[], rewrittenKeys: ReadonlySet<ByteString>) => void): () => void
  onRollback(listener: () => void): () => void
}

/** Of a store that several nodes write to (EmbeddedStore). */
export interface GoneEvents {
  onGone(prefix: ByteString, listener: (key: ByteString, row: Uint8Array, revision: Revision) => void): () => void
}

export type CachedRecord = BucketRecord | Entry | Inode | Content | StoredToken

/** What a read saw: as many commits, and perhaps some that are not durable. */
export interface Fill {
  readonly commits: number
  readonly view: Pick<ReadView, 'provisional'>
}

interface Slot {
  readonly record: CachedRecord
  readonly bytes: number
  used: boolean
  /** False once it was dropped. */
  here: boolean
  /** Name of the way that ends here. */
  way: string | undefined
}

interface Way {
  readonly slots: readonly Slot[]
  readonly records: readonly CachedRecord[]
}

const SLOT_OVERHEAD_BYTES = 400
const WRITTEN_KEYS_MAX = 16_384

export class DecodedCache {
  readonly #slots = new Map<ByteString, Slot>()
  readonly #ways = new Map<string, Way>()
  readonly #bytesMax: number
  readonly #written = new Map<ByteString, number>()
  readonly #enabled: boolean
  /** Whether what is here may be told without a read of the store. */
  readonly answersAtOnce: boolean
  #bytes = 0
  #commits = 0
  /** Fills that began before this commit are refused: what was written by then is forgotten. */
  #oldestFill = 0

  constructor(store: OrderedStore & Partial<CommitEvents>, bytesMax: number) {
    this.#bytesMax = bytesMax
    this.answersAtOnce = store.isShared !== true
    this.#enabled = bytesMax > 0 && store.onCommit !== undefined && store.onRollback !== undefined
    if (!this.#enabled) return
    store.onCommit?.((keys) => this.#onCommit(keys))
    store.onRollback?.(() => this.#onRollback())
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: ByteString): CachedRecord | undefined {
    const slot = this.#slots.get(key)
    if (!slot) return undefined
    slot.used = true
    return slot.record
  }

  /** The records on a way, in order; undefined when it is not kept, or one of them was dropped since. */
  way(name: string): readonly CachedRecord[] | undefined {
    const way = this.#ways.get(name)
    if (way === undefined) return undefined
    for (const slot of way.slots) {
      if (!slot.here) {
        this.#ways.delete(name)
        return undefined
      }
      slot.used = true
    }
    return way.records
  }

  /** Keeps the way over these rows, if all of them are here. */
  keepWay(name: string, keys: readonly ByteString[]): void {
    const slots: Slot[] = []
    for (const key of keys) {
      const slot = this.#slots.get(key)
      if (slot === undefined) return
      slots.push(slot)
    }
    const last = slots.at(-1)
    if (last === undefined) return
    if (last.way !== undefined) this.#ways.delete(last.way)
    last.way = name
    this.#ways.set(name, { slots, records: slots.map((slot) => slot.record) })
  }

  /** To be called first thing in the function passed to `store.read`: stands for what that read sees. */
  beginFill(view: Pick<ReadView, 'provisional'>): Fill {
    return { commits: this.#commits, view }
  }

  put(key: ByteString, record: CachedRecord, options: { recordBytes: number; fill: Fill }): void {
    const { commits, view } = options.fill
    // What is here is told without a look at the store, so it must be durable.
    if (!this.#enabled || commits < this.#oldestFill || view.provisional) return
    const written = this.#written.get(key)
    if (written !== undefined && written > commits) return
    this.#drop(key)
    const bytes = SLOT_OVERHEAD_BYTES + key.length + options.recordBytes * 2
    if (bytes > this.#bytesMax / 8) return
    this.#slots.set(key, { record, bytes, used: false, here: true, way: undefined })
    this.#bytes += bytes
    this.#evict()
  }

  #onCommit(keys: readonly ByteString[]): void {
    this.#commits++
    if (this.#written.size + keys.length > WRITTEN_KEYS_MAX) {
      this.#written.clear()
      this.#oldestFill = this.#commits
    }
    for (const key of keys) {
      this.#written.set(key, this.#commits)
      this.#drop(key)
    }
  }

  #onRollback(): void {
    this.#slots.clear()
    this.#ways.clear()
    this.#bytes = 0
    this.#written.clear()
    this.#oldestFill = ++this.#commits
  }

  #drop(key: ByteString): void {
    const slot = this.#slots.get(key)
    if (slot) this.#remove(key, slot)
  }

  #remove(key: ByteString, slot: Slot): void {
    this.#slots.delete(key)
    this.#bytes -= slot.bytes
    slot.here = false
    if (slot.way !== undefined) this.#ways.delete(slot.way)
  }

  #evict(): void {
    for (const [key, slot] of this.#slots) {
      if (this.#bytes <= this.#bytesMax) return
      if (!slot.used) {
        this.#remove(key, slot)
        continue
      }
      slot.used = false
      this.#slots.delete(key)
      this.#slots.set(key, slot)
    }
  }
}
