/**
 * Answers other nodes that ask for blocks: from memory, or by a fetch from what lies on this node, or from the remote store where this node is asked as the owner. The fetch never asks a
 * third node, so a question costs one hop and nobody waits in a circle.
 *
 * The block is lent to the socket and given back once it is sent (C13). One peer may hold a share of memory's slots at once, and all of them together another; beyond that they are
 * told `busy`, and look elsewhere.
 */
import { isTidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { NodeAnswer, NodeHandler, NodeRequest } from '../../common/node-calls.ts'
import type { FetchBlock, LentBlock, MemoryLevel } from '../memory-level.ts'
import { decodeQuestion, encodeAnswer, type BlockQuestion, type Outcome } from './messages.ts'
import type { NeighbourLevel } from './neighbour-level.ts'
import { PageChecks, type PageChecksOptions } from './page-checks.ts'
import type { ServedFigures } from './ports.ts'

export interface BlockServerOptions extends PageChecksOptions {
  readonly memory: Pick<MemoryLevel, 'lendNow' | 'lendToPeer' | 'isFetching' | 'giveBack' | 'slots'>
  readonly level: Pick<NeighbourLevel, 'mayBeAsking'>
  /** Fills a slot from what lies on this node, and if told to, from the remote store; undefined when it is not there. */
  readonly read: (
    place: { readonly segment: SegmentId; readonly block: number; readonly slabOffset: number },
    mayFetch: boolean,
  ) => Promise<number | undefined>
  readonly limits: Pick<Limits, 'pageBytes' | 'hashInlineBytesMax'>
}

/** Shares of the slots that questions of one peer, and of all, may hold at once. */
const PEER_SHARE_MAX = 1 / 8
const PEERS_SHARE_MAX = 3 / 8
/** Blocks whose checksums are remembered: those asked for often are asked for by every node. */
const CHECKSUMS_MAX = 4096

class NotHere extends Error {}

export class BlockServer {
  readonly #options: BlockServerOptions
  readonly #checks: PageChecks
  readonly #checksums = new Map<string, { readonly length: number; readonly pageCrcs: Uint32Array }>()
  readonly #heldBy = new Map<number, number>()
  #held = 0
  #figures = { served: 0, elsewhere: 0, busy: 0, bytesOut: 0 }

  constructor(options: BlockServerOptions) {
    this.#options = options
    this.#checks = new PageChecks(options)
  }

  get figures(): ServedFigures {
    return { ...this.#figures }
  }

  /** Of the method `block`. */
  readonly handler: NodeHandler = async (request) => {
    const question = decodeQuestion(request.head)
    if (!question || question.from % this.#options.limits.pageBytes !== 0) return answer('failed')
    if (!this.#take(request.from)) {
      this.#figures.busy++
      return answer('busy')
    }
    const done = (): void => this.#give(request.from)
    try {
      return await this.#answer(request, question, done)
    } catch (error) {
      done()
      return this.#refusal(error)
    }
  }

  /** `done` is called by whoever sends the answer, or here. */
  async #answer(request: NodeRequest, question: BlockQuestion, done: () => void): Promise<NodeAnswer> {
    const lent = await this.#lend(question)
    try {
      if (request.signal.aborted) throw new NotHere()
      const { length, slabOffset } = lent
      const { from } = question
      const { pageBytes } = this.#options.limits
      const pageCrcs = (await this.#pageCrcs(question, lent)).subarray(from / pageBytes)
      this.#figures.served++
      this.#figures.bytesOut += length - from
      return {
        head: encodeAnswer({ outcome: 'here', length, pageBytes, pageCrcs }),
        pieces: [this.#options.slabView(slabOffset + from, length - from)],
        sent: () => {
          this.#options.memory.giveBack(lent.lease)
          done()
        },
      }
    } catch (error) {
      this.#options.memory.giveBack(lent.lease)
      throw error
    }
  }

  async #lend({ segment, block, needed, mayFetch }: BlockQuestion): Promise<LentBlock> {
    const { memory, level, read } = this.#options
    const lent = memory.lendNow(segment, block, needed)
    if (lent) return lent
    if (memory.isFetching(segment, block) && (await level.mayBeAsking(segment, block))) throw new NotHere()
    const fetch: FetchBlock = async (_segment, _block, slabOffset) => {
      const length = await read({ segment, block, slabOffset }, mayFetch)
      // Less of it than is needed: it grows elsewhere, and this is what was copied of it.
      if (length === undefined || length < needed) throw new NotHere()
      return length
    }
    return await memory.lendToPeer(segment, block, needed, fetch)
  }

  #refusal(error: unknown): NodeAnswer {
    if (error instanceof NotHere) {
      this.#figures.elsewhere++
      return answer('elsewhere')
    }
    if (isTidegateError(error, 'SlowDown')) {
      this.#figures.busy++
      return answer('busy')
    }
    return answer(isTidegateError(error, 'DataLost') ? 'lost' : 'failed')
  }

  async #pageCrcs({ segment, block }: BlockQuestion, { slabOffset, length }: LentBlock): Promise<Uint32Array> {
    const key = `${segment}/${block}`
    const known = this.#checksums.get(key)
    if (known?.length === length) return known.pageCrcs
    const pageCrcs = await this.#checks.compute({ slabOffset, length }, this.#options.limits.pageBytes)
    this.#checksums.delete(key)
    this.#checksums.set(key, { length, pageCrcs })
    if (this.#checksums.size > CHECKSUMS_MAX) this.#checksums.delete(this.#checksums.keys().next().value as string)
    return pageCrcs
  }

  #take(node: number): boolean {
    const { slots } = this.#options.memory
    const held = this.#heldBy.get(node) ?? 0
    const isOver = held >= Math.max(1, Math.floor(slots * PEER_SHARE_MAX))
    if (isOver || this.#held >= Math.max(1, Math.floor(slots * PEERS_SHARE_MAX))) return false
    this.#heldBy.set(node, held + 1)
    this.#held++
    return true
  }

  #give(node: number): void {
    const held = (this.#heldBy.get(node) ?? 1) - 1
    if (held > 0) this.#heldBy.set(node, held)
    else this.#heldBy.delete(node)
    this.#held--
  }
}

function answer(outcome: Exclude<Outcome, 'here'>): NodeAnswer {
  return { head: encodeAnswer({ outcome }) }
}
