/**
 * Segments: where each stands between open and persisted, and how many of its bytes are still referred to. Where several nodes share the namespace a
 * segment is that node's whose process opened it, and nobody else judges it (C23).
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, SegmentId } from '../../common/ids.ts'
import type { ReadView } from '../ports.ts'
import type { Commit, NamespaceContext } from './context.ts'
import { SEGMENT_STATE_ROWS, bytesHex, prefixEnd, prefixRange, segmentLiveKey, segmentStateKey } from './keys.ts'
import { SEGMENT_STATES, decodeSegment, encodeSegment, type SegmentState } from './records-contents.ts'

export interface SegmentRecord {
  readonly segment: SegmentId
  readonly state: SegmentState
  readonly bytes: number
  readonly liveBytes: number
  /** Whose it is, where several nodes share the namespace. */
  readonly node?: number
}

export async function segmentOpened(context: NamespaceContext, segment: SegmentId): Promise<Commit<void>> {
  const key = segmentStateKey(segment)
  return context.store.transact(async (tx) => {
    if (await tx.get(key)) throw outOfStep(segment, 'is recorded already')
    tx.put(key, encodeSegment({ state: 'open', bytes: 0, ...owner(context) }))
  })
}

/** To the same state again is no change; backwards is refused. @throws ConditionalRequestConflict */
export async function segmentChanged(
  context: NamespaceContext,
  segment: SegmentId,
  state: Exclude<SegmentState, 'open'>,
  bytes: number,
): Promise<Commit<void>> {
  const key = segmentStateKey(segment)
  return context.store.transact(async (tx) => {
    const row = await tx.get(key)
    if (!row) throw outOfStep(segment, 'is not recorded')
    const before = decodeSegment(row)
    if (before.state === state && before.bytes === bytes) return
    if (SEGMENT_STATES.indexOf(before.state) >= SEGMENT_STATES.indexOf(state)) {
      throw outOfStep(segment, `is ${before.state} and cannot become ${state}`)
    }
    tx.put(key, encodeSegment({ ...before, state, bytes }))
  })
}

function outOfStep(segment: SegmentId, what: string): TidegateError {
  return new TidegateError('ConditionalRequestConflict', `segment ${segment} ${what}`, { details: { segment } })
}

function owner({ nodeNumber }: NamespaceContext): { node?: number } {
  return nodeNumber === 0 ? {} : { node: nodeNumber }
}

/** Whether this node may judge it. */
export function isOwnSegment({ nodeNumber }: NamespaceContext, { node = 0 }: { readonly node?: number }): boolean {
  return node === nodeNumber
}

/** This node's own. */
export async function listSegments(
  context: NamespaceContext,
  after: SegmentId | undefined,
  limit: number,
): Promise<SegmentRecord[]> {
  const records: SegmentRecord[] = []
  let start = (after === undefined ? SEGMENT_STATE_ROWS : `${segmentStateKey(after)}\0`) as ByteString
  for (;;) {
    const room = limit - records.length
    const last = await context.store.read(async (view) => {
      const rows = await view.scan({ start, end: prefixEnd(SEGMENT_STATE_ROWS) }, room)
      const found: SegmentRecord[] = []
      for (const row of rows) {
        const segment = bytesHex(row.key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId
        const decoded = decodeSegment(row.value)
        if (isOwnSegment(context, decoded))
          found.push({ segment, ...decoded, liveBytes: await liveBytes(view, segment) })
      }
      return { found, key: rows.length < room ? undefined : rows.at(-1)?.key }
    })
    records.push(...last.found)
    if (last.key === undefined || records.length >= limit) return records
    start = `${last.key}\0` as ByteString
  }
}

export function segmentRecord(context: NamespaceContext, segment: SegmentId): Promise<SegmentRecord | undefined> {
  return context.store.read((view) => readSegment(view, segment))
}

export function newestSegment(context: NamespaceContext): Promise<SegmentId | undefined> {
  return context.store.read(async (view) => {
    const [last] = await view.scan(prefixRange(SEGMENT_STATE_ROWS), 1, true)
    return last && (bytesHex(last.key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId)
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

export async function segmentRemoved(context: NamespaceContext, segment: SegmentId): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    tx.delete(segmentStateKey(segment))
    tx.delete(segmentLiveKey(segment))
  })
}
