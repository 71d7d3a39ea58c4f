/**
 * Slows writers when the flusher falls behind, and refuses them only after a bounded wait (C19).
 *
 * The backlog is what is in the journal and not in the remote store. Below the low watermark nobody is slowed. From there to the
 * high one, `fill` going from 0 to 1, all writers together are let in at
 *
 *   rate / (fill / (1 - fill))       rate: what the flusher was measured to carry
 *
 * bytes a second: first at more than anybody brings, at half fill at what the flusher carries, further up at less. So the backlog comes to
 * rest where as much comes in as goes out, and there is no step anywhere on the way. When nothing is carried at all (the remote
 * store is away) the measured rate fades within a minute, and a rate that would take minutes to fill what is left is used instead.
 *
 * Above the high watermark nobody is let in. A piece of a body waits at most the admission time, and all pieces of a body together no longer
 * than that and what they would take at the slowest pace that is worth going on with; then the body is refused with SlowDown, and nothing
 * of it is published. So a large body is slowed along the way, and none hangs on a backlog that does not move. Pieces are let in in the
 * order in which they came.
 *
 * Bodies that are being streamed into segments of their own count too, but alone they only ever bring writers down to what the
 * flusher carries, and they never make the backlog full: none of them can leave before it is whole, so waiting for that
 * would be waiting for each other. The watermark is therefore passed by what they bring, and by what memory holds of pieces let in.
 *
 * Two kinds of bytes: those at hand are counted when they are accepted; announced ones are `reserve`d on the disk when the body is opened and
 * paced as they come, each once.
 */
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { DiskSpace } from './disk-space.ts'

export interface BackPressureOptions {
  readonly clock: Clock
  /** Bytes that are sealed, or in segments that will be soon, and not in the remote store. */
  readonly backlogBytes: () => number
  /** Further bytes, in bodies that are being streamed. */
  readonly streamingBytes: () => number
  /** The high watermark. */
  readonly backlogBytesMax: () => number
  /** Measured; undefined while it is not known. */
  readonly bytesPerSecond: () => number | undefined
  readonly waitMsMax: number
}

export interface PressureStatus {
  readonly backlogBytes: number
  readonly backlogBytesMax: number
  /** 0: nobody is slowed. 1 and above: nobody is let in. */
  readonly fill: number
  readonly waiting: number
  /** Pieces, since the start. */
  readonly accepted: number
  readonly slowed: number
  readonly refused: number
  readonly waitedMs: number
}

/** The low watermark, as a share of the high one. */
const LOW_SHARE = 0.5
/** Beyond, writers are not slowed further until they are stopped: a piece's pause stays within seconds. */
const SLOWDOWN_MAX = 16
/** At the least rate, filling the backlog from the low watermark to the high one takes this long at half fill. */
const FILLING_SECONDS = 600
/** What was let in too late may be made up for: timers are coarse, and a pause of half a millisecond is one of several. */
const CATCH_UP_MS = 20
/** A body that gets in more slowly uses up its patience. */
const SLOWEST_BODY_BYTES_PER_SECOND = 256 * 1024
/** While somebody waits, the backlog is looked at this often. */
const LOOK_MS = 50
const WAITING_MAX = 65_536

interface Waiter {
  readonly bytes: number
  readonly untilMs: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class BackPressure {
  readonly #options: BackPressureOptions
  #waiters: Waiter[] = []
  /** Until then what was let in is paid for. */
  #paidMs = -Infinity
  #serving = false
  readonly #stopping = new AbortController()
  #accepted = 0
  #slowed = 0
  #refused = 0
  #waitedMs = 0

  constructor(options: BackPressureOptions) {
    this.#options = options
  }

  get status(): PressureStatus {
    return {
      backlogBytes: this.#options.backlogBytes() + this.#options.streamingBytes(),
      backlogBytesMax: this.#options.backlogBytesMax(),
      fill: this.fill,
      waiting: this.#waiters.length,
      accepted: this.#accepted,
      slowed: this.#slowed,
      refused: this.#refused,
      waitedMs: this.#waitedMs,
    }
  }

  /** 0 to the low watermark, 1 and above when it is full. */
  get fill(): number {
    const { backlogBytes, streamingBytes, backlogBytesMax } = this.#options
    const high = backlogBytesMax()
    const low = high * LOW_SHARE
    const bytes = backlogBytes()
    const alone = (bytes - low) / (high - low)
    const together = Math.min(0.5, (bytes + streamingBytes() - low) / (high - low))
    return Math.max(0, alone, together)
  }

  /** Lets the bytes in if `pace` would not wait. */
  paceNow(bytes: number): boolean {
    if (!this.mayPass()) return false
    this.#letIn(bytes)
    return true
  }

  /** Whether `paceNow` would let any in. */
  mayPass(): boolean {
    return this.#waiters.length === 0 && this.#isDue(this.#options.clock.monotonicMs())
  }

  /** One body's way in: pieces in sequence. */
  pacer(): Pacer {
    const { waitMsMax } = this.#options
    let patienceMs = waitMsMax
    return {
      pace: async (bytes) => {
        if (!this.paceNow(bytes)) patienceMs -= await this.#wait(bytes, patienceMs)
        patienceMs = Math.min(waitMsMax, patienceMs + (bytes * 1000) / SLOWEST_BODY_BYTES_PER_SECOND)
      },
    }
  }

  /** Resolves with the time that it took. @throws SlowDown, Unavailable */
  async #wait(bytes: number, waitMsMax: number): Promise<number> {
    if (this.#stopping.signal.aborted) throw stoppingError()
    if (this.#waiters.length >= WAITING_MAX) {
      this.#refused++
      throw new TidegateError('SlowDown', `${WAITING_MAX} writes wait for the remote store already`)
    }
    const { clock } = this.#options
    const sinceMs = clock.monotonicMs()
    this.#slowed++
    await new Promise<void>((resolve, reject) => {
      this.#waiters.push({ bytes, untilMs: sinceMs + waitMsMax, resolve, reject })
      if (!this.#serving) void this.#serve()
    }).finally(() => (this.#waitedMs += clock.monotonicMs() - sinceMs))
    return clock.monotonicMs() - sinceMs
  }

  /** Never rejects; ends when nobody waits. */
  async #serve(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    this.#serving = true
    while (this.#waiters.length > 0 && !signal.aborted) {
      const nowMs = clock.monotonicMs()
      let served = 0
      for (; served < this.#waiters.length && this.#isDue(nowMs); served++) {
        const waiter = this.#waiters[served] as Waiter
        this.#letIn(waiter.bytes)
        waiter.resolve()
      }
      this.#waiters.splice(0, served)
      this.#refuseLate(nowMs)
      if (this.#waiters.length === 0) break
      const pauseMs = this.fill >= 1 ? LOOK_MS : Math.min(LOOK_MS, Math.max(1, this.#paidMs - nowMs))
      await clock.sleep(pauseMs, signal).catch(() => undefined)
    }
    this.#serving = false
  }

  #refuseLate(nowMs: number): void {
    const late = this.#waiters.filter(({ untilMs }) => untilMs <= nowMs)
    if (late.length === 0) return
    this.#waiters = this.#waiters.filter(({ untilMs }) => untilMs > nowMs)
    this.#refused += late.length
    for (const { reject } of late) {
      const backlogBytes = this.#options.backlogBytes()
      reject(
        new TidegateError('SlowDown', `${backlogBytes} bytes wait for the remote store; no room came free in time`, {
          details: { backlogBytes },
        }),
      )
    }
  }

  #isDue(nowMs: number): boolean {
    const { fill } = this
    return fill < 1 && (fill === 0 || this.#paidMs <= nowMs)
  }

  #letIn(bytes: number): void {
    this.#accepted++
    const { fill } = this
    if (fill === 0) return
    const nowMs = this.#options.clock.monotonicMs()
    this.#paidMs = Math.max(this.#paidMs, nowMs - CATCH_UP_MS) + (bytes * 1000) / this.#bytesPerSecond(fill)
  }

  /** What all writers together are let in at. */
  #bytesPerSecond(fill: number): number {
    const least = (this.#options.backlogBytesMax() * (1 - LOW_SHARE)) / FILLING_SECONDS
    const carried = Math.max(least, this.#options.bytesPerSecond() ?? Infinity)
    return carried / Math.min(SLOWDOWN_MAX, fill / (1 - fill))
  }

  /** Whoever waits is told that the gateway stops. */
  stop(): void {
    this.#stopping.abort(stoppingError())
    for (const { reject } of this.#waiters.splice(0)) reject(stoppingError())
  }
}

export interface Pacer {
  /** @throws SlowDown after the admission time, Unavailable when the gateway stops */
  pace(bytes: number): Promise<void>
}

/** Room for writes: on the disk, and in the backlog. What the store asks (store/byte-ports.ts, `Persisting`). */
export class Admission {
  readonly #disk: DiskSpace
  readonly #pressure: BackPressure

  constructor(disk: DiskSpace, pressure: BackPressure) {
    this.#disk = disk
    this.#pressure = pressure
  }

  /** For bytes at hand. @throws StorageFull, SlowDown */
  async accept(bytes: number): Promise<void> {
    if (this.acceptNow(bytes)) return
    await this.#disk.accept(bytes)
    if (this.#pressure.paceNow(bytes)) return
    await this.#pressure.pacer().pace(bytes)
    // The disk may have filled up while it waited.
    await this.#disk.accept(0)
  }

  acceptNow(bytes: number): boolean {
    return this.#pressure.mayPass() && this.#disk.acceptNow(bytes) && this.#pressure.paceNow(bytes)
  }

  /** For announced bytes, which are paced as they come. @throws StorageFull */
  async reserve(bytes: number): Promise<void> {
    await this.#disk.accept(bytes)
  }

  pacer(): Pacer {
    return this.#pressure.pacer()
  }
}

function stoppingError(): TidegateError {
  return new TidegateError('Unavailable', 'the gateway stops')
}
