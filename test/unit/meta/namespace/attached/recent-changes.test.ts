import { expect, it } from 'vitest'
import { RecentChanges } from '../../../../../src/meta/namespace/attached/recent-changes.ts'

it('knows what changed since one asked, and in which directories', () => {
  const recent = new RecentChanges()
  recent.note(1, 'a/b/c', { revision: 7 })
  expect(recent.isKeySince(1, 'a/b/c', { at: 6 })).toBe(true)
  expect(recent.isKeySince(1, 'a/b/c', { at: 7 })).toBe(false)
  expect(recent.isKeySince(2, 'a/b/c', { at: 6 })).toBe(false)
  expect(recent.isDirectorySince(1, 'a/', { at: 6 })).toBe(true)
  expect(recent.isDirectorySince(1, 'a/b/', { at: 6 })).toBe(true)
  expect(recent.isKeySince(1, 'a/b/', { at: 6 })).toBe(false)
})

it('does not hold against somebody what he noted himself', () => {
  const recent = new RecentChanges()
  const [one, other] = [{}, {}]
  recent.note(1, 'a', { revision: 7, by: one })
  expect(recent.isKeySince(1, 'a', { at: 5, by: one })).toBe(false)
  expect(recent.isKeySince(1, 'a', { at: 5, by: other })).toBe(true)
  recent.note(1, 'a', { revision: 9, by: other })
  expect(recent.isKeySince(1, 'a', { at: 5, by: other })).toBe(true)
  expect(recent.isKeySince(1, 'a', { at: 8, by: other })).toBe(false)
  recent.noteAll(1, { revision: 10, by: one })
  expect(recent.isForgotten(1, { at: 5, by: one })).toBe(false)
  expect(recent.isForgotten(1, { at: 5 })).toBe(true)
})

it('takes what was asked before all it remembers for too old', () => {
  const recent = new RecentChanges(10)
  for (let n = 1; n <= 20; n++) recent.note(1, String(n), { revision: n })
  expect(recent.isForgotten(1, { at: 9 })).toBe(true)
  expect(recent.isForgotten(1, { at: 10 })).toBe(false)
  expect(recent.isKeySince(1, '11', { at: 10 })).toBe(true)
})
