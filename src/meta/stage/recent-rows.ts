/**
 * Rows that were read of the engine lately, as they are committed. Transactions read the same few rows again and again (their bucket's,
 * those of the directories above their keys), and the engine makes a copy each time.
 *
 * Only the stage writes to the engine, one group after the other, and says here what a group has written before its rows are read from
 * the engine: so what is here is what the engine would answer. Absent rows are not kept.
 */
import type { ByteString } from '../../common/ids.ts'
import type { RowChanges, RowReader } from './ports.ts'

const ROWS_MAX = 4096
/** Longer ones would make the bound on rows no bound on memory. */
const ROW_BYTES_MAX = 512

export class RecentRows {
  readonly #engine: RowReader
  readonly #rows = new Map<ByteString, Uint8Array>()

  constructor(engine: RowReader) {
    this.#engine = engine
  }

  /** The very same bytes as before, for as long as they are remembered. */
  get(key: ByteString): Uint8Array | undefined {
    const found = this.#rows.get(key)
    if (found !== undefined) return found
    const row = this.#engine.get(key)
    if (row !== undefined && key.length + row.length <= ROW_BYTES_MAX) this.#keep(key, row)
    return row
  }

  written(changes: RowChanges): void {
    if (this.#rows.size === 0) return
    for (const key of changes.keys()) this.#rows.delete(key)
  }

  #keep(key: ByteString, row: Uint8Array): void {
    if (this.#rows.size >= ROWS_MAX) {
      for (const oldest of this.#rows.keys()) {
        this.#rows.delete(oldest)
        break
      }
    }
    this.#rows.set(key, row)
  }
}
