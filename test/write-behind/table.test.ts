import { expect, it } from 'vitest'
import { table } from './table.ts'

it('aligns columns', () => {
  expect(
    table([
      ['name', 'n'],
      ['a long one', '1'],
    ]),
  ).toBe('name        n\na long one  1')
})
