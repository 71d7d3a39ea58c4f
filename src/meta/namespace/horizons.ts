/**
 * Where several nodes share the namespace, what was dropped is taken apart only when no node reads from before it any more (C12). Each node says in a row
 * of its own, table N, from which revision on all its readers began; nobody takes apart what was seen at a later one. A node says so when it
 * has something to take apart itself, which all nodes have at about the same time: all look at the same table. So while nothing is dropped nothing is written.
 *
 *   N  node    integer horizon
 *
 * A node that starts has its row before it serves, and one that was stopped left one that is true: who reads there later began later. A node that
 * does not run holds back what others would free until it is back, or was removed from the namespace for good.
 */
import type { Revision } from '../../common/ids.ts'
import type { ReadView } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import { HORIZONS, horizonKey, prefixRange } from './keys.ts'
import { decodeInteger, encodeInteger } from './records-contents.ts'

const NODES_MAX = 1024

/** To be called before the node serves. Without a namespace that is shared there is nothing to do. */
export async function joinHorizons(context: NamespaceContext): Promise<void> {
  if (!context.store.isShared) return
  const key = horizonKey(context.nodeNumber)
  const { durable } = await context.store.transact(async (tx) => {
    if (!(await tx.get(key))) tx.put(key, encodeInteger(0))
  })
  await durable
}

/** No reader of any node began before that. */
export async function sharedHorizon(view: ReadView): Promise<Revision> {
  const rows = await view.scan(prefixRange(HORIZONS), NODES_MAX)
  return Math.min(...rows.map(({ value }) => decodeInteger(value)))
}

/** This node's readers all began then or later. */
export async function publishHorizon(context: NamespaceContext, horizon: Revision): Promise<void> {
  const key = horizonKey(context.nodeNumber)
  await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    if (!row || decodeInteger(row) < horizon) tx.put(key, encodeInteger(horizon))
  })
}
