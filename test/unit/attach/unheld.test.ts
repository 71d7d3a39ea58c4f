import { afterEach, expect, test } from 'vitest'
import { UnheldKeys } from '../../../src/attach/unheld.ts'
import type { ExternalObject, Scope, SeenPage } from '../../../src/attach/ports.ts'
import { mirrorFixture, type MirrorFixture } from './mirror-fixture.ts'

const DEEP: Scope = { kind: 'deep' }
const fixtures: MirrorFixture[] = []

afterEach(async () => {
  for (const one of fixtures.splice(0)) await one.stop()
})

const object = (key: string, etag = ''): ExternalObject => ({
  key,
  size: 1,
  etag,
  modifiedMs: 0,
  storageClass: 'STANDARD',
})

function page(objects: readonly ExternalObject[], asked: Partial<SeenPage> = {}): SeenPage {
  const told = { prefix: '', after: '', through: undefined, prefixes: [], askedAt: 0, askedAtMs: 0 }
  return { bucketId: 1, scope: DEEP, objects, ...told, ...asked }
}

const unheld = (keysMax?: number): UnheldKeys =>
  new UnheldKeys({ keyBytesMax: 20, ...(keysMax === undefined ? {} : { keysMax }) })

test('a key that cannot be held is counted once, however often it is listed', () => {
  const keys = unheld()
  const objects = [object('a'), object('b', 'etag'), object('long'.repeat(6), 'etag'), object('d/c')]
  for (let round = 0; round < 3; round++) keys.listed(page(objects))
  expect(keys.status(1)).toEqual({ keys: 3, isAtLeast: false, listed: ['a', 'long'.repeat(6), 'd/c'] })
  expect(keys.status(2).keys).toBe(0)
})

test('a listing takes the place of what was known of its range, and of nothing else', () => {
  const keys = unheld()
  keys.listed(page([object('a'), object('d/b'), object('d/e/c'), object('z')]))
  keys.listed(page([], { scope: { kind: 'shallow', directory: 'd/' }, prefix: 'd/' }))
  expect(keys.status(1).listed).toEqual(['a', 'd/e/c', 'z'])
  keys.listed(page([object('b')], { after: 'a', through: 'y' }))
  expect(keys.status(1).listed).toEqual(['a', 'z', 'b'])
  keys.looked(1, 'a', undefined)
  keys.looked(1, 'z', object('z', 'etag'))
  expect(keys.status(1).listed).toEqual(['b'])
  keys.listed(page([]))
  expect(keys.status(1).keys).toBe(0)
})

test('no more than so many are remembered', () => {
  const keys = unheld(10)
  keys.listed(page(Array.from({ length: 50 }, (_, at) => object(`k${at}`))))
  expect(keys.status(1)).toMatchObject({ keys: 10, isAtLeast: true })
  keys.forget(1)
  expect(keys.status(1)).toEqual({ keys: 0, isAtLeast: false, listed: [] })
})

test('what is merged goes through, and is noted', async () => {
  const here = await mirrorFixture()
  fixtures.push(here)
  const keys = unheld()
  const { bucketId } = here.attached.record
  const names = keys.watching(here.names)
  await names.merge({ ...page([object('a'), object('b', 'etag')]), bucketId, askedAt: names.revision() })
  expect(keys.status(bucketId).listed).toEqual(['a'])
  const listed = await here.namespace.list({ bucket: 'far', prefix: '', delimiter: '', after: '', limit: 10 })
  expect(listed.objects.map(({ key }) => key)).toEqual(['b'])
})
