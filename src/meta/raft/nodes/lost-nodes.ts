/**
 * Nodes that are not there, and shutting them out.
 *
 * A node is *absent* while it has a session row (session.ts) and no member row, which it keeps alive by a lease as long as it runs. For how long it has been so is what
 * this process has seen with its own clock: the lease has run out before that begins. It begins anew when the node's session changes, when the node is seen, and whenever
 * etcd could not be asked for a while: who does not see etcd declares nobody lost.
 *
 * To *fence* a node is to overwrite its session row with an incarnation that nobody has, on condition that the row is as it was seen and that there is still no member row.
 * From then on nothing that its process has under way takes effect, since each of its groups compares that row; and the process learns of it, if it is alive, and ends
 * (C23). It is not forgotten: when it starts it takes the row again, by compare-and-swap, as after any stop.
 *
 * The row of a node that was forgotten for good (node-number.ts) has no identity, and it has no session: it counts as fenced.
 */
import type { Clock } from '../../../common/clock.ts'
import type { ByteString, Revision } from '../../../common/ids.ts'
import { encodeSession, onlyKey, sessionIncarnation, type EtcdLayout, type Incarnation } from '../layout.ts'
import type { Etcd, EtcdRow, EtcdTransaction, OperationResult, TransactionResult } from '../ports.ts'
import { unavailable } from '../words.ts'

/** No process has it: theirs are random. */
const NOBODY = '\0'.repeat(8) as Incarnation

/** After so long without having seen etcd what was seen before says nothing. */
const BLIND_MS_MAX = 5_000

export interface AbsentNode {
  readonly node: number
  /** As this process has seen it, without a gap. */
  readonly absentMs: number
  /** `forgotten`: it will never be back. */
  readonly state: 'absent' | 'fenced' | 'forgotten'
  /** Of its session row, 0 if there is none: what `fence` compares, and tells one fencing from the next. */
  readonly session: Revision
}

export interface LostNodesOptions {
  readonly etcd: Pick<Etcd, 'transact'>
  readonly layout: EtcdLayout
  readonly clock: Clock
}

interface Observed {
  readonly session: Revision
  readonly sinceMs: number
}

export class LostNodes {
  readonly #options: LostNodesOptions
  #observed = new Map<number, Observed>()
  #lookedMs = -Infinity

  constructor(options: LostNodesOptions) {
    this.#options = options
  }

  /** One linearizable look at all nodes. Ascending by number. @throws Unavailable */
  async look(): Promise<readonly AbsentNode[]> {
    const { layout, clock } = this.#options
    const ranges = [layout.sessions, layout.members, layout.nodes]
    const { results } = await this.#transact({
      compares: [],
      success: ranges.map((range) => ({ kind: 'range', range, limit: 0 })),
      failure: [],
    })
    const [sessions, members, nodes] = [rowsOf(results[0]), rowsOf(results[1]), rowsOf(results[2])]
    const present = new Set(members.map(({ key }) => key))
    const nowMs = clock.monotonicMs()
    const before = nowMs - this.#lookedMs > BLIND_MS_MAX ? new Map<number, Observed>() : this.#observed
    this.#observed = new Map()
    this.#lookedMs = nowMs
    const absent: AbsentNode[] = []
    for (const { key, value, modRevision: session } of sessions) {
      const node = layout.sessionNode(key)
      if (present.has(layout.member(node))) continue
      const known = before.get(node)
      const observed = known?.session === session ? known : { session, sinceMs: nowMs }
      this.#observed.set(node, observed)
      const state = sessionIncarnation(value) === NOBODY ? 'fenced' : 'absent'
      absent.push({ node, absentMs: nowMs - observed.sinceMs, state, session })
    }
    for (const { key, value } of nodes) {
      if (value.length === 0) absent.push({ node: layout.nodeOf(key), absentMs: 0, state: 'forgotten', session: 0 })
    }
    return absent.sort((one, other) => one.node - other.node)
  }

  /** False when it is not as it was seen: it is back, or another node was first. @throws Unavailable; it may have happened then */
  async fence({ node, session }: Pick<AbsentNode, 'node' | 'session'>): Promise<boolean> {
    const { layout } = this.#options
    const key = layout.session(node)
    const { succeeded } = await this.#transact({
      compares: [
        { kind: 'unchanged', key, modRevision: session },
        { kind: 'unchanged', key: layout.member(node), modRevision: 0 },
      ],
      success: [nested({ kind: 'put', key, value: encodeSession(NOBODY, 0) })],
      failure: [],
    })
    return succeeded
  }

  /** Whether what `look` saw of a fenced or forgotten node is still so. @throws Unavailable */
  async isStill({ node, session }: Pick<AbsentNode, 'node' | 'session'>): Promise<boolean> {
    const { layout } = this.#options
    const { succeeded } = await this.#transact({
      compares: [
        { kind: 'unchanged', key: layout.session(node), modRevision: session },
        { kind: 'unchanged', key: layout.member(node), modRevision: 0 },
      ],
      success: [{ kind: 'range', range: onlyKey(layout.session(node)), limit: 1 }],
      failure: [],
    })
    return succeeded
  }

  async #transact(transaction: EtcdTransaction): Promise<TransactionResult> {
    try {
      return await this.#options.etcd.transact(transaction)
    } catch (error) {
      throw unavailable(error)
    }
  }
}

/** So that it passes over etcd's quota as well (session.ts). */
function nested(put: { readonly kind: 'put'; readonly key: ByteString; readonly value: Uint8Array }): {
  readonly kind: 'transaction'
  readonly transaction: { readonly compares: []; readonly success: [typeof put]; readonly failure: [] }
} {
  return { kind: 'transaction', transaction: { compares: [], success: [put], failure: [] } }
}

function rowsOf(result: OperationResult | undefined): readonly EtcdRow[] {
  return result?.kind === 'range' ? result.found.rows : []
}
