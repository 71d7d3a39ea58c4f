/**
 * Carries sealed segments to the remote store, oldest first, and mends segments whose writes failed. A failure keeps the
 * data where it is and is tried again with growing, jittered pauses; it never holds up other segments.
 */
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { IndexedSegment, SegmentIndex } from './ports.ts'

export interface FlusherOptions {
  readonly index: SegmentIndex
  readonly clock: Clock
  /** Makes the segment durable in the remote store. */
  readonly adopt: (segment: SegmentId) => Promise<void>
  /** Seals a segment whose writes failed. Returns the bytes of its data region. */
  readonly mend: (segment: SegmentId) => Promise<number>
  readonly onFailure: (failure: {
    segment: SegmentId
    action: 'adopt' | 'mend'
    cause: unknown
    attempt: number
  }) => void
  readonly random: () => number
  /** How long `persisted` waits for the remote store. */
  readonly waitMsMax: number
}

const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 30_000

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class Flusher {
  readonly #options: FlusherOptions
  /** What is to be done next for a segment; one entry while it is not persisted. */
  readonly #items = new Map<SegmentId, { action: 'adopt' | 'mend'; attempt: number }>()
  readonly #waiters = new Map<SegmentId, Waiter[]>()
  readonly #running = new Set<Promise<void>>()
  readonly #stopping = new AbortController()

  constructor(options: FlusherOptions) {
    this.#options = options
  }

  /** Sealed segments that are not persisted yet. */
  get backlog(): number {
    return this.#items.size
  }

  /** Whether a sealed segment still is to be carried to the remote store. */
  isWaiting(segment: SegmentId): boolean {
    return this.#items.has(segment)
  }

  add(segment: SegmentId, action: 'adopt' | 'mend'): void {
    if (this.#stopping.signal.aborted) return
    this.#items.set(segment, { action, attempt: 0 })
    const run = this.#run(segment)
    this.#running.add(run)
    void run.finally(() => this.#running.delete(run))
  }

  /**
   * Resolves once the segment is in the remote store and metadata says so. @throws Unavailable when it is not there within
   * `waitMsMax`, or the flusher stops before: what was published stays published, and is carried there later.
   */
  async persisted(segment: SegmentId): Promise<void> {
    if (this.#stopping.signal.aborted) throw notPersisted('the gateway stops')
    const waiting = new Promise<void>((resolve, reject) => {
      const waiters = this.#waiters.get(segment) ?? []
      waiters.push({ resolve, reject })
      this.#waiters.set(segment, waiters)
    })
    // The look-up may throw first; then nobody is left to hear of this one.
    waiting.catch(() => undefined)
    // Looked up after the waiter is in place, so that a segment persisted in between is not waited for.
    const record = await this.#options.index.segment(segment)
    if (!record || record.state === 'persisted') this.#release(segment)
    const patience = new AbortController()
    const tooLong = this.#options.clock.sleep(this.#options.waitMsMax, patience.signal).then(() => {
      throw notPersisted(`waited ${this.#options.waitMsMax} ms`)
    })
    tooLong.catch(() => undefined)
    await Promise.race([waiting, tooLong]).finally(() => patience.abort(new Error('no longer waited for')))
  }

  #release(segment: SegmentId): void {
    for (const waiter of this.#waiters.get(segment) ?? []) waiter.resolve()
    this.#waiters.delete(segment)
  }

  async #run(segment: SegmentId): Promise<void> {
    for (;;) {
      const item = this.#items.get(segment)
      if (!item || this.#stopping.signal.aborted) return
      try {
        if (item.action === 'mend') {
          await this.#options.mend(segment)
          this.#items.set(segment, { action: 'adopt', attempt: 0 })
          continue
        }
        await this.#persist(segment)
        return
      } catch (cause) {
        item.attempt++
        this.#options.onFailure({ segment, action: item.action, cause, attempt: item.attempt })
        const pause = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(item.attempt, 16))
        const slept = this.#options.clock.sleep(pause * (0.5 + this.#options.random() / 2), this.#stopping.signal)
        if (
          !(await slept.then(
            () => true,
            () => false,
          ))
        )
          return
      }
    }
  }

  async #persist(segment: SegmentId): Promise<void> {
    const record: IndexedSegment | undefined = await this.#options.index.segment(segment)
    if (record) {
      try {
        await this.#options.adopt(segment)
        await (
          await this.#options.index.segmentChanged(segment, 'persisted', record.bytes)
        ).durable
      } catch (cause) {
        if (await this.#options.index.segment(segment)) throw cause
      }
    }
    // Without a record it was reclaimed, before or while it was carried: nothing refers to it any more.
    this.#items.delete(segment)
    this.#release(segment)
  }

  /** Resolves when nothing can be done now: all persisted, or only failing items left. */
  async drain(): Promise<void> {
    while ([...this.#items.values()].some((item) => item.attempt === 0)) {
      await Promise.race(this.#running)
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the flusher stops'))
    await Promise.all(this.#running)
    for (const waiters of this.#waiters.values())
      for (const waiter of waiters) waiter.reject(notPersisted('the gateway stops'))
    this.#waiters.clear()
  }
}

function notPersisted(reason: string): TidegateError {
  return new TidegateError('Unavailable', `the write is published, and not in the remote store yet: ${reason}`, {
    details: { published: true },
  })
}
