import { expect, it } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import { isSameTally, Tally, type TallyText } from '../../../../src/meta/migrate/tally.ts'

const tally = (...rows: readonly (readonly [string, string])[]): TallyText => {
  const sum = new Tally()
  for (const [key, value] of rows) sum.add({ key: key as ByteString, value: Buffer.from(value) })
  return sum.result()
}

it('does not depend on the order of rows, but on every byte of them', () => {
  const rows = Array.from({ length: 100 }, (_, index) => [`key ${index}`, `value ${index}`] as const)
  const whole = tally(...rows)
  expect(whole).toMatchObject({ rows: 100, checksum: expect.stringMatching(/^[\da-f]{64}$/) })
  expect(tally(...rows.toReversed())).toEqual(whole)
  expect(isSameTally(tally(...rows.slice(1)), whole)).toBe(false)
  expect(isSameTally(tally(...rows.slice(1), ['key 0', 'value 9']), whole)).toBe(false)
  expect(isSameTally(tally(['ab', 'c']), tally(['a', 'bc']))).toBe(false)
  expect(isSameTally(tally(['a', ''], ['b', '']), tally(['a', ''], ['a', '']))).toBe(false)
})
