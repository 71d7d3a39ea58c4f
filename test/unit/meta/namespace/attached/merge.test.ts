import { expect, it } from 'vitest'
import { attachedFixture, BUCKET, DEEP, shallow, type AttachedFixture } from './fixture.ts'

function fill(outside: AttachedFixture['outside'], keys: readonly string[]): void {
  for (const key of keys) outside.set(key, { etag: `e-${key}`, size: key.length })
}

it('takes over a deep page, with its directories', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['a/1', 'a/2', 'a/b/c', 'd', 'e//f', 'g/'])
  const page = f.page(DEEP)
  expect((await f.mirror.merge(page)).value).toBe(6)
  expect(await f.list()).toEqual(['a/1', 'a/2', 'a/b/c', 'd', 'e//f', 'g/'])
  expect(await f.unlisted()).toBe(0)
  const found = await f.namespace.lookup(BUCKET, 'a/b/c')
  expect(found).toMatchObject({ size: 5, etag: 'e-a/b/c', mtimeMs: 1_600_000_000_000 })
  expect(found.body).toEqual({
    kind: 'external',
    external: { key: 'a/b/c', etag: 'e-a/b/c', size: 5, isDescribed: false },
  })
  expect(await f.mirror.covered(f.attachment.bucketId, DEEP, 'a', page.askedAtMs)).toMatchObject({
    through: '\u{10ffff}',
  })
  expect(await f.dirty()).toEqual([])
  await f.stop()
})

it('writes nothing of what is as it was, and only what differs of the rest', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['a/1', 'a/2', 'b'])
  await f.mirror.merge(f.page(DEEP))
  const before = await f.namespace.list({ bucket: BUCKET, prefix: '', delimiter: '', after: '', limit: 1000 })
  expect((await f.mirror.merge(f.page(DEEP))).value).toBe(0)
  f.outside.set('a/2', { etag: 'other', size: 9 })
  f.outside.delete('b')
  f.outside.set('c', { etag: 'new', size: 1 })
  expect((await f.mirror.merge(f.page(DEEP))).value).toBe(3)
  const after = await f.namespace.list({ bucket: BUCKET, prefix: '', delimiter: '', after: '', limit: 1000 })
  expect(after.objects.map(({ key, etag }) => [key, etag])).toEqual([
    ['a/1', 'e-a/1'],
    ['a/2', 'other'],
    ['c', 'new'],
  ])
  expect(after.objects[0]?.revision).toBe(before.objects[0]?.revision)
  await f.stop()
})

it('takes over many new objects in a row, and passes over what is ours among them', async () => {
  const f = await attachedFixture()
  const keys = Array.from({ length: 60 }, (_, index) => `x/${String(index).padStart(2, '0')}`)
  fill(f.outside, [...keys, 'y/1', 'y/2'])
  await f.mirror.merge(f.page(shallow('')))
  await f.put('x/30')
  await f.put('x/gone')
  await f.namespace.remove({ bucket: BUCKET, key: 'x/gone', conditions: {}, owner: 'owner' })
  fill(f.outside, ['x/gone'])
  expect((await f.mirror.merge(f.page(DEEP))).value).toBe(keys.length - 1 + 2)
  expect(await f.list()).toEqual([...keys, 'y/1', 'y/2'])
  expect((await f.namespace.lookup(BUCKET, 'x/30')).body.kind).toBe('inline')
  expect((await f.namespace.lookup(BUCKET, 'x/31')).body.kind).toBe('external')
  await f.stop()
})

it('does not bring back objects in a row that went since the page was asked for', async () => {
  const f = await attachedFixture()
  const keys = Array.from({ length: 40 }, (_, index) => `x/${String(index).padStart(2, '0')}`)
  fill(f.outside, ['a', ...keys])
  await f.mirror.merge(f.page(DEEP))
  const old = f.page(DEEP)
  for (const key of keys) f.outside.delete(key)
  f.clock.ms += 10
  await f.mirror.merge(f.page(DEEP))
  expect(await f.list()).toEqual(['a'])
  expect((await f.mirror.merge(old)).value).toBe(0)
  expect(await f.list()).toEqual(['a'])
  await f.stop()
})

it.each([DEEP, shallow('x/')])(
  'C32: an older page shows nothing that a newer one did not tell of: %o',
  async (scope) => {
    const f = await attachedFixture()
    fill(f.outside, ['x/1', 'x/2', 'x/3'])
    const old = f.page(DEEP)
    f.outside.delete('x/2')
    f.clock.ms += 10
    const newer = f.page(scope)
    await f.mirror.merge(newer)
    expect((await f.mirror.merge(old)).value).toBe(0)
    expect(await f.list()).toEqual(['x/1', 'x/3'])
    const covered = await f.mirror.covered(f.attachment.bucketId, shallow('x/'), 'x/2', newer.askedAtMs)
    expect(covered?.sinceMs).toBe(newer.askedAtMs)
    await f.stop()
  },
)

it('C32: an older page takes nothing away that a newer one told of, though it looks as old as that', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['x/1', 'x/2', 'x/3'])
  await f.mirror.merge(f.page(DEEP))
  f.outside.delete('x/2')
  f.clock.ms += 10
  const old = f.page(DEEP)
  // The very same again, so that nothing changes here.
  f.outside.clear()
  fill(f.outside, ['x/1', 'x/2', 'x/3'])
  f.clock.ms += 10
  expect((await f.mirror.merge(f.page(DEEP))).value).toBe(0)
  expect((await f.mirror.merge(old)).value).toBe(0)
  expect(await f.list()).toEqual(['x/1', 'x/2', 'x/3'])
  await f.stop()
})

it('takes over a page with so many new directories that it takes several steps', async () => {
  const f = await attachedFixture()
  const keys = Array.from({ length: 1000 }, (_, index) => `${String(index).padStart(4, '0')}/a/b/c`)
  fill(f.outside, keys)
  expect((await f.mirror.merge(f.page(DEEP))).value).toBe(keys.length)
  expect(await f.list()).toEqual(keys)
  expect(await f.unlisted()).toBe(0)
  await f.stop()
})

it('knows of a shallow page that its directories are there, until what is in them is known too', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['a/1', 'b/c/2', 'd'])
  await f.mirror.merge(f.page(shallow('')))
  expect(await f.tree()).toEqual(['a/', 'b/', 'd'])
  expect(await f.unlisted()).toBe(2)
  await f.mirror.merge(f.page(shallow('a/')))
  await f.mirror.merge(f.page(shallow('b/')))
  expect(await f.unlisted()).toBe(1)
  expect(await f.tree()).toEqual(['a/', 'a/1', 'b/', 'b/c/', 'd'])
  f.outside.delete('b/c/2')
  await f.mirror.merge(f.page(shallow('b/c/')))
  // Empty and wholly known: it goes, and the one above it with it.
  expect(await f.unlisted()).toBe(0)
  f.outside.delete('a/1')
  await f.mirror.merge(f.page(shallow('')))
  expect(await f.tree()).toEqual(['d'])
  await f.stop()
})

it('believes nothing of keys that were changed here, or since it was asked', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['a', 'b', 'c/d', 'e'])
  await f.mirror.merge(f.page(DEEP))
  await f.put('a')
  await f.namespace.remove({ bucket: BUCKET, key: 'c/d', conditions: {}, owner: 'owner' })
  const old = f.page(DEEP)
  f.outside.set('e', { etag: 'newer', size: 3 })
  f.outside.delete('b')
  await f.mirror.merge(f.page(DEEP))
  expect((await f.mirror.merge(old)).value).toBe(0)
  await f.mirror.merge(f.page(shallow('')))
  expect(await f.list()).toEqual(['a', 'e'])
  expect(await f.tree()).toEqual(['a', 'e'])
  expect((await f.dirty()).map(({ key, base }) => [key, base])).toEqual([
    ['a', { kind: 'etag', etag: 'e-a', size: 1 }],
    ['c/d', { kind: 'etag', etag: 'e-c/d', size: 3 }],
  ])
  await f.stop()
})

it('takes over one key with its attributes', async () => {
  const f = await attachedFixture()
  const attributes = {
    headers: { contentType: 'text/plain' },
    userMetadata: { k: 'v' },
    tags: {},
    storageClass: 'STANDARD',
  }
  const seen = { key: 'x/y', size: 4, etag: 'e', modifiedMs: 1_600_000_000_000, storageClass: 'STANDARD' }
  const found = { ...seen, attributes, partsCount: undefined }
  const one = { bucketId: f.attachment.bucketId, key: 'x/y' }
  expect((await f.mirror.mergeOne({ ...one, found, askedAt: f.store.revision() })).value).toBe('changed')
  expect(await f.unlisted()).toBe(1)
  expect((await f.mirror.mergeOne({ ...one, found, askedAt: f.store.revision() })).value).toBe('same')
  expect(await f.namespace.lookup(BUCKET, 'x/y')).toMatchObject({ attributes })
  const old = f.store.revision()
  expect((await f.mirror.mergeOne({ ...one, found: undefined, askedAt: old })).value).toBe('changed')
  expect((await f.mirror.mergeOne({ ...one, found, askedAt: old })).value).toBe('late')
  expect(await f.list()).toEqual([])
  // What the mirror says by now all the same.
  expect((await f.mirror.mergeOne({ ...one, found: undefined, askedAt: old })).value).toBe('same')
  await f.put('x/y')
  expect((await f.mirror.mergeOne({ ...one, found, askedAt: f.store.revision() })).value).toBe('kept')
  await f.stop()
})

it('passes over what has no ETag, whether it is listed or looked at', async () => {
  const f = await attachedFixture()
  f.outside.set('a', { etag: '', size: 1 })
  await f.mirror.merge(f.page(DEEP))
  const attributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
  const found = {
    key: 'a',
    etag: '',
    size: 1,
    modifiedMs: 0,
    storageClass: 'STANDARD',
    attributes,
    partsCount: undefined,
  }
  const seen = { bucketId: f.attachment.bucketId, key: 'a', found, askedAt: f.store.revision() }
  expect((await f.mirror.mergeOne(seen)).value).toBe('kept')
  expect(await f.list()).toEqual([])
  await f.stop()
})

it('a page that ends with a common prefix brings back no directory that was emptied here', async () => {
  const f = await attachedFixture()
  fill(f.outside, ['a/b/1'])
  await f.mirror.merge(f.page(DEEP))
  await f.namespace.remove({ bucket: BUCKET, key: 'a/b/1', conditions: {}, owner: 'owner' })
  expect(await f.tree()).toEqual([])
  const page = {
    ...f.page(shallow('a/')),
    prefix: 'a/b/',
    after: 'a/b.',
    through: 'a/b/',
    objects: [],
    prefixes: ['a/b/'],
  }
  await f.mirror.merge(page)
  expect(await f.tree()).toEqual([])
  await f.stop()
})
