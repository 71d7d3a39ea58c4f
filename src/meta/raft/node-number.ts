/**
 * A node's number among those that share the metadata: given at its first start, never to another one, also when the node is gone.
 *
 *   <prefix> 00 node/ number (4)     16 random bytes: the node's identity
 *
 * The node keeps number and identity with what else it has; both must be found here again, or what it has belongs to other metadata.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import { decodeMoving, movingIs, whyNotServed } from '../migrate/moving-row.ts'
import { onlyKey, type EtcdLayout } from './layout.ts'
import { EtcdFailure, type Etcd, type EtcdOperation } from './ports.ts'
import { unavailable } from './words.ts'

const IDENTITY_BYTES = 16
const RETRY_MS = 100
const WAITING_TOLD_EVERY_MS = 10_000
const NODES_MAX = 1_000_000

export interface NodeIdentity {
  /** From 1; 0 is the one whose metadata were moved here (migrate/to-etcd.ts). */
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
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined
  /** Told now and then what is waited for. */
  readonly onWaiting?: ((reason: string) => void) | undefined
}

/**
 * Safe to be interrupted anywhere: then a number is given that nobody has. Nobody gets one of metadata that are on their way (migrate/moving-row.ts).
 * @throws TidegateError
 */
export async function takeNodeNumber(options: NodeNumberOptions): Promise<NodeIdentity> {
  const { etcd, layout, fillRandom } = options
  const value = new Uint8Array(IDENTITY_BYTES)
  fillRandom(value)
  return await whileAway(options, async () => {
    for (let number = await firstFree(options); ; number++) {
      assert(number < NODES_MAX, 'there are not so many nodes')
      const key = layout.node(number)
      const { succeeded, results } = await etcd.transact({
        compares: [{ kind: 'unchanged', key, modRevision: 0 }, movingIs(layout, undefined)],
        success: [{ kind: 'put', key, value }],
        failure: [{ kind: 'range', range: onlyKey(layout.moving), limit: 1 }],
      })
      if (succeeded) return { number, identity: Buffer.from(value).toString('hex') }
      const moving = results[0]?.kind === 'range' ? results[0].found.rows[0] : undefined
      if (moving) throw new TidegateError('Unavailable', whyNotServed(layout.prefix, decodeMoving(moving.value).state))
    }
  })
}

/** Whether these are the metadata that gave that number. @throws TidegateError */
export async function isKnownNode(options: NodeNumberOptions, { number, identity }: NodeIdentity): Promise<boolean> {
  const { etcd, layout } = options
  const { rows } = await whileAway(options, () => etcd.range({ range: onlyKey(layout.node(number)), limit: 1 }))
  return rows[0] !== undefined && Buffer.from(rows[0].value).toString('hex') === identity
}

/**
 * Shuts a node out for good, whether it is running somewhere or not: from here on nothing that it sends takes effect, and it learns so; nor can it start again. The
 * row of its number stays, without an identity, so that nobody gets that number. @throws TidegateError
 */
export async function forgetNode(
  options: Omit<NodeNumberOptions, 'fillRandom'>,
  number: number,
): Promise<{ readonly wasKnown: boolean }> {
  const { etcd, layout } = options
  const forget: EtcdOperation[] = [
    { kind: 'put', key: layout.node(number), value: new Uint8Array(0) },
    { kind: 'delete', range: onlyKey(layout.session(number)) },
    { kind: 'delete', range: onlyKey(layout.pause(number)) },
    { kind: 'delete', range: layout.marksOf(number) },
  ]
  const { rows } = await whileAway(options, () => etcd.range({ range: onlyKey(layout.node(number)), limit: 1 }))
  if (rows[0] === undefined) return { wasKnown: false }
  await whileAway(options, () => etcd.transact({ compares: [], success: forget, failure: [] }))
  return { wasKnown: true }
}

async function firstFree({ etcd, layout }: NodeNumberOptions): Promise<number> {
  const { rows } = await etcd.range({ range: layout.nodes, limit: 0 })
  const last = rows.at(-1)
  return last === undefined ? 1 : layout.nodeOf(last.key) + 1
}

async function whileAway<T>(options: Omit<NodeNumberOptions, 'fillRandom'>, what: () => Promise<T>): Promise<T> {
  const { clock, waitMsMax, signal, onWaiting } = options
  const endMs = clock.monotonicMs() + waitMsMax
  let toldMs = -Infinity
  for (;;) {
    try {
      return await what()
    } catch (error) {
      const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
      const nowMs = clock.monotonicMs()
      if (!passes || nowMs >= endMs) throw unavailable(error)
      if (nowMs - toldMs >= WAITING_TOLD_EVERY_MS) {
        toldMs = nowMs
        onWaiting?.(unavailable(error).message)
      }
    }
    await clock.sleep(RETRY_MS, signal)
  }
}
