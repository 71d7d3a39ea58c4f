/** The rows of metadata in etcd, as a data directory would have them: whole values, stamps filled, counters added up. */
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Row } from '../ports.ts'
import { counterOf, deltaKey, isCounterKey, partKey, sumOfParts } from '../raft/counter-parts.ts'
import { decodeRow, encodeRow, type EtcdLayout } from '../raft/layout.ts'
import type { Etcd, EtcdOperation, RangeResult } from '../raft/ports.ts'
import { isCounterRow } from './moved-rows.ts'

const PAGE_ROWS = 1000
const PLAIN = { rewritten: false, untold: false } as const
/** The part that a moved counter is: of node 0, as which its metadata are served. */
const MOVED_PART = { node: 0, slot: 0 } as const

export interface EtcdPage {
  readonly rows: readonly Row[]
  /** In etcd, without the prefix: everything up to there has been in this page or one before. */
  readonly through: ByteString
}

export interface EtcdPagesOptions {
  readonly layout: EtcdLayout
  /** Exclusive. */
  readonly after: ByteString
  /** Asks for a page, again if need be. */
  readonly range: (request: Parameters<Etcd['range']>[0]) => Promise<RangeResult>
  readonly revision?: Revision | undefined
}

/** All rows from that key on, at that revision or else as they are. */
export async function* etcdPages(options: EtcdPagesOptions): AsyncGenerator<EtcdPage, void> {
  const { layout, after, range, revision } = options
  let { start } = layout.rows
  if (after !== '') start = `${layout.rowKey(after)}\0` as ByteString
  let through = after
  const counter = new OpenCounter()
  for (;;) {
    const page = await range({ range: { start, end: layout.rows.end }, limit: PAGE_ROWS, revision })
    const rows: Row[] = []
    for (const { key: etcdKey, value, modRevision } of page.rows) {
      const key = etcdKey.slice(layout.prefix.length) as ByteString
      const row = { key, value: decodeRow(value, modRevision).value }
      if (!counter.takes(row, rows)) rows.push(row)
    }
    const last = page.rows.at(-1)
    const isLast = !page.more || last === undefined
    if (isLast) counter.close(rows)
    // A counter whose parts may go on in the next page is not told yet, so whoever goes on later must come back to its parts.
    if (last !== undefined) through = counter.before ?? (last.key.slice(layout.prefix.length) as ByteString)
    if (rows.length > 0) yield { rows, through }
    if (isLast) return
    start = `${last.key}\0` as ByteString
  }
}

/** The counter whose parts are being read: they lie one after the other. */
class OpenCounter {
  #delta: ByteString | undefined
  #parts: Uint8Array[] = []
  #before: ByteString | undefined

  /** Up to which key everything has been told, while a counter is open. */
  get before(): ByteString | undefined {
    return this.#before
  }

  takes({ key, value }: Row, told: Row[]): boolean {
    if (!isCounterKey(key)) {
      this.close(told)
      return false
    }
    const delta = deltaKey(counterOf(key))
    if (delta !== this.#delta) {
      this.close(told)
      this.#delta = delta
      // Right before the first of its parts: no key lies between.
      this.#before = delta
    }
    this.#parts.push(value)
    return true
  }

  close(told: Row[]): void {
    const value = sumOfParts(this.#parts)
    if (this.#delta !== undefined && value !== undefined) told.push({ key: counterOf(this.#delta), value })
    this.#delta = undefined
    this.#parts = []
    this.#before = undefined
  }
}

/** What puts a row of a data directory there. */
export function putInEtcd(layout: EtcdLayout, { key, value }: Row): EtcdOperation {
  const { node, slot } = MOVED_PART
  const stored = isCounterRow(key) ? partKey(deltaKey(key), node, slot) : key
  return { kind: 'put', key: layout.rowKey(stored), value: encodeRow(value, PLAIN) }
}
