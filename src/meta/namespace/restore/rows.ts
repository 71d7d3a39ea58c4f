/**
 * Rows on their way into an empty store, before anybody serves from it: bounded batches straight into the backend, each durable when
 * it is written. Which rows those are: all but the counters, which are recounted (recount.ts), and the change log with its
 * state, which begin anew.
 */
import type { ByteString } from '../../../common/ids.ts'
import type { KeyRange, Row } from '../../ports.ts'
import type { Backend, RowChanges } from '../../stage/ports.ts'
import { prefixEnd } from '../keys.ts'
import { isName } from '../names-source.ts'

/** One batch is one synced commit. */
const BATCH_ROWS_MAX = 16_384
const BATCH_BYTES_MAX = 8 * 1024 * 1024
const SCAN_ROWS = 1000

export interface RestoredRow {
  readonly key: ByteString
  /** Undefined: the row is gone. */
  readonly value: Uint8Array | undefined
}

export class RowWriter {
  readonly #backend: Backend
  #batch = new Map<ByteString, Uint8Array | null>()
  #bytes = 0

  constructor(backend: Backend) {
    this.#backend = backend
  }

  async write(rows: Iterable<RestoredRow>): Promise<void> {
    for (const { key, value } of rows) {
      if (!isName(key)) continue
      this.#batch.set(key, value ?? null)
      this.#bytes += key.length + (value?.length ?? 0)
      if (this.#batch.size >= BATCH_ROWS_MAX || this.#bytes >= BATCH_BYTES_MAX) await this.flush()
    }
  }

  async flush(): Promise<void> {
    if (this.#batch.size === 0) return
    const batch: RowChanges = this.#batch
    this.#batch = new Map()
    this.#bytes = 0
    await this.#backend.commit([batch])
  }
}

/** Every row that begins so, in pages; other work gets its turn between them. */
export async function* tableRows(backend: Backend, prefix: string): AsyncGenerator<readonly Row[]> {
  let range: KeyRange = { start: prefix as ByteString, end: prefixEnd(prefix) }
  for (;;) {
    const rows = backend.scan(range, SCAN_ROWS, false)
    if (rows.length > 0) yield rows
    const last = rows.at(-1)
    if (!last || rows.length < SCAN_ROWS) return
    range = { start: `${last.key}\0` as ByteString, end: range.end }
    await new Promise((resolve) => setImmediate(resolve))
  }
}
