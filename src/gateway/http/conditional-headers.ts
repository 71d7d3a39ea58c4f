/**
 * Conditional headers (RFC 9110, 13.1) as the store takes them. ETags come quoted, weak, or bare: botocore passes on
 * whatever the user typed.
 */
import type { Conditions } from '../../common/model.ts'
import { parseHttpDate } from './http-times.ts'

export interface ConditionalHeaders {
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
  readonly modifiedSince: string | undefined
  readonly unmodifiedSince: string | undefined
}

/**
 * @param revisions whether `"r42"` names a revision (KV door). For S3 it is an ETag like any other, and matches nothing.
 */
export function conditionsOf(headers: ConditionalHeaders, { revisions }: { revisions: boolean }): Conditions {
  const modified = parseHttpDate(headers.modifiedSince)
  const unmodified = parseHttpDate(headers.unmodifiedSince)
  const match = headers.ifMatch === undefined ? undefined : validators(headers.ifMatch, revisions)
  const noneMatch = headers.ifNoneMatch === undefined ? undefined : validators(headers.ifNoneMatch, revisions)
  return {
    ...(match === undefined ? {} : { ifMatch: match.etags }),
    ...(match?.revisions === undefined ? {} : { ifMatchRevisions: match.revisions }),
    ...(noneMatch === undefined ? {} : { ifNoneMatch: noneMatch.etags }),
    ...(noneMatch?.revisions === undefined ? {} : { ifNoneMatchRevisions: noneMatch.revisions }),
    ...(modified === undefined ? {} : { ifModifiedSinceMs: modified }),
    ...(unmodified === undefined ? {} : { ifUnmodifiedSinceMs: unmodified }),
  }
}

interface Validators {
  readonly etags: string[]
  readonly revisions: number[] | undefined
}

function validators(header: string, named: boolean): Validators {
  const etags = etagList(header)
  if (!named || !etags.some(isRevision)) return { etags, revisions: undefined }
  return {
    etags: etags.filter((etag) => !isRevision(etag)),
    revisions: etags.filter(isRevision).map((etag) => Number(etag.slice(1))),
  }
}

/** No ETag of ours looks like that: they begin with 32 hex digits. */
function isRevision(etag: string): boolean {
  return /^r\d{1,15}$/.test(etag)
}

/** `"a", W/"b", c` -> a, b, c. Comparison is by value, weak or not: an ETag of ours names bytes. */
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

/**
 * If-Range (RFC 9110, 13.1.5): whether a range counts, which it does only while the object is the one that the client has a
 * piece of.
 */
export function ifRangeHolds(
  header: string | undefined,
  target: { readonly etag: string; readonly mtimeMs: number },
): boolean {
  if (header === undefined) return true
  if (header.startsWith('"') || header.startsWith('W/')) return bareEtag(header) === target.etag
  const since = parseHttpDate(header)
  return since !== undefined && Math.floor(target.mtimeMs / 1000) * 1000 <= since
}
