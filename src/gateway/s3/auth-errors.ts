/**
 * What the authentication gate and the body decoder refuse, in S3's words. Their codes are AWS's own; the table exists so
 * that a new one does not reach a client before someone has looked at it.
 */
import { AUTH_ERROR_STATUS, type AuthErrorCode } from '../http/auth/errors.ts'
import type { S3ErrorRow } from './errors.ts'

type AuthErrorRow = Pick<S3ErrorRow, 'status'> & { readonly code: string }

function same<Code extends AuthErrorCode>(code: Code): AuthErrorRow {
  return { code, status: AUTH_ERROR_STATUS[code] }
}

export const AUTH_ERRORS: Readonly<Record<AuthErrorCode, AuthErrorRow>> = {
  AccessDenied: same('AccessDenied'),
  AuthorizationHeaderMalformed: same('AuthorizationHeaderMalformed'),
  AuthorizationQueryParametersError: same('AuthorizationQueryParametersError'),
  IncompleteBody: same('IncompleteBody'),
  InvalidAccessKeyId: same('InvalidAccessKeyId'),
  InvalidArgument: same('InvalidArgument'),
  InvalidChunkSizeError: same('InvalidChunkSizeError'),
  InvalidRequest: same('InvalidRequest'),
  InvalidToken: same('InvalidToken'),
  InvalidURI: same('InvalidURI'),
  MalformedTrailerError: same('MalformedTrailerError'),
  MissingContentLength: same('MissingContentLength'),
  MissingSecurityHeader: same('MissingSecurityHeader'),
  NotImplemented: same('NotImplemented'),
  RequestTimeTooSkewed: same('RequestTimeTooSkewed'),
  SignatureDoesNotMatch: same('SignatureDoesNotMatch'),
  XAmzContentSHA256Mismatch: same('XAmzContentSHA256Mismatch'),
}
