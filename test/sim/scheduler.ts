/**
 * Virtual time: a queue of events in order of time. The simulation pops them one by one; what happens between two pops
 * (microtasks, immediates) takes no time. Nothing here depends on the real clock, so a seed repeats a run.
 */
import type { Clock } from '../../src/common/clock.ts'

interface ScheduledEvent {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
  cancelled: boolean
}

const EPOCH_MS = 1_700_000_000_000

export class Scheduler {
  readonly clock: Clock
  nowMs: number
  #events: ScheduledEvent[] = []
  #order = 0

  constructor(startMs = 0) {
    this.nowMs = startMs
    this.clock = {
      nowMs: () => EPOCH_MS + Math.floor(this.nowMs),
      monotonicMs: () => this.nowMs,
      sleep: (ms, signal) => this.#sleep(ms, signal),
    }
  }

  /** Returns what cancels it. */
  after(ms: number, run: () => void): () => void {
    const event = { atMs: this.nowMs + ms, order: this.#order++, run, cancelled: false }
    let at = this.#events.length
    while (at > 0 && (this.#events[at - 1] as ScheduledEvent).atMs <= event.atMs) at--
    this.#events.splice(at, 0, event)
    return () => {
      event.cancelled = true
    }
  }

  delay(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve))
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const cancel = this.after(ms, () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
      const onAbort = (): void => {
        cancel()
        reject(signal?.reason as Error)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Runs the next event, after all that follows from the one before. False when nothing is scheduled. */
  async step(): Promise<boolean> {
    await new Promise<void>((resolve) => setImmediate(resolve))
    for (let event = this.#events.pop(); event; event = this.#events.pop()) {
      if (event.cancelled) continue
      this.nowMs = Math.max(this.nowMs, event.atMs)
      event.run()
      return true
    }
    return false
  }

  /** Steps until the promise settles. @throws what it rejects with, or when it never settles */
  async until<T>(promise: Promise<T>, what: string, stepsMax = 200_000): Promise<T> {
    const work = { settled: false }
    promise.then(
      () => (work.settled = true),
      () => (work.settled = true),
    )
    for (let steps = 0, idle = 0; !work.settled; steps++) {
      idle = (await this.step()) ? 0 : idle + 1
      // A batching device waits for an immediate of its own; a few idle turns are no deadlock.
      if (idle > 16 || steps > stepsMax) throw new Error(`${what} never settles`)
    }
    return await promise
  }
}
