import type { ErrorDetails } from '../../../common/errors.ts'

/**
 * What the authentication gate and the body decoder may answer, each with the HTTP status that AWS gives it. The table is
 * closed: a door that shows these errors maps them all or does not compile.
 */
export const AUTH_ERROR_STATUS = {
  AccessDenied: 403,
  AuthorizationHeaderMalformed: 400,
  AuthorizationQueryParametersError: 400,
  IncompleteBody: 400,
  InvalidAccessKeyId: 403,
  InvalidArgument: 400,
  InvalidChunkSizeError: 403,
  InvalidRequest: 400,
  InvalidToken: 400,
  InvalidURI: 400,
  MalformedTrailerError: 400,
  MissingContentLength: 411,
  MissingSecurityHeader: 400,
  NotImplemented: 501,
  RequestTimeTooSkewed: 403,
  SignatureDoesNotMatch: 403,
  XAmzContentSHA256Mismatch: 400,
} as const satisfies Record<string, number>

export type AuthErrorCode = keyof typeof AUTH_ERROR_STATUS

/**
 * Neither message nor details ever hold a secret key, a signing key, a signature or a header value that may itself be a
 * secret (an SSE-C key is a header): so the canonical request, which AWS echoes, is never among them.
 */
export class AuthError extends Error {
  readonly code: AuthErrorCode
  readonly status: number
  /** Further elements of the S3 error document, by their S3 names (`Region`, `ServerTime`, ...). */
  readonly details: ErrorDetails

  constructor(code: AuthErrorCode, message: string, details: ErrorDetails = {}) {
    super(message)
    this.name = 'AuthError'
    this.code = code
    this.status = AUTH_ERROR_STATUS[code]
    this.details = details
  }
}

export function isAuthError(error: unknown, code?: AuthErrorCode): error is AuthError {
  return error instanceof AuthError && (code === undefined || error.code === code)
}

export function signatureMismatch(details: ErrorDetails = {}): AuthError {
  return new AuthError(
    'SignatureDoesNotMatch',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
    details,
  )
}
