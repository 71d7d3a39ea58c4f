import { afterEach, describe, expect, test } from 'vitest'
import type { MemoryStoreOptions } from '../../../../src/meta/memory/memory-store.ts'
import { EXPIRIES, prefixRange } from '../../../../src/meta/namespace/keys.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { OWNER, fixture, type Fixture } from './fixture.ts'

const open: Fixture[] = []
const SECOND = 1000

async function begin(versioning?: 'enabled' | 'suspended', options: MemoryStoreOptions = {}): Promise<Fixture> {
  const made = await fixture(options)
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

const NO_SUCH_KEY = { code: 'NoSuchKey' }

async function listed(made: Fixture, delimiter = ''): Promise<string[]> {
  const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter, after: '', limit: 1000 })
  return [...page.objects.map((object) => object.key), ...page.commonPrefixes]
}

async function versions(made: Fixture): Promise<[string, boolean, boolean][]> {
  const request = { bucket: 'box', prefix: '', delimiter: '', keyMarker: '', versionIdMarker: undefined, limit: 1000 }
  const page = await made.namespace.listVersions(request)
  return page.versions.map((version) => [version.key, version.isLatest, version.isDeleteMarker])
}

function expiryRows(made: Fixture): Promise<number> {
  return made.store.read(async (view) => (await view.scan(prefixRange(EXPIRIES), 100_000)).length)
}

function copyRequest(key: string): Parameters<Fixture['namespace']['copy']>[0] {
  const source = { bucket: 'box', key: 'k' }
  const common = { sourceConditions: {}, attributes: undefined, tags: undefined, owner: OWNER, conditions: {} }
  return { ...common, source, bucket: 'box', key, ack: 'journal' }
}

describe('an expired key is never served', () => {
  test('to the millisecond: look-ups hot and cold, listings, exact in what they show of it', async () => {
    const made = await begin()
    const version = await made.put('box', 'k', { ttlMs: 5 * SECOND })
    const expiresMs = made.clock.ms + 5 * SECOND
    expect(version.expiresMs).toBe(expiresMs)
    await made.namespace.lookup('box', 'k')
    made.clock.ms = expiresMs - 1
    expect(await made.namespace.lookup('box', 'k')).toMatchObject({ expiresMs, revision: version.revision })
    const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', after: '', limit: 10 })
    expect(page.objects).toMatchObject([{ key: 'k', expiresMs, revision: version.revision }])
    made.clock.ms = expiresMs
    await expect(made.namespace.lookup('box', 'k')).rejects.toMatchObject(NO_SUCH_KEY)
    await expect(made.namespace.lookup('box', 'k', 'null')).rejects.toMatchObject({ code: 'NoSuchVersion' })
    expect(await listed(made)).toEqual([])
  })

  test('absent to conditions and tags, to copies and renames from it, and gone for a delete', async () => {
    const made = await begin()
    await made.put('box', 'k', { ttlMs: SECOND, run: await made.run(10) })
    made.clock.ms += SECOND
    await expect(made.put('box', 'k', { conditions: { ifMatch: ['*'] } })).rejects.toMatchObject(NO_SUCH_KEY)
    await expect(made.namespace.setTags({ bucket: 'box', key: 'k' }, {})).rejects.toMatchObject(NO_SUCH_KEY)
    await expect(made.namespace.copy(copyRequest('other'))).rejects.toMatchObject(NO_SUCH_KEY)
    const renaming = { bucket: 'box', from: 'k', to: 'other', replace: false }
    await expect(made.namespace.rename(renaming)).rejects.toMatchObject(NO_SUCH_KEY)
    expect((await made.remove('box', 'k')).value).toMatchObject({ existed: false })
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 1, dropped: 1 })
  })

  test('makes room: for a create-only put, and for a rename that replaces nothing', async () => {
    const made = await begin()
    for (const key of ['k', 'target']) await made.put('box', key, { ttlMs: SECOND })
    await made.put('box', 'source')
    made.clock.ms += SECOND
    await made.put('box', 'k', { conditions: { ifNoneMatch: ['*'] } })
    await made.namespace.rename({ bucket: 'box', from: 'source', to: 'target', replace: false })
    expect(await listed(made)).toEqual(['k', 'target'])
    expect(await expiryRows(made)).toBe(0)
    expect(await made.expireAll()).toEqual([])
  })

  test('pages are full and end right although most of what lies between has expired', async () => {
    const made = await begin()
    const kept: string[] = []
    for (let i = 0; i < 300; i++) {
      const key = `k${String(i).padStart(3, '0')}`
      if (i % 30 === 29) kept.push(key)
      await made.put('box', key, i % 30 === 29 ? {} : { ttlMs: SECOND })
    }
    made.clock.ms += SECOND
    const request = { bucket: 'box', prefix: '', delimiter: '', limit: 4 }
    const first = await made.namespace.list({ ...request, after: '' })
    expect(first.objects.map((object) => object.key)).toEqual(kept.slice(0, 4))
    expect(first.truncated).toBe(true)
    const last = await made.namespace.list({ ...request, after: kept[5] ?? '' })
    expect(last.objects.map((object) => object.key)).toEqual(kept.slice(6))
    expect(last).toMatchObject({ truncated: false, next: undefined })
  })
})

describe('the expirer', () => {
  test('takes what is due and nothing else; copies and overwritten versions have no expiry', async () => {
    const made = await begin()
    await made.put('box', 'k', { ttlMs: SECOND, run: await made.run(10) })
    expect((await made.namespace.copy(copyRequest('copy'))).value.target.expiresMs).toBeUndefined()
    await made.put('box', 'later', { ttlMs: 2 * SECOND })
    await made.put('box', 'overwritten', { ttlMs: SECOND })
    await made.put('box', 'overwritten')
    await made.put('box', 'longer', { ttlMs: SECOND })
    await made.put('box', 'longer', { ttlMs: 3 * SECOND })
    expect(await expiryRows(made)).toBe(3)
    made.clock.ms += SECOND - 1
    expect(await made.expireAll()).toEqual([])
    made.clock.ms += 1
    expect(await made.expireAll()).toEqual([1])
    expect(await listed(made)).toEqual(['copy', 'later', 'longer', 'overwritten'])
    made.clock.ms += SECOND
    expect(await made.expireAll()).toEqual([1])
    expect(await listed(made)).toEqual(['copy', 'longer', 'overwritten'])
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 4, contents: 1, dropped: 0 })
  })

  test('C31: a directory and its common prefix go with the last object in it', async () => {
    const made = await begin()
    await made.put('box', 'a/b/c', { ttlMs: SECOND })
    await made.put('box', 'a/b/d', { ttlMs: SECOND })
    await made.put('box', 'e/f', { ttlMs: SECOND })
    await made.put('box', 'e/g')
    made.clock.ms += SECOND
    expect(await made.expireAll()).toEqual([3])
    expect(await listed(made, '/')).toEqual(['e/'])
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 3 })
  })

  test('a bucket whose objects have expired can be deleted at once, one with another object cannot', async () => {
    const made = await begin()
    await made.bucket('more')
    for (const bucket of ['box', 'more']) await made.put(bucket, 'a/k', { ttlMs: SECOND })
    await made.put('more', 'a/kept')
    await expect(made.namespace.deleteBucket('box')).rejects.toMatchObject({ code: 'BucketNotEmpty' })
    made.clock.ms += SECOND
    await made.namespace.deleteBucket('box')
    await expect(made.namespace.deleteBucket('more')).rejects.toMatchObject({ code: 'BucketNotEmpty' })
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 3 })
  })

  test('finds what was renamed, with its directory or alone', async () => {
    const made = await begin()
    for (const key of ['a/b/c', 'd']) await made.put('box', key, { ttlMs: SECOND })
    await made.namespace.rename({ bucket: 'box', from: 'a/', to: 'x/y/', replace: false })
    await made.namespace.rename({ bucket: 'box', from: 'd', to: 'z/d', replace: false })
    expect(await listed(made)).toEqual(['x/y/b/c', 'z/d'])
    made.clock.ms += SECOND
    expect(await made.expireAll()).toEqual([2])
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 1 })
  })

  test('C2: 5,000 keys of two buckets at once, each step within 128 operations', async () => {
    const made = await begin(undefined, { operationsMax: 128 })
    await made.bucket('more', 'enabled')
    for (let i = 0; i < 5000; i++) {
      const bucket = i % 2 === 0 ? 'box' : 'more'
      await made.put(bucket, `d${i % 7}/${i % 4 < 2 ? 'deep/er/' : ''}${i}`, { ttlMs: SECOND })
    }
    made.clock.ms += SECOND
    const steps = await made.expireAll()
    expect(steps.reduce((sum, expired) => sum + expired, 0)).toBe(5000)
    expect(Math.max(...steps)).toBeLessThanOrEqual(11)
    expect(Math.max(...steps.slice(0, -1))).toBeGreaterThan(5)
    expect(await listed(made, '/')).toEqual([])
    expect(await expiryRows(made)).toBe(0)
    expect(await checkNamespace(made.store)).toMatchObject({ inodes: 2 + 2500 + 21 })
  })

  test('an expiry far beyond every date that clocks know lies in order', async () => {
    const made = await begin()
    const expiresMs = Number.MAX_SAFE_INTEGER
    await made.put('box', 'k', { ttlMs: expiresMs - made.clock.ms })
    expect(await made.namespace.lookup('box', 'k')).toMatchObject({ expiresMs })
    expect(await made.expireAll()).toEqual([])
  })
})

describe('in buckets that keep versions', () => {
  test('C31: a delete marker of the bucket’s owner covers what expired, which is still there by its version id', async () => {
    const made = await begin('enabled')
    await made.put('box', 'a/k', { bytes: '1' })
    const version = await made.put('box', 'a/k', { bytes: '22', ttlMs: SECOND })
    made.clock.ms += SECOND
    await expect(made.namespace.lookup('box', 'a/k')).rejects.toMatchObject(NO_SUCH_KEY)
    expect(await made.namespace.lookup('box', 'a/k', version.versionId)).toMatchObject({ size: 2 })
    expect((await versions(made))[0]).toEqual(['a/k', true, false])
    expect(await made.expireAll()).toEqual([1])
    await expect(made.namespace.lookup('box', 'a/k')).rejects.toMatchObject({
      ...NO_SUCH_KEY,
      details: { deleteMarker: true },
    })
    expect(await made.namespace.lookup('box', 'a/k', version.versionId)).toMatchObject({ size: 2 })
    expect(await versions(made)).toEqual([
      ['a/k', true, true],
      ['a/k', false, false],
      ['a/k', false, false],
    ])
    expect(await listed(made, '/')).toEqual([])
    expect(await checkNamespace(made.store)).toMatchObject({ hidden: 1 })
  })

  test('a covered version loses its row of T, one that becomes current again gets it back', async () => {
    const made = await begin('enabled')
    await made.put('box', 'k', { ttlMs: SECOND })
    const newer = await made.put('box', 'k')
    expect(await expiryRows(made)).toBe(0)
    await made.remove('box', 'k', newer.versionId)
    expect(await expiryRows(made)).toBe(1)
    const marker = (await made.remove('box', 'k')).value
    expect(await expiryRows(made)).toBe(0)
    made.clock.ms += SECOND
    await made.remove('box', 'k', marker.versionId)
    expect(await expiryRows(made)).toBe(1)
    await expect(made.namespace.lookup('box', 'k')).rejects.toMatchObject(NO_SUCH_KEY)
    expect(await made.expireAll()).toEqual([1])
    expect(await versions(made)).toEqual([
      ['k', true, true],
      ['k', false, false],
    ])
  })

  test('deleting an expired key: a marker like any other, none when the delete has conditions', async () => {
    const made = await begin('enabled')
    await made.put('box', 'a/k', { ttlMs: SECOND })
    made.clock.ms += SECOND
    const request = { bucket: 'box', key: 'a/k', owner: OWNER }
    const conditional = await made.namespace.remove({ ...request, conditions: { ifMatch: ['*'] } })
    expect(conditional.value).toEqual({ versionId: undefined, deleteMarker: false, existed: false })
    expect((await made.remove('box', 'a/k')).value).toMatchObject({ deleteMarker: true, existed: false })
    expect(await made.expireAll()).toEqual([])
    expect(await versions(made)).toEqual([
      ['a/k', true, true],
      ['a/k', false, false],
    ])
  })

  test('while suspended, the marker takes the null version’s place, also over a version with an id', async () => {
    const made = await begin('suspended')
    await made.put('box', 'plain', { ttlMs: SECOND, run: await made.run(5) })
    await made.put('box', 'k', { run: await made.run(5) })
    await made.namespace.setVersioning('box', 'enabled')
    await made.put('box', 'k', { ttlMs: SECOND, run: await made.run(5) })
    await made.namespace.setVersioning('box', 'suspended')
    made.clock.ms += SECOND
    expect(await made.expireAll()).toEqual([2])
    expect(await versions(made)).toEqual([
      ['k', true, true],
      ['k', false, false],
      ['plain', true, true],
    ])
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 2 })
  })

  test('a rename over what has expired is refused, as it will be when the marker has come', async () => {
    const made = await begin('enabled')
    await made.put('box', 'target', { ttlMs: SECOND })
    await made.put('box', 'source')
    made.clock.ms += SECOND
    const renaming = { bucket: 'box', from: 'source', to: 'target', replace: true }
    await expect(made.namespace.rename(renaming)).rejects.toMatchObject({ code: 'InvalidArgument' })
    await made.expireAll()
    await expect(made.namespace.rename(renaming)).rejects.toMatchObject({ code: 'InvalidArgument' })
  })
})
