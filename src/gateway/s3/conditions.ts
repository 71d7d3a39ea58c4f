/**
 * Conditional headers (RFC 9110, 13.1, and S3's own for copies and deletes) as the store takes them. ETags come quoted,
 * weak, or bare: botocore passes on whatever the user typed.
 */
import type { Conditions } from '../../common/model.ts'
import type { Call } from './call.ts'
import { invalidArgument } from './errors.ts'
import { parseHttpDate } from './times.ts'

const NONE: Conditions = {}

/** For GET and HEAD. */
export function readConditions(call: Call): Conditions {
  const { headers } = call
  const ifMatch = headers['if-match']
  const ifNoneMatch = headers['if-none-match']
  const modified = headers['if-modified-since']
  const unmodified = headers['if-unmodified-since']
  if (ifMatch === undefined && ifNoneMatch === undefined && modified === undefined && unmodified === undefined)
    return NONE
  return conditions({ ifMatch, ifNoneMatch, modified, unmodified })
}

/** For PUT and CompleteMultipartUpload: only ETags, as on AWS. */
export function writeConditions(call: Call): Conditions {
  const ifMatch = call.headers['if-match']
  const ifNoneMatch = call.headers['if-none-match']
  if (ifMatch === undefined && ifNoneMatch === undefined) return NONE
  return conditions({ ifMatch, ifNoneMatch, modified: undefined, unmodified: undefined })
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
    modified: call.header('x-amz-copy-source-if-modified-since'),
    unmodified: call.header('x-amz-copy-source-if-unmodified-since'),
  })
}

function conditions(headers: {
  ifMatch: string | undefined
  ifNoneMatch: string | undefined
  modified: string | undefined
  unmodified: string | undefined
}): Conditions {
  const modified = parseHttpDate(headers.modified)
  const unmodified = parseHttpDate(headers.unmodified)
  return {
    ...(headers.ifMatch === undefined ? {} : { ifMatch: etagList(headers.ifMatch) }),
    ...(headers.ifNoneMatch === undefined ? {} : { ifNoneMatch: etagList(headers.ifNoneMatch) }),
    ...(modified === undefined ? {} : { ifModifiedSinceMs: modified }),
    ...(unmodified === undefined ? {} : { ifUnmodifiedSinceMs: unmodified }),
  }
}

/** `"a", W/"b", c` -> a, b, c. Comparison is by value, weak or not: an S3 ETag names bytes. */
export function etagList(header: string): string[] {
  return header
    .split(',')
    .map(bareEtag)
    .filter((etag) => etag !== '')
}

/** An ETag without quotes and weakness mark. */
export function bareEtag(text: string): string {
  let etag = text.trim()
  if (etag.startsWith('W/')) etag = etag.slice(2)
  return etag.length >= 2 && etag.startsWith('"') && etag.endsWith('"') ? etag.slice(1, -1) : etag
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
