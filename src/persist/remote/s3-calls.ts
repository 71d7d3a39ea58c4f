/**
 * Every request to an external S3 goes through here: a slot, the rates, a time-out on each attempt, and further attempts.
 *
 *   call -> [ slot -> rates -> attempt, watched ] -> settled
 *              ^------- pause, with jitter <----- failed, and another attempt may help
 *
 * An attempt is given up when nothing has moved for the time-out: no byte sent or received. As a whole it is bounded only where the
 * answer is small (`totalMs`), since a large part over a thin line takes as long as it takes. Waiting for our own rates is not the store's
 * doing, and counts towards neither (held-time.ts). While it pauses a call holds no slot.
 */
import type { S3Client } from '@aws-sdk/client-s3'
import { assert, AssertionFailed } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import { HeldTime, type Hold } from './held-time.ts'
import { RateLimit } from './rate-limit.ts'
import { RequestSlots, type RequestKind } from './request-slots.ts'
import { s3Failure, type S3Failure } from './s3-errors.ts'

export interface S3CallsOptions {
  readonly client: S3Client
  readonly clock: Clock
  /** From 0 to below 1. */
  readonly random: () => number
  readonly concurrency: number
  /** An attempt on which nothing moves for this long is given up. */
  readonly timeoutMs: number
  readonly attemptsMax: number
  readonly bytesPerSecond: number | undefined
  readonly requestsPerSecond: number | undefined
}

export interface CallTarget {
  /** Says what is tried, and on which object: `put segments/ab/....seg`. */
  readonly what: string
  readonly kind: RequestKind
  readonly signal?: AbortSignal | undefined
  /** Where the store may take longer to answer. */
  readonly timeoutMs?: number
  /**
   * For who cannot wait long: an attempt that stands still is given up after this, each further one after twice as long. A
   * connection that hangs is soon another one, and a store that is slow gets its time in the end.
   */
  readonly firstTimeoutMs?: number
  /** Bounds an attempt as a whole: a small answer that trickles in is none. */
  readonly totalMs?: number
  /** HEAD: an error says no more than its status. */
  readonly isBodiless?: true
  /** Told of waits that are our own doing, beside the call's own deadlines. */
  readonly hold?: Hold | undefined
  /** Tidying up after a failure: goes on while the store is being stopped, and does not try for long. */
  readonly isCleanup?: true
  /** Told of each failed attempt that will be repeated. */
  readonly onRetry?: (error: TidegateError) => void
}

/** One attempt. */
export interface Attempt {
  readonly client: S3Client
  /** Aborted when the attempt is given up: for whatever reason, nothing of it may go on. */
  readonly signal: AbortSignal
  /** A byte moved. */
  readonly progress: () => void
  /** Resolves when so many bytes more may move; undefined where there is no rate. */
  readonly pace: ((bytes: number) => Promise<void>) | undefined
}

/** Answers are in the tens of milliseconds: a first pause that is no longer, and a last one that spares a store in trouble. */
const PAUSE_MS_MIN = 50
const PAUSE_MS_MAX = 5_000
const CLEANUP_ATTEMPTS_MAX = 2
const CLEANUP_TIMEOUT_MS = 5_000
/** Waiting for a slot is waiting for others' time-outs. */
const SLOT_WAIT_TIMEOUTS = 2

/** Exponential, and half of it at random, so that those who failed together do not come back together. */
export function retryPauseMs(attempt: number, random: () => number): number {
  const ceilingMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** attempt)
  return ceilingMs / 2 + (random() * ceilingMs) / 2
}

export class S3Calls {
  readonly #options: S3CallsOptions
  readonly #bytesRate: RateLimit
  readonly #requestsRate: RateLimit
  readonly #slots: RequestSlots
  readonly #stopping = new AbortController()
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(options: S3CallsOptions) {
    assert(options.concurrency >= 1 && options.attemptsMax >= 1, 'at least one request and one attempt')
    this.#options = options
    this.#bytesRate = new RateLimit(options.bytesPerSecond, options.clock)
    this.#requestsRate = new RateLimit(options.requestsPerSecond, options.clock)
    const { concurrency: slots, clock, timeoutMs } = options
    this.#slots = new RequestSlots({ slots, clock, waitMsMax: timeoutMs * SLOT_WAIT_TIMEOUTS })
  }

  /** Gives up what is under way, but for tidying up, and resolves when all of it has settled. */
  async stop(): Promise<void> {
    this.#stopping.abort(new TidegateError('Unavailable', 'the remote store is being stopped'))
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay)
    this.#options.client.destroy()
  }

  /** Work of several calls, for which `stop` waits as a whole. */
  async tracked<T>(work: () => Promise<T>): Promise<T> {
    const running = work()
    this.#underWay.add(running)
    try {
      return await running
    } finally {
      this.#underWay.delete(running)
    }
  }

  /** @throws TidegateError as the port says: the last attempt's */
  async call<T>(target: CallTarget, attempt: (attempt: Attempt) => Promise<T>): Promise<T> {
    const attemptsMax = target.isCleanup ? CLEANUP_ATTEMPTS_MAX : this.#options.attemptsMax
    for (let attempts = 1; ; attempts++) {
      const tried = await this.#try(target, this.#timeoutMs(target, attempts), attempt)
      if (!('error' in tried)) return tried.value
      const { error, isRetryable, retryAfterMs } = tried
      if (!isRetryable || attempts >= attemptsMax || this.#isGivenUp(target)) throw error
      target.onRetry?.(error)
      await this.#pause(target, retryAfterMs ?? retryPauseMs(attempts, this.#options.random), error)
    }
  }

  #timeoutMs({ isCleanup, firstTimeoutMs, timeoutMs }: CallTarget, attempts: number): number {
    const longestMs = timeoutMs ?? (isCleanup ? CLEANUP_TIMEOUT_MS : this.#options.timeoutMs)
    return firstTimeoutMs === undefined ? longestMs : Math.min(longestMs, firstTimeoutMs * 2 ** (attempts - 1))
  }

  #isGivenUp(target: CallTarget): boolean {
    return target.signal?.aborted === true || (this.#stopping.signal.aborted && !target.isCleanup)
  }

  async #pause(target: CallTarget, ms: number, error: TidegateError): Promise<void> {
    const giveUp = new AbortController()
    const unlink = link(this.#endings(target), giveUp)
    try {
      await this.#options.clock.sleep(ms, giveUp.signal)
    } catch {
      throw error
    } finally {
      unlink()
    }
  }

  #endings(target: CallTarget): AbortSignal[] {
    const signals = target.isCleanup ? [] : [this.#stopping.signal]
    return target.signal ? [...signals, target.signal] : signals
  }

  async #try<T>(
    target: CallTarget,
    timeoutMs: number,
    attempt: (attempt: Attempt) => Promise<T>,
  ): Promise<{ value: T } | S3Failure> {
    const controller = new AbortController()
    const unlink = link(this.#endings(target), controller)
    let giveBack: (() => void) | undefined
    try {
      giveBack = await this.#admitted(target, controller.signal)
      return { value: await this.#watched({ target, timeoutMs, controller }, attempt) }
    } catch (thrown) {
      if (thrown instanceof AssertionFailed) throw thrown
      // Why it was given up says more than the error that giving up caused in the SDK.
      const cause: unknown = controller.signal.aborted ? controller.signal.reason : thrown
      return s3Failure(cause, target.what, target.isBodiless)
    } finally {
      unlink()
      giveBack?.()
      // Whatever of it has not settled yet.
      controller.abort(new TidegateError('Unavailable', `${target.what}: the attempt is over`))
    }
  }

  /** Resolves with what gives the slot back, once there is one and the rate of requests allows it. */
  async #admitted({ kind, hold = unheld }: CallTarget, signal: AbortSignal): Promise<() => void> {
    const slot = this.#slots.take(kind, signal)
    // With a rate, who has the slots has them for as long as the rate makes them wait.
    const giveBack = await (this.#bytesRate.isLimited ? hold(slot) : slot)
    try {
      await hold(this.#requestsRate.take(1, signal))
    } catch (error) {
      giveBack()
      throw error
    }
    return giveBack
  }

  /** Runs the attempt until it settles, stands still for too long or takes too long as a whole. */
  async #watched<T>(
    { target, timeoutMs, controller }: { target: CallTarget; timeoutMs: number; controller: AbortController },
    attempt: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const { what, totalMs = Infinity, hold = unheld } = target
    const { signal } = controller
    const time = new HeldTime(this.#options.clock)
    let movedMs = 0
    const progress = (): void => void (movedMs = time.elapsedMs)
    const pace = async (bytes: number): Promise<void> =>
      await time.hold(hold(this.#bytesRate.take(bytes, signal))).finally(progress)
    const watch = async (): Promise<never> => {
      while (time.elapsedMs < Math.min(movedMs + timeoutMs, totalMs)) {
        await time.reaches(Math.min(movedMs + timeoutMs, totalMs), signal)
      }
      const details = { remoteCode: 'RequestTimeout', retryable: true }
      const why = time.elapsedMs < totalMs ? `nothing moved for ${timeoutMs} ms` : `it took more than ${totalMs} ms`
      const error = new TidegateError('Unavailable', `${what}: ${why}`, { details })
      controller.abort(error)
      throw error
    }
    // The SDK does not heed its signal at every step (finding credentials, for one), so it is not waited for once the signal is given.
    const { client } = this.#options
    const running = attempt({ client, signal, progress, pace: this.#bytesRate.isLimited ? pace : undefined })
    running.catch(() => undefined)
    return await Promise.race([running, watch()])
  }
}

const unheld: Hold = (wait) => wait

/** Aborts the controller with the first of the signals. @returns what takes the listeners off */
function link(signals: readonly AbortSignal[], controller: AbortController): () => void {
  const listeners = signals.map((signal) => {
    const abort = (): void => controller.abort(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
    return () => signal.removeEventListener('abort', abort)
  })
  return () => listeners.forEach((remove) => remove())
}
