/** A data directory that is put back from an older copy must not go on from what its lost life shipped (intents.ts). */
import { expect, it } from 'vitest'
import { parseNamesObject } from '../../../../src/persist/names/object-names.ts'
import { Model } from './model.ts'

const OLDER = 'put back from an older copy'

async function rounds(model: Model, count: number): Promise<unknown[]> {
  const failures: unknown[] = []
  for (let round = 0; round < count; round++) {
    await model.namespace.flush()
    model.clock.ms += 20_000
    await model.stream.round().catch((error: unknown) => failures.push(error))
    await model.settle()
  }
  return failures
}

async function begin(options: Model['options'] = {}): Promise<Model> {
  const model = new Model(7, options)
  await model.start()
  await model.put('old', 'run')
  await model.persist(model.open)
  await rounds(model, 5)
  return model
}

function contents(model: Model): string[] {
  return [...model.objects.keys()].sort()
}

it('C17: it is refused for good, however far ahead its revisions are by then, and nothing over there changes', async () => {
  const model = await begin()
  const snapshot = await model.snapshot()
  for (let lost = 0; lost < 5; lost++) await model.put(`lost-${lost}`, 'inline')
  await rounds(model, 2)
  const { id } = await model.stream.backUp(model.clock.ms - 1)
  const lostThrough = model.stream.status().shippedThrough
  const before = contents(model)
  await model.putBack(snapshot)
  // More has been written than the lost life had.
  for (let after = 0; after < 50; after++) await model.put(`after-${after}`, 'inline')
  expect(model.namespace.durableRevision()).toBeGreaterThan(lostThrough)
  const failures = await rounds(model, 5)
  expect(failures).toHaveLength(5)
  for (const failure of failures) expect(failure).toMatchObject({ message: expect.stringContaining(OLDER) as string })
  expect(model.stream.status()).toMatchObject({
    shippedThrough: -1,
    lastError: expect.stringContaining(OLDER) as string,
  })
  const reads = model.remote.calls('list')
  await rounds(model, 2)
  expect(model.remote.calls('list')).toBe(reads)
  await expect(model.stream.backUp(model.clock.ms + 1000)).rejects.toThrow(OLDER)
  await expect(model.stream.dropBackup(id)).rejects.toThrow(OLDER)
  expect(model.stream.mayRemove(model.open, 0)).toBe(false)
  expect(model.stream.needsUnknown(model.open)).toBe(true)
  expect(contents(model)).toEqual(before)
  await model.stop()
})

it('C17: nothing is acknowledged as persisted, neither who waited before that was known nor who comes', async () => {
  const model = await begin()
  const snapshot = await model.snapshot()
  await model.put('lost', 'inline')
  await rounds(model, 2)
  const before = contents(model)
  await model.putBack(snapshot)
  const published = async (key: string): Promise<{ bucket: string; key: string; inode: number; revision: number }> => ({
    bucket: 'bucket',
    key,
    inode: 0,
    revision: await model.put(key, 'inline'),
  })
  const refused = { details: { published: true }, message: expect.stringContaining(OLDER) as string }
  const early = expect(model.stream.named(await published('early'))).rejects.toMatchObject(refused)
  await model.settle()
  await rounds(model, 3)
  await early
  await expect(model.stream.named(await published('late'))).rejects.toMatchObject(refused)
  await expect(model.stream.covered(model.namespace.durableRevision() + 1)).rejects.toMatchObject(refused)
  expect(contents(model)).toEqual(before)
  await model.stop()
})

it('C17: one from before anything was shipped knows nothing of what is there', async () => {
  const model = new Model(8)
  await model.start()
  const snapshot = await model.snapshot()
  await model.put('lost', 'inline')
  await rounds(model, 5)
  expect(await model.check()).toBeDefined()
  await model.putBack(snapshot)
  await model.put('after', 'inline')
  expect(await rounds(model, 2)).toHaveLength(2)
  await model.stop()
})

it('C17: a base that the lost life completed goes before a delta could lie on top of it', async () => {
  const model = await begin({ basedOnBytesMin: 1 })
  const snapshot = await model.snapshot()
  for (let lost = 0; lost < 40; lost++) await model.put(`lost-${lost}`, 'inline')
  const newest = await model.check()
  const bases = (): string[] =>
    [...model.objects.keys()].filter(
      (name) => parseNamesObject({ name, bytes: 0, modifiedMs: 0 })?.kind === 'base-whole',
    )
  const known = new Set(bases())
  await rounds(model, 6)
  const lost = bases().find((name) => !known.has(name))
  expect(lost).toBeDefined()
  // It died before the delta on top of the base arrived.
  for (const name of contents(model)) {
    const object = parseNamesObject({ name, bytes: 0, modifiedMs: 0 })
    if (object?.kind === 'delta' && object.through > (newest?.revision ?? 0)) model.objects.delete(name)
  }
  expect((await model.check())?.revision).toBe(newest?.revision)
  await model.putBack(snapshot)
  await model.put('after', 'inline')
  expect(await rounds(model, 5)).toEqual([])
  expect(bases()).not.toContain(lost)
  expect((await model.check())?.revision).toBeGreaterThan(newest?.revision ?? 0)
  await model.stop()
})

it('one that was not put back goes on, whatever its last life had on its way', async () => {
  const model = await begin()
  model.remote.faults.chanceKinds = ['lost-acknowledgement']
  model.remote.faults.chance = 0.5
  for (let life = 0; life < 12; life++) {
    await model.put(`life-${life}`, 'inline')
    for (const failure of await rounds(model, 3)) expect((failure as Error).message).not.toContain(OLDER)
    await model.crash()
  }
  model.remote.faults.chance = 0
  expect(await rounds(model, 8)).toEqual([])
  await model.check()
  // Notes do not pile up.
  expect(model.namespace.names.intents().length).toBeLessThan(6)
  await model.stop()
})
