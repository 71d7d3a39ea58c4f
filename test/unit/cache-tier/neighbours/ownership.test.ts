import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { ownersOf } from '../../../../src/cache-tier/neighbours/ownership.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import type { NodeMember } from '../../../../src/common/node-view.ts'
import { Random } from '../../../model/random.ts'
import { member } from './nodes.ts'

const MIB = 1024 * 1024
const BLOCKS = 5000

/** Segments as they are made: the first half of an id is a time, of which most is the same. */
function places(seed: number): readonly (readonly [SegmentId, number])[] {
  const random = new Random(seed)
  return Array.from({ length: BLOCKS }, (_, at) => {
    const time = (1_700_000_000_000 + at).toString(16).padStart(12, '0')
    const rest = Array.from({ length: 20 }, () => Math.floor(random.next() * 16).toString(16)).join('')
    return [`${time}${rest}` as SegmentId, Math.floor(random.next() * 64)] as const
  })
}

function owners(members: readonly NodeMember[], seed: number): (number | undefined)[] {
  return places(seed).map(([segment, block]) => ownersOf(members, segment, block, MIB)[0])
}

const someMembers = fc
  .uniqueArray(fc.record({ number: fc.integer({ min: 1, max: 1000 }), weight: fc.integer({ min: 1, max: 8 }) }), {
    selector: ({ number }) => number,
    minLength: 2,
    maxLength: 7,
  })
  .map((some) => some.map(({ number, weight }) => member(number, { weight })))

test('each owns blocks in proportion to its weight', () => {
  fc.assert(
    fc.property(someMembers, fc.nat(), (members, seed) => {
      const all = members.reduce((sum, { weight }) => sum + weight, 0)
      const got = owners(members, seed)
      for (const { number, weight } of members) {
        const share = got.filter((owner) => owner === number).length / BLOCKS
        expect(Math.abs(share - weight / all)).toBeLessThan(0.03)
      }
    }),
    { numRuns: 20 },
  )
})

test('who joins or is lost moves its own share and nothing else', () => {
  fc.assert(
    fc.property(someMembers, fc.nat(), (members, seed) => {
      const [lost, ...left] = members as [NodeMember, ...NodeMember[]]
      const [before, after] = [owners(members, seed), owners(left, seed)]
      const moved = before.filter((owner, at) => owner !== after[at])
      expect(new Set(moved)).toEqual(new Set([lost.number]))
      const all = members.reduce((sum, { weight }) => sum + weight, 0)
      expect(Math.abs(moved.length / BLOCKS - lost.weight / all)).toBeLessThan(0.03)
    }),
    { numRuns: 20 },
  )
})

test('whose share a lost node had is in proportion too: the next in rank is as random as the first', () => {
  const members = [1, 2, 3, 4].map((number) => member(number))
  const next = places(5)
    .map(([segment, block]) => ownersOf(members, segment, block, MIB))
    .filter(([owner]) => owner === 1)
    .map(([, second]) => second)
  for (const number of [2, 3, 4]) {
    const share = next.filter((second) => second === number).length / next.length
    expect(Math.abs(share - 1 / 3)).toBeLessThan(0.06)
  }
})

test('blocks of 4 MiB belong together, and a large segment spreads over the nodes', () => {
  const members = [1, 2, 3].map((number) => member(number))
  const [[segment]] = places(1) as [[SegmentId, number]]
  const ranks = Array.from({ length: 64 }, (_, block) => ownersOf(members, segment, block, MIB).join())
  for (let block = 0; block < 64; block++) expect(ranks[block]).toBe(ranks[block - (block % 4)])
  expect(new Set(ranks.map((rank) => rank[0]))).toEqual(new Set(['1', '2', '3']))
})

test('who has no weight, is starting or leaves owns nothing; the order of members does not matter', () => {
  const [[segment]] = places(1) as [[SegmentId, number]]
  const members = [
    member(1, { weight: 0 }),
    member(2, { state: 'starting' }),
    member(3, { state: 'leaving' }),
    member(4),
    member(5, { weight: 3 }),
  ]
  const got = ownersOf(members, segment, 0, MIB)
  expect(got.toSorted((one, two) => one - two)).toEqual([4, 5])
  expect(ownersOf(members.toReversed(), segment, 0, MIB)).toEqual(got)
  expect(ownersOf(members.slice(0, 3), segment, 0, MIB)).toEqual([])
})

test('the ranks are the same in every version: nodes of two versions share one cluster', () => {
  const members = [1, 2, 3, 4, 5].map((number) => member(number, { weight: number }))
  const segment = '018bcfe568000123456789abcdef0123' as SegmentId
  const ranks = [0, 4, 8, 12].map((block) => ownersOf(members, segment, block, MIB).join(''))
  expect(ranks).toMatchInlineSnapshot(`
    [
      "42351",
      "35421",
      "54321",
      "35421",
    ]
  `)
})
