/** Which conditional headers each operation heeds: RFC 9110's, and S3's own for copies and deletes. */
import type { Conditions } from '../../common/model.ts'
import type { Call } from './call.ts'
import { invalidArgument } from './errors.ts'
import { conditionsOf, etagList, type ConditionalHeaders } from '../http/conditional-headers.ts'
import { parseHttpDate } from '../http/http-times.ts'

const NONE: Conditions = {}

/** For GET and HEAD. */
export function readConditions(call: Call): Conditions {
  const { headers } = call
  const ifMatch = headers['if-match']
  const ifNoneMatch = headers['if-none-match']
  const modifiedSince = headers['if-modified-since']
  const unmodifiedSince = headers['if-unmodified-since']
  if (
    ifMatch === undefined &&
    ifNoneMatch === undefined &&
    modifiedSince === undefined &&
    unmodifiedSince === undefined
  )
    return NONE
  return conditions({ ifMatch, ifNoneMatch, modifiedSince, unmodifiedSince })
}

/** For PUT and CompleteMultipartUpload: only ETags, as on AWS. */
export function writeConditions(call: Call): Conditions {
  const ifMatch = call.headers['if-match']
  const ifNoneMatch = call.headers['if-none-match']
  if (ifMatch === undefined && ifNoneMatch === undefined) return NONE
  return conditions({ ifMatch, ifNoneMatch, modifiedSince: undefined, unmodifiedSince: undefined })
}

/** For DELETE: If-Match and the two headers that S3 adds. */
export function deleteConditions(call: Call): Conditions {
  const ifMatch = call.headers['if-match']
  const modified = call.header('x-amz-if-match-last-modified-time')
  const size = call.header('x-amz-if-match-size')
  if (ifMatch === undefined && modified === undefined && size === undefined) return NONE
  return {
    ...(ifMatch === undefined ? {} : { ifMatch: etagList(ifMatch) }),
    ...(modified === undefined ? {} : { ifMatchLastModifiedMs: matchedTime(modified) }),
    ...(size === undefined ? {} : { ifMatchSize: matchedSize(size) }),
  }
}

/** x-amz-copy-source-if-*: conditions on the source of a copy. */
export function copySourceConditions(call: Call): Conditions {
  return conditions({
    ifMatch: call.header('x-amz-copy-source-if-match'),
    ifNoneMatch: call.header('x-amz-copy-source-if-none-match'),
    modifiedSince: call.header('x-amz-copy-source-if-modified-since'),
    unmodifiedSince: call.header('x-amz-copy-source-if-unmodified-since'),
  })
}

/** A revision is no ETag of S3's: `"r42"` is one that matches nothing. */
function conditions(headers: ConditionalHeaders): Conditions {
  return conditionsOf(headers, { revisions: false })
}

/** @throws S3Error InvalidArgument */
export function matchedTime(text: string): number {
  const ms = parseHttpDate(text)
  if (ms === undefined) throw invalidArgument('x-amz-if-match-last-modified-time', text)
  return ms
}

/** @throws S3Error InvalidArgument */
export function matchedSize(text: string): number {
  const size = /^\d{1,15}$/.test(text) ? Number(text) : undefined
  if (size === undefined) throw invalidArgument('x-amz-if-match-size', text)
  return size
}
