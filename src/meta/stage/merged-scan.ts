/**
 * A scan through layers of rows that are not durable yet, down to the committed rows. A key in a newer layer hides the
 * same key below it, and a deleted row hides it without showing anything itself.
 */
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange, Row } from '../ports.ts'
import type { RowReader } from './ports.ts'
import { lowerBound, type RowLayer } from './row-layer.ts'

/** When hidden rows use up what was read of the committed ones, the next read is twice as long, up to this. */
const COMMITTED_ROWS_READ_MAX = 1024

export interface Scan {
  readonly range: KeyRange
  readonly limit: number
  readonly reverse: boolean
}

/** `layers` come newest first. */
export function mergedScan(layers: readonly RowLayer[], committed: RowReader, scan: Scan): Row[] {
  const { range, limit, reverse } = scan
  if (limit <= 0 || range.start >= range.end) return []
  const cursors: Cursor[] = []
  for (const layer of layers) {
    const cursor = layerCursor(layer, scan)
    if (cursor !== undefined) cursors.push(cursor)
  }
  if (cursors.length === 0) return committed.scan(range, limit, reverse)
  cursors.push(new CommittedCursor(committed, scan))
  const rows: Row[] = []
  while (rows.length < limit) {
    const key = nextKey(cursors, reverse)
    if (key === undefined) break
    const value = takeNewest(cursors, key)
    if (value !== null) rows.push({ key, value })
  }
  return rows
}

function nextKey(cursors: readonly Cursor[], reverse: boolean): ByteString | undefined {
  let next: ByteString | undefined
  for (const { key } of cursors) {
    if (key === undefined) continue
    if (next === undefined || (reverse ? key > next : key < next)) next = key
  }
  return next
}

function takeNewest(cursors: readonly Cursor[], key: ByteString): Uint8Array | null {
  let newest: Uint8Array | null | undefined
  for (const cursor of cursors) {
    if (cursor.key !== key) continue
    if (newest === undefined) newest = cursor.value()
    cursor.advance()
  }
  return newest ?? null
}

interface Cursor {
  /** Undefined at the end. */
  readonly key: ByteString | undefined
  value(): Uint8Array | null
  advance(): void
}

/** Undefined when the layer has nothing in the range. */
function layerCursor(layer: RowLayer, { range, reverse }: Scan): Cursor | undefined {
  if (layer.size === 0) return undefined
  const keys = layer.sortedKeys()
  const first = lowerBound(keys, range.start)
  const end = lowerBound(keys, range.end)
  if (first >= end) return undefined
  return reverse ? new LayerCursor(layer, keys, end - 1, first - 1) : new LayerCursor(layer, keys, first, end)
}

class LayerCursor implements Cursor {
  readonly #layer: RowLayer
  readonly #keys: readonly ByteString[]
  readonly #end: number
  readonly #step: number
  #next: number
  key: ByteString | undefined

  constructor(layer: RowLayer, keys: readonly ByteString[], first: number, end: number) {
    this.#layer = layer
    this.#keys = keys
    this.#next = first
    this.#end = end
    this.#step = first < end ? 1 : -1
    this.key = keys[first]
  }

  value(): Uint8Array | null {
    return this.#layer.get(this.key!) ?? null
  }

  advance(): void {
    this.#next += this.#step
    this.key = this.#next === this.#end ? undefined : this.#keys[this.#next]
  }
}

class CommittedCursor implements Cursor {
  readonly #committed: RowReader
  readonly #reverse: boolean
  #range: KeyRange
  #rows: Row[] = []
  #rowsAsked: number
  #next = 0
  key: ByteString | undefined

  constructor(committed: RowReader, { range, limit, reverse }: Scan) {
    this.#committed = committed
    this.#reverse = reverse
    this.#range = range
    this.#rowsAsked = limit
    this.#fill()
  }

  value(): Uint8Array | null {
    return this.#rows[this.#next]!.value
  }

  advance(): void {
    this.#next++
    if (this.#next < this.#rows.length) {
      this.key = this.#rows[this.#next]!.key
    } else if (this.#rows.length < this.#rowsAsked) {
      this.key = undefined
    } else {
      const last = this.#rows[this.#rows.length - 1]!.key
      const { start, end } = this.#range
      this.#range = this.#reverse ? { start, end: last } : { start: `${last}\0` as ByteString, end }
      this.#rowsAsked = Math.max(this.#rowsAsked, Math.min(this.#rowsAsked * 2, COMMITTED_ROWS_READ_MAX))
      this.#fill()
    }
  }

  #fill(): void {
    this.#next = 0
    this.#rows =
      this.#range.start < this.#range.end ? this.#committed.scan(this.#range, this.#rowsAsked, this.#reverse) : []
    this.key = this.#rows[0]?.key
  }
}
