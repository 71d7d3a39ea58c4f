import { describe, expect, test } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import type { Conditions } from '../../../../src/common/model.ts'
import { checkConditions, type ConditionUse } from '../../../../src/common/conditions.ts'

const SECOND = 1000
const TARGET = { etag: 'e', revision: 42, mtimeMs: 10 * SECOND + 500, size: 7 }

function outcome(use: ConditionUse, conditions: Conditions): string {
  try {
    checkConditions(use, conditions, TARGET)
    return 'ok'
  } catch (error) {
    if (isTidegateError(error)) return error.code
    throw error
  }
}

describe('RFC 9110 13.2.2 and S3', () => {
  test.each<[ConditionUse, Conditions, string]>([
    ['read', {}, 'ok'],
    ['read', { ifMatch: ['e'] }, 'ok'],
    ['read', { ifMatch: ['*'] }, 'ok'],
    ['read', { ifMatch: ['x', 'e'] }, 'ok'],
    ['read', { ifMatch: ['x'] }, 'PreconditionFailed'],
    ['read', { ifNoneMatch: ['e'] }, 'NotModified'],
    ['read', { ifNoneMatch: ['x'] }, 'ok'],
    ['read', { ifModifiedSinceMs: 10 * SECOND }, 'NotModified'],
    ['read', { ifModifiedSinceMs: 9 * SECOND }, 'ok'],
    ['read', { ifUnmodifiedSinceMs: 10 * SECOND }, 'ok'],
    ['read', { ifUnmodifiedSinceMs: 9 * SECOND }, 'PreconditionFailed'],
    ['read', { ifMatch: ['e'], ifUnmodifiedSinceMs: 9 * SECOND }, 'ok'],
    ['read', { ifNoneMatch: ['e'], ifModifiedSinceMs: 9 * SECOND }, 'NotModified'],
    ['read', { ifNoneMatch: ['x'], ifModifiedSinceMs: 11 * SECOND }, 'ok'],
    ['source', { ifNoneMatch: ['e'] }, 'PreconditionFailed'],
    ['source', { ifModifiedSinceMs: 11 * SECOND }, 'PreconditionFailed'],
    ['write', { ifNoneMatch: ['*'] }, 'PreconditionFailed'],
    ['write', { ifMatch: ['e'] }, 'ok'],
    ['write', { ifModifiedSinceMs: 11 * SECOND }, 'ok'],
    ['delete', { ifMatchSize: 7, ifMatchLastModifiedMs: 10 * SECOND }, 'ok'],
    ['delete', { ifMatchSize: 8 }, 'PreconditionFailed'],
    ['delete', { ifMatchLastModifiedMs: 11 * SECOND }, 'PreconditionFailed'],
    ['write', { ifMatchRevisions: [42] }, 'ok'],
    ['write', { ifMatchRevisions: [41, 43] }, 'PreconditionFailed'],
    ['write', { ifMatch: [], ifMatchRevisions: [42] }, 'ok'],
    ['write', { ifMatch: [], ifMatchRevisions: [41] }, 'PreconditionFailed'],
    ['write', { ifMatch: ['x'], ifMatchRevisions: [42] }, 'ok'],
    ['write', { ifMatch: ['e'], ifMatchRevisions: [41] }, 'ok'],
    ['write', { ifMatch: ['x'], ifMatchRevisions: [41] }, 'PreconditionFailed'],
    ['write', { ifMatchRevisions: [] }, 'PreconditionFailed'],
    ['read', { ifMatchRevisions: [42], ifUnmodifiedSinceMs: 9 * SECOND }, 'ok'],
    ['read', { ifNoneMatchRevisions: [42] }, 'NotModified'],
    ['read', { ifNoneMatchRevisions: [41] }, 'ok'],
    ['read', { ifNoneMatch: ['x'], ifNoneMatchRevisions: [42] }, 'NotModified'],
    ['read', { ifNoneMatchRevisions: [41], ifModifiedSinceMs: 11 * SECOND }, 'ok'],
    ['source', { ifNoneMatchRevisions: [42] }, 'PreconditionFailed'],
    ['delete', { ifMatchRevisions: [42] }, 'ok'],
    ['delete', { ifMatchRevisions: [41] }, 'PreconditionFailed'],
  ])('%s %o is %s', (use, conditions, expected) => {
    expect(outcome(use, conditions)).toBe(expected)
  })

  test('without an object', () => {
    expect(() => checkConditions('write', { ifMatch: ['*'] }, undefined)).toThrow(
      expect.objectContaining({ code: 'NoSuchKey' }),
    )
    expect(() => checkConditions('write', { ifMatchRevisions: [42] }, undefined)).toThrow(
      expect.objectContaining({ code: 'NoSuchKey' }),
    )
    expect(() => checkConditions('write', { ifNoneMatchRevisions: [42] }, undefined)).not.toThrow()
    expect(() => checkConditions('write', { ifNoneMatch: ['*'] }, undefined)).not.toThrow()
    expect(() => checkConditions('delete', { ifMatch: ['e'] }, undefined)).not.toThrow()
  })
})
