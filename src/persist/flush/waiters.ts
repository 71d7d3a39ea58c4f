/** Who waits for a segment to be in the remote store, each for a bounded time. */
import type { Clock } from '../../common/clock.ts'
import type { SegmentId } from '../../common/ids.ts'

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class SegmentWaiters {
  readonly #clock: Clock
  readonly #bySegment = new Map<SegmentId, Set<Waiter>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  has(segment: SegmentId): boolean {
    return this.#bySegment.has(segment)
  }

  /** Resolves at `release`; rejects at `refuse`, or with `tooLate()` after that time. */
  wait(segment: SegmentId, waitMsMax: number, tooLate: () => Error): Promise<void> {
    const patience = new AbortController()
    const waiting = new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { resolve, reject }
      const waiters = this.#bySegment.get(segment) ?? new Set()
      waiters.add(waiter)
      this.#bySegment.set(segment, waiters)
      this.#clock.sleep(waitMsMax, patience.signal).then(
        () => {
          waiters.delete(waiter)
          if (waiters.size === 0 && this.#bySegment.get(segment) === waiters) this.#bySegment.delete(segment)
          reject(tooLate())
        },
        () => undefined,
      )
    })
    return waiting.finally(() => patience.abort(new Error('no longer waited for')))
  }

  release(segment: SegmentId): void {
    for (const { resolve } of this.#take(segment)) resolve()
  }

  refuse(segment: SegmentId, error: Error): void {
    for (const { reject } of this.#take(segment)) reject(error)
  }

  /** Those for whose segment `concerns` says so. */
  refuseAll(error: Error, concerns: (segment: SegmentId) => boolean = () => true): void {
    for (const segment of this.#bySegment.keys()) if (concerns(segment)) this.refuse(segment, error)
  }

  #take(segment: SegmentId): Iterable<Waiter> {
    const waiters = this.#bySegment.get(segment) ?? []
    this.#bySegment.delete(segment)
    return waiters
  }
}
