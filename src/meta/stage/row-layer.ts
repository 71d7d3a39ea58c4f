/**
 * Rows laid over others: what a transaction has written, or a group of commits that is not durable yet. Null marks a
 * deleted row. Point reads go through a Map. The keys are put in order when a scan first needs them: new ones gather
 * unsorted, and are spliced in when they are few and merged in when they are many, so that neither a long run of writes
 * nor writes and scans in turn cost more than O(n log n) together.
 */
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import type { RowChanges } from './ports.ts'

/** Up to this many new keys are spliced into the sorted ones; a splice moves memory, a merge builds a new array. */
const SPLICED_KEYS_MAX = 16

export class RowLayer {
  readonly #rows = new Map<ByteString, Uint8Array | null>()
  #sorted: ByteString[] = []
  #unsorted: ByteString[] = []
  #bytes = 0

  get rows(): RowChanges {
    return this.#rows
  }

  get size(): number {
    return this.#rows.size
  }

  /** Bytes of keys and values; at least those, after `setAll`. */
  get bytes(): number {
    return this.#bytes
  }

  /** Undefined when this layer says nothing of the key, null when it deletes it. */
  get(key: ByteString): Uint8Array | null | undefined {
    return this.#rows.get(key)
  }

  set(key: ByteString, value: Uint8Array | null): void {
    const previous = this.#rows.get(key)
    const valueBytes = value === null ? 0 : value.length
    if (previous === undefined) {
      this.#unsorted.push(key)
      this.#bytes += key.length + valueBytes
    } else {
      this.#bytes += valueBytes - (previous === null ? 0 : previous.length)
    }
    this.#rows.set(key, value)
  }

  /** Sets every row of `other`. `bytes` then counts rows that were set twice as often, which saves looking for them. */
  setAll(other: RowLayer): void {
    for (const [key, value] of other.#rows) {
      const size = this.#rows.size
      this.#rows.set(key, value)
      if (this.#rows.size !== size) this.#unsorted.push(key)
    }
    this.#bytes += other.#bytes
  }

  /** Whether a row of the range is set or deleted here. */
  holdsAnyOf(range: KeyRange): boolean {
    if (this.#rows.size === 0) return false
    const keys = this.sortedKeys()
    const first = keys[lowerBound(keys, range.start)]
    return first !== undefined && first < range.end
  }

  /** Every key, ascending. Valid until the next `set`. */
  sortedKeys(): readonly ByteString[] {
    const added = this.#unsorted
    if (added.length === 0) return this.#sorted
    this.#unsorted = []
    if (added.length > SPLICED_KEYS_MAX) {
      sortByTable(added)
      this.#sorted = this.#sorted.length === 0 ? added : mergeSorted(this.#sorted, added)
    } else {
      for (const key of added) this.#sorted.splice(lowerBound(this.#sorted, key), 0, key)
    }
    return this.#sorted
  }
}

/** Index of the first of the ascending `keys` that is not below `key`. */
export function lowerBound(keys: readonly ByteString[], key: ByteString): number {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (keys[middle]! < key) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * Sorts in place. Rows of several tables mostly are written in turn, and those of one table in order: so they are parted first, and what is in
 * order already costs a look.
 */
function sortByTable(keys: ByteString[]): void {
  const tables = new Map<number, ByteString[]>()
  for (const key of keys) {
    const table = key.charCodeAt(0)
    const same = tables.get(table)
    if (same === undefined) tables.set(table, [key])
    else same.push(key)
  }
  let at = 0
  for (const table of [...tables.keys()].sort((a, b) => a - b)) {
    for (const key of tables.get(table)!.sort()) keys[at++] = key
  }
}

function mergeSorted(left: readonly ByteString[], right: readonly ByteString[]): ByteString[] {
  const merged: ByteString[] = []
  let l = 0
  let r = 0
  while (l < left.length && r < right.length) merged.push(left[l]! < right[r]! ? left[l++]! : right[r++]!)
  while (l < left.length) merged.push(left[l++]!)
  while (r < right.length) merged.push(right[r++]!)
  return merged
}
