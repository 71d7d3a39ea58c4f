/**
 * A node that will never be back is taken out of a namespace that it shared: what it kept for itself is let go by whoever is asked to.
 *
 *   O   files without a name that it had open: gone, unless another node has them open too (files/links.ts)
 *   G   composites that it was building: the reclaimer takes them apart like everything else that was dropped (composites.ts)
 *   N   its horizon: last, since until then it holds back what others would free (horizons.ts)
 *
 * It must have been shut out first, and for good (raft/node-number.ts, forgetNode): it may be running, cut off from here. In steps, and safe to repeat. Its
 * segments stay as they are: whether their bytes can still be had is for others to say.
 */
import type { ByteString, Revision } from '../../common/ids.ts'
import { nodeName, type NamespaceContext } from './context.ts'
import { dropFile, orphanedFiles } from './files/remove.ts'
import {
  HORIZONS,
  HORIZON_NODE_AT,
  RECLAIM,
  horizonKey,
  integerAt,
  prefixEnd,
  prefixRange,
  reclaimKindOf,
} from './keys.ts'
import { decodeDropped, decodeInteger, encodeDropped } from './records-contents.ts'

const STEP_ROWS = 256
const NODES_MAX = 1024

export interface SharingNode {
  readonly number: number
  /** Its readers all began then or later, as far as it has said. */
  readonly horizon: Revision
}

export async function sharingNodes(context: NamespaceContext): Promise<readonly SharingNode[]> {
  const rows = await context.store.read((view) => view.scan(prefixRange(HORIZONS), NODES_MAX))
  return rows.map(({ key, value }) => ({ number: integerAt(key, HORIZON_NODE_AT), horizon: decodeInteger(value) }))
}

export async function removeNode(
  context: NamespaceContext,
  number: number,
): Promise<{ readonly files: number; readonly builds: number }> {
  const gone = { ...context, node: nodeName(number), nodeNumber: number }
  const files = await dropOpenFiles(gone)
  const builds = await dropBuilds(gone)
  const { durable } = await context.store.transact((tx) => Promise.resolve(tx.delete(horizonKey(number))))
  await durable
  return { files, builds }
}

async function dropOpenFiles(gone: NamespaceContext): Promise<number> {
  for (let dropped = 0; ;) {
    const files = await orphanedFiles(gone, STEP_ROWS)
    if (files.length === 0) return dropped
    for (const file of files) await dropFile(gone, file)
    dropped += files.length
  }
}

async function dropBuilds({ store, node }: NamespaceContext): Promise<number> {
  const end = prefixEnd(RECLAIM)
  let dropped = 0
  for (let start: ByteString | undefined = RECLAIM as ByteString; start !== undefined;) {
    const range = { start, end }
    const { value } = await store.transact(async (tx) => {
      const rows = await tx.scan(range, STEP_ROWS)
      let found = 0
      for (const { key, value } of rows) {
        if (reclaimKindOf(key) !== 'content') continue
        const { builder, content } = decodeDropped(value)
        if (builder !== node) continue
        tx.put(key, encodeDropped({ builder: undefined, content }))
        found++
      }
      return { found, last: rows.length < STEP_ROWS ? undefined : rows.at(-1)?.key }
    })
    dropped += value.found
    start = value.last && (`${value.last}\0` as ByteString)
  }
  return dropped
}
