/**
 * From a stopped gateway's data directory to etcd. What says how far it has come is in etcd (moving-row.ts), so it can be killed anywhere and run again:
 *
 *   survey    all rows are read once: what cannot be moved is refused before anything is written
 *   begin     the row `moving`, put only where there is nothing else below the prefix
 *   copy      pages of rows, each in the transaction that moves the cursor on. Behind the cursor nothing is written, before it everything
 *   verify    all rows in etcd are read, and must come to what the source's came to
 *   arrive    the node's number, the base of revisions and the clock, and the state `arrived`, in one transaction
 *
 * From there the caller switches the data directory (src/migrate.ts). Until then the source is as it was. When a gateway has served it meanwhile, everything
 * in etcd is cleared and copied anew.
 */
import { randomFillSync } from 'node:crypto'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { decodeAttachment, ATTACHMENTS } from '../namespace/attached/rows.ts'
import type { Row } from '../ports.ts'
import { groupName, uint64, type EtcdLayout } from '../raft/layout.ts'
import { askOperationLimit } from '../raft/operation-limit.ts'
import type { EtcdOperation } from '../raft/ports.ts'
import type { Backend } from '../stage/ports.ts'
import { Changes, isEmpty, refused, type ChangesOptions } from './changes.ts'
import { embeddedPages, embeddedSource } from './embedded-rows.ts'
import { etcdPages, putInEtcd } from './etcd-rows.ts'
import { isMoved } from './moved-rows.ts'
import { whyNotServed, type Moving } from './moving-row.ts'
import { isSameTally, Tally, type TallyText } from './tally.ts'

const MIB = 1024 * 1024
/** Of key and value; the store takes no more in a transaction (raft/etcd-options.ts). */
const ROW_BYTES_MAX = 1.4 * MIB
/** A page of rows, unless one of them is larger. */
const PAGE_BYTES_MAX = 0.75 * MIB
const PAGE_ROWS_MAX = 2000
const ROW_BYTES_OVERHEAD = 40
const CLEARED_ROWS = 1000
/** As whose the moved rows are served; what one gateway alone has written says nothing else. */
export const MOVED_NODE = 0

export type MoveStep = 'counting' | 'clearing' | 'copying' | 'verifying'

export interface MoveProgress {
  readonly doing: MoveStep
  readonly done: number
  readonly total: number | undefined
}

export interface MoveOptions extends ChangesOptions {
  readonly backend: Backend
  /** Of this move: 16 random bytes, the same when it is run again. */
  readonly name: ByteString
  readonly onProgress: (progress: MoveProgress) => void
}

export interface MoveReport {
  readonly source: TallyText
  readonly target: TallyText
  /** How many rows were there already when this run began. */
  readonly found: number
}

/** Resolves when everything is in etcd, verified, and waits for the switch. @throws TidegateError */
export async function moveToEtcd(options: MoveOptions): Promise<MoveReport> {
  const { backend, onProgress } = options
  const { source, handedOut } = embeddedSource(backend)
  const counted = survey(backend, onProgress)
  const move = new MoveToEtcd(options, source, handedOut)
  await move.begin()
  const found = await move.copy(counted.rows)
  const target = await move.verify(counted.rows)
  if (!isSameTally(counted, target)) await move.refuseDifferent(counted, target)
  await move.arrive()
  return { source: counted, target, found }
}

/** @throws InvalidRequest when there is something that etcd, or a gateway whose metadata are there, cannot have */
function survey(backend: Backend, onProgress: MoveOptions['onProgress']): TallyText {
  const tally = new Tally()
  const attached: string[] = []
  for (const rows of embeddedPages(backend, '' as ByteString)) {
    for (const row of rows) {
      if (!isMoved(row.key)) continue
      if (row.key.startsWith(ATTACHMENTS)) attached.push(decodeAttachment(row.key, row.value).bucket)
      const bytes = row.key.length + row.value.length
      if (bytes > ROW_BYTES_MAX)
        refused(`a row of table ${row.key.charAt(0)} has ${bytes} bytes, and etcd takes no more than 1.4 MiB in one`)
      tally.add(row)
    }
    onProgress({ doing: 'counting', done: tally.rows, total: undefined })
  }
  if (attached.length > 0)
    refused(
      `attached buckets (${attached.join(', ')}) cannot be served from metadata in etcd: detach them first ("tidegate bucket detach")`,
    )
  return tally.result()
}

class MoveToEtcd {
  readonly #options: MoveOptions
  readonly #changes: Changes
  readonly #layout: EtcdLayout
  readonly #source: ByteString
  readonly #base: Revision

  constructor(options: MoveOptions, source: ByteString, handedOut: Revision) {
    this.#options = options
    this.#changes = new Changes(options)
    this.#layout = options.layout
    this.#source = source
    this.#base = handedOut
  }

  /** Takes the prefix, or finds that this move has it. */
  async begin(): Promise<void> {
    const { name } = this.#options
    const { prefix } = this.#layout
    const found = await this.#changes.look()
    if (found === undefined) {
      if (await this.#changes.step(this.#state('arriving', ''), [], [isEmpty(this.#layout)])) return
      refused(`there is something in etcd below ${prefix}: metadata are moved to where there is nothing`)
    }
    if (found.state === 'leaving' || found.state === 'left') refused(whyNotServed(prefix, found.state))
    if (found.name !== name)
      refused(
        `metadata of another data directory are on their way to etcd below ${prefix}: finish that where it was begun, or delete what is there, or name another prefix`,
      )
    if (found.state === 'arriving' && found.source === this.#source) return
    if (found.state === 'arrived' && found.source === this.#source) {
      // Verified once; that it is done again costs little, and then nothing rests on an earlier run.
      await this.#changes.step({ ...found, state: 'arriving' }, [])
      return
    }
    await this.#clear()
  }

  /** Takes away what an earlier run has written of a source that has changed since. */
  async #clear(): Promise<void> {
    const { onProgress } = this.#options
    await this.#changes.step(this.#state('clearing', ''), [])
    let cleared = 0
    for (;;) {
      const { rows } = await this.#changes.range({ range: this.#layout.rows, limit: CLEARED_ROWS })
      const last = rows.at(-1)
      if (last === undefined) break
      const range = { start: this.#layout.rows.start, end: `${last.key}\0` as ByteString }
      await this.#changes.repeatable([{ kind: 'delete', range }])
      onProgress({ doing: 'clearing', done: (cleared += rows.length), total: undefined })
    }
    await this.#changes.step(this.#state('arriving', ''), [])
  }

  /** Resolves with the number of rows that were there before. */
  async copy(total: number): Promise<number> {
    const { etcd, backend, onProgress } = this.#options
    const operationsMax = await this.#changes.patiently(() => askOperationLimit(etcd, this.#layout))
    const pages = new Pages(this.#layout, operationsMax)
    const cursor = this.#changes.found?.cursor ?? ('' as ByteString)
    let copied = 0
    const write = async (): Promise<void> => {
      const { rows, operations } = pages.take()
      const last = rows.at(-1)
      if (last === undefined) return
      await this.#changes.step(this.#state('arriving', last.key), operations)
      onProgress({ doing: 'copying', done: found + (copied += rows.length), total })
    }
    const found = cursor === '' ? 0 : countThrough(backend, cursor)
    for (const rows of embeddedPages(backend, cursor)) {
      for (const row of rows) {
        if (!isMoved(row.key)) continue
        if (!pages.hasRoomFor(row)) await write()
        pages.add(row)
      }
    }
    await write()
    return found
  }

  async verify(total: number): Promise<TallyText> {
    const { onProgress } = this.#options
    const tally = new Tally()
    const range = this.#changes.range.bind(this.#changes)
    for await (const { rows } of etcdPages({ layout: this.#layout, after: '' as ByteString, range })) {
      for (const row of rows) tally.add(row)
      onProgress({ doing: 'verifying', done: tally.rows, total })
    }
    return tally.result()
  }

  /** What is there is not trusted any more. */
  async refuseDifferent(source: TallyText, target: TallyText): Promise<never> {
    await this.#clear()
    throw new TidegateError(
      'Unavailable',
      `what lies in etcd is not what was put there: ${target.rows} rows with ${target.bytes} bytes (${target.checksum}) instead of ` +
        `${source.rows} with ${source.bytes} (${source.checksum}). It was removed, and the data directory is as it was`,
    )
  }

  async arrive(): Promise<void> {
    const layout = this.#layout
    const { name } = this.#options
    const incarnation = new Uint8Array(8)
    randomFillSync(incarnation)
    const clock = groupName(MOVED_NODE, Buffer.from(incarnation).toString('latin1') as ByteString, 0)
    await this.#changes.step(this.#state('arrived', this.#changes.found?.cursor ?? ''), [
      { kind: 'put', key: layout.base, value: bytesOf(uint64(this.#base)) },
      { kind: 'put', key: layout.node(MOVED_NODE), value: bytesOf(name) },
      { kind: 'put', key: layout.clock, value: bytesOf(clock) },
    ])
  }

  #state(state: Moving['state'], cursor: string): Moving {
    return { state, name: this.#options.name, source: this.#source, cursor: cursor as ByteString }
  }
}

/** Gathers what fits one transaction. */
class Pages {
  readonly #layout: EtcdLayout
  readonly #rowsMax: number
  readonly #nestedMax: number
  #rows: Row[] = []
  #bytes = 0

  /** etcd counts a level and the largest nested in it: so half of it in each nested one, and as many of those as are left beside the row `moving`. */
  constructor(layout: EtcdLayout, operationsMax: number) {
    this.#layout = layout
    this.#nestedMax = Math.floor(operationsMax / 2) - 1
    this.#rowsMax = Math.min(PAGE_ROWS_MAX, this.#nestedMax * (operationsMax - this.#nestedMax - 2))
  }

  hasRoomFor(row: Row): boolean {
    return (
      this.#rows.length === 0 ||
      (this.#rows.length < this.#rowsMax && this.#bytes + this.#bytesOf(row) <= PAGE_BYTES_MAX)
    )
  }

  add(row: Row): void {
    this.#rows.push(row)
    this.#bytes += this.#bytesOf(row)
  }

  take(): { rows: readonly Row[]; operations: readonly EtcdOperation[] } {
    const rows = this.#rows
    const operations: EtcdOperation[] = []
    for (let at = 0; at < rows.length; at += this.#nestedMax) {
      const success = rows.slice(at, at + this.#nestedMax).map((row) => putInEtcd(this.#layout, row))
      operations.push({ kind: 'transaction', transaction: { compares: [], success, failure: [] } })
    }
    this.#rows = []
    this.#bytes = 0
    return { rows, operations }
  }

  #bytesOf({ key, value }: Row): number {
    return this.#layout.prefix.length + key.length + value.length + ROW_BYTES_OVERHEAD
  }
}

function countThrough(backend: Backend, cursor: ByteString): number {
  let count = 0
  for (const rows of embeddedPages(backend, '' as ByteString)) {
    for (const { key } of rows) {
      if (key > cursor) return count
      if (isMoved(key)) count++
    }
  }
  return count
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, 'latin1')
}
