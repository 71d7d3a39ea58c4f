import { expect, it } from 'vitest'
import { END, inByteOrder } from '../../../src/attach/key-order.ts'
import { cutAt, findCut, wholeRange, type KeyRange } from '../../../src/attach/key-ranges.ts'
import { utf8Bytes } from '../../../src/common/ids.ts'

const QUESTIONS_MAX = 16

/** Asks about these keys, and cuts the range off where nothing lies behind, as who imports does. */
function asking(range: KeyRange, keys: readonly string[]) {
  const asked: string[] = []
  const isBehind = (point: string): Promise<boolean> => {
    asked.push(point)
    const found = inside(keys, { ...range, after: point }).length > 0
    if (!found) range.through = point
    return Promise.resolve(found)
  }
  return { asked, isBehind }
}

const sorted = (keys: readonly string[]): string[] => [...keys].sort(inByteOrder)

const SHAPES: Readonly<Record<string, readonly string[]>> = {
  numbered: Array.from({ length: 5000 }, (_, index) => `img-${String(index).padStart(7, '0')}.jpg`),
  'in directories': Array.from({ length: 5000 }, (_, index) => `data/${index % 7}/${index % 31}/${index}`),
  hashes: Array.from({ length: 5000 }, (_, index) => ((index * 2_654_435_761) % 2 ** 32).toString(16).padStart(8, '0')),
  'beyond ASCII': Array.from({ length: 3000 }, (_, index) => `фото/${String.fromCodePoint(0x1f300 + index)}`),
}

it.each(Object.keys(SHAPES))('cuts keys that are %s in two parts that both hold some', async (shape) => {
  const keys = sorted(SHAPES[shape] ?? [])
  const range = wholeRange()
  range.after = keys[999] ?? ''
  range.seen = [keys[0] ?? '', keys[999] ?? '']
  const { asked, isBehind } = asking(range, keys)
  const point = await findCut(range, isBehind, QUESTIONS_MAX)
  expect(point).toBeDefined()
  expect(asked.length).toBeLessThanOrEqual(QUESTIONS_MAX + 8)
  const [right] = cutAt(range, [point ?? ''])
  const within = (part: KeyRange | undefined): number => (part ? inside(keys, part).length : 0)
  expect(within(right)).toBeGreaterThan(0)
  expect(within(range) + within(right)).toBe(keys.length - 1000)
})

it('goes on cutting what is being listed until the parts are small, and loses no key', async () => {
  for (const keys of Object.values(SHAPES).map(sorted)) {
    const parts: KeyRange[] = [wholeRange()]
    let listed = 0
    for (let round = 0; round < 50; round++) {
      const counted = parts.map((part) => inside(keys, part).length)
      const largest = parts[counted.indexOf(Math.max(...counted))] ?? wholeRange()
      const page = inside(keys, largest).slice(0, PAGE)
      const [first = '', last = ''] = [page[0], page.at(-1)]
      Object.assign(largest, { after: last, seen: [first, last] })
      listed += page.length
      const point = await findCut(largest, asking(largest, keys).isBehind, QUESTIONS_MAX)
      if (point !== undefined) parts.push(...cutAt(largest, [point]))
    }
    const counts = parts.map((part) => inside(keys, part).length)
    expect(counts.reduce((sum, one) => sum + one, listed)).toBe(keys.length)
    expect(Math.max(...counts)).toBeLessThan(keys.length / 6)
    expect(parts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1)
  }
})

const PAGE = 10

const bytesOf = new WeakMap<readonly string[], string[]>()

function inside(keys: readonly string[], { after, through }: KeyRange): string[] {
  const bytes = bytesOf.get(keys) ?? keys.map((key) => utf8Bytes(key))
  bytesOf.set(keys, bytes)
  const [from, to] = [utf8Bytes(after), utf8Bytes(through)]
  return keys.filter((_, index) => (bytes[index] ?? '') > from && (bytes[index] ?? '') <= to)
}

it('finds no cut where nothing, or one key, is left', async () => {
  const range = { after: 'a', through: END, share: 1, seen: ['a', 'a'] as const }
  expect(await findCut(range, asking(range, []).isBehind, QUESTIONS_MAX)).toBeUndefined()
  expect(inByteOrder(range.through, END)).toBeLessThan(0)
})

it('cuts at several points at once, leaving out those outside', () => {
  const range: KeyRange = { after: 'b', through: 'x', share: 0.5, seen: undefined }
  const parts = cutAt(range, ['a', 'c', 'm', 'z'])
  expect([range, ...parts].map(({ after, through }) => [after, through])).toEqual([
    ['b', 'c'],
    ['c', 'm'],
    ['m', 'x'],
  ])
  expect(range.share).toBeCloseTo(0.5 / 3)
})
