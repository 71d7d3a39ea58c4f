/**
 * One row of shared segments, of which one is open: bodies are appended to it one after another, and when it is full, old or broken the next takes its place. The journal has
 * two: the plain one, and one whose segments are copied to another node as they are written.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { StoredRun } from '../../common/model.ts'
import type { AppendRequest, SharedSegment } from './shared-segment.ts'

export interface LaneOptions<Appended> {
  readonly limits: Limits
  readonly clock: Clock
  /** A new segment: its file, and its record. */
  readonly make: () => Promise<SharedSegment>
  /** What was made and is not needed. */
  readonly unmake: (segment: SegmentId) => Promise<void>
  /** Never rejects. `openedMs`: when its first body came. */
  readonly seal: (segment: SharedSegment, openedMs: number) => Promise<void>
  /** Something was appended: what its caller is given. Called before any other append, and before the segment can be sealed. */
  readonly appended: (segment: SharedSegment, run: StoredRun) => Appended
}

export class Lane<Appended> {
  readonly #options: LaneOptions<Appended>
  #current: SharedSegment | undefined
  #openedMs = 0
  /** The one after it, made ahead of time; undefined if that failed. */
  #next: Promise<SharedSegment | undefined> | undefined
  readonly #sealing = new Set<Promise<void>>()
  #appending: Promise<unknown> = Promise.resolve()

  constructor(options: LaneOptions<Appended>) {
    this.#options = options
  }

  append(request: AppendRequest): Promise<Appended> {
    const { clock, limits } = this.#options
    const deadlineMs = clock.monotonicMs() + limits.admissionWaitMsMax
    const appended = this.#appending.then(() => {
      // Each append before it may have waited for memory; together they may not keep this one longer than allowed (C19).
      if (clock.monotonicMs() <= deadlineMs) return this.#append(request)
      throw new TidegateError('SlowDown', `the journal was busy for ${limits.admissionWaitMsMax} ms`)
    })
    this.#appending = appended.catch(() => undefined)
    return appended
  }

  async #append(request: AppendRequest): Promise<Appended> {
    const { limits, make } = this.#options
    const segment = await this.#open()
    const run = await segment.append(request)
    const appended = this.#options.appended(segment, run)
    if (segment.bytes >= limits.segmentBytesMax) this.#rotate()
    // Making a segment takes two syncs, for which appends need not wait if it is begun early enough.
    else if (segment.bytes >= limits.segmentBytesMax / 2) this.#next ??= make().catch(() => undefined)
    return appended
  }

  /** The open segment; a new one when there is none, or the last one failed or is full. */
  async #open(): Promise<SharedSegment> {
    if (this.#current?.failed || this.#current?.sealing || this.#current?.isCopyLost) this.#rotate()
    if (this.#current) return this.#current
    const next = await this.#takeNext()
    this.#current = next ?? (await this.#options.make())
    this.#openedMs = this.#options.clock.monotonicMs()
    return this.#current
  }

  async #takeNext(): Promise<SharedSegment | undefined> {
    const next = this.#next
    this.#next = undefined
    const segment = await next
    if (!segment?.isCopyLost) return segment
    // If it fails, the next start forgets the segment.
    await this.#options.unmake(segment.segment).catch(() => undefined)
    return undefined
  }

  /** Begins sealing the open segment; the next append opens another. */
  #rotate(): void {
    const segment = this.#current
    if (!segment) return
    this.#current = undefined
    const sealing = this.#options.seal(segment, this.#openedMs)
    this.#sealing.add(sealing)
    void sealing.finally(() => this.#sealing.delete(sealing))
  }

  /** Seals what has been open longer than `segmentAgeMsMax`, or has lost its copy: only what is sealed is copied again. */
  sealAged(): void {
    const ageMs = this.#options.clock.monotonicMs() - this.#openedMs
    const isDue = ageMs >= this.#options.limits.segmentAgeMsMax || this.#current?.isCopyLost === true
    if (isDue && this.#current && this.#current.bytes > 0) this.#appending = this.#appending.then(() => this.#rotate())
    if (this.#next) this.#appending = this.#appending.then(() => this.#unmakeLostNext())
  }

  /** There is nothing in it to be copied again, and nobody may come for it for long. */
  async #unmakeLostNext(): Promise<void> {
    const next = this.#next
    const segment = await next
    if (!segment?.isCopyLost || this.#next !== next) return
    this.#next = undefined
    await this.#options.unmake(segment.segment).catch(() => undefined)
  }

  /** Seals the open segment if it is this one. Settles when that has begun. */
  sealSoon(segment: SegmentId): Promise<unknown> {
    this.#appending = this.#appending.then(() => {
      if (this.#current?.segment === segment) this.#rotate()
    })
    return this.#appending
  }

  /** Seals the open segment now, whatever it holds. Resolves when all that was being sealed is sealed, or broken. */
  async sealOpen(): Promise<void> {
    this.#appending = this.#appending.then(() => {
      if (this.#current && this.#current.bytes > 0) this.#rotate()
    })
    await this.#appending
    await Promise.all(this.#sealing)
  }

  /** Seals the open segment and waits for all that is under way. */
  async drain(): Promise<void> {
    await this.#appending
    this.#rotate()
    while (this.#sealing.size > 0) await Promise.all(this.#sealing)
    const next = this.#next
    this.#next = undefined
    const segment = await next
    // If it fails, the next start forgets the segment.
    if (segment) await this.#options.unmake(segment.segment).catch(() => undefined)
  }
}
