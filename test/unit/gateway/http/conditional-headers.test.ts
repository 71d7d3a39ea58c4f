import { describe, expect, it } from 'vitest'
import { bareEtag, conditionsOf, etagList, ifRangeHolds } from '../../../../src/gateway/http/conditional-headers.ts'
import type { Conditions } from '../../../../src/common/model.ts'

function conditions(headers: { ifMatch?: string; ifNoneMatch?: string }, revisions = true): Conditions {
  const { ifMatch, ifNoneMatch } = headers
  return conditionsOf({ ifMatch, ifNoneMatch, modifiedSince: undefined, unmodifiedSince: undefined }, { revisions })
}

describe('ETags', () => {
  it('come quoted, weak, bare and in lists', () => {
    expect(etagList('"a", W/"b" ,c, *')).toEqual(['a', 'b', 'c', '*'])
    expect(etagList('')).toEqual([])
    expect(bareEtag('"')).toBe('"')
  })
})

describe('revisions', () => {
  it('are told from ETags, quoted or bare', () => {
    expect(conditions({ ifMatch: '"r42", "abc", r7' })).toEqual({ ifMatch: ['abc'], ifMatchRevisions: [42, 7] })
    expect(conditions({ ifNoneMatch: 'W/"r1"' })).toEqual({ ifNoneMatch: [], ifNoneMatchRevisions: [1] })
    expect(conditions({ ifMatch: '"r"' })).toEqual({ ifMatch: ['r'] })
    expect(conditions({ ifMatch: '"r1x"' })).toEqual({ ifMatch: ['r1x'] })
  })

  it('are ETags like others where none are known', () =>
    expect(conditions({ ifMatch: '"r42"' }, false)).toEqual({ ifMatch: ['r42'] }))

  it('leave a condition that names nothing one that does not hold', () =>
    expect(conditions({ ifMatch: '' })).toEqual({ ifMatch: [] }))
})

describe('If-Range', () => {
  const target = { etag: 'abc', mtimeMs: 1_700_000_000_500 }

  it('holds for the object that the client has a piece of', () => {
    expect(ifRangeHolds(undefined, target)).toBe(true)
    expect(ifRangeHolds('"abc"', target)).toBe(true)
    expect(ifRangeHolds('"abd"', target)).toBe(false)
    expect(ifRangeHolds('Tue, 14 Nov 2023 22:13:20 GMT', target)).toBe(true)
    expect(ifRangeHolds('Tue, 14 Nov 2023 22:13:19 GMT', target)).toBe(false)
    expect(ifRangeHolds('yesterday', target)).toBe(false)
  })
})
