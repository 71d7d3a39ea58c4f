/**
 * How long other nodes are waited for, and when they are left alone. Pure but for what it remembers: times come from the caller.
 *
 * The time follows what answers took, as TCP's retransmission does (RFC 6298: smoothed time and four times its deviation), for blocks that lie there and for those that it may have to
 * fetch apart from each other. A time that was too short is doubled. A node that did not answer is rested for half a second, then twice as long each time; after that one question tries it,
 * and the others pass it by until that is answered.
 */
import type { Clock } from '../../common/clock.ts'

/** `resident`: a block that lies there if anywhere. `fetched`: one that it may have to fetch itself. */
export type AskKind = 'resident' | 'fetched'

const WAIT_MS = {
  resident: { first: 2000, min: 250, max: 2000 },
  fetched: { first: 2000, min: 1000, max: 4000 },
} as const satisfies Record<AskKind, { first: number; min: number; max: number }>

const REST_MS_MIN = 500
const REST_MS_MAX = 10_000

interface Estimate {
  smoothedMs: number
  deviationMs: number
  /** After an answer that came too late, until one comes in time. */
  atLeastMs: number
}

interface Peer {
  readonly estimates: Partial<Record<AskKind, Estimate>>
  /** In a row. */
  failures: number
  restedUntilMs: number
  isTried: boolean
}

export class PeerHealth {
  readonly #clock: Clock
  readonly #peers = new Map<number, Peer>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  waitMs(node: number, kind: AskKind): number {
    const { first, min, max } = WAIT_MS[kind]
    const estimate = this.#peers.get(node)?.estimates[kind]
    if (!estimate) return first
    const { smoothedMs, deviationMs, atLeastMs } = estimate
    return Math.ceil(Math.min(max, Math.max(min, atLeastMs, smoothedMs + 4 * deviationMs)))
  }

  /** Whether others are to be asked first. */
  isResting(node: number): boolean {
    const peer = this.#peers.get(node)
    if (!peer || peer.failures === 0) return false
    return peer.isTried || this.#clock.monotonicMs() < peer.restedUntilMs
  }

  /** Call before each question, and one of the others after it. */
  asked(node: number): void {
    const peer = this.#peer(node)
    if (peer.failures > 0) peer.isTried = true
  }

  answered(node: number, kind: AskKind, tookMs: number): void {
    const peer = this.#peer(node)
    peer.failures = 0
    peer.isTried = false
    const known = peer.estimates[kind]
    if (!known) {
      peer.estimates[kind] = { smoothedMs: tookMs, deviationMs: tookMs / 2, atLeastMs: 0 }
      return
    }
    known.deviationMs = 0.75 * known.deviationMs + 0.25 * Math.abs(known.smoothedMs - tookMs)
    known.smoothedMs = 0.875 * known.smoothedMs + 0.125 * tookMs
    known.atLeastMs = 0
  }

  timedOut(node: number, kind: AskKind): void {
    const waitedMs = this.waitMs(node, kind)
    const peer = this.#peer(node)
    const before = peer.failures
    this.failed(node)
    const estimate = peer.estimates[kind]
    if (estimate && peer.failures > before) estimate.atLeastMs = 2 * waitedMs
  }

  failed(node: number): void {
    const peer = this.#peer(node)
    const nowMs = this.#clock.monotonicMs()
    peer.isTried = false
    // What was asked before the rest began, and fails in it, is the same failure.
    if (peer.failures > 0 && nowMs < peer.restedUntilMs) return
    peer.failures++
    peer.restedUntilMs = nowMs + Math.min(REST_MS_MAX, REST_MS_MIN * 2 ** (peer.failures - 1))
  }

  /** Nothing was learned of it. */
  spared(node: number): void {
    this.#peer(node).isTried = false
  }

  /** It has gone, and is another one if it comes back. */
  forget(node: number): void {
    this.#peers.delete(node)
  }

  /** What an answer takes, as a rule; undefined before the first. */
  tookMs(node: number): number | undefined {
    return this.#peers.get(node)?.estimates.resident?.smoothedMs
  }

  #peer(node: number): Peer {
    let peer = this.#peers.get(node)
    if (!peer) this.#peers.set(node, (peer = { estimates: {}, failures: 0, restedUntilMs: 0, isTried: false }))
    return peer
  }
}
