/**
 * Asks one node for one block, within the time that it deserves (peer-health.ts), and believes nothing of what it says: every page is checked by its checksum before anybody sees it (C14).
 * Whatever comes of it is an outcome, and counted; nothing is thrown.
 */
import type { Clock } from '../../common/clock.ts'
import { isTidegateError } from '../../common/errors.ts'
import type { Limits } from '../../common/limits.ts'
import type { NodeCalls, NodeReply } from '../../common/node-calls.ts'
import { decodeAnswer, encodeQuestion, type BlockAnswer, type Outcome } from './messages.ts'
import type { AskKind, PeerHealth } from './peer-health.ts'
import { PageChecks, type PageChecksOptions } from './page-checks.ts'
import type { BlockWanted, PeerAskFigures } from './ports.ts'

export interface AskerOptions extends PageChecksOptions {
  readonly calls: Pick<NodeCalls, 'call'>
  readonly health: PeerHealth
  readonly limits: Pick<Limits, 'blockBytes' | 'pageBytes' | 'hashInlineBytesMax'>
  readonly clock: Clock
}

/** The length of the block, or why it did not come. `silent`: no answer in time, none at all, or none that makes sense. */
export type Asked = { readonly length: number } | { readonly outcome: Exclude<Outcome, 'here'> | 'silent' | 'bad' }

export interface AskOptions {
  readonly kind: AskKind
  readonly waitMsMax: number
  readonly signal: AbortSignal
}

type Counts = { -readonly [name in keyof PeerAskFigures]: number }

export class Asker {
  readonly #options: AskerOptions
  readonly #checks: PageChecks
  readonly #byPeer = new Map<number, Counts>()

  constructor(options: AskerOptions) {
    this.#options = options
    this.#checks = new PageChecks(options)
  }

  figures(node: number): PeerAskFigures {
    return { ...this.#counts(node) }
  }

  /** Those that were asked since the start. */
  get nodes(): readonly number[] {
    return [...this.#byPeer.keys()]
  }

  async ask(node: number, want: BlockWanted, options: AskOptions): Promise<Asked> {
    const { health, clock } = this.#options
    const counts = this.#counts(node)
    const beganMs = clock.monotonicMs()
    health.asked(node)
    const from = this.#sentFrom(want)
    const reply = await this.#call(node, { ...want, from }, options)
    const answer = reply && decodeAnswer(reply.head)
    if (!reply || !answer || !this.#isSound(answer, reply, from)) {
      // Of what did not come, `#call` has counted why.
      if (reply) this.#failed(node)
      return { outcome: 'silent' }
    }
    if (answer.outcome === 'here' && answer.length >= want.needed) {
      if (!(await this.#complete(want, answer, from))) {
        counts.badPages++
        health.failed(node)
        return { outcome: 'bad' }
      }
      health.answered(node, options.kind, clock.monotonicMs() - beganMs)
      counts.hits++
      counts.bytesIn += reply.body.length
      return { length: answer.length }
    }
    health.answered(node, options.kind, clock.monotonicMs() - beganMs)
    counts.misses++
    return { outcome: answer.outcome === 'here' ? 'elsewhere' : answer.outcome }
  }

  /** Bytes that are here already, in whole pages: those of a block never change. */
  #sentFrom({ needed, held }: BlockWanted): number {
    const { pageBytes } = this.#options.limits
    return held && held.length < needed ? Math.floor(held.length / pageBytes) * pageBytes : 0
  }

  async #call(
    node: number,
    want: BlockWanted & { readonly from: number },
    options: AskOptions,
  ): Promise<NodeReply | undefined> {
    const { calls, health, limits, slabView, clock } = this.#options
    const { kind, waitMsMax, signal } = options
    const head = encodeQuestion({ ...want, mayFetch: kind === 'fetched' })
    const deservedMs = health.waitMs(node, kind)
    const timeoutMs = Math.max(1, Math.min(deservedMs, Math.ceil(waitMsMax)))
    const beganMs = clock.monotonicMs()
    try {
      const into = slabView(want.slabOffset + want.from, limits.blockBytes - want.from)
      return await calls.call(node, { method: 'block', head }, { timeoutMs, into, signal })
    } catch (error) {
      const counts = this.#counts(node)
      if (isTidegateError(error, 'SlowDown')) {
        health.spared(node)
        counts.misses++
      } else if (clock.monotonicMs() - beganMs < timeoutMs) {
        this.#failed(node)
      } else {
        counts.timeouts++
        if (timeoutMs === deservedMs) health.timedOut(node, kind)
        else health.spared(node)
      }
      return undefined
    }
  }

  #failed(node: number): void {
    this.#counts(node).failures++
    this.#options.health.failed(node)
  }

  #isSound(answer: BlockAnswer, { body }: NodeReply, from: number): boolean {
    if (answer.outcome !== 'here') return body.length === 0
    // Shorter than what is here is less than was needed: it is told as such, without a body.
    return body.length === Math.max(0, answer.length - from) && answer.length <= this.#options.limits.blockBytes
  }

  /** Checks what came, and puts before it what was here. */
  async #complete(
    { slabOffset, held }: BlockWanted,
    { length, pageBytes, pageCrcs }: Extract<BlockAnswer, { outcome: 'here' }>,
    from: number,
  ): Promise<boolean> {
    const { slabView } = this.#options
    const slice = { slabOffset: slabOffset + from, length: length - from }
    if (!(await this.#checks.verify(slice, pageBytes, pageCrcs).catch(() => false))) return false
    if (held && from > 0) slabView(slabOffset, from).set(slabView(held.slabOffset, from))
    return true
  }

  #counts(node: number): Counts {
    let counts = this.#byPeer.get(node)
    if (!counts) {
      counts = { hits: 0, misses: 0, timeouts: 0, failures: 0, badPages: 0, bytesIn: 0 }
      this.#byPeer.set(node, counts)
    }
    return counts
  }
}
