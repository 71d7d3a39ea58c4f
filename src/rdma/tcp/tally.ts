/** What is counted, by peer and of all. */
import { REFUSALS, type PeerFigures, type Refusal, type TransportFigures } from '../ports.ts'
import { Refused } from './handshake.ts'

/** Of one node, over all connections with it that there were. */
export class PeerTally {
  calls = 0
  failures = 0
  bytesIn = 0
  bytesOut = 0
  roundTripMs: number | undefined
  readonly #all: Tally

  constructor(all: Tally) {
    this.#all = all
  }

  get badFrames(): number {
    return this.#all.badFrames
  }

  set badFrames(count: number) {
    this.#all.badFrames = count
  }
}

export class Tally {
  badFrames = 0
  readonly #peers = new Map<number, PeerTally>()
  readonly #refused = new Map<Refusal, number>()

  of(node: number): PeerTally {
    const known = this.#peers.get(node)
    if (known !== undefined) return known
    const peer = new PeerTally(this)
    this.#peers.set(node, peer)
    return peer
  }

  refused(reason: Refusal): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1)
  }

  /** Of what a handshake rejected with. */
  refusedBy(error: unknown): void {
    if (error instanceof Refused) this.refused(error.reason)
  }

  figures(isConnected: (node: number) => boolean): TransportFigures {
    const peers = [...this.#peers].map(([node, { calls, failures, bytesIn, bytesOut, roundTripMs }]): PeerFigures => {
      return { node, connected: isConnected(node), calls, failures, bytesIn, bytesOut, roundTripMs }
    })
    const refused = Object.fromEntries(REFUSALS.map((reason) => [reason, this.#refused.get(reason) ?? 0]))
    return { peers, refused: refused as Record<Refusal, number>, badFrames: this.badFrames }
  }
}
