/** Who waits for a slot of memory: first the journal, which frees memory by writing, then the rest in order of arrival, at most the admission time (C19). */
import type { Clock } from '../common/clock.ts'
import { must } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'

interface SlotWaiter {
  readonly resolve: (slabOffset: number) => void
}

export class SlotLines {
  readonly #clock: Clock
  readonly #waitMsMax: number
  readonly #urgent: SlotWaiter[] = []
  readonly #waiting: SlotWaiter[] = []

  constructor({ clock, waitMsMax }: { readonly clock: Clock; readonly waitMsMax: number }) {
    this.#clock = clock
    this.#waitMsMax = waitMsMax
  }

  get length(): number {
    return this.#urgent.length + this.#waiting.length
  }

  /** Whether somebody who asks now would have to wait for those before him. */
  isBefore(line: 'urgent' | 'waiting'): boolean {
    return this.#urgent.length > 0 || (line === 'waiting' && this.#waiting.length > 0)
  }

  /** @throws SlowDown */
  wait(which: 'urgent' | 'waiting'): Promise<number> {
    const line = which === 'urgent' ? this.#urgent : this.#waiting
    return new Promise((resolve, reject) => {
      const timeout = new AbortController()
      const waiter: SlotWaiter = {
        resolve: (slabOffset) => {
          timeout.abort()
          resolve(slabOffset)
        },
      }
      line.push(waiter)
      this.#clock.sleep(this.#waitMsMax, timeout.signal).then(
        () => {
          const at = line.indexOf(waiter)
          if (at < 0) return
          line.splice(at, 1)
          reject(new TidegateError('SlowDown', `no memory came free within ${this.#waitMsMax} ms`))
        },
        () => undefined,
      )
    })
  }

  /** Gives slots to those who wait for as long as there are any. */
  serve(take: () => number | undefined): void {
    while (this.length > 0) {
      const slot = take()
      if (slot === undefined) return
      must(this.#urgent.shift() ?? this.#waiting.shift(), 'waiter').resolve(slot)
    }
  }
}
