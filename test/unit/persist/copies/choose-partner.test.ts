import { expect, test } from 'vitest'
import type { NodeMember } from '../../../../src/common/node-view.ts'
import { choosePartner } from '../../../../src/persist/copies/choose-partner.ts'
import { member } from './fixture.ts'

const NONE: ReadonlySet<number> = new Set()

function choose(
  members: readonly NodeMember[],
  { failing = NONE, besides = NONE, random = 0 }: Partial<Parameters<typeof choosePartner>[0]> = {},
): number | undefined {
  const find = (number: number): NodeMember | undefined => members.find((one) => one.number === number)
  return choosePartner({ view: { self: 1, members: () => members, member: find }, failing, besides, random })
}

test('never oneself, one that does not serve, or one that is out of the question', () => {
  const members = [member(1), member(2, { state: 'starting' }), member(3, { state: 'leaving' }), member(4)]
  for (const random of [0, 0.5, 0.99]) expect(choose(members, { random })).toBe(4)
  expect(choose(members, { besides: new Set([4]) })).toBeUndefined()
  expect(choose([member(1)])).toBeUndefined()
})

test('nodes that fail apart come first', () => {
  const zone = (name: string): Partial<NodeMember> => ({ labels: { zone: name } })
  const members = [member(1, zone('a')), member(2, zone('a')), member(3, zone('b')), member(4, zone('a'))]
  for (const random of [0, 0.5, 0.99]) expect(choose(members, { random })).toBe(3)
})

test('one that failed lately is taken only if there is no other', () => {
  const members = [member(1), member(2), member(3)]
  expect(choose(members, { failing: new Set([2]) })).toBe(3)
  expect(choose(members, { failing: new Set([2, 3]), random: 0.9 })).toBe(3)
})

test('among equals in proportion to their weights, those of weight 0 last', () => {
  const members = [member(1), member(2, { weight: 3 }), member(3, { weight: 1 }), member(4, { weight: 0 })]
  const chosen = Array.from({ length: 100 }, (_, index) => choose(members, { random: index / 100 }))
  expect(chosen.filter((node) => node === 2)).toHaveLength(75)
  expect(chosen.filter((node) => node === 3)).toHaveLength(25)
  expect(choose([member(1), member(4, { weight: 0 })])).toBe(4)
})
