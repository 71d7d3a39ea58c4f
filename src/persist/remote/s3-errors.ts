/**
 * What an S3 store, the network or the SDK reports, as an error of the port, and whether another attempt may help.
 *
 * That an object is not there is believed only to a store that says so in S3's words. Any proxy on the way answers 404 as well, while it
 * restarts, and the SDK calls that NotFound; taken for the store's word it would be data lost, or a delete that is done.
 *
 * The SDK's own error stays out of it: it carries the response, with that the connection, and with that the request and its
 * Authorization header. Name, code and message are copied.
 */
import { isTidegateError, TidegateError, type ErrorCode } from '../../common/errors.ts'

export interface S3Failure {
  readonly error: TidegateError
  readonly isRetryable: boolean
  /** The store said how long to wait (Retry-After). */
  readonly retryAfterMs: number | undefined
}

/** What of the SDK's and Node's errors is read here. */
interface ThrownError {
  readonly name?: string
  readonly message?: string
  readonly code?: unknown
  /** The code in the body, where the SDK made a class of its own of it. */
  readonly Code?: unknown
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly statusCode?: number; readonly headers?: Readonly<Record<string, string>> }
}

const MESSAGE_LENGTH_MAX = 300
const RETRY_AFTER_MS_MAX = 60_000

const CODES: Readonly<Record<string, ErrorCode>> = {
  NoSuchKey: 'NoSuchKey',
  NotFound: 'NoSuchKey',
  NoSuchBucket: 'NoSuchBucket',
  PreconditionFailed: 'PreconditionFailed',
  SlowDown: 'SlowDown',
  SlowDownRead: 'SlowDown',
  SlowDownWrite: 'SlowDown',
  Throttling: 'SlowDown',
  ThrottlingException: 'SlowDown',
  RequestLimitExceeded: 'SlowDown',
  TooManyRequests: 'SlowDown',
  TooManyRequestsException: 'SlowDown',
  InsufficientStorage: 'StorageFull',
  QuotaExceeded: 'StorageFull',
  XMinioStorageFull: 'StorageFull',
  AccessDenied: 'AccessDenied',
  AccountProblem: 'AccessDenied',
  CredentialsProviderError: 'AccessDenied',
  ExpiredToken: 'AccessDenied',
  InvalidAccessKeyId: 'AccessDenied',
  InvalidToken: 'AccessDenied',
  SignatureDoesNotMatch: 'AccessDenied',
}

const CODES_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  401: 'AccessDenied',
  403: 'AccessDenied',
  412: 'PreconditionFailed',
  429: 'SlowDown',
  507: 'StorageFull',
}

/**
 * Refusals that may pass by themselves. RequestTimeTooSkewed: the SDK has learned the store's time from the answer, and the next attempt
 * is signed with it. The digests: something on the way changed the bytes.
 */
const RETRYABLE_CODES: ReadonlySet<string> = new Set([
  'BadDigest',
  'ConditionalRequestConflict',
  'IncompleteBody',
  'InternalError',
  'OperationAborted',
  'RequestTimeTooSkewed',
  'RequestTimeout',
  'XAmzContentChecksumMismatch',
  'XAmzContentSHA256Mismatch',
])

/** `what` says what was tried, and on which object; `isBodiless` that errors come without a body (HEAD). */
export function s3Failure(thrown: unknown, what: string, isBodiless = false): S3Failure {
  if (isTidegateError(thrown)) {
    return { error: thrown, isRetryable: thrown.details['retryable'] === true, retryAfterMs: undefined }
  }
  const error = (thrown ?? {}) as ThrownError
  const status = error.$metadata?.httpStatusCode ?? error.$response?.statusCode
  const remoteCode = remoteCodeOf(error)
  // `Code` is what the body said; without a body the SDK makes up a name.
  const isAnybodys404 = status === 404 && error.Code === undefined && !isBodiless
  const code = isAnybodys404 ? 'Unavailable' : errorCodeFor(remoteCode, status)
  const details = { remoteCode, ...(status === undefined ? {} : { status }) }
  const words = isAnybodys404 ? 'a 404 that is not in the words of S3' : plain(error.message)
  const told = new TidegateError(code, `${what}: ${remoteCode}: ${words}`, {
    details,
    cause: new Error(`${remoteCode}: ${words}`),
  })
  const mayPass = isAnybodys404 || isRetryable(code, remoteCode, status)
  return { error: told, isRetryable: mayPass, retryAfterMs: retryAfterMs(error) }
}

export function errorCodeFor(remoteCode: string, status: number | undefined): ErrorCode {
  const known = Object.hasOwn(CODES, remoteCode) ? CODES[remoteCode] : undefined
  // A part or an upload that is not there is no missing object.
  const isMissingUpload = remoteCode === 'NoSuchUpload'
  return known ?? (isMissingUpload ? 'Unavailable' : CODES_BY_STATUS[status ?? 0]) ?? 'Unavailable'
}

/** An answer that cannot be right: what came is not believed, and is asked for again. */
export function badAnswer(what: string, reason: string): TidegateError {
  return new TidegateError('Unavailable', `${what}: ${reason}`, {
    details: { remoteCode: 'BadAnswer', retryable: true },
  })
}

function remoteCodeOf(error: ThrownError): string {
  const codes = [error.Code, error.code, error.name]
  const code = codes.find((one): one is string => typeof one === 'string' && /^[A-Za-z0-9_.-]{1,80}$/.test(one))
  return code ?? 'Unknown'
}

function isRetryable(code: ErrorCode, remoteCode: string, status: number | undefined): boolean {
  if (RETRYABLE_CODES.has(remoteCode)) return true
  if (code === 'SlowDown') return true
  if (code !== 'Unavailable') return false
  // No status: the network, or an answer that could not be understood.
  return status === undefined || (status >= 500 && status !== 501) || status < 300 || status === 408
}

function retryAfterMs(error: ThrownError): number | undefined {
  const seconds = Number(error.$response?.headers?.['retry-after'])
  return seconds > 0 ? Math.min(seconds * 1_000, RETRY_AFTER_MS_MAX) : undefined
}

/** The other side's words, as far as they are fit for a log line. */
function plain(message: string | undefined): string {
  return (message ?? '').replace(/[^\x20-\x7e]+/g, ' ').slice(0, MESSAGE_LENGTH_MAX)
}
