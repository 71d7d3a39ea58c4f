/**
 * Time that counts towards a deadline. It stands still while somebody waits for what is not the remote store's doing: the gateway's own rates
 * (`--remote-rate`, `--remote-requests`) may make a request wait for longer than any store may take to answer.
 */
import type { Clock } from '../../common/clock.ts'

/** Waits for it while the time stands still. */
export type Hold = <T>(wait: Promise<T>) => Promise<T>

export class HeldTime {
  readonly #clock: Clock
  #startedMs: number
  #holds = 0
  #heldSinceMs = 0
  #released = Promise.withResolvers<void>()

  constructor(clock: Clock) {
    this.#clock = clock
    this.#startedMs = clock.monotonicMs()
  }

  get elapsedMs(): number {
    return (this.#holds > 0 ? this.#heldSinceMs : this.#clock.monotonicMs()) - this.#startedMs
  }

  readonly hold: Hold = async (wait) => {
    if (this.#holds++ === 0) {
      this.#heldSinceMs = this.#clock.monotonicMs()
      this.#released = Promise.withResolvers()
    }
    try {
      return await wait
    } finally {
      if (--this.#holds === 0) {
        this.#startedMs += this.#clock.monotonicMs() - this.#heldSinceMs
        this.#released.resolve()
      }
    }
  }

  /** Resolves when so much has elapsed. Rejects with the signal's reason; what is held has to heed the same signal. */
  async reaches(elapsedMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#holds > 0) await this.#released.promise
      const restMs = elapsedMs - this.elapsedMs
      if (restMs <= 0) return
      await this.#clock.sleep(restMs, signal)
    }
  }
}
