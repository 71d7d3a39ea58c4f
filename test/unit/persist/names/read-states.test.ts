/** Which state is taken when several holders have left names in one store. Reasoned on names alone. */
import { expect, test } from 'vitest'
import { namesObjectName, parseNamesObject, type NamesObject } from '../../../../src/persist/names/object-names.ts'
import {
  foundHolders,
  namesOfHolder,
  newestNames,
  type NamesToRead,
} from '../../../../src/persist/names/read-states.ts'
import type { HolderOrigin } from '../../../../src/persist/remote-marker.ts'

const [FIRST, SECOND, THIRD, FOURTH] = ['1', '2', '3', '4'].map((digit) => digit.repeat(32)) as [
  string,
  string,
  string,
  string,
]
const BACKUP = '20261122T063918Z-3fa9'

let stored = 0

function object(lineage: string, name: Parameters<typeof namesObjectName>[1]): NamesObject {
  const parsed = parseNamesObject({ name: namesObjectName(lineage, name), bytes: 1, modifiedMs: ++stored })
  if (!parsed) throw new Error('no names object')
  return parsed
}

function random(): string {
  return (++stored).toString(16).padStart(16, '0')
}

function state(lineage: string, begin: number, through: number): NamesObject[] {
  const base = { begin, random: random() }
  return [
    object(lineage, { kind: 'base-part', ...base, part: 0 }),
    object(lineage, { kind: 'base-whole', ...base, end: begin, parts: 1 }),
    object(lineage, { kind: 'delta', after: begin, through, random: random(), part: 0, parts: 1 }),
  ]
}

function records(lineage: string, revision: number): NamesObject {
  return object(lineage, { kind: 'records', from: revision, through: revision, random: random() })
}

function origin(holder: string, from: string, backup?: string): HolderOrigin {
  return { holder, from, backup, sinceMs: 1 }
}

const noBackup = (): Promise<NamesToRead> => Promise.reject(new Error('no backup was asked for'))

function shown(names: NamesToRead | undefined): unknown {
  return (
    names && [names.lineage, names.state?.revision, names.records.map(({ lineage, through }) => [lineage, through])]
  )
}

test('a holder that was lost before its first state is what it was restored from, and its records (C17)', async () => {
  const objects = [...state(FIRST, 10, 20), records(FIRST, 25), records(SECOND, 5e9), records(THIRD, 9e9)]
  const told = [
    [FIRST, 25],
    [SECOND, 5e9],
    [THIRD, 9e9],
  ]
  const origins = [origin(FOURTH, THIRD), origin(THIRD, SECOND), origin(SECOND, FIRST)]
  for (const [holder, count] of [
    [SECOND, 2],
    [THIRD, 3],
    [FOURTH, 3],
  ] as const) {
    const names = await newestNames(objects, { holder, origins }, noBackup)
    expect(shown(names)).toEqual([FIRST, 20, told.slice(0, count)])
  }
})

test('who was restored from a backup is that backup, not what its holder had turned away from', async () => {
  const kept = state(FIRST, 10, 20)
  const objects = [...kept, ...state(FIRST, 30, 40), records(FIRST, 45), records(SECOND, 5e9)]
  const asBackup = { ...(await newestNames(kept, { holder: FIRST, origins: [] }, noBackup)), backup: BACKUP }
  const read = (id: string): Promise<NamesToRead> => Promise.resolve({ ...(asBackup as NamesToRead), backup: id })
  const origins = [origin(THIRD, SECOND), origin(SECOND, FIRST, BACKUP)]
  const names = await newestNames(objects, { holder: THIRD, origins }, read)
  expect([shown(names), names?.backup]).toEqual([[FIRST, 20, [[SECOND, 5e9]]], BACKUP])
})

test('where the marker does not tell, the records of all that never had a state go on top', async () => {
  const objects = [...state(FIRST, 10, 20), records(SECOND, 5e9), records(THIRD, 9e9)]
  const onTop = [
    [SECOND, 5e9],
    [THIRD, 9e9],
  ]
  for (const holder of [undefined, THIRD, FOURTH]) {
    const names = await newestNames(objects, { holder, origins: [] }, noBackup)
    expect(shown(names)).toEqual([FIRST, 20, onTop])
  }
  const other = { holder: FOURTH, origins: [origin(FOURTH, FIRST), origin(THIRD, SECOND)] }
  expect(shown(await newestNames(objects, other, noBackup))).toEqual([FIRST, 20, []])
})

test('a holder with a state is that, whatever it began with; origins that lead nowhere, or in a circle, end', async () => {
  const objects = [...state(FIRST, 10, 20), ...state(SECOND, 5e9, 6e9), records(SECOND, 7e9)]
  const mine = await newestNames(objects, { holder: SECOND, origins: [origin(SECOND, FIRST)] }, noBackup)
  expect(shown(mine)).toEqual([SECOND, 6e9, [[SECOND, 7e9]]])
  const origins = [origin(THIRD, FOURTH), origin(FOURTH, THIRD)]
  const circle = await newestNames(objects, { holder: THIRD, origins }, noBackup)
  expect(shown(circle)).toEqual([SECOND, 6e9, [[SECOND, 7e9]]])
  expect(await newestNames([], { holder: THIRD, origins }, noBackup)).toBeUndefined()
})

test('a former holder is found by its id, and no other is put in its place', async () => {
  const objects = [...state(FIRST, 10, 20), ...state(SECOND, 5e9, 6e9), records(THIRD, 9e9)]
  const origins = [origin(THIRD, SECOND)]
  const of = async (holder: string): Promise<unknown> =>
    shown(await namesOfHolder(objects, { holder, origins }, noBackup))
  expect(await of(FIRST)).toEqual([FIRST, 20, []])
  expect(await of(THIRD)).toEqual([SECOND, 6e9, [[THIRD, 9e9]]])
  expect(await of(FOURTH)).toBeUndefined()
  expect(foundHolders(objects, { holder: THIRD, origins })).toMatchObject([
    { holder: THIRD, isCurrent: true, origin: { from: SECOND }, revision: undefined, records: 1 },
    { holder: SECOND, isCurrent: false, origin: undefined, revision: 6e9, records: 0 },
    { holder: FIRST, isCurrent: false, revision: 20 },
  ])
})
