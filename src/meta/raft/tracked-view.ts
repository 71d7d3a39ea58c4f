/**
 * One run of a function over what is visible here, and what it read: that is what the commit is held against.
 *
 * A row that was only guessed and waits for its stamp cannot be read yet. Whoever asks for it is given a promise that never settles, and the run is thrown away
 * (`onPark`): a function has no effects but its writes, so nobody misses it, and it runs again when the stamp is known.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange, OrderedStoreLimits, Row } from '../ports.ts'
import { decodeCounters } from '../stage/counters.ts'
import { mergedScan, type Scan } from '../stage/merged-scan.ts'
import type { RowReader } from '../stage/ports.ts'
import type { RowLayer } from '../stage/row-layer.ts'
import { StageView, type RowsInSight } from '../stage/stage-view.ts'
import type { PendingReader } from '../stage/visible-rows.ts'
import {
  PART_KEY_BYTES,
  addDelta,
  counterOf,
  decodeDelta,
  deltaKey,
  encodeDelta,
  isCounterKey,
  partsRange,
  sumOf,
} from './counter-parts.ts'

export interface ScanRead {
  /** As far as the result depends on it: up to and including the last row if the limit cut it. */
  readonly range: KeyRange
  /** Rows found that were not the transaction's own. */
  readonly keys: readonly ByteString[]
}

/** What one run read of what others have written. */
export class RunRecord {
  readonly keys = new Set<ByteString>()
  /** Delta keys of counters. */
  readonly counters = new Set<ByteString>()
  readonly scans: ScanRead[] = []
  /** It read what is guessed. */
  guessed = false

  /** Whether a change of these rows may change what it read. */
  isTouchedBy(changed: RowLayer): boolean {
    for (const key of changed.rows.keys()) if (this.keys.has(key) || this.counters.has(key)) return true
    return this.scans.some((scan) => changed.holdsAnyOf(scan.range))
  }
}

/** Layers of guesses, newest first, and which of their rows wait for a stamp. */
export interface GuessedRows {
  readonly layers: readonly RowLayer[]
  isUnstamped(key: ByteString): boolean
  holdsUnstamped(range: KeyRange): boolean
}

const NO_GUESSES: GuessedRows = { layers: [], isUnstamped: () => false, holdsUnstamped: () => false }

class TrackedRows implements RowsInSight {
  readonly record: RunRecord
  readonly #rows: RowReader
  readonly #guesses: GuessedRows
  mustPark = false

  constructor(rows: RowReader, guesses: GuessedRows) {
    this.record = new RunRecord()
    this.#rows = rows
    this.#guesses = guesses
  }

  get(key: ByteString): Uint8Array | undefined {
    this.record.keys.add(key)
    const guess = this.guess(key)
    if (guess === undefined) return this.#rows.get(key)
    this.record.guessed = true
    if (this.#guesses.isUnstamped(key)) this.mustPark = true
    return guess ?? undefined
  }

  scan(scan: Scan, own: RowLayer | undefined, _reader: PendingReader): Row[] {
    const { layers } = this.#guesses
    const rows = mergedScan(own === undefined ? layers : [own, ...layers], this.#rows, scan)
    if (scan.limit <= 0 || scan.range.start >= scan.range.end) return rows
    const range = rangeRead(scan, rows)
    if (layers.some((layer) => layer.holdsAnyOf(range))) {
      this.record.guessed = true
      if (this.#guesses.holdsUnstamped(range)) this.mustPark = true
    }
    const keys: ByteString[] = []
    for (const { key } of rows) if (own?.get(key) === undefined) keys.push(key)
    this.record.scans.push({ range, keys })
    return rows
  }

  /** The sum of a counter, `own` being what the transaction itself added. */
  counters(delta: ByteString, width: number, own: Uint8Array | null | undefined): number[] {
    const none: number[] = Array.from<number>({ length: width }).fill(0)
    const added = own ? decodeDelta(own) : { removed: false, deltas: [] }
    let sum = sumOf(none, added.deltas)
    if (added.removed) return sum
    const range = partsRange(delta)
    const parts = this.#rows.scan(range, Infinity, false)
    this.record.counters.add(delta)
    // Which parts there are is seen when it is sent: those that are still guessed have no keys yet.
    this.record.scans.push({ range, keys: [] })
    for (const layer of this.#guesses.layers) {
      const guess = layer.get(delta)
      if (guess === undefined || guess === null) continue
      this.record.guessed = true
      const { removed, deltas } = decodeDelta(guess)
      sum = sumOf(sum, deltas)
      if (removed) return sum
    }
    return parts.reduce((total, part) => sumOf(total, decodeCounters(part.value, width)), sum)
  }

  /** Unnoticed by the record. */
  hasRow(key: ByteString): boolean {
    const guess = this.guess(key)
    return guess === undefined ? this.#rows.get(key) !== undefined : guess !== null
  }

  guess(key: ByteString): Uint8Array | null | undefined {
    for (const layer of this.#guesses.layers) {
      const guess = layer.get(key)
      if (guess !== undefined) return guess
    }
    return undefined
  }
}

function rangeRead({ range, limit, reverse }: Scan, rows: readonly Row[]): KeyRange {
  const last = rows.at(-1)
  if (last === undefined || rows.length < limit) return range
  return reverse ? { start: last.key, end: range.end } : { start: range.start, end: `${last.key}\0` as ByteString }
}

export interface TrackedViewOptions {
  readonly limits: OrderedStoreLimits
  readonly revision: Revision
  /** Default: none, as for a read. */
  readonly guesses?: GuessedRows | undefined
  readonly writable: boolean
  readonly onPark: () => void
}

export class TrackedView extends StageView {
  readonly #rows: TrackedRows
  readonly #onPark: () => void
  readonly #keyBytesMax: number
  readonly #stamps = new Map<ByteString, number>()
  /** Of the row that is just being written. */
  #stampAt: number | undefined

  constructor(rows: RowReader, { limits, revision, guesses = NO_GUESSES, writable, onPark }: TrackedViewOptions) {
    const tracked = new TrackedRows(rows, guesses)
    super(tracked, revision, { limits, writable })
    this.#rows = tracked
    this.#onPark = onPark
    this.#keyBytesMax = limits.keyBytesMax
  }

  get record(): RunRecord {
    return this.#rows.record
  }

  /** Rows among the written ones that are to be stamped, and where. */
  get stamps(): ReadonlyMap<ByteString, number> {
    return this.#stamps
  }

  override get(key: ByteString): Promise<Uint8Array | undefined> {
    return this.#unlessParked(super.get(key))
  }

  override getMany(keys: readonly ByteString[]): Promise<(Uint8Array | undefined)[]> {
    return this.#unlessParked(super.getMany(keys))
  }

  override scan(range: KeyRange, limit: number, reverse: boolean = false): Promise<Row[]> {
    return this.#unlessParked(super.scan(range, limit, reverse))
  }

  override scanMany(ranges: readonly KeyRange[], limitEach: number): Promise<Row[][]> {
    return this.#unlessParked(super.scanMany(ranges, limitEach))
  }

  override before(key: ByteString): Promise<Uint8Array | undefined> {
    return this.#unlessParked(super.before(key))
  }

  override counters(key: ByteString, width: number): Promise<number[]> {
    this.checkLive()
    const delta = deltaKey(key)
    return Promise.resolve(this.#rows.counters(delta, width, this.written?.get(delta)))
  }

  override add(key: ByteString, deltas: readonly number[]): void {
    if (key.length + PART_KEY_BYTES > this.#keyBytesMax)
      throw this.refuse(new TidegateError('KeyTooLong', `a counter's key of ${key.length} bytes`))
    const delta = deltaKey(key)
    this.untold(key)
    const added = encodeDelta({ removed: false, deltas })
    super.write(delta, addDelta(this.written?.get(delta), added))
  }

  /** A key is one of a row or one of a counter. Where there is no row it may be either, of which another node may know more: both are deleted. */
  override delete(key: ByteString): void {
    const own = this.written?.get(key)
    const isRow = own === undefined ? this.#rows.hasRow(key) : own !== null
    super.delete(key)
    if (isRow || key.length + PART_KEY_BYTES > this.#keyBytesMax) return
    super.write(deltaKey(key), encodeDelta({ removed: true, deltas: [] }))
  }

  override writtenKeys(): Iterable<ByteString> {
    const keys = new Set<ByteString>()
    for (const key of super.writtenKeys()) keys.add(isCounterKey(key) ? counterOf(key) : key)
    return keys
  }

  protected override write(key: ByteString, value: Uint8Array | null): void {
    assert(key.charCodeAt(0) > 1, 'a row that is not the store’s own')
    if (this.#stampAt !== undefined) this.#stamps.set(key, this.#stampAt)
    else if (this.#stamps.size > 0) this.#stamps.delete(key)
    this.#stampAt = undefined
    super.write(key, value)
  }

  /** Called right before the row is written. Fills in a guess, which nobody but this run sees. */
  protected override stamped(key: ByteString, value: Uint8Array, stampAt: number): Uint8Array {
    this.#stampAt = stampAt
    return super.stamped(key, value, stampAt)
  }

  #unlessParked<T>(found: Promise<T>): Promise<T> {
    if (!this.#rows.mustPark) return found
    this.#onPark()
    return new Promise(() => {})
  }
}
