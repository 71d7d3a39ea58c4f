import { expect, it } from 'vitest'
import { RecentPages, tellsOf, type ToldRange } from '../../../../../src/meta/namespace/attached/recent-pages.ts'

const deep = (from: string, through: string, askedAtMs: number): ToldRange => ({
  directory: undefined,
  from,
  through,
  askedAtMs,
})

it('finds what was asked for later of the same keys', () => {
  const pages = new RecentPages()
  const [newer, older, elsewhere] = [deep('b', 'd', 20), deep('b', 'd', 5), deep('x', 'y', 20)]
  for (const page of [newer, older, elsewhere]) pages.note(1, page)
  expect(pages.newerThan(1, deep('a', 'c', 10))).toEqual([newer])
  expect(pages.newerThan(1, deep('e', 'f', 10))).toEqual([])
  // In the same millisecond nothing tells which was first.
  expect(pages.newerThan(1, deep('a', 'c', 20))).toEqual([])
  expect(pages.newerThan(2, deep('a', 'c', 10))).toEqual([])
})

it('remembers so many, and of older ones that there were some', () => {
  const pages = new RecentPages(4)
  for (let ms = 1; ms <= 5; ms++) pages.note(1, deep('a', 'b', ms))
  expect(pages.isForgotten(1, 2)).toBe(true)
  expect(pages.isForgotten(1, 3)).toBe(false)
  expect(pages.isForgotten(2, 0)).toBe(false)
  expect(pages.newerThan(1, deep('a', 'b', 3)).map(({ askedAtMs }) => askedAtMs)).toEqual([4, 5])
})

it('knows of a directory its names, and not what lies in the directories in it', () => {
  const range: ToldRange = { directory: 'a/', from: 'a/b', through: 'a/y', askedAtMs: 1 }
  expect(['a/b', 'a/b/', 'a/y'].filter((key) => tellsOf(range, key))).toEqual(['a/b', 'a/b/', 'a/y'])
  expect(['a/a', 'a/b/c', 'a/z', 'b'].filter((key) => tellsOf(range, key))).toEqual([])
})
