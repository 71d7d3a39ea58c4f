/** Members that operations of batches and transactions share: keys, values, times to live. */
import type { Limits } from '../../common/limits.ts'
import { TidegateError } from '../../common/errors.ts'
import { badMember, type JsonMembers } from './json-members.ts'
import { attributesOf } from './value-attributes.ts'
import type { ObjectAttributes } from '../../common/model.ts'

export const TTL_SECONDS_MAX = 315_360_000
export const TTL_SECONDS_MIN = 0.001

/** @throws InvalidArgument */
export function keyOf(members: JsonMembers): string {
  const key = members.text('key')
  if (key === '') throw badMember(members.pathOf('key'), 'is empty')
  return key
}

/** @throws InvalidArgument */
export function ttlMsOf(members: JsonMembers): number | undefined {
  const seconds = members.optionalNumber('ttl', { min: TTL_SECONDS_MIN, max: TTL_SECONDS_MAX })
  return seconds === undefined ? undefined : Math.round(seconds * 1000)
}

/** `value` in base64, or `text`. @throws InvalidArgument; EntityTooLarge over `bytesMax` */
export function valueOf(members: JsonMembers, bytesMax: number): Buffer {
  if (members.has('value') === members.has('text')) throw badMember(members.path, 'needs either "value" or "text"')
  const bytes = members.has('value') ? members.base64('value') : Buffer.from(members.text('text'))
  if (bytes.length <= bytesMax) return bytes
  const message = `the value of "${members.path}" has ${bytes.length} bytes, more than ${bytesMax}: put it by itself`
  throw new TidegateError('EntityTooLarge', message, { details: { member: members.path, bytesMax } })
}

/** @throws InvalidArgument */
export function attributesIn(members: JsonMembers, limits: Limits): ObjectAttributes {
  const contentType = members.optionalText('contentType')
  const metadata = members.optionalTexts('metadata')
  return attributesOf({ contentType, metadata }, limits)
}
