/**
 * Segments: where each stands between open and persisted, and how many of its bytes are still referred to. Where several nodes share the namespace a
 * segment is that node's whose process opened it, and nobody else judges it (C23): also not that node itself, once another has made the segment its own
 * after fencing it (inherit-segments.ts).
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, SegmentId } from '../../common/ids.ts'
import type { OrderedStore, ReadView, Transaction } from '../ports.ts'
import type { Commit, NamespaceContext } from './context.ts'
import { SEGMENT_STATE_ROWS, bytesHex, prefixEnd, prefixRange, segmentLiveKey, segmentStateKey } from './keys.ts'
import { SEGMENT_STATES, decodeSegment, encodeSegment, type SegmentRow, type SegmentState } from './records-contents.ts'

export interface SegmentRecord {
  readonly segment: SegmentId
  readonly state: SegmentState
  readonly bytes: number
  readonly liveBytes: number
  /** Whose it is, where several nodes share the namespace. */
  readonly node?: number
  /** Nodes that hold the same bytes. Absent: it was never copied; empty: it was, and wants another partner. */
  readonly copies?: readonly number[]
}

/** Rows that one read looks at, where most may be of other nodes. */
const PAGE_ROWS = 256

export async function segmentOpened(
  context: NamespaceContext,
  segment: SegmentId,
  copies?: readonly number[],
): Promise<Commit<void>> {
  const key = segmentStateKey(segment)
  return context.store.transact(async (tx) => {
    if (await tx.get(key)) throw outOfStep(segment, 'is recorded already')
    tx.put(key, encodeSegment({ state: 'open', bytes: 0, ...owner(context), ...(copies && { copies }) }))
  })
}

/** To the same state again is no change; backwards, or of another node's, is refused. @throws ConditionalRequestConflict */
export async function segmentChanged(
  context: NamespaceContext,
  segment: SegmentId,
  state: Exclude<SegmentState, 'open'>,
  bytes: number,
): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const before = await readOwn(context, tx, segment)
    if (before.state === state && before.bytes === bytes) return
    if (SEGMENT_STATES.indexOf(before.state) >= SEGMENT_STATES.indexOf(state)) {
      throw outOfStep(segment, `is ${before.state} and cannot become ${state}`)
    }
    tx.put(segmentStateKey(segment), encodeSegment({ ...before, state, bytes }))
  })
}

/** Which nodes hold copies of this node's segment. @throws ConditionalRequestConflict */
export async function copiesChanged(
  context: NamespaceContext,
  segment: SegmentId,
  copies: readonly number[],
): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const before = await readOwn(context, tx, segment)
    if (before.copies?.join() === copies.join() && before.copies.length === copies.length) return
    tx.put(segmentStateKey(segment), encodeSegment({ ...before, copies }))
  })
}

async function readOwn(context: NamespaceContext, tx: Transaction, segment: SegmentId): Promise<SegmentRow> {
  const row = await tx.get(segmentStateKey(segment))
  if (!row) throw outOfStep(segment, 'is not recorded')
  const decoded = decodeSegment(row)
  checkOwn(context, segment, decoded)
  return decoded
}

function checkOwn(context: NamespaceContext, segment: SegmentId, row: SegmentRow): void {
  if (!isOwnSegment(context, row)) throw outOfStep(segment, `is node ${row.node ?? 0}'s`)
}

function outOfStep(segment: SegmentId, what: string): TidegateError {
  return new TidegateError('ConditionalRequestConflict', `segment ${segment} ${what}`, { details: { segment } })
}

function owner({ nodeNumber }: Pick<NamespaceContext, 'nodeNumber'>): { node?: number } {
  return nodeNumber === 0 ? {} : { node: nodeNumber }
}

/** Whether this node may judge it. */
export function isOwnSegment({ nodeNumber }: NamespaceContext, { node = 0 }: { readonly node?: number }): boolean {
  return node === nodeNumber
}

/** This node's own, ascending. */
export function listSegments(
  context: NamespaceContext,
  after: SegmentId | undefined,
  limit: number,
): Promise<SegmentRecord[]> {
  return segmentsOf(context, context.nodeNumber, after, limit)
}

export function segmentsOf(
  { store }: NamespaceContext,
  node: number,
  after: SegmentId | undefined,
  limit: number,
): Promise<SegmentRecord[]> {
  return listWhere(store, (row) => (row.node ?? 0) === node, { after, limit })
}

/** Whosever they are; and those that have no copy as yet and want one, which may lie there all the same (persist/copies/ports.ts, `keep`). */
export function segmentsCopiedTo(
  { store }: NamespaceContext,
  node: number,
  after: SegmentId | undefined,
  limit: number,
): Promise<SegmentRecord[]> {
  return listWhere(store, ({ copies }) => copies !== undefined && (copies.length === 0 || copies.includes(node)), {
    after,
    limit,
  })
}

/** Pages of one revision each. */
async function listWhere(
  store: OrderedStore,
  wanted: (row: SegmentRow) => boolean,
  { after, limit }: { readonly after: SegmentId | undefined; readonly limit: number },
): Promise<SegmentRecord[]> {
  const records: SegmentRecord[] = []
  const end = prefixEnd(SEGMENT_STATE_ROWS)
  let start: ByteString | undefined = (
    after === undefined ? SEGMENT_STATE_ROWS : `${segmentStateKey(after)}\0`
  ) as ByteString
  while (start !== undefined && records.length < limit) {
    const [from, room] = [start, limit - records.length]
    const pageRows = Math.max(room, PAGE_ROWS)
    const page = await store.read(async (view) => {
      const rows = await view.scan({ start: from, end }, pageRows)
      const found: SegmentRecord[] = []
      for (const { key, value } of rows) {
        if (found.length === room) break
        const row = decodeSegment(value)
        if (!wanted(row)) continue
        const segment = segmentOfKey(key)
        found.push({ segment, ...row, liveBytes: await liveBytes(view, segment) })
      }
      return { found, last: rows.length < pageRows ? undefined : rows.at(-1)?.key }
    })
    records.push(...page.found)
    start = page.last && (`${page.last}\0` as ByteString)
  }
  return records
}

export function segmentOfKey(key: ByteString): SegmentId {
  return bytesHex(key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId
}

export function segmentRecord(context: NamespaceContext, segment: SegmentId): Promise<SegmentRecord | undefined> {
  return context.store.read((view) => readSegment(view, segment))
}

/**
 * As `segmentRecord`, of a moment when all is decided that was on its way to the metadata before: also a publish whose caller was told that its outcome is not known.
 * A read is told what has been committed by then, which may be less; a transaction runs after those before it, and waits until they are decided if it has seen what they wrote.
 * @throws Unavailable, SlowDown when that is not known in time
 */
export async function decidedSegment(
  context: NamespaceContext,
  segment: SegmentId,
): Promise<SegmentRecord | undefined> {
  const { value, durable } = await context.store.transact((tx) => readSegment(tx, segment))
  await durable
  return value
}

export function newestSegment(context: NamespaceContext): Promise<SegmentId | undefined> {
  return context.store.read(async (view) => {
    const [last] = await view.scan(prefixRange(SEGMENT_STATE_ROWS), 1, true)
    return last && segmentOfKey(last.key)
  })
}

export async function readSegment(view: ReadView, segment: SegmentId): Promise<SegmentRecord | undefined> {
  const row = await view.get(segmentStateKey(segment))
  return row && { segment, ...decodeSegment(row), liveBytes: await liveBytes(view, segment) }
}

async function liveBytes(view: ReadView, segment: SegmentId): Promise<number> {
  const [bytes = 0] = await view.counters(segmentLiveKey(segment), 1)
  return bytes
}

/** One without a row is gone already. @throws ConditionalRequestConflict when it is another node's */
export async function segmentRemoved(context: NamespaceContext, segment: SegmentId): Promise<Commit<void>> {
  const key = segmentStateKey(segment)
  return context.store.transact(async (tx) => {
    const row = await tx.get(key)
    if (row) checkOwn(context, segment, decodeSegment(row))
    tx.delete(key)
    tx.delete(segmentLiveKey(segment))
  })
}
