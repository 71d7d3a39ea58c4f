/**
 * Watchers that wait for something to happen, by what they watch: a change costs nothing for those whose bucket it does not
 * concern, and watchers of one prefix are handed the very same batch, so that a door can encode it once for all of them.
 *
 * Deadlines share one timer, which rings at most every `GRID_MS`: a timer for each wait would cost more than the change.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { Revision } from '../../common/ids.ts'
import type { WatchBatch } from '../kv-types.ts'
import type { MetadataChange, MetadataChangeBatch } from '../ports.ts'
import { select, type Subject } from './selection.ts'

const GRID_MS = 50

/** One wait, from `from` on; what has been told before it began has nothing for it. */
export interface Wait {
  readonly subject: Subject
  readonly from: Revision
  readonly limit: number
  readonly waitMs: number
}

interface Waiting extends Wait {
  readonly deadlineMs: number
  readonly resolve: (batch: WatchBatch) => void
  readonly reject: (error: Error) => void
}

/** Waits for changes of one bucket, by prefix. */
type BucketWaits = Map<string, Set<Waiting>>

export class PendingWatchers {
  readonly #clock: Clock
  readonly #told: () => Revision
  readonly #buckets = new Map<string, BucketWaits>()
  readonly #waits = new Map<number, Waiting>()
  #timer: { readonly atMs: number; readonly stopping: AbortController } | undefined

  /** `told`: everything up to and including this revision has gone through `tell`. */
  constructor(clock: Clock, told: () => Revision) {
    this.#clock = clock
    this.#told = told
  }

  get count(): number {
    return this.#waits.size
  }

  /** Resolves with no events when none has come in time, or the wait was ended. */
  wait(watcher: number, wait: Wait): Promise<WatchBatch> {
    assert(!this.#waits.has(watcher), 'a watcher waits once at a time')
    return new Promise((resolve, reject) => {
      const dueMs = this.#clock.monotonicMs() + wait.waitMs
      const deadlineMs = Math.ceil(dueMs / GRID_MS) * GRID_MS
      const waiting: Waiting = {
        ...wait,
        deadlineMs,
        resolve: (batch) => (this.#forget(watcher, waiting), resolve(batch)),
        reject: (error) => (this.#forget(watcher, waiting), reject(error)),
      }
      this.#remember(watcher, waiting)
      this.#arm(deadlineMs)
    })
  }

  /** Hands out what has happened. */
  tell({ events, through }: MetadataChangeBatch): void {
    if (this.#waits.size === 0 || events.length === 0) return
    const byBucket = new Map<string, MetadataChange[]>()
    for (const event of events) {
      if (!this.#buckets.has(event.bucket)) continue
      const those = byBucket.get(event.bucket)
      if (those) those.push(event)
      else byBucket.set(event.bucket, [event])
    }
    for (const [bucket, those] of byBucket) {
      for (const waits of this.#buckets.get(bucket)?.values() ?? []) tellAll([...waits], those, through)
    }
  }

  /** Ends one wait with nothing. */
  end(watcher: number): void {
    const waiting = this.#waits.get(watcher)
    if (waiting) this.#endWithNothing(waiting)
  }

  /** Nothing up to the present concerned it; read now, for more may be told before whoever waits runs. */
  #endWithNothing(waiting: Waiting): void {
    waiting.resolve({ events: [], next: Math.max(waiting.from, this.#told() + 1) })
  }

  /** Ends every wait with an error. */
  fail(error: Error): void {
    for (const waiting of this.#waits.values()) waiting.reject(error)
  }

  #remember(watcher: number, waiting: Waiting): void {
    const { bucket, prefix } = waiting.subject
    const waits = this.#buckets.get(bucket) ?? new Map<string, Set<Waiting>>()
    const alike = waits.get(prefix) ?? new Set()
    this.#buckets.set(bucket, waits)
    waits.set(prefix, alike)
    alike.add(waiting)
    this.#waits.set(watcher, waiting)
  }

  #forget(watcher: number, waiting: Waiting): void {
    const { bucket, prefix } = waiting.subject
    const waits = this.#buckets.get(bucket)
    const alike = waits?.get(prefix)
    alike?.delete(waiting)
    if (alike?.size === 0) waits?.delete(prefix)
    if (waits?.size === 0) this.#buckets.delete(bucket)
    this.#waits.delete(watcher)
    if (this.#waits.size === 0) this.#disarm()
  }

  #arm(atMs: number): void {
    if (this.#timer !== undefined && this.#timer.atMs <= atMs) return
    this.#disarm()
    const timer = { atMs, stopping: new AbortController() }
    this.#timer = timer
    const waitMs = Math.max(1, Math.ceil(atMs - this.#clock.monotonicMs()))
    this.#clock.sleep(waitMs, timer.stopping.signal).then(
      () => this.#rung(timer),
      () => undefined,
    )
  }

  #disarm(): void {
    this.#timer?.stopping.abort()
    this.#timer = undefined
  }

  #rung(timer: object): void {
    if (this.#timer !== timer) return
    this.#timer = undefined
    const nowMs = this.#clock.monotonicMs()
    let nextMs = Infinity
    for (const waiting of this.#waits.values()) {
      if (waiting.deadlineMs <= nowMs) this.#endWithNothing(waiting)
      else nextMs = Math.min(nextMs, waiting.deadlineMs)
    }
    if (nextMs < Infinity) this.#arm(nextMs)
  }
}

/** Those who watch the same: selected once, for all whom the whole of it suits. */
function tellAll(waits: readonly Waiting[], changes: readonly MetadataChange[], through: Revision): void {
  const [first] = waits
  if (first === undefined) return
  const all = select(changes, through, { subject: first.subject, from: 0, limit: Infinity })
  const [earliest] = all.events
  if (earliest === undefined) return
  for (const waiting of waits) {
    const { subject, from, limit } = waiting
    const whole = all.events.length <= limit && from <= earliest.revision
    const batch = whole ? all : select(changes, through, { subject, from, limit })
    if (batch.events.length > 0) waiting.resolve(batch)
  }
}
