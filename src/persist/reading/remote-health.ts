/**
 * Whether the remote store answers readers. After some failures in a row it counts as down: calls then fail at once, so that a
 * reader is told 503 rather than kept until its deadline, and a store that struggles is not asked by everybody. While it is
 * down one call is let through at the end of each pause, whether the one before has ended or not, so that a call which hangs
 * does not put off recovery. The first success of any call ends it, and "no such object" is one. SlowDown tells nothing: it may come from
 * the store, or from the line that forms here when the store does not answer.
 *
 * A deadline is for the store: it stands still while a call waits for the gateway's own rates, within `HELD_MS_MAX`, and what takes
 * longer than that is SlowDown.
 *
 * For reads only: what the flusher carries may fail for reasons of its own, and it has its own patience.
 */
import type { Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import { HeldTime, type Hold } from '../remote/held-time.ts'
import type { ReadControl } from '../remote/ports.ts'

const FAILURES_IN_A_ROW_MAX = 4
const PAUSE_MS_MIN = 500
const PAUSE_MS_MAX = 4000
const HELD_MS_MAX = 120_000

const CALL_ENDED = new Error('the call has ended')

export class RemoteHealth {
  readonly #clock: Clock
  #failuresInARow = 0
  #pauseMs = PAUSE_MS_MIN
  #nextTryMs = 0
  #lastFailure: unknown

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get isDown(): boolean {
    return this.#failuresInARow >= FAILURES_IN_A_ROW_MAX
  }

  /** Of the last failure, while it is down. */
  get reason(): string | undefined {
    return this.isDown && this.#lastFailure instanceof Error ? this.#lastFailure.message : undefined
  }

  /**
   * Makes a call that has to end by then: its signal is aborted at the deadline, and the call settles soon after. It is waited for,
   * since until it has settled it may write to the caller's memory.
   * @throws Unavailable at the deadline, or at once while the store is down; otherwise what the call rejects with
   */
  async call<T>(deadlineMs: number, call: (control: ReadControl) => Promise<T>): Promise<T> {
    this.#admit()
    const deadline = new AbortController()
    const timer = new AbortController()
    const time = new HeldTime(this.#clock)
    time.reaches(deadlineMs, timer.signal).then(
      () => deadline.abort(new TidegateError('Unavailable', `the remote store did not answer within ${deadlineMs} ms`)),
      () => undefined,
    )
    try {
      const value = await call({ signal: deadline.signal, hold: this.#holdWithin(time, deadline, timer.signal) })
      this.#answered()
      return value
    } catch (thrown) {
      const error: unknown = deadline.signal.aborted ? deadline.signal.reason : thrown
      if (isTidegateError(error, 'NoSuchKey')) this.#answered()
      else if (!isTidegateError(error, 'SlowDown')) this.#failed(error)
      throw error
    } finally {
      timer.abort(CALL_ENDED)
    }
  }

  /** Holds the time; from the first wait on, the call is given up when it takes too long all the same. */
  #holdWithin(time: HeldTime, deadline: AbortController, ended: AbortSignal): Hold {
    let isBounded = false
    return (wait) => {
      if (!isBounded) {
        isBounded = true
        this.#clock.sleep(HELD_MS_MAX, ended).then(
          () => deadline.abort(new TidegateError('SlowDown', 'the rate that is set for the remote store is used up')),
          () => undefined,
        )
      }
      return time.hold(wait)
    }
  }

  #admit(): void {
    if (!this.isDown) return
    const nowMs = this.#clock.monotonicMs()
    if (nowMs < this.#nextTryMs) {
      throw new TidegateError('Unavailable', 'the remote store does not answer; it is asked again within seconds', {
        cause: this.#lastFailure,
      })
    }
    this.#pauseMs = Math.min(PAUSE_MS_MAX, this.#pauseMs * 2)
    this.#nextTryMs = nowMs + this.#pauseMs
  }

  #answered(): void {
    this.#failuresInARow = 0
  }

  #failed(error: unknown): void {
    this.#failuresInARow++
    this.#lastFailure = error
    // Calls that were under way when it went down tell nothing new by failing too.
    if (this.#failuresInARow !== FAILURES_IN_A_ROW_MAX) return
    this.#pauseMs = PAUSE_MS_MIN
    this.#nextTryMs = this.#clock.monotonicMs() + this.#pauseMs
  }
}
