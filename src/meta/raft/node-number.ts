/**
 * A node's number among those that share the metadata: given at its first start, never to another one, also when the node is gone.
 *
 *   <prefix> 00 node/ number (4)     16 random bytes: the node's identity
 *
 * The node keeps number and identity with what else it has; both must be found here again, or what it has belongs to other metadata.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { onlyKey, type EtcdLayout } from './layout.ts'
import { EtcdFailure, type Etcd } from './ports.ts'
import { unavailable } from './words.ts'

const IDENTITY_BYTES = 16
const RETRY_MS = 100
const NODES_MAX = 1_000_000

export interface NodeIdentity {
  /** From 1. */
  readonly number: number
  /** 32 hex digits. */
  readonly identity: string
}

export interface NodeNumberOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  /** How long etcd may be away. */
  readonly waitMsMax: number
}

/** Safe to be interrupted anywhere: then a number is given that nobody has. @throws TidegateError */
export async function takeNodeNumber(options: NodeNumberOptions): Promise<NodeIdentity> {
  const { etcd, layout, fillRandom } = options
  const value = new Uint8Array(IDENTITY_BYTES)
  fillRandom(value)
  return await whileAway(options, async () => {
    for (let number = await firstFree(options); ; number++) {
      assert(number < NODES_MAX, 'there are not so many nodes')
      const key = layout.node(number)
      const { succeeded } = await etcd.transact({
        compares: [{ kind: 'unchanged', key, modRevision: 0 }],
        success: [{ kind: 'put', key, value }],
        failure: [],
      })
      if (succeeded) return { number, identity: Buffer.from(value).toString('hex') }
    }
  })
}

/** Whether these are the metadata that gave that number. @throws TidegateError */
export async function isKnownNode(options: NodeNumberOptions, { number, identity }: NodeIdentity): Promise<boolean> {
  const { etcd, layout } = options
  const { rows } = await whileAway(options, () => etcd.range({ range: onlyKey(layout.node(number)), limit: 1 }))
  return rows[0] !== undefined && Buffer.from(rows[0].value).toString('hex') === identity
}

async function firstFree({ etcd, layout }: NodeNumberOptions): Promise<number> {
  const { rows } = await etcd.range({ range: layout.nodes, limit: 0 })
  const last = rows.at(-1)
  return last === undefined ? 1 : layout.nodeOf(last.key) + 1
}

async function whileAway<T>({ clock, waitMsMax }: NodeNumberOptions, what: () => Promise<T>): Promise<T> {
  const endMs = clock.monotonicMs() + waitMsMax
  for (;;) {
    try {
      return await what()
    } catch (error) {
      const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
      if (!passes || clock.monotonicMs() >= endMs) throw unavailable(error)
    }
    await clock.sleep(RETRY_MS)
  }
}
