/**
 * What a transaction or read that starts now sees: the rows of commits that are not durable yet, over the committed ones.
 * There are at most two groups of such commits: one being made durable, and the open one that gathers what comes after.
 */
import { assert } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import type { Row } from '../ports.ts'
import { mergedScan, type Scan } from './merged-scan.ts'
import type { RowChanges, RowReader } from './ports.ts'
import { RecentRows } from './recent-rows.ts'
import { RowLayer } from './row-layer.ts'

/** Is told when what it reads is not durable yet. */
export interface PendingReader {
  provisional: boolean
}

export class VisibleRows {
  readonly #committed: RowReader
  readonly #recent: RecentRows
  #open = new RowLayer()
  #committing: RowLayer | undefined

  constructor(committed: RowReader) {
    this.#committed = committed
    this.#recent = new RecentRows(committed)
  }

  /** Rows that are visible and not durable. */
  get pendingRows(): number {
    return this.#open.size + (this.#committing?.size ?? 0)
  }

  get pendingBytes(): number {
    return this.#open.bytes + (this.#committing?.bytes ?? 0)
  }

  get openRows(): number {
    return this.#open.size
  }

  get(key: ByteString, reader: PendingReader): Uint8Array | undefined {
    let value = this.#open.get(key)
    if (value === undefined && this.#committing !== undefined) value = this.#committing.get(key)
    if (value === undefined) return this.#recent.get(key)
    reader.provisional = true
    return value ?? undefined
  }

  /** `own` are the rows that the reading transaction has written itself. */
  scan(scan: Scan, own: RowLayer | undefined, reader: PendingReader): Row[] {
    // On the safe side: a row in the range counts even if the scan ends before it.
    if (this.#open.holdsAnyOf(scan.range) || this.#committing?.holdsAnyOf(scan.range)) reader.provisional = true
    const layers = own === undefined ? [this.#open] : [own, this.#open]
    if (this.#committing !== undefined) layers.push(this.#committing)
    return mergedScan(layers, this.#committed, scan)
  }

  apply(written: RowLayer): void {
    this.#open.setAll(written)
  }

  /** Closes the open group and returns its rows, which do not change any more. */
  closeGroup(): RowChanges {
    assert(this.#committing === undefined, 'one group is committed at a time')
    this.#committing = this.#open
    this.#open = new RowLayer()
    return this.#committing.rows
  }

  /** The closed group can be read from the committed rows now. */
  groupCommitted(): void {
    if (this.#committing !== undefined) this.#recent.written(this.#committing.rows)
    this.#committing = undefined
  }

  /** Others have changed committed rows. */
  forget(changes: RowChanges): void {
    this.#recent.written(changes)
  }

  undoPending(): void {
    this.#committing = undefined
    this.#open = new RowLayer()
  }
}
