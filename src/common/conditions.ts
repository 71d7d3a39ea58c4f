/**
 * Conditional requests: RFC 9110, section 13.2.2 (precedence), and S3's rules where it differs.
 *
 * If-Match, when present, silences If-Unmodified-Since, and If-None-Match silences If-Modified-Since: so S3's two documented
 * combinations (If-Match true and If-Unmodified-Since false is 200; If-None-Match false and If-Modified-Since true is 304)
 * follow. Times have whole seconds, so an object's own time is cut to the second first.
 *
 * A header may name revisions beside ETags (KV door). They are one condition: it is there if either list is, and matches if
 * one of either does.
 */
import { TidegateError } from './errors.ts'
import type { Revision } from './ids.ts'
import type { Conditions } from './model.ts'

/** What conditions look at. */
export interface ConditionTarget {
  readonly etag: string
  readonly revision: Revision
  readonly mtimeMs: number
  readonly size: number
}

export type ConditionUse =
  /** GET and HEAD: what the client already has is NotModified. */
  | 'read'
  /** PUT, COPY's target, Complete. */
  | 'write'
  /** COPY's source: never NotModified. */
  | 'source'
  | 'delete'

/** For the common case of no condition at all. */
export const NO_CONDITIONS: Conditions = {}

/**
 * @param target undefined when there is no current object
 * @throws PreconditionFailed, NotModified; NoSuchKey when a write demands a match and there is no object
 */
export function checkConditions(use: ConditionUse, conditions: Conditions, target: ConditionTarget | undefined): void {
  if (!target) return checkAbsent(use, conditions)
  const mtimeMs = Math.floor(target.mtimeMs / 1000) * 1000
  const { ifMatch, ifMatchRevisions, ifNoneMatch, ifNoneMatchRevisions } = conditions
  if (ifMatch || ifMatchRevisions) {
    if (!matches(ifMatch, ifMatchRevisions, target)) fail('If-Match')
  } else if (conditions.ifUnmodifiedSinceMs !== undefined && mtimeMs > conditions.ifUnmodifiedSinceMs) {
    fail('If-Unmodified-Since')
  }
  if (ifNoneMatch || ifNoneMatchRevisions) {
    if (matches(ifNoneMatch, ifNoneMatchRevisions, target)) refuse(use, target, 'If-None-Match')
  } else if (conditions.ifModifiedSinceMs !== undefined && mtimeMs <= conditions.ifModifiedSinceMs) {
    // RFC 9110, 13.1.3: only GET and HEAD heed If-Modified-Since; S3 heeds it for the source of a copy too.
    if (use === 'read' || use === 'source') refuse(use, target, 'If-Modified-Since')
  }
  if (use !== 'delete') return
  if (conditions.ifMatchSize !== undefined && conditions.ifMatchSize !== target.size) fail('x-amz-if-match-size')
  if (conditions.ifMatchLastModifiedMs !== undefined) {
    const wanted = Math.floor(conditions.ifMatchLastModifiedMs / 1000) * 1000
    if (wanted !== mtimeMs) fail('x-amz-if-match-last-modified-time')
  }
}

/** Whether a delete names any condition: then it does nothing, marker included, where there is no object. */
export function hasConditions(conditions: Conditions): boolean {
  return (
    conditions.ifMatch !== undefined ||
    conditions.ifNoneMatch !== undefined ||
    conditions.ifMatchRevisions !== undefined ||
    conditions.ifNoneMatchRevisions !== undefined ||
    conditions.ifModifiedSinceMs !== undefined ||
    conditions.ifUnmodifiedSinceMs !== undefined ||
    conditions.ifMatchLastModifiedMs !== undefined ||
    conditions.ifMatchSize !== undefined
  )
}

/** No object: If-None-Match holds; If-Match does not. A delete of nothing is a success whatever it asks. */
function checkAbsent(use: ConditionUse, conditions: Conditions): void {
  if (use === 'write' && (conditions.ifMatch || conditions.ifMatchRevisions)) {
    throw new TidegateError('NoSuchKey', 'If-Match on a key that has no object', { details: { condition: 'If-Match' } })
  }
}

function matches(
  etags: readonly string[] | undefined,
  revisions: readonly Revision[] | undefined,
  target: ConditionTarget,
): boolean {
  if (etags && (etags.includes('*') || etags.includes(target.etag))) return true
  return revisions?.includes(target.revision) ?? false
}

function refuse(use: ConditionUse, target: ConditionTarget, condition: string): void {
  if (use !== 'read') fail(condition)
  throw new TidegateError('NotModified', `${condition}: not modified`, {
    details: { condition, etag: target.etag, mtimeMs: target.mtimeMs },
  })
}

function fail(condition: string): never {
  throw new TidegateError('PreconditionFailed', `${condition} does not hold`, { details: { condition } })
}
