import type { Clock } from '../../src/common/clock.ts'

/** A clock that stands still until it is moved. */
export class HandClock implements Clock {
  #nowMs = 0
  #sleepers: { atMs: number; wake: () => void }[] = []

  nowMs = (): number => this.#nowMs
  monotonicMs = (): number => this.#nowMs

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      this.#sleepers.push({ atMs: this.#nowMs + ms, wake: resolve })
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }

  async advance(ms: number): Promise<void> {
    this.#nowMs += ms
    const due = this.#sleepers.filter((sleeper) => sleeper.atMs <= this.#nowMs)
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.atMs > this.#nowMs)
    for (const sleeper of due) sleeper.wake()
    await turn()
  }
}

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
