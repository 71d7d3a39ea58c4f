/**
 * What a name in a directory of the mount may be. S3 and KV may make keys that POSIX has no name for: an empty component
 * (`a//b`), `.`, `..`, a NUL, more than 255 bytes. Those exist for them alone.
 *
 * S3 may also have the object `a` beside the directory `a/`. The name `a` is the directory then, and the object is found
 * and listed as `a.tidegate-object`, for as long as there is no object that is really called so.
 */
import { isUtf8 } from 'node:buffer'
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString } from '../../../common/ids.ts'

/** Linux, NAME_MAX. */
export const NAME_BYTES_MAX = 255
export const OBJECT_SUFFIX = '.tidegate-object'

/** Whether the mount shows an entry of this name; that of a directory without its slash. */
export function isShownName(name: string): boolean {
  return name.length <= NAME_BYTES_MAX && canBeName(name)
}

function canBeName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0')
}

/** @throws InvalidKey, KeyTooLong */
export function checkNewName(name: ByteString): void {
  checkNameLength(name)
  if (!canBeName(name) || !isUtf8(Buffer.from(name, 'latin1'))) {
    throw new TidegateError('InvalidKey', `${JSON.stringify(name)} cannot be the name of a file`)
  }
}

/** @throws KeyTooLong */
export function checkNameLength(name: string): void {
  if (name.length > NAME_BYTES_MAX) {
    throw new TidegateError('KeyTooLong', `a name of ${name.length} bytes`, {
      details: { size: name.length, maxSizeAllowed: NAME_BYTES_MAX },
    })
  }
}

export function noSuchName(name: string): TidegateError {
  return new TidegateError('NoSuchKey', `no file ${JSON.stringify(name)}`)
}

export function nameExists(name: string): TidegateError {
  return new TidegateError('FileExists', `there is ${JSON.stringify(name)} already`)
}

export function isDirectoryError(name: string): TidegateError {
  return new TidegateError('IsADirectory', `${JSON.stringify(name)} is a directory`)
}

export function notDirectoryError(name: string): TidegateError {
  return new TidegateError('NotADirectory', `${JSON.stringify(name)} is not a directory`)
}

export function notEmptyError(name: string): TidegateError {
  return new TidegateError('DirectoryNotEmpty', `directory ${JSON.stringify(name)} is not empty`)
}
