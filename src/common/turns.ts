/**
 * Long work on the event loop in short turns. A turn lasts some milliseconds; on a loop so busy that the next one is long in coming it lasts a share
 * of that wait, since work that got two milliseconds a second would never end.
 */
import type { Clock } from './clock.ts'

const TURN_MS = 2
const SHARE_OF_WAIT = 0.25

export class Turns {
  readonly #clock: Clock
  #endsMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#endsMs = clock.monotonicMs() + TURN_MS
  }

  /** To be awaited between steps, each much shorter than a turn: lets others run when the turn is over. */
  async pass(): Promise<void> {
    const overMs = this.#clock.monotonicMs()
    if (overMs < this.#endsMs) return
    await this.#clock.sleep(0)
    const nowMs = this.#clock.monotonicMs()
    this.#endsMs = nowMs + Math.max(TURN_MS, (nowMs - overMs) * SHARE_OF_WAIT)
  }
}
