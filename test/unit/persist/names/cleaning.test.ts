/** What goes from `names/`, and what does not before it is superfluous (docs/decisions/0013). */
import { expect, it } from 'vitest'
import { must } from '../../../../src/common/assert.ts'
import { parseNamesObject, type NamesObject } from '../../../../src/persist/names/object-names.ts'
import { Model } from './model.ts'

/** Longer than the pause between two rounds of cleaning. */
const CLEANED_MS = 61_000

async function begin(): Promise<Model> {
  const model = new Model(1)
  await model.start()
  // The shared choice of `putPersisted`: always a run, and always carried.
  await model.put('first', 'run')
  await model.persist(model.open)
  await rounds(model, 4)
  expect(await model.check()).toBeDefined()
  return model
}

/** Far enough apart that each cleans. */
async function rounds(model: Model, count: number): Promise<void> {
  for (let round = 0; round < count; round++) {
    await model.namespace.flush()
    model.clock.ms += CLEANED_MS
    await model.stream.round()
    await model.settle()
  }
}

function objects(model: Model, kind: NamesObject['kind']): NamesObject[] {
  const named = [...model.objects].flatMap(
    ([name, { bytes, modifiedMs }]) => parseNamesObject({ name, bytes: bytes.length, modifiedMs }) ?? [],
  )
  return named.filter((object) => object.kind === kind)
}

/** One object that is acknowledged as persisted, and told of by a record alone. */
async function acknowledge(model: Model, key: string): Promise<number> {
  const revision = await model.put(key, 'run')
  await model.persist(model.open)
  await model.stream.named({ bucket: 'bucket', key, inode: 0, revision })
  model.acknowledged.push({ key, revision })
  return revision
}

it('C17: a record stays until a delta that covers it has arrived, however long that is held up', async () => {
  const model = await begin()
  // It holds up every delta: its bytes do not arrive, and somebody refers to it.
  await model.put('waits', 'run')
  const heldUpBy = model.open
  await model.openSegment()
  const revision = await acknowledge(model, 'acknowledged')
  expect(objects(model, 'records')).toHaveLength(1)
  await rounds(model, 10)
  expect(model.stream.status()).toMatchObject({ heldUpBy: [heldUpBy] })
  expect(model.stream.status().shippedThrough).toBeLessThan(revision)
  expect(objects(model, 'records')).toHaveLength(1)
  expect(await model.unnamed()).toEqual([])
  await model.persist(heldUpBy)
  await rounds(model, 3)
  expect(model.stream.status().shippedThrough).toBeGreaterThanOrEqual(revision)
  expect(objects(model, 'records')).toEqual([])
  expect(await model.unnamed()).toEqual([])
  await model.stop()
})

it('C17: a record that came after the capture stays when that arrives, and goes with the next', async () => {
  const model = await begin()
  await model.put('waits', 'run')
  const heldUpBy = model.open
  await model.openSegment()
  await rounds(model, 1)
  const captured = must(model.stream.status().heldThrough, 'capture')
  // So that the next capture waits too.
  await model.put('waits longer', 'run')
  const nextHeldUpBy = model.open
  await model.openSegment()
  const revision = await acknowledge(model, 'after the capture')
  await model.persist(heldUpBy)
  await rounds(model, 5)
  expect(model.stream.status()).toMatchObject({ shippedThrough: captured, heldUpBy: [nextHeldUpBy] })
  expect(objects(model, 'records')).toHaveLength(1)
  expect(await model.unnamed()).toEqual([])
  await model.persist(nextHeldUpBy)
  await rounds(model, 3)
  expect(model.stream.status().shippedThrough).toBeGreaterThanOrEqual(revision)
  expect(objects(model, 'records')).toEqual([])
  expect(await model.unnamed()).toEqual([])
  await model.stop()
})

it('C17: a life that begins with records that no delta covers keeps them', async () => {
  const model = await begin()
  await model.put('waits', 'run')
  await model.openSegment()
  const revision = await acknowledge(model, 'acknowledged')
  await model.crash()
  await rounds(model, 5)
  expect(model.stream.status().shippedThrough).toBeLessThan(revision)
  expect(objects(model, 'records')).toHaveLength(1)
  expect(await model.unnamed()).toEqual([])
  await model.stop()
})

it('C17: a record that a backup names stays as long as the backup', async () => {
  const model = await begin()
  await model.put('waits', 'run')
  const heldUpBy = model.open
  await model.openSegment()
  await acknowledge(model, 'acknowledged')
  const { id, complete } = await model.stream.backUp(model.clock.ms - 1)
  expect(complete).toBe(false)
  await model.persist(heldUpBy)
  await rounds(model, 5)
  expect(objects(model, 'records')).toHaveLength(1)
  await model.check()
  await model.stream.dropBackup(id)
  await rounds(model, 1)
  expect(objects(model, 'records')).toEqual([])
  await model.stop()
})

it('a base that is outgrown goes once the next has a delta on top, and not before', async () => {
  const model = new Model(2, { basedOnBytesMin: 1 })
  await model.start()
  await rounds(model, 4)
  const [first] = objects(model, 'base-whole')
  for (let written = 0; written < 60; written++) await model.put(`key-${written}`, 'inline')
  await model.put('waits', 'run')
  const heldUpBy = model.open
  await model.openSegment()
  await rounds(model, 10)
  expect(objects(model, 'base-whole').map(({ name }) => name)).toContain(must(first, 'base').name)
  expect(await model.check()).toBeDefined()
  await model.persist(heldUpBy)
  for (let written = 0; written < 60; written++) await model.put(`key-${written}`, 'inline')
  await rounds(model, 10)
  expect(objects(model, 'base-whole').map(({ name }) => name)).not.toContain(must(first, 'base').name)
  expect(objects(model, 'base-whole').length).toBeLessThanOrEqual(2)
  expect(await model.check()).toBeDefined()
  await model.stop()
})
