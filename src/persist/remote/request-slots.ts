/**
 * How many requests are under way at a store at once. Reads and uploads may each take only three quarters of the slots: a backlog that is
 * being carried away does not make readers wait for whole parts, and readers do not keep the backlog from leaving. What waits is served in
 * the order in which it came, passing over a kind that has its share.
 */
import { must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'

export type RequestKind = 'read' | 'upload' | 'other'

export interface RequestSlotsOptions {
  readonly slots: number
  readonly clock: Clock
  /** A request that waits longer is told SlowDown. */
  readonly waitMsMax: number
}

const WAITING_MAX = 4096

interface Waiter {
  readonly kind: RequestKind
  readonly grant: () => void
}

export class RequestSlots {
  readonly #options: RequestSlotsOptions
  readonly #share: number
  readonly #taken: Record<RequestKind, number> = { read: 0, upload: 0, other: 0 }
  #waiting: Waiter[] = []

  constructor(options: RequestSlotsOptions) {
    this.#options = options
    this.#share = Math.max(1, Math.floor((options.slots * 3) / 4))
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** @returns what gives the slot back. @throws SlowDown; the signal's reason */
  async take(kind: RequestKind, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    // Nobody waits who could have it, so whoever can have it now does not overtake.
    if (!this.#isFree(kind)) await this.#wait(kind, signal)
    else this.#taken[kind]++
    let given = false
    return () => {
      if (given) return
      given = true
      this.#taken[kind]--
      this.#grantNext()
    }
  }

  #isFree(kind: RequestKind): boolean {
    const { read, upload, other } = this.#taken
    if (read + upload + other >= this.#options.slots) return false
    return kind === 'other' || this.#taken[kind] < this.#share
  }

  async #wait(kind: RequestKind, signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= WAITING_MAX)
      throw new TidegateError('SlowDown', 'too many requests wait for the remote store')
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiter: Waiter = { kind, grant: resolve }
    this.#waiting.push(waiter)
    const ended = new AbortController()
    const giveUp = AbortSignal.any([signal, ended.signal])
    const overdue = this.#options.clock.sleep(this.#options.waitMsMax, giveUp)
    try {
      await Promise.race([promise, overdue.then(() => this.#refuseOverdue())])
    } catch (error) {
      // Granted in the same moment: then it is passed on.
      if (this.#waiting.includes(waiter)) this.#waiting = this.#waiting.filter((one) => one !== waiter)
      else {
        this.#taken[kind]--
        this.#grantNext()
      }
      throw error
    } finally {
      ended.abort()
      overdue.catch(() => undefined)
    }
  }

  #refuseOverdue(): never {
    throw new TidegateError('SlowDown', `no request to the remote store became free in ${this.#options.waitMsMax} ms`)
  }

  #grantNext(): void {
    for (;;) {
      const index = this.#waiting.findIndex(({ kind }) => this.#isFree(kind))
      if (index < 0) return
      const waiter = must(this.#waiting.splice(index, 1)[0], 'waiter')
      this.#taken[waiter.kind]++
      waiter.grant()
    }
  }
}
