/**
 * What went wrong, in S3's words. Three vocabularies meet here, each in one exhaustive table:
 *
 * - `S3_ERRORS`: the codes this door itself raises (bad XML, bad headers), with the status and text AWS gives;
 * - `CORE_ERRORS`: the core's closed table (common/errors.ts) -> S3 code;
 * - authentication errors carry AWS's own codes already; `AUTH_ERRORS` (auth-errors.ts) says so code by code.
 *
 * A code missing from a table does not compile.
 */
import type { ErrorCode, TidegateError } from '../../common/errors.ts'

export interface S3ErrorRow {
  readonly status: number
  readonly message: string
}

/** Codes and texts of the S3 API reference, "Error responses". */
export const S3_ERRORS = {
  AccessDenied: { status: 403, message: 'Access Denied' },
  BadDigest: { status: 400, message: 'The checksum or Content-MD5 you specified did not match what was received.' },
  BucketAlreadyExists: { status: 409, message: 'The requested bucket name is not available.' },
  BucketAlreadyOwnedByYou: { status: 409, message: 'Your previous request to create the named bucket succeeded.' },
  BucketNotEmpty: { status: 409, message: 'The bucket you tried to delete is not empty.' },
  ConditionalRequestConflict: { status: 409, message: 'A conflicting operation ran at the same time; try again.' },
  EntityTooLarge: { status: 400, message: 'Your proposed upload exceeds the maximum allowed object size.' },
  EntityTooSmall: { status: 400, message: 'Your proposed upload is smaller than the minimum allowed object size.' },
  IllegalLocationConstraintException: {
    status: 400,
    message: 'The location constraint is incompatible with the region.',
  },
  IncompleteBody: { status: 400, message: 'The request body ended before the length that was announced.' },
  InternalError: { status: 500, message: 'We encountered an internal error. Please try again.' },
  InvalidArgument: { status: 400, message: 'Invalid Argument' },
  InvalidBucketName: { status: 400, message: 'The specified bucket is not valid.' },
  InvalidBucketState: { status: 409, message: 'The request is not valid with the current state of the bucket.' },
  InvalidDigest: { status: 400, message: 'The Content-MD5 you specified is not valid.' },
  InvalidPart: { status: 400, message: 'One or more of the specified parts could not be found.' },
  InvalidPartOrder: { status: 400, message: 'The list of parts was not in ascending order.' },
  InvalidRange: { status: 416, message: 'The requested range is not satisfiable' },
  InvalidRequest: { status: 400, message: 'Invalid Request' },
  InvalidStorageClass: { status: 400, message: 'The storage class you specified is not valid' },
  InvalidTag: { status: 400, message: 'The tag provided was not a valid tag.' },
  InvalidURI: { status: 400, message: "Couldn't parse the specified URI." },
  KeyTooLongError: { status: 400, message: 'Your key is too long' },
  MalformedXML: {
    status: 400,
    message: 'The XML you provided was not well-formed or did not validate against our schema',
  },
  MaxMessageLengthExceeded: { status: 400, message: 'Your request was too big.' },
  MetadataTooLarge: { status: 400, message: 'Your metadata headers exceed the maximum allowed metadata size' },
  MethodNotAllowed: { status: 405, message: 'The specified method is not allowed against this resource.' },
  MissingContentLength: { status: 411, message: 'You must provide the Content-Length HTTP header.' },
  MissingRequestBodyError: { status: 400, message: 'Request body is empty.' },
  NoSuchBucket: { status: 404, message: 'The specified bucket does not exist' },
  NoSuchKey: { status: 404, message: 'The specified key does not exist.' },
  NoSuchUpload: { status: 404, message: 'The specified multipart upload does not exist.' },
  NoSuchVersion: { status: 404, message: 'The specified version does not exist.' },
  NotImplemented: {
    status: 501,
    message: 'A header or query you provided implies functionality that is not implemented.',
  },
  NotModified: { status: 304, message: 'Not Modified' },
  PreconditionFailed: { status: 412, message: 'At least one of the pre-conditions you specified did not hold' },
  RequestTimeout: {
    status: 400,
    message: 'Your socket connection to the server was not read from or written to in time.',
  },
  ServiceUnavailable: { status: 503, message: 'The gateway cannot do this at present. Please try again.' },
  SlowDown: { status: 503, message: 'Please reduce your request rate.' },
  StorageFull: { status: 507, message: 'The gateway has no room for more data; deleting still works.' },
  TooManyBuckets: { status: 400, message: 'You have attempted to create more buckets than allowed' },
  XAmzContentSHA256Mismatch: {
    status: 400,
    message: "The provided 'x-amz-content-sha256' header does not match what was computed.",
  },
} as const satisfies Record<string, S3ErrorRow>

export type S3ErrorCode = keyof typeof S3_ERRORS

/** Values at fault, as elements of the error document. */
export type S3ErrorDetails = Readonly<Record<string, string | number | boolean | undefined>>

/** An error this door raises itself. */
export class S3Error extends Error {
  readonly code: S3ErrorCode
  readonly details: S3ErrorDetails

  constructor(code: S3ErrorCode, message: string = S3_ERRORS[code].message, details: S3ErrorDetails = {}) {
    super(message)
    this.name = 'S3Error'
    this.code = code
    this.details = details
  }
}

/** `InvalidArgument` naming the argument and its value, as AWS does. */
export function invalidArgument(name: string, value: string | undefined, message = 'Invalid Argument'): S3Error {
  return new S3Error('InvalidArgument', message, { ArgumentName: name, ArgumentValue: value })
}

/**
 * The core's codes in S3's words. `own` keeps the core's message, which names the value at fault; elsewhere AWS's text
 * is given, since clients and tests compare it. `details`: what AWS calls those that it shows.
 */
export const CORE_ERRORS = {
  AccessDenied: { code: 'AccessDenied' },
  BadDigest: {
    code: 'BadDigest',
    own: true,
    details: { expectedMd5: 'ExpectedDigest', calculatedMd5: 'CalculatedDigest' },
  },
  BucketAlreadyExists: { code: 'BucketAlreadyExists' },
  BucketAlreadyOwnedByYou: { code: 'BucketAlreadyOwnedByYou' },
  BucketNotEmpty: { code: 'BucketNotEmpty' },
  ConditionalRequestConflict: { code: 'ConditionalRequestConflict' },
  // What only the mount meets is named for completeness.
  DirectoryNotEmpty: { code: 'InvalidRequest', own: true },
  FileExists: { code: 'InvalidRequest', own: true },
  IsADirectory: { code: 'InvalidRequest', own: true },
  NoSuchAttribute: { code: 'InvalidRequest', own: true },
  NotADirectory: { code: 'InvalidRequest', own: true },
  StaleFile: { code: 'InvalidRequest', own: true },
  TooManyLinks: { code: 'InvalidRequest', own: true },
  CrossBucket: { code: 'InvalidRequest', own: true },
  // Bytes that cannot be had intact are our failure, and a retry may find another copy.
  DataLost: { code: 'InternalError' },
  EntityTooLarge: {
    code: 'EntityTooLarge',
    details: { proposedBytes: 'ProposedSize', bytesMax: 'MaxSizeAllowed' },
  },
  EntityTooSmall: { code: 'EntityTooSmall' },
  IncompleteBody: { code: 'IncompleteBody' },
  Internal: { code: 'InternalError' },
  InvalidArgument: { code: 'InvalidArgument', own: true },
  InvalidBucketName: { code: 'InvalidBucketName' },
  InvalidBucketState: { code: 'InvalidBucketState', own: true },
  // Counters and tokens are other doors' concepts; named for completeness.
  InvalidCounter: { code: 'InvalidRequest', own: true },
  InvalidKey: { code: 'InvalidArgument', own: true },
  InvalidPart: { code: 'InvalidPart' },
  InvalidPartOrder: { code: 'InvalidPartOrder' },
  InvalidRange: { code: 'InvalidRange' },
  InvalidRequest: { code: 'InvalidRequest', own: true },
  InvalidTag: { code: 'InvalidTag', own: true },
  KeyTooLong: { code: 'KeyTooLongError' },
  MethodNotAllowed: { code: 'MethodNotAllowed' },
  NoSuchBucket: { code: 'NoSuchBucket' },
  NoSuchKey: { code: 'NoSuchKey' },
  NoSuchToken: { code: 'InvalidRequest', own: true },
  NoSuchUpload: { code: 'NoSuchUpload' },
  NoSuchVersion: { code: 'NoSuchVersion' },
  NotImplemented: { code: 'NotImplemented', own: true },
  NotModified: { code: 'NotModified' },
  PreconditionFailed: { code: 'PreconditionFailed' },
  RequestTimeout: { code: 'RequestTimeout' },
  // The change log is no S3 concept; a listing that hits it is simply begun again.
  RevisionGone: { code: 'ServiceUnavailable' },
  SlowDown: { code: 'SlowDown' },
  StorageFull: { code: 'StorageFull' },
  TooManyBuckets: { code: 'TooManyBuckets' },
  TransactionTooLarge: { code: 'InvalidRequest', own: true },
  Unavailable: { code: 'ServiceUnavailable' },
} as const satisfies Record<ErrorCode, CoreErrorRow>

interface CoreErrorRow {
  readonly code: S3ErrorCode
  readonly own?: true
  readonly details?: Readonly<Record<string, string>>
}

/** The S3 error that a core error becomes. */
export function fromCoreError(error: TidegateError): S3Error {
  const row: CoreErrorRow = CORE_ERRORS[error.code]
  const details: Record<string, S3ErrorDetails[string]> = {}
  for (const name in row.details) {
    const shown = row.details[name]
    if (shown !== undefined && error.details[name] !== undefined) details[shown] = error.details[name]
  }
  return new S3Error(row.code, row.own === true ? error.message : S3_ERRORS[row.code].message, details)
}
