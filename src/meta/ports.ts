/**
 * The seam between the metadata schema and the ordered store that keeps it (LMDB here; RocksDB and etcd later).
 *
 * An ordered store is a map from byte strings to byte strings with optimistic transactions. Keys are `ByteString`s (one
 * char a byte) in ascending byte order, at most `limits.keyBytesMax` bytes; values are `Uint8Array`s that nobody changes
 * after handing them over, in either direction.
 *
 * Consistency (C1): transactions and reads are strictly serializable, scans and absent keys included. A `read` sees one
 * revision throughout. Every implementation passes test/conformance/ordered-store.ts.
 */
import type { Lifecycle } from '../common/lifecycle.ts'
import type { ByteString, Revision } from '../common/ids.ts'

export interface KeyRange {
  /** Inclusive. */
  readonly start: ByteString
  /** Exclusive. */
  readonly end: ByteString
}

export interface Row {
  readonly key: ByteString
  readonly value: Uint8Array
}

/** Reads at one revision. Valid only until the function it was passed to settles. */
export interface ReadView {
  readonly revision: Revision
  /** Whether something read so far is visible and not durable yet (see `OrderedStore.read`). */
  readonly provisional: boolean
  get(key: ByteString): Promise<Uint8Array | undefined>
  /** Same order and length as `keys`. */
  getMany(keys: readonly ByteString[]): Promise<(Uint8Array | undefined)[]>
  /** At most `limit` rows, ascending, or descending from the end when `reverse`. */
  scan(range: KeyRange, limit: number, reverse?: boolean): Promise<Row[]>
  /** `scan` of each range, ascending; one call so that a remote engine needs one round trip. */
  scanMany(ranges: readonly KeyRange[], limitEach: number): Promise<Row[][]>
  /** The deltas added up so far (see `Transaction.add`); missing counters are 0. */
  counters(key: ByteString, width: number): Promise<number[]>
}

/** Reads see the transaction's own writes. */
export interface Transaction extends ReadView {
  /**
   * `stampAt` is where in the value 8 bytes lie that become the revision of this commit, big-endian (C3), whatever they hold before. Who reads
   * the row finds them filled, except the transaction itself: it finds either its own bytes or the revision.
   */
  put(key: ByteString, value: Uint8Array, stampAt?: number): void
  /** `put` of a row that goes on standing for the same thing, of which only details change: whoever knows it need not be told. */
  rewrite(key: ByteString, value: Uint8Array, stampAt?: number): void
  /** `rewrite` of which the watchers of the change log are not told either. */
  rewriteUntold(key: ByteString, value: Uint8Array): void
  delete(key: ByteString): void
  /**
   * Adds to a row of counters (safe integers, fixed width for a key) without reading it, so that two writers never
   * conflict over it (C8). Rows of counters are read with `counters` and removed with `delete`.
   */
  add(key: ByteString, deltas: readonly number[]): void
  /** What was committed as of this transaction's revision, without its own writes. */
  before(key: ByteString): Promise<Uint8Array | undefined>
  /** Keys that it has written so far, in no order. What is written while they are gone through may be among them or not. */
  writtenKeys(): Iterable<ByteString>
}

export interface Committed<T> {
  readonly value: T
  /** Greater than that of every commit acknowledged before this one began (C3). Unchanged if nothing was written. */
  readonly revision: Revision
  /**
   * Settles when the commit survives power loss. Rejects with `StorageFull` or `Unavailable` when it could not be made
   * durable: then it, and all that read it, is undone. Safe to ignore (never an unhandled rejection).
   */
  readonly durable: Promise<void>
}

export interface ChangedRow {
  readonly key: ByteString
  /** Undefined when deleted, and for values too large to be logged. */
  readonly value: Uint8Array | undefined
  readonly deleted: boolean
}

/** All that one revision changed under the watched prefix. Watch resumes at whole revisions only (C3). */
export interface Change {
  readonly revision: Revision
  readonly rows: readonly ChangedRow[]
}

export interface WatchOptions {
  /** Ends once every change up to and including this revision has been shown; it must be a durable one. */
  readonly through?: Revision | undefined
  /**
   * Shows also how far it has come: a `Change` without rows says that every change up to and including its revision has been
   * shown. One comes whenever there is nothing more to show at once.
   */
  readonly progress?: boolean | undefined
}

export interface ReadOptions {
  /**
   * `durable` (so unless said otherwise): no crash takes back what somebody has been told. `visible`: told at once, as a local file
   * system does; what rests on a commit that is undone later is then wrong (C20 says what a file system promises).
   */
  readonly tell?: 'durable' | 'visible' | undefined
}

export interface OrderedStoreLimits {
  /** Puts, deletes and adds of one transaction (C2). */
  readonly operationsMax: number
  /** Bytes of keys and values of one transaction. */
  readonly bytesMax: number
  readonly keyBytesMax: number
}

export interface OrderedStore extends Lifecycle {
  readonly limits: OrderedStoreLimits
  /**
   * Other processes write to it as well. Then what was learned from earlier reads may be old, and counts only within a `read` that has begun
   * since; and the revision of a commit is known only when it is told, so that rows which hold it must be stamped (`Transaction.put`).
   */
  readonly isShared?: boolean | undefined
  /**
   * Runs `fn` against one revision. `fn` awaits nothing but its own reads. What `fn` returns, or throws, is told once all that it
   * read is durable (unless `options.tell` says otherwise); if that is undone instead, `fn` runs again.
   */
  read<T>(fn: (view: ReadView) => Promise<T>, options?: ReadOptions): Promise<T>
  /**
   * Runs `fn` and commits what it wrote if nothing it read has changed, else runs it again. `fn` awaits nothing but its
   * own reads, has no side effects but its writes, and may run more than once (C1). What `fn` throws is thrown, and
   * told like a read's outcome, and nothing is written. Settles when the commit is visible; see `Committed.durable` for more.
   * @throws TransactionTooLarge before anything is written, when `limits` would be passed (C2).
   */
  transact<T>(fn: (tx: Transaction) => Promise<T>, options?: ReadOptions): Promise<Committed<T>>
  /** Last committed revision, visible to reads that start now. */
  revision(): Revision
  /** Last revision that survives power loss. */
  durableRevision(): Revision
  /** Resolves when everything visible now is durable. */
  flush(): Promise<void>
  /**
   * Every committed change of keys that start with `prefix`, in order, each revision once, from `fromRevision`
   * (inclusive) on, then live until the signal aborts. Counters are not watched.
   * @throws RevisionGone when changes after `fromRevision` are no longer kept (C7); `details.oldest` is the first that are.
   */
  watch(prefix: ByteString, fromRevision: Revision, signal: AbortSignal, options?: WatchOptions): AsyncIterable<Change>
}
