import { afterEach, beforeEach, expect, test } from 'vitest'
import { PLAIN, publishRequest } from '../meta/namespace/fixture.ts'
import { LISTING_TTL_MS, mirrorFixture, TTL_MS, type MirrorFixture } from './mirror-fixture.ts'

let here: MirrorFixture

beforeEach(async () => {
  here = await mirrorFixture()
})

afterEach(() => here.stop())

const listing = { bucket: 'far', prefix: '', delimiter: '', after: '', limit: 1000 }

/** From one key of the bucket to another. */
const COPY = {
  source: { bucket: 'far', key: 'from' },
  sourceConditions: {},
  bucket: 'far',
  key: 'to',
  attributes: undefined,
  tags: undefined,
  owner: 'owner',
  conditions: {},
  ack: 'journal',
} as const

test('a key is looked at once within its time, and again after it', async () => {
  const { external, metadata, clock } = here
  external.outsidePut('a/b', 'one', { headers: { contentType: 'text/plain' }, userMetadata: { who: 'they' } })
  const version = await metadata.lookup('far', 'a/b')
  expect(version).toMatchObject({ size: 3, body: { kind: 'external', external: { key: 'a/b', isDescribed: true } } })
  expect(version.attributes).toMatchObject({ headers: { contentType: 'text/plain' }, userMetadata: { who: 'they' } })
  external.outsidePut('a/b', 'two!')
  expect((await metadata.lookup('far', 'a/b')).size).toBe(3)
  expect(external.calls('head')).toBe(1)
  clock.ms += TTL_MS
  expect((await metadata.lookup('far', 'a/b')).size).toBe(4)
  external.outsideDelete('a/b')
  clock.ms += TTL_MS
  await expect(metadata.lookup('far', 'a/b')).rejects.toMatchObject({ code: 'NoSuchKey' })
  await expect(metadata.lookup('far', 'a/b')).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect(external.calls('head')).toBe(3)
})

test('all who ask at once share one look', async () => {
  const { external, metadata } = here
  external.outsidePut('k', 'one')
  const pause = external.pauseNth('head')
  const looks = Array.from({ length: 20 }, () => metadata.lookup('far', 'k'))
  await pause.reached
  pause.release()
  await Promise.all(looks)
  expect(external.calls('head')).toBe(1)
})

test('a look that so much has overtaken that it is not believed is not taken for an answer', async () => {
  const { external, metadata } = here
  for (let index = 0; index < 1500; index++) external.outsidePut(`gone/${index}`, 'x')
  await metadata.list({ ...listing, prefix: 'gone/' })
  await metadata.list({ ...listing, prefix: 'gone/', after: 'gone/5' })
  external.outsidePut('z/k', 'one')
  for (let index = 0; index < 1500; index++) external.outsideDelete(`gone/${index}`)
  const pause = external.pauseNth('head')
  const looking = metadata.lookup('far', 'z/k')
  await pause.reached
  await metadata.list({ ...listing, delimiter: '/' })
  pause.release()
  expect(await looking).toMatchObject({ size: 3 })
  await expect(metadata.lookup('far', 'gone/1')).rejects.toMatchObject({ code: 'NoSuchKey' })
})

test('without a time to live everybody looks for himself, and joins nobody who asked before', async () => {
  await here.stop()
  here = await mirrorFixture({ ttlMs: 0 })
  const { external, metadata } = here
  external.outsidePut('k', 'one')
  const pause = external.pauseNth('head', 1, 'after')
  const first = metadata.lookup('far', 'k')
  await pause.reached
  external.outsidePut('k', 'other')
  expect((await metadata.lookup('far', 'k')).size).toBe(5)
  pause.release()
  // The older look is not believed over the newer one.
  expect((await first).size).toBe(5)
})

test('a listing tells of keys too; what it does not say is asked when an object is opened', async () => {
  const { external, metadata } = here
  external.outsidePut('a', 'one', { userMetadata: { who: 'they' } })
  external.outsidePut('b', 'two')
  expect((await metadata.list(listing)).objects.map(({ key }) => key)).toEqual(['a', 'b'])
  await expect(metadata.lookup('far', 'c')).rejects.toMatchObject({ code: 'NoSuchKey' })
  await metadata.publish(publishRequest('far', 'b'))
  expect(external.calls('head')).toBe(0)
  expect((await metadata.lookup('far', 'a')).attributes.userMetadata).toEqual({ who: 'they' })
  await metadata.lookup('far', 'a')
  expect(external.calls('head')).toBe(1)
})

test('conditions are decided on what lies outside now', async () => {
  const { external, metadata } = here
  external.outsidePut('k', 'one')
  const onlyNew = publishRequest('far', 'k', { conditions: { ifNoneMatch: ['*'] } })
  await expect(metadata.publish(onlyNew)).rejects.toMatchObject({ code: 'PreconditionFailed' })
  const same = publishRequest('far', 'k', { conditions: { ifMatch: [external.peek('k')?.etag ?? ''] } })
  await metadata.publish(same)
  const [dirty] = await here.names.dirtyKeys(here.attached.record.bucketId, '', 10)
  expect(dirty).toMatchObject({ key: 'k', base: { kind: 'etag', etag: external.peek('k')?.etag } })
})

test('C32: what was changed here counts until it is carried out, and needs no look', async () => {
  const { external, metadata, clock } = here
  external.outsidePut('k', 'one')
  await metadata.publish(publishRequest('far', 'k', { bytes: 'mine' }))
  external.outsidePut('k', 'theirs')
  clock.ms += TTL_MS
  expect((await metadata.lookup('far', 'k')).body).toMatchObject({ kind: 'inline' })
  expect(external.calls('head')).toBe(1)
})

test('a listing fetches the pages it needs and no more, and reads one ahead for who goes on', async () => {
  const { external, metadata } = here
  for (let index = 0; index < 3500; index++) external.outsidePut(`k${String(index).padStart(5, '0')}`, '')
  const first = await metadata.list({ ...listing, limit: 10 })
  expect(first).toMatchObject({ truncated: true, next: 'k00009' })
  expect(external.calls('list')).toBe(1)
  const keys: string[] = []
  let calls = 0
  for (let after: string | undefined = ''; after !== undefined;) {
    const page = await metadata.list({ ...listing, after })
    keys.push(...page.objects.map(({ key }) => key))
    after = page.next
    if (after) expect(external.calls('list')).toBeGreaterThanOrEqual(++calls)
  }
  expect(keys).toHaveLength(3500)
  expect(external.calls('list')).toBe(4)
  await metadata.list({ ...listing, prefix: 'k01' })
  await metadata.list({ ...listing, prefix: 'k03', limit: 3 })
  expect(external.calls('list')).toBe(4)
})

test('a listing is asked again after its time, and shows what was changed and deleted outside', async () => {
  const { external, metadata, clock } = here
  for (const key of ['a/1', 'a/2', 'b', 'c/1']) external.outsidePut(key, 'x')
  const byName = { ...listing, delimiter: '/' }
  expect(await metadata.list(byName)).toMatchObject({ commonPrefixes: ['a/', 'c/'], objects: [{ key: 'b' }] })
  external.outsideDelete('c/1')
  external.outsidePut('d', 'y')
  expect(await metadata.list(byName)).toMatchObject({ commonPrefixes: ['a/', 'c/'] })
  expect(external.calls('list')).toBe(1)
  clock.ms += LISTING_TTL_MS + 1
  expect(await metadata.list(byName)).toMatchObject({ commonPrefixes: ['a/'], objects: [{ key: 'b' }, { key: 'd' }] })
  expect(await metadata.list({ ...byName, prefix: 'a/' })).toMatchObject({ objects: [{ key: 'a/1' }, { key: 'a/2' }] })
})

test('a listing by names goes on in the middle of what a deep one has told', async () => {
  const { external, metadata } = here
  for (let index = 0; index < 1500; index++) external.outsidePut(`a/${String(index).padStart(4, '0')}`, '')
  external.outsidePut('b/1', '')
  external.outsidePut('c', '')
  await metadata.list(listing)
  const page = await metadata.list({ ...listing, delimiter: '/' })
  expect(page.commonPrefixes).toEqual(['a/', 'b/'])
  expect(page.objects.map(({ key }) => key)).toEqual(['c'])
  expect(external.calls('list')).toBe(2)
})

test('a part of a directory that is listed says nothing of the rest', async () => {
  const { external, metadata } = here
  for (const key of ['d/a', 'd/b1', 'd/b2', 'd/c']) external.outsidePut(key, 'x')
  const request = { ...listing, delimiter: '/' }
  await metadata.list({ ...request, prefix: 'd/b' })
  expect((await metadata.list({ ...request, prefix: 'd/' })).objects).toHaveLength(4)
  await expect(metadata.lookup('far', 'd/a')).resolves.toMatchObject({ size: 1 })
})

test('when the store is down what is known is served and counted, and the rest is Unavailable', async () => {
  const { external, metadata, clock, freshness } = here
  external.outsidePut('a/known', 'x')
  external.outsidePut('b/other', 'y')
  await metadata.list({ ...listing, prefix: 'a/' })
  await metadata.lookup('far', 'a/known')
  clock.ms += 2 * LISTING_TTL_MS
  external.down = true
  expect((await metadata.list({ ...listing, prefix: 'a/' })).objects).toHaveLength(1)
  expect((await metadata.lookup('far', 'a/known')).size).toBe(1)
  await expect(metadata.lookup('far', 'a/none')).rejects.toMatchObject({ code: 'NoSuchKey' })
  await expect(metadata.list(listing)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(metadata.lookup('far', 'b/other')).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(metadata.publish(publishRequest('far', 'b/new'))).rejects.toMatchObject({ code: 'Unavailable' })
  expect(freshness.status.stale).toBeGreaterThan(0)
  // It is asked now and then, not by everybody.
  expect(external.operations.filter(({ outcome }) => outcome === 'Unavailable')).toHaveLength(1)
  external.down = false
  clock.ms += 2000
  expect((await metadata.list(listing)).objects).toHaveLength(2)
})

test('refused credentials are Unavailable, and no reason to serve what is old', async () => {
  const { external, metadata, clock } = here
  external.outsidePut('k', 'x')
  await metadata.lookup('far', 'k')
  clock.ms += TTL_MS
  external.revoked = true
  await expect(metadata.lookup('far', 'k')).rejects.toMatchObject({ code: 'Unavailable' })
})

test('a scan is fresh in both directions, and its values are described', async () => {
  const { external, metadata } = here
  for (const key of ['a', 'b', 'c', 'd']) external.outsidePut(key, key, { userMetadata: { is: key } })
  const scan = { bucket: 'far', prefix: '', start: 'b', end: 'd', after: undefined, reverse: false, limit: 10 }
  const page = await metadata.scan({ ...scan, values: true, valueBytesMax: 100 })
  expect(page.keys.map(({ key }) => key)).toEqual(['b', 'c'])
  expect(page.keys[0]?.version?.attributes.userMetadata).toEqual({ is: 'b' })
  const back = await metadata.scan({ ...scan, reverse: true, values: false, valueBytesMax: 0 })
  expect(back.keys.map(({ key }) => key)).toEqual(['c', 'b'])
  await here.stop()
  here = await mirrorFixture()
  for (const key of ['a', 'b', 'c', 'd']) here.external.outsidePut(key, key)
  const only = await here.metadata.scan({ ...scan, start: '', reverse: true, values: false, valueBytesMax: 0 })
  expect(only.keys.map(({ key }) => key)).toEqual(['c', 'b', 'a'])
})

test('a transaction compares and deletes what lies outside', async () => {
  const { external, metadata, names, attached } = here
  external.outsidePut('a', 'one', { userMetadata: { who: 'they' } })
  const commit = await metadata.transactValues({
    bucket: 'far',
    compares: [{ target: 'exists', key: 'a', operand: true }],
    then: [
      { op: 'get', key: 'a' },
      { op: 'delete', key: 'a' },
      { op: 'exists', key: 'none' },
    ],
    else: [],
    owner: 'owner',
    ack: 'journal',
    known: [],
  })
  expect(commit.value).toMatchObject({
    kind: 'done',
    succeeded: true,
    outcomes: [
      { op: 'get', version: { attributes: { userMetadata: { who: 'they' } } } },
      { op: 'delete', existed: true },
      { op: 'exists', exists: false },
    ],
  })
  expect(await names.dirtyKeys(attached.record.bucketId, '', 10)).toMatchObject([{ key: 'a', base: { kind: 'etag' } }])
})

test('which keys are there: of those in front no more are looked at than it takes', async () => {
  const { external, metadata } = here
  external.outsidePut('k0', '')
  const keys = Array.from({ length: 100 }, (_, index) => `k${index}`)
  expect((await metadata.presence('far', keys, true)).present.slice(0, 2)).toEqual([true, false])
  expect(external.calls('head')).toBe(32)
  expect((await metadata.presence('far', keys, false)).present.filter(Boolean)).toHaveLength(1)
})

test('the external store copies within one bucket, with what was known of both ends', async () => {
  const { external, metadata, names, attached } = here
  external.outsidePut('from', 'bytes', { userMetadata: { who: 'they' } })
  external.outsidePut('to', 'old')
  const etag = external.peek('to')?.etag
  const { value } = await metadata.copy(COPY)
  expect(value.target).toMatchObject({ key: 'to', size: 5, body: { kind: 'external', external: { key: 'to' } } })
  expect(external.operations.find(({ method }) => method === 'copy')).toMatchObject({
    expected: { kind: 'etag', etag },
  })
  expect(external.peek('to')?.attributes.userMetadata).toEqual({ who: 'they' })
  expect(await names.dirtyKeys(attached.record.bucketId, '', 10)).toEqual([])
  await metadata.copy({ ...COPY, key: 'new', attributes: { ...PLAIN, userMetadata: { who: 'we' } } })
  expect(external.peek('new')?.attributes.userMetadata).toEqual({ who: 'we' })
  await expect(metadata.copy({ ...COPY, key: 'new', conditions: { ifNoneMatch: ['*'] } })).rejects.toMatchObject({
    code: 'PreconditionFailed',
  })
})

test('C32: a copy finds what was changed outside meanwhile, at the source and at the target', async () => {
  const { external, metadata } = here
  external.outsidePut('from', 'bytes')
  const request = { ...COPY, conditions: { ifNoneMatch: ['*'] } }
  await metadata.lookup('far', 'from')
  external.outsidePut('from', 'other bytes')
  const { value } = await metadata.copy(request)
  expect(value.target.size).toBe(11)
  await metadata.remove({ bucket: 'far', key: 'gone', conditions: {}, owner: 'owner' })
  await expect(metadata.lookup('far', 'third')).rejects.toMatchObject({ code: 'NoSuchKey' })
  external.outsidePut('third', 'theirs')
  await expect(metadata.copy({ ...request, key: 'third' })).rejects.toMatchObject({ code: 'PreconditionFailed' })
  expect(external.peek('third')?.bytes.toString()).toBe('theirs')
})

test('C32: a look that is too late to be believed is no outcome of a copy', async () => {
  const { external, metadata, names, attached } = here
  external.outsidePut('from', 'source')
  external.outsidePut('to', 'was there')
  await metadata.lookup('far', 'from')
  await metadata.lookup('far', 'to')
  const copied = external.pauseNth('copy', 1, 'after')
  const copying = metadata.copy(COPY)
  await copied.reached
  const looked = external.pauseNth('head', 1, 'after')
  copied.release()
  await looked.reached
  // Somebody who asked before the copy was made is told only now.
  const { bucketId } = attached.record
  await names.mergeOne({ bucketId, key: 'to', found: undefined, askedAt: names.revision() })
  looked.release()
  const { value } = await copying
  expect(value.target).toMatchObject({ key: 'to', size: 'source'.length })
  expect(await metadata.lookup('far', 'to')).toMatchObject({ size: 'source'.length })
})

test('what is changed here while it is looked at is not remembered as it was seen', async () => {
  const { external, metadata, names, attached, put } = here
  external.outsidePut('k', 'theirs')
  const pause = external.pauseNth('head', 1, 'after')
  const looking = metadata.lookup('far', 'k')
  await pause.reached
  await put('far', 'k', { bytes: 'ours' })
  pause.release()
  expect(await looking).toMatchObject({ size: 4 })
  // It is given up here: what lies outside shows at once, and not after the time that a look counts.
  const { bucketId } = attached.record
  const { dirty } = (await names.dirtyState(bucketId, 'k'))!
  const { revision } = dirty
  external.outsidePut('k', 'theirs, later')
  await names.setAside({ bucketId, key: 'k', revision, as: 'k.conflict', outside: undefined })
  expect(await metadata.lookup('far', 'k')).toMatchObject({ size: 'theirs, later'.length })
})

test('what the external store cannot copy is copied by its bytes: the namespace refuses to refer to it', async () => {
  await here.stop()
  here = await mirrorFixture({ capabilities: { conditionalCopy: false } })
  const { external, metadata } = here
  external.outsidePut('from', 'bytes')
  await here.bucket('near')
  for (const bucket of ['far', 'near']) {
    const copy = metadata.copy({ ...COPY, bucket })
    await expect(copy).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  }
  expect(external.calls('copy')).toBe(0)
})

test('buckets that are not attached never ask', async () => {
  await here.bucket('near')
  const { external, metadata } = here
  await metadata.publish(publishRequest('near', 'k'))
  await metadata.lookup('near', 'k')
  await metadata.list({ ...listing, bucket: 'near' })
  expect(external.operations).toEqual([])
})
