/**
 * Admission of bodies: each reserves the slots it will need before its first byte is read, so that bodies that each hold
 * some memory never wait for each other (C19). First come, first served; who waits longer than allowed is told SlowDown.
 */
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'

interface Waiter {
  readonly slots: number
  readonly grant: () => void
}

export class Reservations {
  readonly #slotsMax: number
  readonly #waitMsMax: number
  readonly #clock: Clock
  readonly #line: Waiter[] = []
  #taken = 0

  constructor(options: { slotsMax: number; waitMsMax: number; clock: Clock }) {
    this.#slotsMax = options.slotsMax
    this.#waitMsMax = options.waitMsMax
    this.#clock = options.clock
  }

  get taken(): number {
    return this.#taken
  }

  /** Resolves with what gives the slots back. `slots` above the maximum counts as the maximum. @throws SlowDown */
  async reserve(slots: number): Promise<() => void> {
    const wanted = Math.min(slots, this.#slotsMax)
    if (this.#line.length > 0 || this.#taken + wanted > this.#slotsMax) await this.#wait(wanted)
    else this.#taken += wanted
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#taken -= wanted
      this.#serve()
    }
  }

  #wait(slots: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timeout = new AbortController()
      const waiter: Waiter = {
        slots,
        grant: () => {
          timeout.abort()
          resolve()
        },
      }
      this.#line.push(waiter)
      this.#clock.sleep(this.#waitMsMax, timeout.signal).then(
        () => {
          const at = this.#line.indexOf(waiter)
          if (at < 0) return
          this.#line.splice(at, 1)
          reject(new TidegateError('SlowDown', `no memory for the body came free within ${this.#waitMsMax} ms`))
          this.#serve()
        },
        () => undefined,
      )
    })
  }

  #serve(): void {
    for (let first = this.#line[0]; first && this.#taken + first.slots <= this.#slotsMax; first = this.#line[0]) {
      this.#line.shift()
      this.#taken += first.slots
      first.grant()
    }
  }
}
