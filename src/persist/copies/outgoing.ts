/** Copies of this node's segments that are being written, and which of those written lately are whole. */
import { isTidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { NodeView } from '../../common/node-view.ts'
import type { CopyIndex, OutgoingCopy, StartsCopies } from './ports.ts'
import type { Partners } from './partners.ts'
import { CopySender } from './sender.ts'

/** Segments that are known to be whole on a partner; of one that is forgotten the partner is asked. */
const WHOLE_MAX = 65_536

export interface OutgoingOptions {
  readonly calls: Pick<NodeCalls, 'call'>
  readonly view: NodeView
  readonly index: Pick<CopyIndex, 'copiesChanged'>
  readonly partners: Partners
  /** A copy failed before it was whole: the segment wants another, once it is sealed. */
  readonly onWanting: (segment: SegmentId) => void
}

export class OutgoingCopies implements StartsCopies {
  readonly #options: OutgoingOptions
  readonly #open = new Map<SegmentId, CopySender>()
  /** Oldest first. */
  readonly #whole = new Map<SegmentId, number>()
  readonly #unwatch: () => void

  constructor(options: OutgoingOptions) {
    this.#options = options
    this.#unwatch = options.view.onChange(() => this.#endGone())
  }

  get size(): number {
    return this.#open.size
  }

  partner(besides?: ReadonlySet<number>): number {
    return this.#options.partners.choose(besides)
  }

  async named(segment: SegmentId, node: number): Promise<void> {
    await (
      await this.#options.index.copiesChanged(segment, [node])
    ).durable
  }

  async open(segment: SegmentId, node: number): Promise<OutgoingCopy> {
    const { calls, partners, onWanting } = this.#options
    const sender = new CopySender({
      calls,
      node,
      segment,
      mode: 'live',
      onFailure: (error) => {
        this.#forget(sender)
        // A full disk of the partner's is its own affair, and no reason to think it dead; but the next copy goes elsewhere.
        if (!sender.isGivenUp && !isTidegateError(error, 'AccessDenied')) partners.failed(node)
        onWanting(segment)
      },
    })
    this.#open.set(segment, sender)
    await sender.open()
    return this.#remembering(sender)
  }

  /** While it is written. */
  live(segment: SegmentId): CopySender | undefined {
    return this.#open.get(segment)
  }

  /** Node that is known to have all of it. */
  wholeOn(segment: SegmentId): number | undefined {
    return this.#whole.get(segment)
  }

  nowWhole(segment: SegmentId, node: number): void {
    this.#whole.delete(segment)
    this.#whole.set(segment, node)
    if (this.#whole.size > WHOLE_MAX) this.#whole.delete(this.#whole.keys().next().value as SegmentId)
  }

  notWhole(segment: SegmentId): void {
    this.#whole.delete(segment)
  }

  async stop(): Promise<void> {
    this.#unwatch()
    await Promise.all([...this.#open.values()].map((sender) => sender.abandon()))
  }

  #remembering(sender: CopySender): OutgoingCopy {
    return {
      node: sender.node,
      segment: sender.segment,
      write: (pieces) => sender.write(pieces),
      sync: (through) => sender.sync(through),
      seal: async (footer) => {
        const sealed = await sender.seal(footer)
        if (sealed) {
          this.nowWhole(sender.segment, sender.node)
          this.#forget(sender)
        }
        return sealed
      },
      abandon: () => sender.abandon(),
      get failed() {
        return sender.failed
      },
    }
  }

  #forget(sender: CopySender): void {
    if (this.#open.get(sender.segment) === sender) this.#open.delete(sender.segment)
  }

  #endGone(): void {
    for (const sender of this.#open.values()) if (!this.#options.partners.isThere(sender.node)) sender.nodeGone()
  }
}
