/**
 * The barrier that makes reads of a replica linearizable (C5): the revision of the last commit, read where a majority agrees on it. A read that begins now must see that, and
 * nothing older. One call at a time; whoever comes while one is under way joins the next, because that one may have been answered before he came.
 *
 * It is also how it is known whether etcd is there, since only a majority answers it: it is called once a second at least.
 *
 *     answering --no answer for `awayAfterMs`--> away --an answer--> answering
 *
 * While etcd is away nobody waits for it longer than `waitAwayMsMax`, and it is asked again and again. What is asked for is repeated until then, as the change of
 * a leader takes a second or two.
 */
import { must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { Revision } from '../../common/ids.ts'
import { onlyKey, type EtcdLayout } from './layout.ts'
import { EtcdFailure, type Etcd } from './ports.ts'

const RETRY_MS = 20
const RETRY_AWAY_MS = 100
/** Between two looks whether an answer is overdue, or nothing was asked for long. */
const LOOK_MS = 250
const ASKED_EVERY_MS = 1_000

export interface BarrierOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  /** Longer than a change of leader takes. */
  readonly awayAfterMs: number
  readonly waitAwayMsMax: number
  /** The revision of etcd that is known here. */
  readonly seen: () => Revision
  /** What waits for etcd need wait no longer. */
  readonly onAway: (failure: EtcdFailure) => void
  readonly onBack: () => void
}

interface Call {
  readonly promise: Promise<Revision>
  readonly resolve: (revision: Revision) => void
  readonly reject: (error: unknown) => void
}

interface Away {
  readonly failure: EtcdFailure
  readonly back: Promise<void>
  readonly end: () => void
}

interface BarrierFigures {
  /** Answers, and how long they took together; outages are not among them. */
  readonly answers: number
  readonly answersMs: number
  /** How often etcd was away. */
  readonly outages: number
}

export class Barrier {
  readonly #options: BarrierOptions
  #next: Call | undefined
  #underWay: Call | undefined
  #isAsking = false
  /** Since the call under way began, or the last one ended. Not time: a process that stood still itself has not waited for an answer. */
  #looks = 0
  #lastFailure: EtcdFailure | undefined
  #signal: AbortSignal | undefined
  #away: Away | undefined
  #answers = 0
  #answersMs = 0
  #outages = 0

  constructor(options: BarrierOptions) {
    this.#options = options
  }

  /** Why etcd is away; undefined: it is not. */
  get away(): EtcdFailure | undefined {
    return this.#away?.failure
  }

  get figures(): BarrierFigures {
    return { answers: this.#answers, answersMs: this.#answersMs, outages: this.#outages }
  }

  /** Looks whether etcd is there until the signal aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    const { clock, awayAfterMs } = this.#options
    this.#signal = signal
    while (!signal.aborted) {
      const quietMs = ++this.#looks * LOOK_MS
      if (this.#underWay !== undefined && quietMs > awayAfterMs) this.#goAway()
      else if (!this.#isAsking && quietMs > ASKED_EVERY_MS) this.#join().catch(() => {})
      await clock.sleep(LOOK_MS, signal).catch(() => {})
    }
  }

  /** The revision that a read which begins now must see. @throws EtcdFailure */
  join(): Promise<Revision> {
    return this.#away === undefined ? this.#join() : this.back().then(() => this.#join())
  }

  /** Resolves when etcd is there, at once if it is. @throws EtcdFailure when that takes too long */
  async back(): Promise<void> {
    const away = this.#away
    if (away === undefined) return
    const { clock, waitAwayMsMax } = this.#options
    await Promise.race([away.back, clock.sleep(waitAwayMsMax)])
    if (this.#away !== undefined) throw this.#away.failure
  }

  #join(): Promise<Revision> {
    this.#next ??= Promise.withResolvers<Revision>()
    const { promise } = this.#next
    if (!this.#isAsking) void this.#callAll()
    return promise
  }

  async #callAll(): Promise<void> {
    const { clock } = this.#options
    this.#isAsking = true
    for (;;) {
      // Whoever comes in this turn comes along.
      await Promise.resolve()
      const call = this.#next
      if (call === undefined) break
      this.#next = undefined
      this.#underWay = call
      const startMs = clock.monotonicMs()
      this.#looks = 0
      this.#lastFailure = undefined
      await this.#ask().then(call.resolve, call.reject)
      this.#underWay = undefined
      this.#looks = 0
      if (this.#away === undefined) {
        this.#answers++
        this.#answersMs += clock.monotonicMs() - startMs
      } else this.#comeBack()
    }
    this.#isAsking = false
  }

  /** Until etcd answers, if only that it refuses to. */
  async #ask(): Promise<Revision> {
    const { etcd, layout, clock, seen } = this.#options
    for (;;) {
      const seenBefore = seen()
      try {
        const { rows, revision } = await etcd.range({ range: onlyKey(layout.clock), limit: 1 })
        if (revision >= seenBefore) return rows[0]?.modRevision ?? 0
        // It was restored from a backup: nothing that is here counts until it is loaded anew (follower.ts).
        throw new EtcdFailure('unavailable', `it is at ${revision}, before ${seenBefore}`, { sent: false })
      } catch (error) {
        const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
        if (!passes || this.#signal?.aborted === true) throw error
        this.#lastFailure = error
      }
      await clock.sleep(this.#away === undefined ? RETRY_MS : RETRY_AWAY_MS)
    }
  }

  #goAway(): void {
    if (this.#away !== undefined) return
    const failure = this.#lastFailure ?? new EtcdFailure('unavailable', 'no answer in time', { sent: false })
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#away = { failure, back: promise, end: resolve }
    this.#outages++
    this.#underWay?.reject(failure)
    this.#next?.reject(failure)
    this.#next = undefined
    this.#options.onAway(failure)
  }

  #comeBack(): void {
    const away = must(this.#away, 'an outage')
    this.#away = undefined
    away.end()
    this.#options.onBack()
  }
}
