import { describe, expect, it } from 'vitest'
import { newestState, objectsOfState } from '../../../../src/persist/names/chain.ts'
import {
  namesObjectName,
  parseNamesObject,
  type NamesObject,
  type NamesObjectName,
} from '../../../../src/persist/names/object-names.ts'

const LINEAGE = 'a'.repeat(32)
let drawn = 0

function random(): string {
  return (++drawn).toString(16).padStart(16, '0')
}

function object(name: NamesObjectName): NamesObject {
  return parseNamesObject({ name: namesObjectName(LINEAGE, name), bytes: 10, modifiedMs: 0 })!
}

function delta(after: number, through: number, parts = 1): NamesObject[] {
  const own = random()
  return Array.from({ length: parts }, (_, part) => object({ kind: 'delta', after, through, random: own, part, parts }))
}

function base(begin: number, end: number, parts = 2): NamesObject[] {
  const own = random()
  return [
    ...Array.from({ length: parts }, (_, part) => object({ kind: 'base-part', begin, random: own, part })),
    object({ kind: 'base-whole', begin, end, random: own, parts }),
  ]
}

function told(objects: readonly NamesObject[], upTo?: number): string | undefined {
  const state = newestState(objects, upTo)
  if (!state) return undefined
  const deltas = state.deltas.map(({ after, through }) => `${after}-${through}`)
  return `${state.base.begin}..${state.base.end} ${deltas.join(' ')} @${state.revision}`
}

describe('the newest state', () => {
  it('is a base and the deltas that go on from its beginning', () => {
    expect(told([...base(10, 20), ...delta(10, 15), ...delta(15, 30), ...delta(30, 31)])).toBe(
      '10..20 10-15 15-30 30-31 @31',
    )
  })

  it('is none before a delta covers the time in which the base was read', () => {
    expect(told([...base(10, 20)])).toBeUndefined()
    expect(told([...base(10, 20), ...delta(10, 19)])).toBeUndefined()
    expect(told([...base(10, 20), ...delta(10, 20)])).toBe('10..20 10-20 @20')
    expect(told([...base(10, 10)])).toBeUndefined()
    expect(told([...base(10, 10), ...delta(10, 10)])).toBe('10..10 10-10 @10')
  })

  it('ends before a gap, and before a delta or base that is not whole', () => {
    expect(told([...base(1, 2), ...delta(1, 5), ...delta(6, 9)])).toBe('1..2 1-5 @5')
    expect(told([...base(1, 2), ...delta(1, 5), ...delta(5, 9, 3).slice(0, 2)])).toBe('1..2 1-5 @5')
    expect(told([...base(1, 2), ...base(4, 6).slice(1), ...delta(1, 5), ...delta(5, 9)])).toBe('1..2 1-5 5-9 @9')
    expect(told([...base(1, 2), ...base(4, 6).slice(0, 2), ...delta(1, 5), ...delta(5, 9)])).toBe('1..2 1-5 5-9 @9')
  })

  it('begins with the latest base that reaches as far', () => {
    const deltas = [...delta(1, 5), ...delta(5, 9), ...delta(9, 12)]
    expect(told([...base(1, 2), ...base(7, 10), ...deltas])).toBe('7..10 5-9 9-12 @12')
    expect(told([...base(1, 2), ...base(7, 13), ...deltas])).toBe('1..2 1-5 5-9 9-12 @12')
  })

  it('takes of deltas that overlap those that reach furthest', () => {
    expect(told([...base(1, 2), ...delta(1, 5), ...delta(5, 8), ...delta(5, 11), ...delta(8, 9)])).toBe(
      '1..2 1-5 5-11 @11',
    )
  })

  it('can be asked for as of an earlier revision', () => {
    expect(told([...base(1, 2), ...delta(1, 5), ...delta(5, 9)], 8)).toBe('1..2 1-5 @5')
  })

  it('has the records that are newer than its last delta', () => {
    const records = [
      object({ kind: 'records', from: 3, through: 5, random: random() }),
      object({ kind: 'records', from: 4, through: 6, random: random() }),
    ]
    const state = newestState([...base(1, 2), ...delta(1, 5), ...records])!
    expect(state.records.map(({ through }) => through)).toEqual([6])
    expect(objectsOfState(state)).toHaveLength(5)
  })
})
