/**
 * What went wrong, in the mount's words: Linux error numbers.
 *
 * - `ERRNO`: the numbers by name, as in include/uapi/asm-generic/errno*.h, which x86-64 and arm64 share;
 * - `ERRORS`: the core's closed table (common/errors.ts) -> errno. A code missing from it does not compile;
 * - `FuseError`: raised by this door itself where the core has no part in it (a name that is too long, a bad flag).
 *
 * ENOSYS is for operations that the door does not have at all: the kernel remembers it and never asks again, so nothing
 * that may succeed another time may answer with it. That is why NotImplemented is EOPNOTSUPP.
 */
import { isTidegateError, type ErrorCode } from '../../../common/errors.ts'

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EILSEQ: 84,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ESTALE: 116,
  EDQUOT: 122,
  ECANCELED: 125,
} as const

export type ErrnoName = keyof typeof ERRNO

const ERRORS = {
  AccessDenied: 'EACCES',
  BadDigest: 'EIO',
  BucketAlreadyExists: 'EEXIST',
  BucketAlreadyOwnedByYou: 'EEXIST',
  BucketNotEmpty: 'ENOTEMPTY',
  ConditionalRequestConflict: 'EAGAIN',
  CrossBucket: 'EXDEV',
  DataLost: 'EIO',
  DirectoryNotEmpty: 'ENOTEMPTY',
  EntityTooLarge: 'EFBIG',
  EntityTooSmall: 'EINVAL',
  FileExists: 'EEXIST',
  IncompleteBody: 'EIO',
  Internal: 'EIO',
  InvalidArgument: 'EINVAL',
  InvalidBucketName: 'EINVAL',
  // Object lock forbids a rename, say: what Linux answers for immutable files.
  InvalidBucketState: 'EPERM',
  InvalidCounter: 'EINVAL',
  // Of the mount's names only one that is not UTF-8: what Linux answers where names are text (fs/nls, ext4 with casefold).
  InvalidKey: 'EILSEQ',
  InvalidPart: 'EINVAL',
  InvalidPartOrder: 'EINVAL',
  InvalidRange: 'EINVAL',
  InvalidRequest: 'EINVAL',
  InvalidTag: 'EINVAL',
  IsADirectory: 'EISDIR',
  KeyTooLong: 'ENAMETOOLONG',
  MethodNotAllowed: 'EPERM',
  NoSuchAttribute: 'ENODATA',
  NoSuchBucket: 'ENOENT',
  NoSuchKey: 'ENOENT',
  NoSuchToken: 'ENOENT',
  NoSuchUpload: 'ENOENT',
  NoSuchVersion: 'ENOENT',
  NotADirectory: 'ENOTDIR',
  NotImplemented: 'EOPNOTSUPP',
  // The two answers to conditions, which the mount only sets itself: what it compared with is no longer what is there.
  NotModified: 'ESTALE',
  PreconditionFailed: 'ESTALE',
  RequestTimeout: 'ETIMEDOUT',
  RevisionGone: 'ESTALE',
  // After the bounded wait of C19, with nothing published.
  SlowDown: 'EAGAIN',
  StaleFile: 'ESTALE',
  StorageFull: 'ENOSPC',
  // mkdir(2) at the root: EMLINK is "the parent has as many directories as it may".
  TooManyBuckets: 'EMLINK',
  TooManyLinks: 'EMLINK',
  TransactionTooLarge: 'E2BIG',
  Unavailable: 'EIO',
} as const satisfies Readonly<Record<ErrorCode, ErrnoName>>

/** An error that this door raises itself. `message` is for the log; the caller sees the number only. */
export class FuseError extends Error {
  readonly errno: ErrnoName

  constructor(errno: ErrnoName, message: string = errno) {
    const { stackTraceLimit } = Error
    // An answer, not a fault: taking the stack would be most of the work of giving it.
    Error.stackTraceLimit = 0
    super(message)
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'FuseError'
    this.errno = errno
  }
}

export function errnoNameOf(code: ErrorCode): ErrnoName {
  return ERRORS[code]
}

/** The number to answer with, or undefined for what is no error of operation but a bug, which is the caller's to log. */
export function errnoOf(error: unknown): number | undefined {
  if (error instanceof FuseError) return ERRNO[error.errno]
  return isTidegateError(error) ? ERRNO[ERRORS[error.code]] : undefined
}
