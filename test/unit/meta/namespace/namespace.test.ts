import { afterEach, describe, expect, test } from 'vitest'
import type { Metadata } from '../../../../src/store/ports.ts'
import type { Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { PLAIN, fixture, type Fixture } from './fixture.ts'

const open: Fixture[] = []

async function begin(versioning?: 'enabled' | 'suspended'): Promise<Fixture> {
  const made = await fixture()
  open.push(made)
  await made.bucket('box', versioning)
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

const EVERYTHING = { bucket: 'box', prefix: '', delimiter: '', after: '', limit: 1000 }
const EVERY_VERSION = {
  bucket: 'box',
  prefix: '',
  delimiter: '',
  keyMarker: '',
  versionIdMarker: undefined,
  limit: 1000,
}

test('a namespace satisfies the port that the store declares', () => {
  const satisfies = (namespace: Namespace): Metadata => namespace
  expect(satisfies).toBeTypeOf('function')
})

describe('buckets', () => {
  test('a bucket is made once, and by one owner', async () => {
    const { namespace } = await begin()
    const again = { name: 'box', region: 'us-east-1', ack: 'journal' } as const
    await expect(namespace.createBucket({ ...again, owner: 'owner' })).rejects.toMatchObject({
      code: 'BucketAlreadyOwnedByYou',
    })
    await expect(namespace.createBucket({ ...again, owner: 'other' })).rejects.toMatchObject({
      code: 'BucketAlreadyExists',
    })
    expect(await namespace.bucket('box')).toMatchObject({ name: 'box', versioning: 'off', owner: 'owner' })
    expect(await namespace.bucket('box')).toMatchObject({ name: 'box' })
    await expect(namespace.bucket('none')).rejects.toMatchObject({ code: 'NoSuchBucket' })
    await expect(namespace.bucket('x'.repeat(5000))).rejects.toMatchObject({ code: 'NoSuchBucket' })
  })

  test.each(['ab', 'A-b', '-abc', 'abc-', '1.2.3.4', 'xn--abc', 'minio', 'a..b', 'a_b', 'x'.repeat(64), 'a/b'])(
    'the name %s is refused',
    async (name) => {
      const { namespace } = await begin()
      const made = namespace.createBucket({ name, owner: 'o', region: 'r', ack: 'journal' })
      await expect(made).rejects.toMatchObject({ code: 'InvalidBucketName' })
    },
  )

  test('listed by name, after a name, with a prefix', async () => {
    const { namespace, bucket } = await begin()
    for (const name of ['abc', 'bcd', 'box2', 'boz']) await bucket(name)
    const names = async (prefix: string, after: string, limit: number): Promise<string[]> =>
      (await namespace.listBuckets({ prefix, after, limit })).map((found) => found.name)
    expect(await names('', '', 10)).toEqual(['abc', 'bcd', 'box', 'box2', 'boz'])
    expect(await names('bo', '', 10)).toEqual(['box', 'box2', 'boz'])
    expect(await names('bo', 'box', 1)).toEqual(['box2'])
    expect(await names('bo', 'c', 10)).toEqual([])
  })

  test('deleted when empty; uploads in progress do not hold it, and are reclaimed', async () => {
    const { namespace, put, remove, run, reclaim, store } = await begin('enabled')
    const first = await put('box', 'a/b', { run: await run(10) })
    await remove('box', 'a/b')
    await expect(namespace.deleteBucket('box')).rejects.toMatchObject({ code: 'BucketNotEmpty' })
    const { versions } = await namespace.listVersions(EVERY_VERSION)
    for (const version of versions) await remove('box', 'a/b', version.versionId)
    expect(versions.map((version) => version.versionId)).toContain(first.versionId)
    const upload = (
      await namespace.createUpload({
        bucket: 'box',
        key: 'u',
        owner: 'o',
        attributes: PLAIN,
        checksumAlgorithm: undefined,
        checksumType: undefined,
      })
    ).value
    await namespace.putPart({ ...upload, partNumber: 1, run: await run(5), size: 5, etag: 'e', checksum: undefined })
    await namespace.deleteBucket('box')
    await reclaim()
    expect(await checkNamespace(store)).toEqual({ inodes: 0, contents: 0, dropped: 0, parts: 0, uploads: 0, hidden: 0 })
  })
})

describe('objects', () => {
  test('published, found (hot and cold), replaced, removed with its implicit directories', async () => {
    const { namespace, put, remove, store, run } = await begin()
    await put('box', 'a/b/c', { bytes: 'hello' })
    for (let i = 0; i < 3; i++) {
      const found = await namespace.lookup('box', 'a/b/c')
      expect(found).toMatchObject({ key: 'a/b/c', size: 5, versionId: undefined })
      expect(found.body.kind === 'inline' && Buffer.from(found.body.bytes).toString()).toBe('hello')
    }
    await put('box', 'a/b/c', { run: await run(77) })
    expect(await namespace.lookup('box', 'a/b/c')).toMatchObject({ size: 77 })
    await expect(namespace.lookup('box', 'a/b')).rejects.toMatchObject({ code: 'NoSuchKey' })
    await expect(namespace.lookup('box', 'a/b/')).rejects.toMatchObject({ code: 'NoSuchKey' })
    expect((await remove('box', 'a/b/c')).value).toEqual({ versionId: undefined, deleteMarker: false, existed: true })
    expect((await remove('box', 'a/b/c')).value.existed).toBe(false)
    expect(await checkNamespace(store)).toMatchObject({ inodes: 1, contents: 0, dropped: 1 })
  })

  test('the marker object a/ makes its directory explicit', async () => {
    const { namespace, put, remove } = await begin()
    await put('box', 'a/')
    await put('box', 'a')
    await put('box', 'a/b')
    await remove('box', 'a/b')
    const page = await namespace.list(EVERYTHING)
    expect(page.objects.map((object) => object.key)).toEqual(['a', 'a/'])
    expect(await namespace.lookup('box', 'a/')).toMatchObject({ key: 'a/' })
  })

  test('keys are checked once, here', async () => {
    const { put } = await begin()
    await expect(put('box', '')).rejects.toMatchObject({ code: 'InvalidKey' })
    await expect(put('box', '\ud800')).rejects.toMatchObject({ code: 'InvalidKey' })
    await expect(put('box', 'é'.repeat(513))).rejects.toMatchObject({ code: 'KeyTooLong' })
    await put('box', 'é'.repeat(512))
    await put('box', '\0'.repeat(1024))
  })

  test('attributes, checksums and odd names come back as they were', async () => {
    const { namespace, put } = await begin()
    const attributes = {
      headers: { contentType: 'text/plain', cacheControl: 'no-cache', expires: 'soon', contentLanguage: 'de, en' },
      userMetadata: { ['__proto__']: 'x', ünï: '☃', long: 'y'.repeat(2000) },
      tags: { a: '', b: '1' },
      storageClass: 'GLACIER',
      websiteRedirect: '/x',
    }
    Object.defineProperty(attributes.userMetadata, '__proto__', { value: 'x', enumerable: true })
    await put('box', 'k', { attributes, etag: '0123456789abcdef0123456789abcdef-12' })
    const found = await namespace.lookup('box', 'k')
    expect(Object.entries(found.attributes.userMetadata)).toEqual(Object.entries(attributes.userMetadata))
    expect(found.attributes).toMatchObject({
      headers: attributes.headers,
      tags: { a: '', b: '1' },
      storageClass: 'GLACIER',
      websiteRedirect: '/x',
    })
    expect(found.etag).toBe('0123456789abcdef0123456789abcdef-12')
    await namespace.setTags({ bucket: 'box', key: 'k' }, { c: '2' })
    expect((await namespace.lookup('box', 'k')).attributes.tags).toEqual({ c: '2' })
  })

  test('C11: a copy shares the content; the last reference to go makes it reclaimable', async () => {
    const { namespace, put, remove, run, reclaim, segment, store } = await begin()
    await put('box', 'a', { run: await run(100) })
    const request = {
      source: { bucket: 'box', key: 'a' },
      sourceConditions: {},
      bucket: 'box',
      attributes: undefined,
      tags: undefined,
      owner: 'o',
      conditions: {},
      ack: 'journal',
    } as const
    await namespace.copy({ ...request, key: 'b/c' })
    await namespace.copy({ ...request, key: 'a', tags: { x: 'y' } })
    await checkNamespace(store)
    await remove('box', 'a')
    await namespace.segmentChanged(segment, 'sealed', 100)
    expect(await reclaim()).toEqual([])
    expect(await namespace.segment(segment)).toMatchObject({ liveBytes: 100 })
    await remove('box', 'b/c')
    expect(await reclaim()).toEqual([segment])
  })

  test('conditional writes are decided in the transaction', async () => {
    const { put, remove } = await begin()
    await expect(put('box', 'k', { conditions: { ifMatch: ['*'] } })).rejects.toMatchObject({ code: 'NoSuchKey' })
    const racers = await Promise.allSettled(
      Array.from({ length: 8 }, () => put('box', 'k', { conditions: { ifNoneMatch: ['*'] } })),
    )
    expect(racers.filter((racer) => racer.status === 'fulfilled')).toHaveLength(1)
    await expect(put('box', 'k', { conditions: { ifMatch: ['nope'] } })).rejects.toMatchObject({
      code: 'PreconditionFailed',
    })
    await remove('box', 'k')
    await put('box', 'k', { conditions: { ifNoneMatch: ['*'] } })
  })
})

describe('versions', () => {
  test('C25: a hidden directory is not listed, comes back with a PUT, goes with its last version', async () => {
    const { namespace, put, remove, store } = await begin('enabled')
    const first = await put('box', 'a/b/c')
    const marker = (await remove('box', 'a/b/c')).value
    expect(await checkNamespace(store)).toMatchObject({ hidden: 2 })
    expect((await namespace.list({ ...EVERYTHING, delimiter: '/' })).commonPrefixes).toEqual([])
    expect((await namespace.listVersions({ ...EVERY_VERSION, delimiter: '/' })).commonPrefixes).toEqual(['a/'])
    const { versions } = await namespace.listVersions(EVERY_VERSION)
    expect(versions.map((version) => [version.versionId, version.isLatest, version.isDeleteMarker])).toEqual([
      [marker.versionId, true, true],
      [first.versionId, false, false],
    ])
    await put('box', 'a/b/d')
    expect(await checkNamespace(store)).toMatchObject({ hidden: 0 })
    await remove('box', 'a/b/d')
    await remove('box', 'a/b/c', marker.versionId)
    expect(await namespace.lookup('box', 'a/b/c')).toMatchObject({ versionId: first.versionId })
    expect(await checkNamespace(store)).toMatchObject({ hidden: 0 })
    for (const version of (await namespace.listVersions(EVERY_VERSION)).versions) {
      await remove('box', version.key, version.versionId)
    }
    expect(await checkNamespace(store)).toMatchObject({ inodes: 1, hidden: 0 })
  })

  test('looking up markers and versions', async () => {
    const { namespace, put, remove } = await begin('enabled')
    const first = await put('box', 'k', { bytes: '1' })
    const second = await put('box', 'k', { bytes: '22' })
    expect((await namespace.lookup('box', 'k', first.versionId)).size).toBe(1)
    expect((await namespace.lookup('box', 'k', second.versionId)).size).toBe(2)
    const marker = (await remove('box', 'k')).value.versionId
    await expect(namespace.lookup('box', 'k')).rejects.toMatchObject({
      code: 'NoSuchKey',
      details: { deleteMarker: true, versionId: marker },
    })
    await expect(namespace.lookup('box', 'k', marker)).rejects.toMatchObject({ code: 'MethodNotAllowed' })
    await expect(namespace.lookup('box', 'k', 'null')).rejects.toMatchObject({ code: 'NoSuchVersion' })
    await expect(namespace.lookup('box', 'k', 'what')).rejects.toMatchObject({ code: 'InvalidArgument' })
  })

  test('C9: versions grow though the clock goes back', async () => {
    const { namespace, put, clock } = await begin('enabled')
    const ids = []
    for (let i = 0; i < 3; i++) {
      clock.ms -= 1000
      ids.unshift((await put('box', 'k')).versionId)
    }
    const { versions } = await namespace.listVersions(EVERY_VERSION)
    expect(versions.map((version) => version.versionId)).toEqual(ids)
  })

  test('a suspended bucket replaces the null version wherever it lies', async () => {
    const { namespace, put, remove } = await begin()
    await put('box', 'k', { bytes: 'null' })
    await namespace.setVersioning('box', 'enabled')
    const kept = await put('box', 'k', { bytes: 'kept' })
    await namespace.setVersioning('box', 'suspended')
    await put('box', 'k', { bytes: 'null again' })
    expect((await namespace.lookup('box', 'k', 'null')).size).toBe(10)
    expect((await remove('box', 'k')).value).toMatchObject({ versionId: 'null', deleteMarker: true })
    const { versions } = await namespace.listVersions(EVERY_VERSION)
    expect(versions.map((version) => version.versionId)).toEqual(['null', kept.versionId])
    await remove('box', 'k', 'null')
    expect((await namespace.lookup('box', 'k')).versionId).toBe(kept.versionId)
  })
})
