/**
 * Version ids on the wire: 32 hex digits, 16 of the version number and 16 of the inode. The inode tells apart two versions
 * that got one number because the key was wholly removed in between and the clock went back. `null` stands for the null version.
 */
import { TidegateError } from '../../common/errors.ts'
import type { BucketRecord } from '../../common/model.ts'
import { keepsVersions } from './tree.ts'

export const NULL_VERSION_ID = 'null'

const VERSION_ID = /^[0-9a-f]{32}$/
const MICROSECONDS_PER_MS = 1000

export interface VersionNumber {
  readonly version: number
  readonly inode: number
}

export function formatVersionNumber(entry: VersionNumber): string {
  return sixteenDigits(entry.version) + sixteenDigits(entry.inode)
}

/** As listings and responses show it. */
export function formatVersionId(entry: VersionNumber & { readonly isNull: boolean }): string {
  return entry.isNull ? NULL_VERSION_ID : formatVersionNumber(entry)
}

/** Undefined in a bucket that was never versioned. */
export function shownVersionId(
  bucket: BucketRecord,
  entry: VersionNumber & { readonly isNull: boolean },
): string | undefined {
  return keepsVersions(bucket) ? formatVersionId(entry) : undefined
}

/** @throws InvalidArgument for what can never be a version id */
export function parseVersionId(text: string): VersionNumber | typeof NULL_VERSION_ID {
  if (text === NULL_VERSION_ID) return NULL_VERSION_ID
  const version = Number.parseInt(text.slice(0, 16), 16)
  const inode = Number.parseInt(text.slice(16), 16)
  if (!VERSION_ID.test(text) || !Number.isSafeInteger(version) || !Number.isSafeInteger(inode)) {
    throw new TidegateError('InvalidArgument', `version id ${JSON.stringify(text)}`, {
      details: { argument: 'versionId', value: text },
    })
  }
  return { version, inode }
}

/** C9: versions of a name grow even when the clock goes back. Microseconds, so that many fit a millisecond. */
export function nextVersion(previous: number, nowMs: number): number {
  return Math.max(previous + 1, Math.floor(nowMs) * MICROSECONDS_PER_MS)
}

function sixteenDigits(value: number): string {
  return value.toString(16).padStart(16, '0')
}
