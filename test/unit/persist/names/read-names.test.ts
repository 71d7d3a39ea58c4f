/** Objects under `names/` that somebody else wrote, or damaged. */
import { beforeEach, expect, test } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import { must } from '../../../../src/common/assert.ts'
import { newestState } from '../../../../src/persist/names/chain.ts'
import { NamesUnusable, stateRows, unusableDeltas } from '../../../../src/persist/names/read-names.ts'
import { listNames } from '../../../../src/persist/names/read-states.ts'
import { encodeBaseEnd, encodeNamesObject, encodeRows, namesObjectCrc } from '../../../../src/persist/names/format.ts'
import { namesObjectName } from '../../../../src/persist/names/object-names.ts'
import { MemoryStore } from '../../../../src/persist/remote/memory-store.ts'
import { HandClock } from '../../../conformance/hand-clock.ts'
import { LINEAGE, shipDelta } from '../../../support/restorable.ts'
import { newFileSystem } from '../fixtures.ts'

let remote: MemoryStore

beforeEach(async () => {
  remote = new MemoryStore({ clock: new HandClock(), fileSystem: newFileSystem() })
  await remote.connect()
})

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** One of no rows. */
async function shipBase(): Promise<void> {
  const random = '1'.repeat(16)
  const head = { lineage: LINEAGE, capturedMs: 1, random, from: 1, through: 1, rows: 0 }
  const part = await encodeNamesObject({ ...head, kind: 'base-part', part: 0, parts: 0 }, encodeRows([]))
  await remote.put(namesObjectName(LINEAGE, { kind: 'base-part', begin: 1, random, part: 0 }), part)
  const end = encodeBaseEnd([{ crc: namesObjectCrc(part), bytes: part.length }])
  const whole = await encodeNamesObject({ ...head, kind: 'base-whole', part: 0, parts: 1 }, end)
  await remote.put(namesObjectName(LINEAGE, { kind: 'base-whole', begin: 1, end: 1, random, parts: 1 }), whole)
}

test.each([0, 1979])('a row whose key no row can have, of %i bytes, makes its object unusable', async (keyBytes) => {
  await shipBase()
  const rows = [{ key: 'I'.repeat(keyBytes) as ByteString, value: Buffer.from('x') }]
  const bad = await shipDelta(remote, { after: 1, through: 2, rows })
  const state = must(newestState(await listNames(remote)), 'state')
  const reading = all(stateRows(remote, state))
  await expect(reading).rejects.toThrow(NamesUnusable)
  await expect(reading).rejects.toMatchObject({ objectName: bad })
})

test('all deltas that cannot be used are told at once', async () => {
  const names: string[] = []
  for (const through of [2, 3, 4, 5]) names.push(await shipDelta(remote, { after: through - 1, through, rows: [] }))
  for (const name of [names[1], names[3]]) await remote.put(must(name, 'name'), Buffer.from('damaged'))
  const found = await all(unusableDeltas(remote, await listNames(remote)))
  expect(found.map(({ objectName }) => objectName)).toEqual([names[1], names[3]])
})
