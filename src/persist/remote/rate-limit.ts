/**
 * At most so much a second, on average: whoever comes is given a moment from which on its share may be used, one after the other. What was not
 * used in the last second may be used at once. Takers of different amounts do not starve each other: the next one waits until the amount
 * before it is paid off.
 */
import type { Clock } from '../../common/clock.ts'

const BURST_MS = 1_000

export class RateLimit {
  readonly #perSecond: number | undefined
  readonly #clock: Clock
  #paidOffMs = -Infinity

  /** `perSecond` undefined: no limit. */
  constructor(perSecond: number | undefined, clock: Clock) {
    this.#perSecond = perSecond
    this.#clock = clock
  }

  get isLimited(): boolean {
    return this.#perSecond !== undefined
  }

  /** Resolves when the amount may be used. @throws the signal's reason, and then nothing was used */
  async take(amount: number, signal: AbortSignal): Promise<void> {
    if (this.#perSecond === undefined) return
    const nowMs = this.#clock.monotonicMs()
    const fromMs = Math.max(this.#paidOffMs, nowMs - BURST_MS)
    const costMs = (amount / this.#perSecond) * 1_000
    this.#paidOffMs = fromMs + costMs
    if (fromMs <= nowMs) return
    try {
      await this.#clock.sleep(fromMs - nowMs, signal)
    } catch (error) {
      this.#paidOffMs -= costMs
      throw error
    }
  }
}
