import { expect, test } from 'vitest'
import {
  integerAt,
  integerBytes,
  orderedAt,
  orderedBytes,
  orderedPrefixRange,
  parseVersionKey,
  prefixEnd,
  versionKey,
  versionSuffix,
} from '../../../../src/meta/namespace/keys.ts'
import { Random } from '../../../model/random.ts'

const ALPHABET = ['\0', '\0', '\x01', 'a', 'b', '\xfe', '\xff', '\xff']

function randomBytes(random: Random): string {
  let bytes = ''
  for (let left = random.below(20); left > 0; left--) bytes += random.pick(ALPHABET)
  return bytes
}

test('C9: ordered encoding keeps order, comes back, and bounds prefixes exactly', () => {
  const random = new Random(7)
  for (let i = 0; i < 20_000; i++) {
    const a = randomBytes(random)
    const b = random.chance(0.3) ? a + randomBytes(random) : randomBytes(random)
    expect(orderedBytes(a) < orderedBytes(b)).toBe(a < b)
    expect(orderedAt(`xx${orderedBytes(a)}rest`, 2)).toEqual({ raw: a, next: 2 + orderedBytes(a).length })
    if (a === '' || /^\xff*$/.test(a)) continue
    const { start, end } = orderedPrefixRange('V', a)
    const inside = `V${orderedBytes(b)}` >= start && `V${orderedBytes(b)}` < end
    expect(inside).toBe(b.startsWith(a))
  }
})

test('the longest key fits the smallest engine', () => {
  expect(versionKey(1, '\0'.repeat(1024), 1).length).toBeLessThanOrEqual(1978)
})

test('integers and inverted versions sort', () => {
  const numbers = [0, 1, 255, 256, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER]
  for (const [index, value] of numbers.entries()) {
    expect(integerAt(`ab${integerBytes(value)}`, 2)).toBe(value)
    const next = numbers[index + 1]
    if (next === undefined) continue
    expect(integerBytes(value) < integerBytes(next)).toBe(true)
    expect(versionSuffix(value) > versionSuffix(next)).toBe(true)
  }
  expect(parseVersionKey(versionKey(9, 'a\0b', 5))).toEqual({ parent: 9, name: 'a\0b', slot: 'version' })
  expect(prefixEnd('a\xff\xff')).toBe('b')
})
