/**
 * Errors as the HTTP port shows them: problem details (RFC 9457) with a stable `code`. One exhaustive table for the core's codes
 * and one for the authentication gate's.
 */
import { STATUS_CODES } from 'node:http'
import { isTidegateError, type ErrorCode, type ErrorDetails } from '../../common/errors.ts'
import { isAuthError, type AuthErrorCode } from './auth/errors.ts'

export interface Problem {
  readonly status: number
  readonly code: string
  /** Names the value at fault. */
  readonly detail: string
  /** Values at fault, as further members. */
  readonly details: ErrorDetails
}

const CORE_STATUS: Readonly<Record<ErrorCode, number>> = {
  AccessDenied: 403,
  BadDigest: 400,
  BucketAlreadyExists: 409,
  BucketAlreadyOwnedByYou: 409,
  BucketNotEmpty: 409,
  ConditionalRequestConflict: 409,
  CrossBucket: 400,
  DataLost: 500,
  // Seven that only the mount meets.
  DirectoryNotEmpty: 409,
  FileExists: 409,
  IsADirectory: 400,
  NoSuchAttribute: 404,
  NotADirectory: 400,
  StaleFile: 404,
  TooManyLinks: 400,
  EntityTooLarge: 413,
  EntityTooSmall: 400,
  IncompleteBody: 400,
  Internal: 500,
  InvalidArgument: 400,
  InvalidBucketName: 400,
  InvalidBucketState: 409,
  InvalidCounter: 409,
  InvalidKey: 400,
  InvalidPart: 400,
  InvalidPartOrder: 400,
  InvalidRange: 416,
  InvalidRequest: 400,
  InvalidTag: 400,
  KeyTooLong: 400,
  MethodNotAllowed: 405,
  NoSuchBucket: 404,
  NoSuchKey: 404,
  NoSuchToken: 404,
  NoSuchUpload: 404,
  NoSuchVersion: 404,
  NotImplemented: 501,
  NotModified: 304,
  PreconditionFailed: 412,
  RequestTimeout: 408,
  RevisionGone: 410,
  SlowDown: 503,
  StorageFull: 507,
  TooManyBuckets: 400,
  TransactionTooLarge: 413,
  Unavailable: 503,
}

/** Wrong credentials are 401 here: whoever reads it is to bring others. */
const AUTH_PROBLEMS: Readonly<Record<AuthErrorCode, { readonly status: number; readonly code: string }>> = {
  AccessDenied: { status: 403, code: 'AccessDenied' },
  AuthorizationHeaderMalformed: { status: 400, code: 'InvalidArgument' },
  AuthorizationQueryParametersError: { status: 400, code: 'InvalidArgument' },
  IncompleteBody: { status: 400, code: 'IncompleteBody' },
  InvalidAccessKeyId: { status: 401, code: 'Unauthenticated' },
  InvalidArgument: { status: 400, code: 'InvalidArgument' },
  InvalidChunkSizeError: { status: 400, code: 'InvalidRequest' },
  InvalidRequest: { status: 400, code: 'InvalidRequest' },
  InvalidToken: { status: 401, code: 'Unauthenticated' },
  InvalidURI: { status: 400, code: 'InvalidArgument' },
  MalformedTrailerError: { status: 400, code: 'InvalidRequest' },
  MissingContentLength: { status: 411, code: 'InvalidRequest' },
  MissingSecurityHeader: { status: 400, code: 'InvalidRequest' },
  NotImplemented: { status: 501, code: 'NotImplemented' },
  RequestTimeTooSkewed: { status: 401, code: 'Unauthenticated' },
  SignatureDoesNotMatch: { status: 401, code: 'Unauthenticated' },
  XAmzContentSHA256Mismatch: { status: 400, code: 'BadDigest' },
}

/** What a client is shown of an error; undefined when it is a bug of ours. */
export function problemOf(error: unknown): Problem | undefined {
  if (isTidegateError(error)) {
    const { code, message: detail, details } = error
    return { status: CORE_STATUS[code], code, detail, details }
  }
  if (isAuthError(error)) return { ...AUTH_PROBLEMS[error.code], detail: error.message, details: {} }
  return undefined
}

export const INTERNAL_PROBLEM: Problem = {
  status: 500,
  code: 'Internal',
  detail: 'an internal error; the log has more under the request id',
  details: {},
}

export function problemDocument(problem: Problem, requestId: string): string {
  const { status, code, detail, details } = problem
  const type = `urn:tidegate:error:${code}`
  return JSON.stringify({ ...details, type, title: STATUS_CODES[status] ?? '', status, code, detail, requestId })
}

/** Names and values in turn, for `writeHead`; without those of a body. */
export function problemHeaders(problem: Problem, requestId: string): string[] {
  const headers = ['x-request-id', requestId, 'x-tidegate-error', problem.code]
  if (problem.status === 401) headers.push('WWW-Authenticate', 'Basic realm="tidegate", charset="UTF-8", Bearer')
  if (problem.status === 503) headers.push('Retry-After', '1')
  // RFC 9110, 15.5.17: how much there is to ask a range of.
  if (problem.status === 416 && problem.details['size'] !== undefined) {
    headers.push('Content-Range', `bytes */${problem.details['size']}`)
  }
  return headers
}
