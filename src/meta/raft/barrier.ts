/**
 * The barrier that makes reads of a replica linearizable (C5): the revision of the last commit, read where a majority agrees on it. A read that begins now must see that, and
 * nothing older. One call at a time; whoever comes while one is under way joins the next, because that one may have been answered before he came.
 */
import type { Clock } from '../../common/clock.ts'
import type { Revision } from '../../common/ids.ts'
import { onlyKey, type EtcdLayout } from './layout.ts'
import { EtcdFailure, type Etcd } from './ports.ts'

const RETRY_MS = 20

export interface BarrierOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  /** How long a failing call is repeated. */
  readonly retryMsMax: number
}

interface Call {
  readonly promise: Promise<Revision>
  readonly resolve: (revision: Revision) => void
  readonly reject: (error: unknown) => void
}

export class Barrier {
  readonly #options: BarrierOptions
  #next: Call | undefined
  #underWay = false

  constructor(options: BarrierOptions) {
    this.#options = options
  }

  /** The revision that a read which begins now must see. @throws EtcdFailure */
  join(): Promise<Revision> {
    this.#next ??= Promise.withResolvers<Revision>()
    const { promise } = this.#next
    if (!this.#underWay) void this.#callAll()
    return promise
  }

  async #callAll(): Promise<void> {
    this.#underWay = true
    for (;;) {
      // Whoever comes in this turn comes along.
      await Promise.resolve()
      const call = this.#next
      if (call === undefined) break
      this.#next = undefined
      await this.#ask().then(call.resolve, call.reject)
    }
    this.#underWay = false
  }

  async #ask(): Promise<Revision> {
    const { etcd, layout, clock, retryMsMax } = this.#options
    const endMs = clock.monotonicMs() + retryMsMax
    for (;;) {
      try {
        const { rows } = await etcd.range({ range: onlyKey(layout.clock), limit: 1 })
        return rows[0]?.modRevision ?? 0
      } catch (error) {
        const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
        if (!passes || clock.monotonicMs() + RETRY_MS > endMs) throw error
        await clock.sleep(RETRY_MS)
      }
    }
  }
}
