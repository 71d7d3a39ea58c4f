/** What the function passed to `read` or `transact` reads and writes through, for one run of it. */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange, OrderedStoreLimits, Row, Transaction } from '../ports.ts'
import { isLogKey, writeUint64 } from './change-log.ts'
import { addCounters, decodeCounters } from './counters.ts'
import { isKeyLogKey } from './key-log.ts'
import { RowLayer } from './row-layer.ts'
import { STATE_KEY } from './stage-state.ts'
import type { Scan } from './merged-scan.ts'
import type { PendingReader } from './visible-rows.ts'

const STAMP_BYTES = 8

const NO_KEYS: ReadonlySet<ByteString> = new Set()

/** What lies under a transaction's own writes. Tells the reader when what it finds is not settled yet. */
export interface RowsInSight {
  get(key: ByteString, reader: PendingReader): Uint8Array | undefined
  scan(scan: Scan, own: RowLayer | undefined, reader: PendingReader): Row[]
}

export class StageView implements Transaction {
  readonly revision: Revision
  provisional = false
  readonly #visible: RowsInSight
  readonly #limits: OrderedStoreLimits
  /** Undefined for a read. */
  readonly #written: RowLayer | undefined
  #rewrittenKeys: Set<ByteString> | undefined
  #untoldKeys: Set<ByteString> | undefined
  #refusal: TidegateError | undefined
  #live = true

  constructor(visible: RowsInSight, revision: Revision, options: { limits: OrderedStoreLimits; writable: boolean }) {
    this.revision = revision
    this.#visible = visible
    this.#limits = options.limits
    this.#written = options.writable ? new RowLayer() : undefined
  }

  /** What was written so far. */
  get written(): RowLayer | undefined {
    return this.#written
  }

  /** Keys written by `add` or `rewriteUntold` alone: no watcher is told of them. */
  get untoldKeys(): ReadonlySet<ByteString> {
    return this.#untoldKeys ?? NO_KEYS
  }

  /** Keys written by `rewrite` alone. */
  get rewrittenKeys(): ReadonlySet<ByteString> {
    return this.#rewrittenKeys ?? NO_KEYS
  }

  /** Set once a write was refused: then nothing may be committed, even if the function caught the error. */
  get refusal(): TidegateError | undefined {
    return this.#refusal
  }

  /** The function has settled, or was given up: every further call is a bug. */
  close(): void {
    this.#live = false
  }

  get(key: ByteString): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#get(key))
  }

  getMany(keys: readonly ByteString[]): Promise<(Uint8Array | undefined)[]> {
    return Promise.resolve(keys.map((key) => this.#get(key)))
  }

  scan(range: KeyRange, limit: number, reverse: boolean = false): Promise<Row[]> {
    this.checkLive()
    return Promise.resolve(this.#visible.scan({ range, limit, reverse }, this.#written, this))
  }

  scanMany(ranges: readonly KeyRange[], limitEach: number): Promise<Row[][]> {
    this.checkLive()
    const scanOne = (range: KeyRange): Row[] =>
      this.#visible.scan({ range, limit: limitEach, reverse: false }, this.#written, this)
    return Promise.resolve(ranges.map(scanOne))
  }

  counters(key: ByteString, width: number): Promise<number[]> {
    return Promise.resolve(decodeCounters(this.#get(key), width))
  }

  put(key: ByteString, value: Uint8Array, stampAt?: number): void {
    this.#untoldKeys?.delete(key)
    this.#rewrittenKeys?.delete(key)
    this.write(key, stampAt === undefined ? value : this.stamped(key, value, stampAt))
  }

  rewrite(key: ByteString, value: Uint8Array, stampAt?: number): void {
    this.#untoldKeys?.delete(key)
    if (this.#written?.get(key) === undefined) (this.#rewrittenKeys ??= new Set()).add(key)
    this.write(key, stampAt === undefined ? value : this.stamped(key, value, stampAt))
  }

  rewriteUntold(key: ByteString, value: Uint8Array): void {
    if (this.#written?.get(key) !== undefined) return this.rewrite(key, value)
    ;(this.#rewrittenKeys ??= new Set()).add(key)
    ;(this.#untoldKeys ??= new Set()).add(key)
    this.write(key, value)
  }

  delete(key: ByteString): void {
    this.#untoldKeys?.delete(key)
    this.#rewrittenKeys?.delete(key)
    this.write(key, null)
  }

  add(key: ByteString, deltas: readonly number[]): void {
    this.untold(key)
    this.write(key, addCounters(this.#get(key), deltas))
  }

  /** No watcher is told of it. */
  protected untold(key: ByteString): void {
    this.#untoldKeys ??= new Set()
    this.#untoldKeys.add(key)
  }

  before(key: ByteString): Promise<Uint8Array | undefined> {
    this.checkLive()
    return Promise.resolve(this.#visible.get(key, this))
  }

  writtenKeys(): Iterable<ByteString> {
    this.checkLive()
    return this.#written?.rows.keys() ?? []
  }

  #get(key: ByteString): Uint8Array | undefined {
    this.checkLive()
    const own = this.#written?.get(key)
    return own === undefined ? this.#visible.get(key, this) : (own ?? undefined)
  }

  protected write(key: ByteString, value: Uint8Array | null): void {
    this.checkLive()
    const written = this.#written
    assert(written !== undefined, 'a read writes nothing')
    assert(
      key.length > 0 && !isLogKey(key) && !isKeyLogKey(key) && key !== STATE_KEY,
      'a row that is not the store’s own',
    )
    const { keyBytesMax, operationsMax, bytesMax } = this.#limits
    if (key.length > keyBytesMax) {
      throw this.refuse(new TidegateError('KeyTooLong', `a row's key of ${key.length} bytes, over ${keyBytesMax}`))
    }
    written.set(key, value)
    if (written.size <= operationsMax && written.bytes <= bytesMax) return
    const size = `${written.size} operations, ${written.bytes} bytes`
    throw this.refuse(new TidegateError('TransactionTooLarge', `${size}, over ${operationsMax} or ${bytesMax}`))
  }

  /** The value with the revision of this commit in its place: that of the next one. */
  protected stamped(_key: ByteString, value: Uint8Array, stampAt: number): Uint8Array {
    assert(stampAt >= 0 && stampAt + STAMP_BYTES <= value.length, 'a stamp lies within its value')
    const bytes = Buffer.from(value)
    writeUint64(bytes, this.revision + 1, stampAt)
    return bytes
  }

  protected refuse(error: TidegateError): TidegateError {
    this.#refusal = error
    return error
  }

  protected checkLive(): void {
    assert(this.#live, 'a view is used only while its function runs')
  }
}
