/**
 * The store that a namespace runs over where several nodes share it: rows of objects that were made without their revision, which nobody knows before the
 * commit, are put so that the store fills it in (records-objects.ts, stamp). Here, and not where they are put, so that no operation can forget it: one that
 * moves what it has just made, or changes it again, puts it unstamped once more.
 */
import { assert } from '../../common/assert.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Committed, KeyRange, OrderedStore, ReadOptions, Row, Transaction } from '../ports.ts'
import type { CommitEvents } from './decoded-cache.ts'
import { ENTRIES, INODES, VERSIONS } from './keys.ts'
import { openStampAt } from './records-objects.ts'

type Store = OrderedStore & Partial<CommitEvents>

/** The store itself where revisions are known. */
export function stampedStore(store: Store): Store {
  if (store.isShared !== true) return store
  return {
    // Known once it has started.
    get limits() {
      return store.limits
    },
    isShared: true,
    start: () => store.start(),
    drain: () => store.drain(),
    stop: () => store.stop(),
    read: (fn, options) => store.read(fn, options),
    transact: <T>(fn: (tx: Transaction) => Promise<T>, options?: ReadOptions): Promise<Committed<T>> =>
      store.transact((tx) => fn(new StampedTransaction(tx)), options),
    revision: () => store.revision(),
    durableRevision: () => store.durableRevision(),
    flush: () => store.flush(),
    watch: (prefix, fromRevision, signal, options) => store.watch(prefix, fromRevision, signal, options),
    ...(store.onCommit && { onCommit: store.onCommit.bind(store) }),
    ...(store.onRollback && { onRollback: store.onRollback.bind(store) }),
  }
}

class StampedTransaction implements Transaction {
  readonly #tx: Transaction

  constructor(tx: Transaction) {
    this.#tx = tx
  }

  get revision(): Revision {
    return this.#tx.revision
  }

  get provisional(): boolean {
    return this.#tx.provisional
  }

  get(key: ByteString): Promise<Uint8Array | undefined> {
    return this.#tx.get(key)
  }

  getMany(keys: readonly ByteString[]): Promise<(Uint8Array | undefined)[]> {
    return this.#tx.getMany(keys)
  }

  scan(range: KeyRange, limit: number, reverse?: boolean): Promise<Row[]> {
    return this.#tx.scan(range, limit, reverse)
  }

  scanMany(ranges: readonly KeyRange[], limitEach: number): Promise<Row[][]> {
    return this.#tx.scanMany(ranges, limitEach)
  }

  counters(key: ByteString, width: number): Promise<number[]> {
    return this.#tx.counters(key, width)
  }

  put(key: ByteString, value: Uint8Array): void {
    this.#tx.put(key, value, stampOf(key, value))
  }

  rewrite(key: ByteString, value: Uint8Array): void {
    this.#tx.rewrite(key, value, stampOf(key, value))
  }

  rewriteUntold(key: ByteString, value: Uint8Array): void {
    assert(stampOf(key, value) === undefined, 'what is not told was there before')
    this.#tx.rewriteUntold(key, value)
  }

  delete(key: ByteString): void {
    this.#tx.delete(key)
  }

  add(key: ByteString, deltas: readonly number[]): void {
    this.#tx.add(key, deltas)
  }

  before(key: ByteString): Promise<Uint8Array | undefined> {
    return this.#tx.before(key)
  }

  writtenKeys(): Iterable<ByteString> {
    return this.#tx.writtenKeys()
  }
}

function stampOf(key: ByteString, value: Uint8Array): number | undefined {
  if (key.startsWith(ENTRIES) || key.startsWith(VERSIONS)) return openStampAt('entry', value)
  return key.startsWith(INODES) ? openStampAt('inode', value) : undefined
}
