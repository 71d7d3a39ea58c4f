/**
 * Segments of a node that was shut out become another one's (C23). Only then: a node that may still write must not find its segments gone while it does, nor
 * one that is back already. So all of this holds only while that node is parted from the namespace (remove-node.ts).
 *
 * Each row is compared and set, so of several heirs one has it and the others learn that they do not. From that commit on the heir judges the
 * segment; what the former owner still wants of its row fails (segments.ts), and when it starts again the segment is not among its own.
 *
 * What the heir must have is the bytes: a copy, or a remote store that all reach.
 */
import type { ByteString, SegmentId } from '../../common/ids.ts'
import type { Commit, NamespaceContext } from './context.ts'
import { SEGMENT_STATE_ROWS, prefixEnd, segmentStateKey } from './keys.ts'
import { decodeSegment, encodeSegment, type SegmentRow } from './records-contents.ts'
import { mustBeParted } from './remove-node.ts'
import { segmentOfKey } from './segments.ts'

/** Whether what a node calls persisted lies where all nodes reach it, or on its own disk. */
export type RemoteReach = 'all' | 'owner'

/**
 * By a node that holds a copy. False when it is not that node's (any more), and when it is persisted where all reach it: then who cleans up after the node has it
 * (`inheritPersisted`). Persisted on a disk that is lost with its node it is only sealed here.
 * @throws ConditionalRequestConflict when that node is back
 */
export async function inheritSegment(
  context: NamespaceContext,
  segment: SegmentId,
  from: number,
  remote: RemoteReach = 'all',
): Promise<Commit<boolean>> {
  const key = segmentStateKey(segment)
  return await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    if (!row) return false
    const before = decodeSegment(row)
    if ((before.node ?? 0) !== from) return false
    if (before.state === 'persisted' && remote === 'all') return false
    await mustBeParted(tx, from)
    const state = before.state === 'persisted' ? 'sealed' : before.state
    tx.put(key, encodeSegment({ state, bytes: before.bytes, ...heir(context), copies: [] }))
    return true
  })
}

/**
 * All that lies in a remote store that all nodes reach: one bounded step, of which `limit` says how many rows it looks at. Again with `after: next` until that is
 * undefined; safe to begin anew. @throws ConditionalRequestConflict when that node is back
 */
export async function inheritPersisted(
  context: NamespaceContext,
  from: number,
  after: SegmentId | undefined,
  limit: number,
): Promise<Commit<{ readonly inherited: number; readonly next: SegmentId | undefined }>> {
  const start = (after === undefined ? SEGMENT_STATE_ROWS : `${segmentStateKey(after)}\0`) as ByteString
  const wanted = await context.store.read(async (view) => {
    const rows = await view.scan({ start, end: prefixEnd(SEGMENT_STATE_ROWS) }, limit)
    const last = rows.length < limit ? undefined : rows.at(-1)?.key
    return {
      keys: rows.filter(({ value }) => isPersistedOf(decodeSegment(value), from)).map(({ key }) => key),
      next: last && segmentOfKey(last),
    }
  })
  return await context.store.transact(async (tx) => {
    await mustBeParted(tx, from)
    let inherited = 0
    const rows = await tx.getMany(wanted.keys)
    for (const [index, key] of wanted.keys.entries()) {
      const row = rows[index] && decodeSegment(rows[index])
      if (!row || !isPersistedOf(row, from)) continue
      tx.put(key, encodeSegment({ state: row.state, bytes: row.bytes, ...heir(context) }))
      inherited++
    }
    return { inherited, next: wanted.next }
  })
}

function isPersistedOf({ state, node = 0 }: SegmentRow, from: number): boolean {
  return state === 'persisted' && node === from
}

function heir({ nodeNumber }: NamespaceContext): { node?: number } {
  return nodeNumber === 0 ? {} : { node: nodeNumber }
}
