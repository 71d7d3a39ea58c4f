/** How the system's refusals become errors of the table: always with the name of the errno, in words and as a detail. */
import { constants } from 'node:os'
import { getSystemErrorName } from 'node:util'
import { type ErrorCode, TidegateError } from '../../../common/errors.ts'

/** `errno` as the system has it: positive. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno)
}

/** `what` says what was tried, on what. */
export function deviceError(what: string, errno: number, code: ErrorCode = 'Unavailable'): TidegateError {
  const name = errnoName(errno)
  return new TidegateError(code, `${what}: ${name}${hintOf(name)}`, { details: { errno: name } })
}

/** From an error that Node's own modules threw. */
export function deviceErrorFrom(what: string, error: unknown, code: ErrorCode = 'Unavailable'): TidegateError {
  const errno = errnoOf(error)
  if (errno === undefined) return new TidegateError(code, `${what}: ${String(error)}`, { cause: error })
  return deviceError(what, errno, code)
}

/** The positive errno of a system error, or undefined for any other. */
export function errnoOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errno' in error) || typeof error.errno !== 'number') return undefined
  return -error.errno
}

/** The connection has ended: unmounted (ENODEV), or aborted (ECONNABORTED where INIT asked for that). */
export function isEnd(errno: number): boolean {
  return errno === constants.errno.ENODEV || errno === constants.errno.ECONNABORTED
}

/** What the usual causes are, for those who only see the message. */
const HINTS: Readonly<Record<string, string>> = {
  ENOENT: ' (does the path exist, and is the kernel module "fuse" loaded?)',
  EPERM: ' (a container needs --device /dev/fuse --cap-add SYS_ADMIN)',
  EACCES: ' (a container needs --device /dev/fuse --cap-add SYS_ADMIN)',
  EBUSY: " (files in it are open, or it is somebody's working directory)",
  ENOTCONN: ' (a mount whose server has died lies there)',
}

function hintOf(name: string): string {
  return HINTS[name] ?? ''
}

/** A program says the errno in words only: those of strerror(3) that mounting programs run into. */
const WORDS: readonly (readonly [words: RegExp, errno: number])[] = [
  [/permission denied|must be superuser|no write access/i, constants.errno.EACCES],
  [/operation not permitted|not allowed|user_allow_other/i, constants.errno.EPERM],
  [/busy/i, constants.errno.EBUSY],
  [/not connected/i, constants.errno.ENOTCONN],
  [/no such file or directory/i, constants.errno.ENOENT],
  [/no such device|unknown filesystem type/i, constants.errno.ENODEV],
]

/** From what a mounting program had to say. `what` names the program and the path. */
export function programError(what: string, message: string): TidegateError {
  const errno = WORDS.find(([words]) => words.test(message))?.[1] ?? constants.errno.EIO
  return new TidegateError('Unavailable', `${what}: ${message}`, { details: { errno: errnoName(errno) } })
}
