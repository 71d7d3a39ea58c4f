/**
 * The neighbour level of the cache: where a block is not on this node, the others are asked for it before the remote store is.
 *
 *   in a remote store that all reach   its owner by hash is asked (ownership.ts), which fetches it there once, however many ask; if this node is the owner, or the owner does
 *                                      not give it in time, this node goes to the remote store itself
 *   with some nodes alone              the one that the segment's row names is asked, then those that hold copies; over and over for a bounded time, since nobody else has it
 *
 * A node that does not answer is rested (peer-health.ts): then the next in rank is taken for the owner. Nobody asks a third node on behalf of another (block-server.ts).
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeView } from '../../common/node-view.ts'
import { Asker, type Asked, type AskerOptions } from './asker.ts'
import { ownersOf } from './ownership.ts'
import { PeerHealth } from './peer-health.ts'
import type { BlockWanted, PeerAskFigures } from './ports.ts'
import { WhereaboutsMap, type WhereaboutsOptions } from './whereabouts.ts'

export interface NeighbourLevelOptions extends Omit<AskerOptions, 'health'>, Omit<WhereaboutsOptions, 'clock'> {
  readonly view: NodeView
}

/** Nodes are being asked. */
export interface AskedNeighbours {
  /**
   * The length of the block, at least what was needed, once it is in its slot and checked; undefined: it is to be had from the remote store, or nowhere.
   * @throws Unavailable, DataLost where it is with other nodes alone, and none of them gives it
   */
  readonly length: Promise<number | undefined>
}

type Plan =
  | { readonly ask: 'owner'; readonly node: number }
  /** `nodes`: without this one; `named` is whose the segment is. */
  | { readonly ask: 'holders'; readonly nodes: readonly number[]; readonly named: number }

/** For all that is tried where nobody else has the bytes. */
const TRY_MS_MAX = 10_000
const PAUSE_MS = { first: 50, max: 1000 }

export class NeighbourLevel {
  readonly #options: NeighbourLevelOptions
  readonly #clock: Clock
  readonly #view: NodeView
  readonly #health: PeerHealth
  readonly #asker: Asker
  readonly #whereabouts: WhereaboutsMap
  readonly #ending = new AbortController()
  readonly #unsubscribe: () => void
  readonly #incarnations = new Map<number, string | undefined>()
  /** Blocks that others are asked for, and how many times at once. */
  readonly #asking = new Map<string, number>()

  constructor(options: NeighbourLevelOptions) {
    this.#options = options
    this.#clock = options.clock
    this.#view = options.view
    this.#health = new PeerHealth(options.clock)
    this.#asker = new Asker({ ...options, health: this.#health })
    this.#whereabouts = new WhereaboutsMap(options)
    this.#unsubscribe = options.view.onChange(() => this.#forgetChanged())
  }

  /** Who is asked waits no longer, and nobody is asked any more. */
  stop(): void {
    this.#unsubscribe()
    this.#ending.abort(new TidegateError('Unavailable', 'the gateway is stopping'))
  }

  /** Undefined: there is nobody to ask, and the block is to be had from the remote store, or nowhere. @throws Unavailable when metadata cannot tell */
  async ask(want: BlockWanted): Promise<AskedNeighbours | undefined> {
    const plan = await this.#plan(want.segment, want.block)
    return plan && { length: this.#counted(want, plan) }
  }

  /**
   * Whether a fetch of this block by this node may be waiting for another. Such a one is not to be joined on behalf of a node, which might be the very one that is waited for: each would
   * have taken the other for the owner.
   */
  async mayBeAsking(segment: SegmentId, block: number): Promise<boolean> {
    const plan = await this.#plan(segment, block)
    // Of its own segments it asks others only where its own file is bad.
    const wouldAsk = plan !== undefined && !(plan.ask === 'holders' && plan.named === this.#view.self)
    return wouldAsk || this.#asking.has(keyOf(segment, block))
  }

  /** The segment is gone. */
  forget(segment: SegmentId): void {
    this.#whereabouts.forget(segment)
  }

  /** Of each node that was asked since the start. */
  figures(): readonly (PeerAskFigures & {
    readonly node: number
    readonly isResting: boolean
    readonly tookMs: number | undefined
  })[] {
    return this.#asker.nodes.map((node) => ({
      node,
      ...this.#asker.figures(node),
      isResting: this.#health.isResting(node),
      tookMs: this.#health.tookMs(node),
    }))
  }

  async #plan(segment: SegmentId, block: number): Promise<Plan | undefined> {
    if (this.#ending.signal.aborted) return undefined
    const found = await this.#whereabouts.find(segment)
    if (found === 'nowhere') return undefined
    const { self } = this.#view
    if (found === 'shared') {
      const ranked = ownersOf(this.#view.members(), segment, block, this.#options.limits.blockBytes)
      const owner = ranked.find((node) => node === self || !this.#health.isResting(node))
      return owner === undefined || owner === self ? undefined : { ask: 'owner', node: owner }
    }
    const nodes = found.filter((node) => node !== self)
    return nodes.length === 0 ? undefined : { ask: 'holders', nodes, named: found[0] ?? 0 }
  }

  async #counted(want: BlockWanted, plan: Plan): Promise<number | undefined> {
    const key = keyOf(want.segment, want.block)
    this.#asking.set(key, (this.#asking.get(key) ?? 0) + 1)
    try {
      return plan.ask === 'owner' ? await this.#askOwner(want, plan.node) : await this.#askHolders(want, plan)
    } finally {
      const others = (this.#asking.get(key) ?? 1) - 1
      if (others > 0) this.#asking.set(key, others)
      else this.#asking.delete(key)
    }
  }

  async #askOwner(want: BlockWanted, node: number): Promise<number | undefined> {
    const asked = await this.#asker.ask(node, want, {
      kind: 'fetched',
      waitMsMax: TRY_MS_MAX,
      signal: this.#ending.signal,
    })
    return 'length' in asked ? asked.length : undefined
  }

  async #askHolders(want: BlockWanted, first: Extract<Plan, { ask: 'holders' }>): Promise<number | undefined> {
    const deadlineMs = this.#clock.monotonicMs() + TRY_MS_MAX
    let plan = first
    let pauseMs = PAUSE_MS.first
    for (;;) {
      const round = await this.#askEach(want, plan.nodes, deadlineMs)
      if (round.length !== undefined) return round.length
      // It may lie elsewhere by now.
      this.#whereabouts.forget(want.segment)
      const next = await this.#plan(want.segment, want.block)
      if (!next) return undefined
      if (next.ask === 'owner') return await this.#askOwner(want, next.node)
      const isLost = round.isLost && next.nodes.join() === plan.nodes.join()
      plan = next
      const isLate = want.needed === 0 || this.#clock.monotonicMs() + pauseMs > deadlineMs
      this.#refuse(want, plan, { isLost, isLate })
      await this.#clock.sleep(pauseMs, this.#ending.signal)
      pauseMs = Math.min(2 * pauseMs, PAUSE_MS.max)
    }
  }

  /** Asks those that can answer, one after another. */
  async #askEach(
    want: BlockWanted,
    nodes: readonly number[],
    deadlineMs: number,
  ): Promise<{ readonly length: number | undefined; readonly isLost: boolean }> {
    let lost = 0
    for (const node of nodes) {
      const waitMsMax = deadlineMs - this.#clock.monotonicMs()
      const member = this.#view.member(node)
      if (!member || member.state === 'starting' || this.#health.isResting(node) || waitMsMax <= 0) continue
      const { signal } = this.#ending
      const asked: Asked = await this.#asker.ask(node, want, { kind: 'resident', waitMsMax, signal })
      if ('length' in asked) return { length: asked.length, isLost: false }
      if (asked.outcome === 'lost') lost++
    }
    return { length: undefined, isLost: lost === nodes.length }
  }

  /** Unless somebody may still give it. */
  #refuse(
    { segment, block }: BlockWanted,
    { nodes, named }: Extract<Plan, { ask: 'holders' }>,
    { isLost, isLate }: { readonly isLost: boolean; readonly isLate: boolean },
  ): void {
    if (isLost) {
      const message = `block ${block} of segment ${segment} cannot be read any more where it lies, on node ${nodes.join(' or ')}`
      throw new TidegateError('DataLost', message, { details: { segment, block } })
    }
    if (!isLate && nodes.some((node) => this.#view.member(node))) return
    const message = `the bytes lie on node ${named} and have not been carried to where other nodes can read them`
    throw new TidegateError('Unavailable', message, { details: { node: named } })
  }

  /** What was learned of a node is not true of the one that took its number. */
  #forgetChanged(): void {
    for (const node of this.#asker.nodes) {
      const incarnation = this.#view.member(node)?.incarnation
      if (this.#incarnations.has(node) && this.#incarnations.get(node) !== incarnation) this.#health.forget(node)
      this.#incarnations.set(node, incarnation)
    }
  }
}

function keyOf(segment: SegmentId, block: number): string {
  return `${segment}/${block}`
}
