/**
 * The one error type of the core and its closed table of codes.
 *
 * What can happen in operation (a missing key, a full disk, a bad argument) is a `TidegateError`. What must never happen
 * is `assert` (see assert.ts). Each door maps every code of this table to its own language in one exhaustive table, so a
 * new code does not compile until each door has said what it becomes.
 */

export const ERROR_CODES = [
  'AccessDenied',
  'BadDigest',
  'BucketAlreadyExists',
  'BucketAlreadyOwnedByYou',
  'BucketNotEmpty',
  'ConditionalRequestConflict',
  'CrossBucket',
  'DataLost',
  'DirectoryNotEmpty',
  'EntityTooLarge',
  'EntityTooSmall',
  'FileExists',
  'IncompleteBody',
  'Internal',
  'InvalidArgument',
  'InvalidBucketName',
  'InvalidBucketState',
  'InvalidCounter',
  'InvalidKey',
  'InvalidPart',
  'InvalidPartOrder',
  'InvalidRange',
  'InvalidRequest',
  'InvalidTag',
  'IsADirectory',
  'KeyTooLong',
  'MethodNotAllowed',
  'NoSuchAttribute',
  'NoSuchBucket',
  'NoSuchKey',
  'NoSuchToken',
  'NoSuchUpload',
  'NoSuchVersion',
  'NotADirectory',
  'NotImplemented',
  'NotModified',
  'PreconditionFailed',
  'RequestTimeout',
  'RevisionGone',
  'SlowDown',
  'StaleFile',
  'StorageFull',
  'TooManyBuckets',
  'TooManyLinks',
  'TransactionTooLarge',
  'Unavailable',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** Values at fault, shown to the caller by the doors that have a place for them. Never holds secrets. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | undefined>>

/** Codes that say no more than what is there. Nobody looks for their cause, and taking the stack costs more than the look-up. */
const ANSWERS: ReadonlySet<ErrorCode> = new Set([
  'FileExists',
  'NoSuchAttribute',
  'NoSuchKey',
  'NoSuchVersion',
  'NotModified',
  'PreconditionFailed',
])

export class TidegateError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetails

  /** `message` names the value at fault. `cause` is kept for the log, never shown to a client. */
  constructor(code: ErrorCode, message: string, options: { details?: ErrorDetails; cause?: unknown } = {}) {
    const { stackTraceLimit } = Error
    if (ANSWERS.has(code)) Error.stackTraceLimit = 0
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'TidegateError'
    this.code = code
    this.details = options.details ?? {}
  }
}

/** Whether a change of metadata that failed with this may have been made all the same: nobody knows yet (`details.outcome`: `unknown`). */
export function mayHaveTakenEffect(error: unknown): boolean {
  return isTidegateError(error) && error.details['outcome'] === 'unknown'
}

export function isTidegateError(error: unknown, code?: ErrorCode): error is TidegateError {
  return error instanceof TidegateError && (code === undefined || error.code === code)
}
