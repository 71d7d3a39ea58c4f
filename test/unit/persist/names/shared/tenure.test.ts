/** The row that says who ships the names, and who may change it (names/shared/tenure.ts). */
import { beforeEach, expect, it } from 'vitest'
import { must } from '../../../../../src/common/assert.ts'
import { decodeHolderRow, rowLetsGo, type HolderRow } from '../../../../../src/persist/names/shared/holder-row.ts'
import type { HolderRows } from '../../../../../src/persist/names/shared/ports.ts'
import { StoodDown, Tenure, type Standing } from '../../../../../src/persist/names/shared/tenure.ts'
import type { SegmentId } from '../../../../../src/common/ids.ts'
import { ModelClock } from '../model.ts'

const STANDING: Standing = {
  state: { base: 'b'.repeat(16), deltas: [], revision: 10 },
  shippedThrough: 10,
  stateMs: 1,
  isHolding: false,
  pins: [],
  pinsAll: false,
  isFormerKept: false,
}
const PIN = { id: '20260101T000000Z-abcd', revision: 5, newestSegment: 'f'.repeat(32), createdMs: 1_700_000_000_000 }
const SEGMENT = '0'.repeat(32) as SegmentId

let stored: Uint8Array | undefined
let revision: number
let clock: ModelClock

beforeEach(() => {
  stored = undefined
  revision = 100
  clock = new ModelClock()
})

function rows(node: number): HolderRows {
  return {
    node,
    look: () => Promise.resolve({ row: stored, wanted: 0 }),
    async change(change) {
      stored = change(stored)
      return await Promise.resolve(++revision)
    },
    want: () => Promise.resolve(),
  }
}

function take(node: number, token: string): Promise<Tenure> {
  return Tenure.take({ rows: rows(node), clock, incarnation: 'i', token }, decodeHolderRow(stored))
}

function row(): HolderRow {
  return must(decodeHolderRow(stored), 'row')
}

it('whoever was taken over from changes nothing any more, and is told so at the first try', async () => {
  const one = await take(1, 'one')
  await one.note({ random: 'a'.repeat(16), revision: 1 })
  await one.publish(STANDING, 0)
  const two = await take(2, 'two')
  const before = stored
  await expect(one.publish({ ...STANDING, shippedThrough: 20 }, 20)).rejects.toThrow(StoodDown)
  await expect(one.note({ random: 'c'.repeat(16), revision: 1 })).rejects.toThrow(StoodDown)
  await expect(one.release()).rejects.toThrow(StoodDown)
  expect(stored).toBe(before)
  expect(one.isOver).toBe(true)
  // What it had noted and told is gone on from, and nothing is put before somebody has looked at what is there.
  expect(two.row).toMatchObject({ node: 2, isLoaded: false, shippedThrough: 10, state: STANDING.state })
  expect(two.notes().map(({ random }) => random)).toEqual(['a'.repeat(16)])
})

it('who gives up its turn leaves it to nobody, which no node is: one whose metadata were moved is node 0', async () => {
  const zero = await take(0, 'zero')
  expect(row().node).toBe(0)
  await zero.release()
  expect(row().node).toBe(-1)
})

it('of two that take it at once one does', async () => {
  const before = decodeHolderRow(stored)
  const parts = (node: number, token: string): Parameters<typeof Tenure.take>[0] => ({
    rows: rows(node),
    clock,
    incarnation: 'i',
    token,
  })
  await Tenure.take(parts(1, 'one'), before)
  await expect(Tenure.take(parts(2, 'two'), before)).rejects.toThrow(StoodDown)
  expect(row().node).toBe(1)
})

it('a row that was put back from a backup of etcd ends the turn', async () => {
  const one = await take(1, 'one')
  const older = stored
  await one.publish(STANDING, 0)
  stored = older
  await expect(one.note({ random: 'a'.repeat(16), revision: 1 })).rejects.toThrow(StoodDown)
})

it('after a change of which it is not known whether it was made, nothing is taken for known', async () => {
  let isCut = false
  const made = rows(1)
  const cut: HolderRows = {
    ...made,
    async change(change) {
      const at = await made.change(change)
      if (isCut) throw new Error('no answer')
      return at
    },
  }
  const one = await Tenure.take({ rows: cut, clock, incarnation: 'i', token: 'one' }, undefined)
  isCut = true
  await expect(one.publish(STANDING, 0)).rejects.toThrow('no answer')
  isCut = false
  expect(one.isOver).toBe(true)
  await expect(one.publish(STANDING, 0)).rejects.toThrow(StoodDown)
  // It is this node's turn yet, and it begins anew from what was made.
  expect((await take(1, 'two')).row.shippedThrough).toBe(10)
})

it('that only the revision has moved is told when somebody waits, else rarely, and not for its own sake', async () => {
  const one = await take(1, 'one')
  await one.publish(STANDING, 0)
  const told = revision
  // Nothing but the row itself has changed.
  clock.ms += 60_000
  await one.publish({ ...STANDING, shippedThrough: told }, 0)
  expect(revision).toBe(told)
  await one.publish({ ...STANDING, shippedThrough: told }, told)
  expect(row().shippedThrough).toBe(told)
  const later = revision + 5
  await one.publish({ ...STANDING, shippedThrough: later }, 0)
  expect(row().shippedThrough).toBe(told)
  clock.ms += 5000
  await one.publish({ ...STANDING, shippedThrough: later }, 0)
  expect(row().shippedThrough).toBe(later)
})

it('what a backup needs that was announced is kept for an hour, though its manifest is not found', async () => {
  const one = await take(1, 'one')
  clock.ms = PIN.createdMs
  await one.publish({ ...STANDING, pins: [PIN] }, 0)
  const two = await take(2, 'two')
  await two.publish(STANDING, 0)
  expect(row().pins).toEqual([PIN])
  clock.ms += 3_600_001
  await two.publish(STANDING, 0)
  expect(row().pins).toEqual([])
})

it('a segment goes when names without it have left, and no backup needs it', () => {
  const told: HolderRow = { ...decodeHolderRow(encoded()), pins: [PIN] } as HolderRow
  expect(rowLetsGo(undefined, SEGMENT, 1)).toBe(false)
  expect(rowLetsGo({ ...told, pins: [] }, SEGMENT, 10)).toBe(true)
  expect(rowLetsGo({ ...told, pins: [] }, SEGMENT, 11)).toBe(false)
  expect(rowLetsGo(told, SEGMENT, 6)).toBe(false)
  expect(rowLetsGo(told, SEGMENT, 5)).toBe(true)
  expect(rowLetsGo({ ...told, pins: [{ ...PIN, newestSegment: '' }] }, SEGMENT, 6)).toBe(true)
  expect(rowLetsGo({ ...told, pins: [], pinsAll: true }, SEGMENT, 5)).toBe(false)
})

function encoded(): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      format: 1,
      node: 1,
      incarnation: 'i',
      token: 't',
      sequence: 1,
      loaded: true,
      shippedThrough: 10,
      stateMs: 1,
      notes: [],
      holding: false,
      pins: [],
      pinsAll: false,
      formerKept: false,
    }),
  )
}
