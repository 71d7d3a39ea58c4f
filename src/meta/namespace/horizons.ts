/**
 * Where several nodes share the namespace, what was dropped is taken apart only when no node reads from before it any more (C12). Each node says in a row
 * of its own, table N, from which revision on all its readers began; nobody takes apart what was seen at a later one. A node says so when it
 * has something to take apart itself, which all nodes have at about the same time: all look at the same table. So while nothing is dropped nothing is written.
 *
 *   N  node    integer horizon, 8 random bytes: the node's life, anew at each start (older gateways write none); zeros: it was parted
 *
 * A node that starts has its row before it serves, and one that was stopped left one that is true: who reads there later began later. A node that
 * does not run holds back what others would free until it is back, or was parted from the namespace (remove-node.ts): then its row does not count until it
 * joins again. What is done to what such a node had left is done while it is parted.
 */
import type { Revision } from '../../common/ids.ts'
import type { ReadView } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import { HORIZONS, horizonKey, prefixRange } from './keys.ts'
import { decodeHorizon, encodeHorizon } from './records-contents.ts'

const NODES_MAX = 1024
const LIFE_BYTES = 8
/** No node's: theirs are random. */
export const PARTED: string = '00'.repeat(LIFE_BYTES)

/** To be called before the node serves. Without a namespace that is shared there is nothing to do. */
export async function joinHorizons(context: NamespaceContext): Promise<void> {
  if (!context.store.isShared) return
  const key = horizonKey(context.nodeNumber)
  const random = new Uint8Array(LIFE_BYTES)
  context.fillRandom(random)
  // Not that of who was parted, whatever the source of random bytes says.
  random[0] = (random[0] ?? 0) | 1
  const life = Buffer.from(random).toString('hex')
  const { durable } = await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    tx.put(key, encodeHorizon({ horizon: row ? decodeHorizon(row).horizon : 0, life }))
  })
  await durable
}

/** `absent`: it never joined, or was removed for good. `parted`: until it joins again. `unknown`: its gateway is of before there were lives. */
export async function lifeOfNode(context: NamespaceContext, number: number): Promise<string> {
  const row = await context.store.read((view) => view.get(horizonKey(number)))
  if (row === undefined) return 'absent'
  return isParted(row) ? 'parted' : (decodeHorizon(row).life ?? 'unknown')
}

export function isParted(row: Uint8Array | undefined): boolean {
  return row === undefined || decodeHorizon(row).life === PARTED
}

/** No reader of any node began before that. */
export async function sharedHorizon(view: ReadView): Promise<Revision> {
  const rows = await view.scan(prefixRange(HORIZONS), NODES_MAX)
  return Math.min(...rows.filter(({ value }) => !isParted(value)).map(({ value }) => decodeHorizon(value).horizon))
}

/** This node's readers all began then or later. */
export async function publishHorizon(context: NamespaceContext, horizon: Revision): Promise<void> {
  const key = horizonKey(context.nodeNumber)
  await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    const before = row && decodeHorizon(row)
    if (!before || before.horizon < horizon) tx.put(key, encodeHorizon({ horizon, life: before?.life }))
  })
}
