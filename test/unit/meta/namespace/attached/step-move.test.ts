import { expect, it } from 'vitest'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { BUCKET, DEEP, attachedFixture, shallow, type AttachedFixture } from './fixture.ts'

const OBJECTS = 300

async function begin(operationsMax?: number): Promise<AttachedFixture> {
  const f = await attachedFixture(operationsMax === undefined ? {} : { operationsMax })
  for (let n = 0; n < OBJECTS; n++) f.outside.set(`a/${n % 7}/${n}`, { etag: `e${n}`, size: n })
  f.outside.set('a/', { etag: 'marker', size: 0 })
  await f.mirror.merge(f.page(DEEP))
  return f
}

function rename(f: AttachedFixture, from: string, to: string): Promise<unknown> {
  return f.namespace.rename({ bucket: BUCKET, from, to, replace: false })
}

async function stepAll(f: AttachedFixture): Promise<number> {
  let steps = 0
  for (const { id } of await f.mirror.moves(f.attachment.bucketId)) {
    while (!(await f.mirror.stepMove(f.attachment.bucketId, id)).value.done) steps++
  }
  expect(await f.mirror.moves(f.attachment.bucketId)).toEqual([])
  return steps
}

it('C2, C32 writes a rename of a directory down as dirty keys, step by step', async () => {
  const f = await begin(128)
  await rename(f, 'a/', 'b/')
  expect(await f.dirty()).toEqual([])
  expect(await f.mirror.moves(f.attachment.bucketId)).toMatchObject([{ from: 'a/', to: 'b/', keys: 0 }])
  expect(await stepAll(f)).toBeGreaterThan(4)
  const dirty = await f.dirty()
  expect(dirty).toHaveLength((OBJECTS + 1) * 2)
  const byKey = new Map(dirty.map((one) => [one.key, one]))
  expect(byKey.get('b/3/10')).toMatchObject({ base: { kind: 'absent' }, neededBy: [] })
  const old = byKey.get('a/3/10')
  expect(old).toMatchObject({ base: { kind: 'etag', etag: 'e10', size: 10 } })
  expect(old?.neededBy).toHaveLength(1)
  expect(new Set(f.told.map(({ key }) => key)).size).toBe((OBJECTS + 1) * 2)
  await f.stop()
})

it('C32 holds what lies outside under the old keys, before that and after', async () => {
  const f = await begin()
  await rename(f, 'a/', 'b/')
  await rename(f, 'b/3/', 'c/')
  const before = await f.list()
  const listAgain = async (): Promise<void> => {
    f.clock.ms += 1_000_000
    await f.mirror.merge(f.page(DEEP))
    await f.mirror.merge(f.page(shallow('')))
    expect(await f.list()).toEqual(before)
    expect(await f.tree()).not.toContain('a/')
  }
  await listAgain()
  await stepAll(f)
  await listAgain()
  expect((await f.dirty()).filter(({ key }) => key.startsWith('c/'))).toHaveLength(43)
  await checkNamespace(f.store)
  await f.stop()
})

it('C32 shows what comes to the old keys from outside meanwhile', async () => {
  const f = await begin()
  await rename(f, 'a/', 'b/')
  f.outside.set('a/new', { etag: 'new', size: 1 })
  await f.mirror.merge(f.page(DEEP))
  expect(await f.list('a/')).toEqual(['a/new'])
  await f.stop()
})

it('leaves alone what came back', async () => {
  const f = await begin()
  await rename(f, 'a/', 'b/')
  await rename(f, 'b/', 'a/')
  await stepAll(f)
  expect(await f.dirty()).toEqual([])
  await f.stop()
})
