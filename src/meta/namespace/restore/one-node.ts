/**
 * Rows that nodes which shared the namespace have written in their names, once it is restored for one gateway alone (docs/decisions/0018):
 *
 *   O   unlinked and kept, because a node had it open: nobody has it open now, and the one gateway that there is cleans up after itself
 *   G   a content that a node was building: nobody builds it any more
 *
 * Segments are that gateway's as well (recount.ts). Times of directories (W) are of as many as there were: who reads takes the latest.
 */
import type { ByteString } from '../../../common/ids.ts'
import type { Backend } from '../../stage/ports.ts'
import { THIS_NODE } from '../context.ts'
import { ORPHANS, RECLAIM, integerBytes, reclaimKindOf } from '../keys.ts'
import { decodeDropped, encodeDropped } from '../records-contents.ts'
import { tableRows } from './rows.ts'

const NODE_NAME_AT = ORPHANS.length + integerBytes(0).length

/** Before anybody serves from it. */
export async function ofOneNode(backend: Backend): Promise<void> {
  for await (const rows of tableRows(backend, ORPHANS)) {
    const changes = new Map<ByteString, Uint8Array | null>()
    for (const { key, value } of rows) {
      if (key.slice(NODE_NAME_AT) === THIS_NODE) continue
      changes.set(key, null)
      changes.set((key.slice(0, NODE_NAME_AT) + THIS_NODE) as ByteString, value)
    }
    if (changes.size > 0) await backend.commit([changes])
  }
  for await (const rows of tableRows(backend, RECLAIM)) {
    const changes = new Map<ByteString, Uint8Array | null>()
    for (const { key, value } of rows) {
      if (reclaimKindOf(key) !== 'content') continue
      const dropped = decodeDropped(value)
      if (dropped.builder === undefined || dropped.builder === THIS_NODE) continue
      changes.set(key, encodeDropped({ ...dropped, builder: THIS_NODE }))
    }
    if (changes.size > 0) await backend.commit([changes])
  }
}
