/**
 * The seam between the serial stage (src/meta/serial-stage.ts) and the engine under it that keeps the rows: LMDB or
 * memory. The engine knows nothing of transactions: it answers reads of what is committed, and takes one batch at a time.
 */
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange, OrderedStore, Row } from '../ports.ts'

/** Rows to write; null deletes the row (which need not exist). */
export type RowChanges = ReadonlyMap<ByteString, Uint8Array | null>

/** What the stage reads of the committed rows. Synchronous: a read that needs the disk blocks. */
export interface RowReader {
  /** The value is the caller's to keep; nobody changes it. */
  get(key: ByteString): Uint8Array | undefined
  /** At most `limit` rows, ascending, or descending from the end when `reverse`. */
  scan(range: KeyRange, limit: number, reverse: boolean): Row[]
}

export interface Backend extends RowReader {
  readonly keyBytesMax: number
  open(): Promise<void>
  /** The first `limit` keys of the range, without touching their values. */
  keys(range: KeyRange, limit: number): ByteString[]
  /**
   * Writes all the changes or none; where two parts name a key the later one counts. The stage begins a commit only when
   * the one before has settled. When this resolves the batch survives power loss, and reads that start then see it (they
   * may see it earlier, but only whole). When it rejects no read sees any of it, now or after reopening, and the engine
   * goes on serving: a full disk is a `StorageFull`, anything else counts as `Unavailable`.
   */
  commit(parts: readonly RowChanges[]): Promise<void>
  close(): Promise<void>
}

/** What an engine in this process offers beyond the port, so that decoded caches above it can be kept in step. */
export interface EmbeddedStore extends OrderedStore {
  /**
   * Calls `listener` with the keys that a transaction wrote, and those among them that it only rewrote, at the moment it becomes
   * visible: before any later transaction or read runs. Returns what takes the listener away again.
   */
  onCommit(listener: CommitListener): () => void
  /** Calls `listener` when commits that were visible have been undone, before any later transaction or read runs. */
  onRollback(listener: () => void): () => void
  /**
   * Calls `listener` with each row of the prefix that somebody deletes, as it was, and the revision at which it went: at that moment, and before those of
   * `onCommit`. Only where others write as well: in a store of one process nothing goes that it has not deleted itself.
   */
  onGone?(prefix: ByteString, listener: GoneListener): () => void
  /** Reads, at once, what a crash now would leave; never what is only visible. */
  readDurable<T>(fn: (rows: DurableRows) => T): T
  /** What the key log says of changes up to this revision is not needed any more. */
  neededAfter(revision: Revision): void
}

/**
 * The durable rows at one revision. Valid only until the function it was passed to returns; all in one turn, so that nothing is committed
 * between two reads.
 */
export interface DurableRows {
  readonly revision: Revision
  get(key: ByteString): Uint8Array | undefined
  /** At most `limit` rows, ascending. */
  scan(range: KeyRange, limit: number): Row[]
  /**
   * Keys of rows that changed after a revision, some of them more than once, of at most so many groups of commits; `through` is the
   * `revision` when those were all. Undefined when the key log does not reach back so far (key-log.ts).
   */
  changedKeys(after: Revision, groups: number): { keys: readonly ByteString[]; through: Revision } | undefined
}

export type GoneListener = (key: ByteString, row: Uint8Array, revision: Revision) => void

export type CommitListener = (writtenKeys: readonly ByteString[], rewrittenKeys: ReadonlySet<ByteString>) => void
