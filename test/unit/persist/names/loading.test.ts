/** What a stream goes on from that another node has begun (names/loading.ts). */
import { expect, it } from 'vitest'
import { must } from '../../../../src/common/assert.ts'
import { superfluousNames, FormerHolders } from '../../../../src/persist/names/cleaning.ts'
import { checkCaughtUp, toldState } from '../../../../src/persist/names/loading.ts'
import {
  namesObjectName,
  parseNamesObject,
  type NamesObject,
  type NamesObjectName,
} from '../../../../src/persist/names/object-names.ts'
import { RemoteNames } from '../../../../src/persist/names/remote-names.ts'
import { MemoryStore } from '../../../../src/persist/remote/memory-store.ts'
import { LINEAGE, ModelClock } from './model.ts'

const random = (name: string): string => Buffer.from(name.padEnd(8, '-')).toString('hex')

function object(name: NamesObjectName): NamesObject {
  const found = { name: namesObjectName(LINEAGE, name), bytes: 10, modifiedMs: 1 }
  return must(parseNamesObject(found), 'a name of ours')
}

function base(name: string, begin: number): NamesObject[] {
  return [
    object({ kind: 'base-part', begin, random: random(name), part: 0 }),
    object({ kind: 'base-whole', begin, end: begin, random: random(name), parts: 1 }),
  ]
}

function delta(name: string, after: number, through: number): NamesObject {
  return object({ kind: 'delta', after, through, random: random(name), part: 0, parts: 1 })
}

const TOLD = { base: random('base'), deltas: ['one', 'two', 'three'].map(random) }
const CHAIN = [...base('base', 5), delta('one', 5, 10), delta('two', 10, 20), delta('three', 20, 40)]

it('the state is what was told, though what else lies there would make one as well, or a newer one', () => {
  // Who put it may take it for superfluous, and remove it at any time.
  const stray = delta('stray', 5, 25)
  const newer = delta('newer', 40, 50)
  const { state, strays } = toldState([...CHAIN, stray, newer], TOLD)
  expect(state?.deltas.map((one) => one.random)).toEqual(TOLD.deltas)
  expect(state?.revision).toBe(40)
  expect([stray, newer, CHAIN[0]!].map((one) => strays.isOne(one))).toEqual([true, true, false])
  expect(strays.through).toBe(50)
})

it('where nothing was told, nothing that is there counts', () => {
  const { state, strays } = toldState(CHAIN, undefined)
  expect(state).toBeUndefined()
  expect(CHAIN.every((one) => strays.isOne(one))).toBe(true)
})

it('where part of what was told is missing, the best that there is counts', () => {
  const { state, strays } = toldState(CHAIN.slice(0, -2), { base: random('other'), deltas: TOLD.deltas })
  expect(state?.revision).toBe(10)
  expect(strays.through).toBe(0)
})

it('records are nobody’s strays', () => {
  const records = object({ kind: 'records', from: 45, through: 46, random: random('records') })
  const { strays, state } = toldState([...CHAIN, records], TOLD)
  expect(strays.isOne(records)).toBe(false)
  expect(state?.records).toEqual([records])
})

it('strays stay until the state has come further than they', async () => {
  const clock = new ModelClock()
  const store = new MemoryStore({ clock, fileSystem: undefined as never })
  const stray = delta('stray', 15, 60)
  for (const { name } of [...CHAIN, stray]) await store.put(name, Buffer.alloc(10))
  const remote = new RemoteNames({ remote: store, lineage: LINEAGE, nowMs: () => clock.nowMs() })
  await remote.load()
  const { state, strays } = toldState(remote.own(), TOLD)
  const formerHolders = new FormerHolders({ remote, nowMs: () => clock.nowMs(), sinceMs: () => 1 })
  const standing = { state: must(state, 'state'), covered: 40, writing: undefined, formerHolders, strays }
  expect(superfluousNames(remote, standing)).toEqual([])
  const further = { ...standing, state: { ...standing.state, revision: 60 }, covered: 60 }
  expect(superfluousNames(remote, further).map(({ name }) => name)).toEqual([stray.name])
})

it('what another has shipped must be known here before it is gone on from', () => {
  expect(() => checkCaughtUp(CHAIN, { durableRevision: () => 39 })).toThrow('revision 40, and 39 is known here')
  expect(() => checkCaughtUp(CHAIN, { durableRevision: () => 40 })).not.toThrow()
})
