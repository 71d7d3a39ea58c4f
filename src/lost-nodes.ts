/**
 * What becomes of a node that is lost: a background job that every node has (docs/decisions/0018).
 *
 *   absent     its member row is away. For up to the grace nothing happens: it may be restarting
 *   fenced     by the lowest of the nodes that serve: nothing that it has under way takes effect any more (meta/raft/nodes/lost-nodes.ts)
 *   parted     by the same: its horizon does not count any more, so nobody waits for its readers, and what it kept for itself may be let go
 *   let go     its open files, unfinished contents and locks; what it had persisted where all nodes reach it is the cleaning node's from then on
 *   inherited  by every node that holds copies: the segments that it holds, one by one. The first of the living holders does so at once, the next ones later, if it has not
 *
 * Every step is a compare-and-swap or harmless to repeat, and each says on what it depends: so it does not matter who does it, how often, or where it is broken off. The
 * node may come back at any moment. Once it has joined again, steps that were under way for its former life fail (ConditionalRequestConflict), and that is the end of it.
 *
 * A node that was stopped for longer than the grace is treated the same: nobody can tell, and what it has is as far away.
 *
 * What has no copy and is in no store that all reach stays the lost node's. It cannot be read until the node is back.
 */
import type { BackgroundJob } from './common/background.ts'
import type { Clock } from './common/clock.ts'
import { isTidegateError } from './common/errors.ts'
import type { SegmentId } from './common/ids.ts'
import type { NodeView } from './common/node-view.ts'
import type { RemoteReach } from './meta/namespace/inherit-segments.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import type { AbsentNode, LostNodes } from './meta/raft/nodes/lost-nodes.ts'

export interface LostNode {
  readonly number: number
  /** Where it was seen since this process began. */
  readonly name: string | undefined
  /** `unknown`: its gateway is of before nodes had member rows, or never joined; nobody judges it. */
  readonly state: 'away' | 'fenced' | 'cleaned' | 'unknown'
  /** As this process has seen it. */
  readonly awayMs: number
}

export type LostNodeEvent =
  | { readonly kind: 'fenced'; readonly node: number; readonly absentMs: number }
  | {
      readonly kind: 'let go'
      readonly node: number
      readonly files: number
      readonly builds: number
      readonly locks: number
    }
  /** Segments that are this node's from now on. */
  | {
      readonly kind: 'inherited'
      readonly node: number
      readonly from: 'copies' | 'remote store'
      readonly segments: number
    }

export interface LostNodesOptions {
  readonly clock: Clock
  readonly view: NodeView
  readonly graceMs: number
  readonly fencing: Pick<LostNodes, 'look' | 'fence' | 'isStill'>
  readonly namespace: Pick<
    Namespace,
    'lifeOfNode' | 'partNode' | 'letGo' | 'removeNode' | 'inheritPersisted' | 'inheritSegment' | 'segmentsCopiedTo'
  >
  /** Whether what a node calls persisted lies where all reach it. */
  readonly remote: RemoteReach
  /** Undefined where this node keeps no copies. */
  readonly copies:
    | {
        /** Whether a copy of it lies here. */
        holds(segment: SegmentId): Promise<boolean>
        /** It is this node's, durably. Safe to repeat. */
        adopt(segment: SegmentId): Promise<unknown>
      }
    | undefined
  readonly onEvent: (event: LostNodeEvent) => void
}

const PAUSE_MS = 1_000
/** How much later each further holder of a copy takes it. */
const TURN_MS = 10_000
/** For what was not this node's turn. */
const LOOK_AGAIN_MS = 5_000
/** Rows of segments that one step looks at: below what one transaction may compare. */
const STEP_ROWS = 64
const ADOPTED_A_ROUND_MAX = 16

/** What this process has done about one fencing of a node. */
interface Progress {
  /** Of the fencing (AbsentNode). */
  readonly session: number
  readonly sinceMs: number
  letGo: boolean
  inherited: boolean
  lookedMs: number
}

export class LostNodesJob {
  readonly #options: LostNodesOptions
  readonly #names = new Map<number, string>()
  readonly #progress = new Map<number, Progress>()
  /** Are this node's, and their files still lie among the copies. */
  readonly #unadopted = new Set<SegmentId>()
  #lost: readonly LostNode[] = []

  constructor(options: LostNodesOptions) {
    this.#options = options
  }

  get job(): BackgroundJob {
    return { name: 'lost-nodes', pauseMs: PAUSE_MS, round: () => this.round() }
  }

  /** Those away, as the last round has seen them. */
  lost(): readonly LostNode[] {
    return this.#lost
  }

  async round(): Promise<boolean> {
    const { fencing, view } = this.#options
    for (const { number, name } of view.members()) this.#names.set(number, name)
    const absent = (await fencing.look()).filter(({ node }) => node !== view.self)
    const away = new Set(absent.map(({ node }) => node))
    for (const node of this.#progress.keys()) if (!away.has(node)) this.#progress.delete(node)
    const lost: LostNode[] = []
    const failures: unknown[] = []
    await this.#adoptLeft(failures)
    let more = false
    for (const node of absent) {
      let state: LostNode['state'] = node.state === 'absent' ? 'away' : 'fenced'
      try {
        const attended = await this.#attend(node)
        state = attended.state
        more ||= attended.isMore
      } catch (error) {
        // Back meanwhile: what was under way was for its former life.
        if (isTidegateError(error, 'ConditionalRequestConflict')) continue
        failures.push(error)
      }
      if (node.state !== 'forgotten')
        lost.push({ number: node.node, name: this.#names.get(node.node), state, awayMs: node.absentMs })
    }
    this.#lost = lost
    if (failures.length > 0) throw failures[0]
    return more
  }

  async #attend(absent: AbsentNode): Promise<{ state: LostNode['state']; isMore: boolean }> {
    if (absent.state === 'absent') return { state: await this.#judge(absent), isMore: false }
    const progress = this.#progressOf(absent)
    if (!progress.letGo && this.#isFirst()) await this.#cleanUp(absent, progress)
    const isMore = await this.#inherit(absent, progress)
    return { state: progress.inherited && (progress.letGo || !this.#isFirst()) ? 'cleaned' : 'fenced', isMore }
  }

  async #judge(absent: AbsentNode): Promise<LostNode['state']> {
    const { fencing, namespace, graceMs, onEvent } = this.#options
    if (absent.absentMs < graceMs) return 'away'
    const life = await namespace.lifeOfNode(absent.node)
    if (life === 'unknown' || life === 'absent') return 'unknown'
    if (!this.#isFirst() || !(await fencing.fence(absent))) return 'away'
    onEvent({ kind: 'fenced', node: absent.node, absentMs: absent.absentMs })
    return 'fenced'
  }

  #isFirst(): boolean {
    const { view } = this.#options
    return view.members().find(({ state }) => state === 'serving')?.number === view.self
  }

  #progressOf({ node, session }: AbsentNode): Progress {
    const known = this.#progress.get(node)
    if (known?.session === session) return known
    const sinceMs = this.#options.clock.monotonicMs()
    const progress = { session, sinceMs, letGo: false, inherited: false, lookedMs: -Infinity }
    this.#progress.set(node, progress)
    return progress
  }

  async #cleanUp(absent: AbsentNode, progress: Progress): Promise<void> {
    const { namespace, fencing, onEvent } = this.#options
    const { node } = absent
    if (absent.state === 'forgotten') await namespace.removeNode(node)
    const life = await namespace.lifeOfNode(node)
    if (!isGone(life)) {
      // Asked after its life was read: so that is the life that was shut out, and not one that has begun since.
      if (!(await fencing.isStill(absent)) || !(await namespace.partNode(node, life))) return
    }
    const { files, builds, locks } = await namespace.letGo(node)
    if (files + builds + locks > 0) onEvent({ kind: 'let go', node, files, builds, locks })
    await this.#inheritPersisted(node)
    progress.letGo = true
  }

  async #inheritPersisted(node: number): Promise<void> {
    const { namespace, remote, onEvent } = this.#options
    if (remote !== 'all') return
    let segments = 0
    for (let after: SegmentId | undefined; ;) {
      const { value, durable } = await namespace.inheritPersisted(node, after, STEP_ROWS)
      await durable
      segments += value.inherited
      after = value.next
      if (after === undefined) break
    }
    if (segments > 0) onEvent({ kind: 'inherited', node, from: 'remote store', segments })
  }

  /** One bounded step. Returns whether there is more to do at once. */
  async #inherit(absent: AbsentNode, progress: Progress): Promise<boolean> {
    const { clock, namespace, view, copies } = this.#options
    if (!copies) progress.inherited = true
    // A node that is shut out adds nothing to what it had.
    if (!copies || progress.inherited) return false
    const nowMs = clock.monotonicMs()
    if (nowMs - progress.lookedMs < LOOK_AGAIN_MS || !isGone(await namespace.lifeOfNode(absent.node))) return false
    let [taken, left] = [0, false]
    for (let after: SegmentId | undefined; taken < ADOPTED_A_ROUND_MAX;) {
      const page = await namespace.segmentsCopiedTo(view.self, after, STEP_ROWS)
      for (const { segment, node, copies: holders = [] } of page) {
        if ((node ?? 0) !== absent.node || taken >= ADOPTED_A_ROUND_MAX) continue
        const isTurn = nowMs - progress.sinceMs >= TURN_MS * this.#turn(holders)
        // One that has no copy is no node's to wait for; nor one that names this node and was lost before its first byte came here.
        if (!isTurn) left ||= holders.length > 0
        else if ((await copies.holds(segment)) && (await this.#inheritOne(segment, absent.node))) taken++
      }
      after = page.length < STEP_ROWS ? undefined : page.at(-1)?.segment
      if (after === undefined) break
    }
    if (taken > 0) this.#options.onEvent({ kind: 'inherited', node: absent.node, from: 'copies', segments: taken })
    if (taken >= ADOPTED_A_ROUND_MAX) return true
    progress.lookedMs = nowMs
    progress.inherited = !left
    return false
  }

  /** How many living nodes that hold copies too come before this one. */
  #turn(holders: readonly number[]): number {
    const { view } = this.#options
    return holders.filter((holder) => holder < view.self && view.member(holder)?.state === 'serving').length
  }

  async #inheritOne(segment: SegmentId, from: number): Promise<boolean> {
    const { namespace, remote } = this.#options
    const { value, durable } = await namespace.inheritSegment(segment, from, remote)
    if (!value) return false
    await durable
    this.#unadopted.add(segment)
    await this.#adopt(segment)
    return true
  }

  async #adopt(segment: SegmentId): Promise<void> {
    await this.#options.copies?.adopt(segment)
    this.#unadopted.delete(segment)
  }

  /** What failed before. What this process does not live to adopt is found at its next start (persist/copies). */
  async #adoptLeft(failures: unknown[]): Promise<void> {
    for (const segment of this.#unadopted) {
      try {
        await this.#adopt(segment)
      } catch (error) {
        failures.push(error)
        // The others have their turn before it.
        this.#unadopted.delete(segment)
        this.#unadopted.add(segment)
        return
      }
    }
  }
}

/** It was parted from the namespace, for a while or for good. */
function isGone(life: string): boolean {
  return life === 'parted' || life === 'absent'
}
