import { assert, property, string } from 'fast-check'
import { expect, test } from 'vitest'
import { END, inByteOrder, nameWithin, predecessor, reaches, successor } from '../../../src/attach/key-order.ts'

const key = string({ unit: 'binary', minLength: 1, maxLength: 6 }).filter((text) => !text.includes(END))

test('a key lies behind its predecessor and before its successor, and between them nothing that has no U+10FFFF in it', () => {
  assert(
    property(key, key, (one, other) => {
      expect(inByteOrder(predecessor(one), one)).toBe(-1)
      expect(inByteOrder(one, successor(one))).toBe(-1)
      if (inByteOrder(other, one) < 0 && !other.startsWith(predecessor(one).slice(0, -END.length))) {
        expect(inByteOrder(other, predecessor(one))).toBe(-1)
      }
      if (inByteOrder(other, one) > 0) expect(inByteOrder(successor(one), other)).not.toBe(1)
    }),
  )
})

test('the end of a prefix stands for all that begins with it, and its successor lies behind that', () => {
  assert(
    property(key, key, (prefix, rest) => {
      expect(reaches(prefix + END, prefix + rest)).toBe(true)
      expect(inByteOrder(prefix + rest, successor(prefix + END))).toBe(-1)
    }),
  )
})

test('a listing of a directory calls what lies below it by its first part', () => {
  const scope = { kind: 'shallow', directory: 'a/' } as const
  expect(['a/', 'a/b', 'a/b/', 'a/b/c', 'b'].map((text) => nameWithin(scope, text))).toEqual([
    'a/',
    'a/b',
    'a/b/',
    'a/b/',
    'b',
  ])
})
