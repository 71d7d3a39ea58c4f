/** Page checksums of remote segments: each is fetched once, however many ask at the same time, and kept up to a number of bytes. */
import type { SegmentId } from '../../common/ids.ts'
import type { PageTable } from './ports.ts'

/** Of an entry beside its checksums. */
const ENTRY_BYTES = 256

export class PageTables {
  readonly #bytesMax: number
  /** Least recently used first. */
  readonly #tables = new Map<SegmentId, PageTable>()
  readonly #loading = new Map<SegmentId, Promise<PageTable>>()
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** The table, from `load` when it is not held. A failure is told to all who wait and not kept. */
  get(segment: SegmentId, load: () => Promise<PageTable>): PageTable | Promise<PageTable> {
    const held = this.#tables.get(segment)
    if (held) {
      this.#tables.delete(segment)
      this.#tables.set(segment, held)
      return held
    }
    const under = this.#loading.get(segment)
    if (under) return under
    const loading = load()
      .then((table) => {
        // Forgotten meanwhile: of use to who waits, and to nobody after.
        if (this.#loading.get(segment) === loading) this.#keep(segment, table)
        return table
      })
      .finally(() => {
        if (this.#loading.get(segment) === loading) this.#loading.delete(segment)
      })
    this.#loading.set(segment, loading)
    return loading
  }

  forget(segment: SegmentId): void {
    this.#loading.delete(segment)
    const held = this.#tables.get(segment)
    if (!held) return
    this.#tables.delete(segment)
    this.#bytes -= bytesOf(held)
  }

  #keep(segment: SegmentId, table: PageTable): void {
    this.#tables.set(segment, table)
    this.#bytes += bytesOf(table)
    for (const oldest of this.#tables.keys()) {
      if (this.#bytes <= this.#bytesMax) return
      this.forget(oldest)
    }
  }
}

function bytesOf({ pageCrcs }: PageTable): number {
  return pageCrcs.byteLength + ENTRY_BYTES
}
