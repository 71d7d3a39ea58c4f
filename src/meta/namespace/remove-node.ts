/**
 * What a node kept for itself is let go by another one when it is lost, or will never be back.
 *
 *   N   its horizon: first. From then on the node is *parted* from the namespace, until it joins again (horizons.ts)
 *   O   files without a name that it had open: gone, unless another node has them open too (files/links.ts)
 *   G   composites that it was building: the reclaimer takes them apart like everything else that was dropped (composites.ts)
 *   H   locks that its mounts held (locks/)
 *
 * It must have been shut out first (raft/nodes/lost-nodes.ts, raft/node-number.ts): it may be running, cut off from here. One that was not shut out for good may
 * come back at any moment, and what it then opens or builds is not to be let go: so every transaction holds only while it is parted. Which life is to be parted is
 * said: the one it had before it was seen to be shut out. In steps, and safe to repeat. Its segments stay as they are: inherit-segments.ts.
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { ReadView } from '../ports.ts'
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
import { PARTED, isParted } from './horizons.ts'
import { dropLocks } from './locks/lock-rows.ts'
import { decodeDropped, decodeHorizon, encodeDropped, encodeHorizon } from './records-contents.ts'

const STEP_ROWS = 256
const NODES_MAX = 1024

export interface SharingNode {
  readonly number: number
  /** Its readers all began then or later, as far as it has said. */
  readonly horizon: Revision
}

export async function sharingNodes(context: NamespaceContext): Promise<readonly SharingNode[]> {
  const rows = await context.store.read((view) => view.scan(prefixRange(HORIZONS), NODES_MAX))
  return rows.map(({ key, value }) => ({
    number: integerAt(key, HORIZON_NODE_AT),
    horizon: decodeHorizon(value).horizon,
  }))
}

/** True when it has been parted, by whomever. False: it is in another life. */
export async function partNode(context: NamespaceContext, number: number, life: string): Promise<boolean> {
  const key = horizonKey(number)
  const { value, durable } = await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    if (row === undefined || isParted(row)) return true
    const before = decodeHorizon(row)
    if (before.life !== life) return false
    tx.put(key, encodeHorizon({ ...before, life: PARTED }))
    return true
  })
  await durable
  return value
}

export interface LetGo {
  readonly files: number
  readonly builds: number
  readonly locks: number
}

/** What a parted node left. @throws ConditionalRequestConflict when it is back */
export async function letGo(context: NamespaceContext, number: number): Promise<LetGo> {
  const gone = asParted(context, number)
  const files = await dropOpenFiles(gone)
  const builds = await dropBuilds(gone)
  return { files, builds, locks: await dropLocks(gone.store, number) }
}

/** Of a node that will never be back. */
export async function removeNode(context: NamespaceContext, number: number): Promise<LetGo> {
  const { durable } = await context.store.transact((tx) => Promise.resolve(tx.delete(horizonKey(number))))
  await durable
  return await letGo(context, number)
}

/** In the name of that node, as long as it is parted. */
function asParted(context: NamespaceContext, number: number): NamespaceContext {
  const { store } = context
  const whileParted: NamespaceContext['store'] = {
    ...store,
    transact: (fn, options) =>
      store.transact(async (tx) => {
        await mustBeParted(tx, number)
        return await fn(tx)
      }, options),
  }
  return { ...context, store: whileParted, node: nodeName(number), nodeNumber: number }
}

/** Asked in every transaction that takes something from a node. @throws ConditionalRequestConflict */
export async function mustBeParted(tx: Pick<ReadView, 'get'>, number: number): Promise<void> {
  if (isParted(await tx.get(horizonKey(number)))) return
  throw new TidegateError('ConditionalRequestConflict', `node ${number} is back`, { details: { node: number } })
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
