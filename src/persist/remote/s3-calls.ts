/**
 * Every request to an external S3 goes through here: a slot, the rates, a time-out on each attempt, and further attempts.
 *
 *   call -> [ slot -> rates -> attempt, watched ] -> settled
 *              ^------- pause, with jitter <----- failed, and another attempt may help
 *
 * An attempt is given up when nothing has moved for the time-out: no byte sent or received. It is not bounded as a whole, since a large part
 * over a thin line takes as long as it takes. While it pauses a call holds no slot.
 */
import type { S3Client } from '@aws-sdk/client-s3'
import { assert, AssertionFailed } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
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
  readonly bytesRate: RateLimit
  readonly #options: S3CallsOptions
  readonly #requestsRate: RateLimit
  readonly #slots: RequestSlots
  readonly #stopping = new AbortController()
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(options: S3CallsOptions) {
    assert(options.concurrency >= 1 && options.attemptsMax >= 1, 'at least one request and one attempt')
    this.#options = options
    this.bytesRate = new RateLimit(options.bytesPerSecond, options.clock)
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
      const tried = await this.#try(target, attempt)
      if (!('error' in tried)) return tried.value
      const { error, isRetryable, retryAfterMs } = tried
      if (!isRetryable || attempts >= attemptsMax || this.#isGivenUp(target)) throw error
      target.onRetry?.(error)
      await this.#pause(target, retryAfterMs ?? retryPauseMs(attempts, this.#options.random), error)
    }
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

  async #try<T>(target: CallTarget, attempt: (attempt: Attempt) => Promise<T>): Promise<{ value: T } | S3Failure> {
    const controller = new AbortController()
    const unlink = link(this.#endings(target), controller)
    let giveBack: (() => void) | undefined
    try {
      giveBack = await this.#slots.take(target.kind, controller.signal)
      await this.#requestsRate.take(1, controller.signal)
      return { value: await this.#watched(target, controller, attempt) }
    } catch (thrown) {
      if (thrown instanceof AssertionFailed) throw thrown
      // Why it was given up says more than the error that giving up caused in the SDK.
      const cause: unknown = controller.signal.aborted ? controller.signal.reason : thrown
      return s3Failure(cause, target.what)
    } finally {
      unlink()
      giveBack?.()
      // Whatever of it has not settled yet.
      controller.abort(new TidegateError('Unavailable', `${target.what}: the attempt is over`))
    }
  }

  /** Runs the attempt until it settles or stands still for too long. */
  async #watched<T>(
    target: CallTarget,
    controller: AbortController,
    attempt: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const { clock, client } = this.#options
    const timeoutMs = target.timeoutMs ?? (target.isCleanup ? CLEANUP_TIMEOUT_MS : this.#options.timeoutMs)
    const { signal } = controller
    let movedMs = clock.monotonicMs()
    const progress = (): void => void (movedMs = clock.monotonicMs())
    const watch = async (): Promise<never> => {
      for (;;) {
        const restMs = movedMs + timeoutMs - clock.monotonicMs()
        if (restMs <= 0) break
        await clock.sleep(restMs, signal)
      }
      const details = { remoteCode: 'RequestTimeout', retryable: true }
      const error = new TidegateError('Unavailable', `${target.what}: nothing moved for ${timeoutMs} ms`, { details })
      controller.abort(error)
      throw error
    }
    // The SDK does not heed its signal at every step (finding credentials, for one), so it is not waited for once the signal is given.
    const running = attempt({ client, signal, progress })
    running.catch(() => undefined)
    return await Promise.race([running, watch()])
  }
}

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
