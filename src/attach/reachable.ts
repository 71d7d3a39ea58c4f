/**
 * Whether external stores answer. One that does not is left alone for a moment, so that a thousand readers of what is known do not each wait for a
 * time-out first.
 */
import type { Clock } from '../common/clock.ts'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { Attached } from './attached.ts'
import { Recent } from './recent.ts'

export type Answer<T> = { readonly value: T } | { readonly down: TidegateError }

interface Down {
  readonly untilMs: number
  readonly error: TidegateError
}

const DOWN_MS = 1000
const BUCKETS_MAX = 4096

export class Reachable {
  readonly #clock: Clock
  readonly #down = new Recent<number, Down>(BUCKETS_MAX)

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * `down`: what is known may be served in its place. Other refusals (of credentials, of a bucket that is gone) are not the client's to
   * mend, and yet no reason to serve old answers for ever: @throws Unavailable
   */
  async ask<T>({ record }: Attached, call: () => Promise<T>): Promise<Answer<T>> {
    const known = this.#down.get(record.bucketId)
    if (known && this.#clock.monotonicMs() < known.untilMs) return { down: known.error }
    try {
      const value = await call()
      this.#down.delete(record.bucketId)
      return { value }
    } catch (cause) {
      // Of what was asked for, not of the store: it says the same whenever it is asked.
      if (isTidegateError(cause, 'KeyTooLong')) throw cause
      const error = unavailable(record.bucket, cause)
      if (!isNoAnswer(cause)) throw error
      if (!isOfOneRequest(cause)) {
        this.#down.set(record.bucketId, { untilMs: this.#clock.monotonicMs() + DOWN_MS, error })
      }
      return { down: error }
    }
  }
}

function isNoAnswer(cause: unknown): cause is TidegateError {
  return isTidegateError(cause, 'Unavailable') || isTidegateError(cause, 'SlowDown')
}

/** Many a store breaks on a single key (500), refuses it (400), or has no ETag of it: who asks for that one must not take the whole bucket away from all others. */
function isOfOneRequest({ details }: TidegateError): boolean {
  const { status, remoteCode } = details
  if (remoteCode === 'BadAnswer') return true
  return typeof status === 'number' && status <= 500 && status !== 408 && status !== 429
}

function unavailable(bucket: string, cause: unknown): TidegateError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new TidegateError('Unavailable', `what bucket ${bucket} is attached to does not answer: ${why}`, {
    cause,
    details: { bucket },
  })
}
