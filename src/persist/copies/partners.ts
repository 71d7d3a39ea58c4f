/** Which nodes copies go to, as the owner of segments sees it: who is there, who failed lately, and since when somebody is away. */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeView } from '../../common/node-view.ts'
import { choosePartner } from './choose-partner.ts'

/** A node that failed at a copy is the last choice for so long. */
const FAILING_MS = 10_000

export interface PartnersOptions {
  readonly view: NodeView
  readonly clock: Clock
  readonly random: () => number
}

export class Partners {
  readonly #options: PartnersOptions
  readonly #failingUntilMs = new Map<number, number>()
  /** Nodes that were looked for in vain, and since when. */
  readonly #awaySinceMs = new Map<number, number>()
  readonly #unwatch: () => void

  constructor(options: PartnersOptions) {
    this.#options = options
    this.#unwatch = options.view.onChange(() => this.#forgetReturned())
  }

  stop(): void {
    this.#unwatch()
  }

  /** @throws Unavailable when no other node serves */
  choose(besides: ReadonlySet<number> = new Set()): number {
    const { view, random } = this.#options
    const node = choosePartner({ view, failing: this.#failing(), besides, random: random() })
    if (node !== undefined) return node
    const others = view.members().filter(({ number }) => number !== view.self).length
    const why = others === 0 ? 'no other node is there' : `none of the ${others} other nodes can take a copy now`
    throw new TidegateError('Unavailable', `the bytes cannot be replicated: ${why}`)
  }

  isThere(node: number): boolean {
    return this.#options.view.member(node) !== undefined
  }

  /** Asking it anything may take as long as it takes to fail. */
  isFailing(node: number): boolean {
    return this.#failing().has(node)
  }

  failed(node: number): void {
    this.#failingUntilMs.set(node, this.#nowMs() + FAILING_MS)
  }

  /** How long it has been away, counted from when that was first asked. */
  awayMs(node: number): number {
    if (this.isThere(node)) return 0
    const since = this.#awaySinceMs.get(node) ?? this.#nowMs()
    this.#awaySinceMs.set(node, since)
    return this.#nowMs() - since
  }

  #failing(): ReadonlySet<number> {
    const nowMs = this.#nowMs()
    for (const [node, untilMs] of this.#failingUntilMs) if (untilMs <= nowMs) this.#failingUntilMs.delete(node)
    return new Set(this.#failingUntilMs.keys())
  }

  #forgetReturned(): void {
    for (const node of this.#awaySinceMs.keys()) if (this.isThere(node)) this.#awaySinceMs.delete(node)
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }
}
