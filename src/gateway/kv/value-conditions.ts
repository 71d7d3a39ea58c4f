import { isTidegateError, TidegateError } from '../../common/errors.ts'
import { NO_CONDITIONS } from '../../common/conditions.ts'
import type { Conditions } from '../../common/model.ts'
import { conditionsOf } from '../http/conditional-headers.ts'

/**
 * If-Match where there is nothing does not hold (RFC 9110, 13.1.1); the core says NoSuchKey, as S3 does. In this API who compares
 * and swaps learns that he lost in one way only: 412.
 */
export function absentToUnmatched(error: unknown, conditions: Conditions): unknown {
  return isTidegateError(error, 'NoSuchKey') && conditions.ifMatch !== undefined ? unmatched(error) : error
}

export function unmatched(cause?: unknown): TidegateError {
  return new TidegateError('PreconditionFailed', 'If-Match on a key that has no value', {
    details: { condition: 'If-Match' },
    cause,
  })
}

/** Conditions of an operation in a body, in the words of the headers of those names. */
export function bodyConditions(given: { ifMatch: string | undefined; ifNoneMatch: string | undefined }): Conditions {
  if (given.ifMatch === undefined && given.ifNoneMatch === undefined) return NO_CONDITIONS
  return conditionsOf({ ...given, modifiedSince: undefined, unmodifiedSince: undefined }, { revisions: true })
}
