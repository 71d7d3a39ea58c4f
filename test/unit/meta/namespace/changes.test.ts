import { expect, test } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import { WATCHED_ROWS, type NamespaceChange } from '../../../../src/meta/namespace/changes.ts'
import { Random, testSeed } from '../../../model/random.ts'
import { PLAIN, fixture, type Fixture } from './fixture.ts'

const ETAG = '0123456789abcdef0123456789abcdef'

/** All that is durable from a revision on. */
async function changesFrom(made: Fixture, from: number): Promise<NamespaceChange[]> {
  await made.namespace.flush()
  const through = made.namespace.durableRevision()
  const stopping = new AbortController()
  const events: NamespaceChange[] = []
  for await (const batch of made.namespace.watch(from, stopping.signal)) {
    events.push(...batch.events)
    if (batch.through >= through) break
  }
  return events
}

function withoutRevision({ revision: _revision, ...event }: NamespaceChange): object {
  return event
}

function put(bucket: string, key: string): object {
  return { kind: 'put', bucket, key, etag: ETAG, size: 0, expiresMs: undefined }
}

test('C3, C10: puts, deletes, and a directory rename as one event, by the names of their time', async () => {
  const made = await fixture(WATCHED_ROWS)
  await made.bucket('box', 'enabled')
  const from = made.namespace.revision() + 1
  await made.put('box', 'a/b/1')
  await made.put('box', 'a/b/2')
  await made.put('box', 'a/b/')
  await made.namespace.setTags({ bucket: 'box', key: 'a/b/1' }, { x: 'y' })
  await made.namespace.rename({ bucket: 'box', from: 'a/b/', to: 'c/d/', replace: false })
  await made.namespace.rename({ bucket: 'box', from: 'c/d/1', to: 'é', replace: false })
  await made.bucket('plain')
  await made.put('plain', 'x/y/z/1')
  await made.remove('plain', 'x/y/z/1')
  await made.remove('box', 'c/d/2')
  await made.reclaim()
  const events = await changesFrom(made, from)
  const revisions = events.map((event) => event.revision)
  expect(revisions).toEqual(revisions.toSorted((a, b) => a - b))
  expect(events.map(withoutRevision)).toEqual([
    put('box', 'a/b/1'),
    put('box', 'a/b/2'),
    put('box', 'a/b/'),
    { kind: 'renamed', bucket: 'box', from: 'a/b/', to: 'c/d/' },
    { kind: 'renamed', bucket: 'box', from: 'c/d/1', to: 'é' },
    put('plain', 'x/y/z/1'),
    { kind: 'delete', bucket: 'plain', key: 'x/y/z/1' },
    { kind: 'delete', bucket: 'box', key: 'c/d/2' },
  ])
  await made.stop()
})

test('C7: directories that are gone and reclaimed do not make the log unreadable', async () => {
  const made = await fixture(WATCHED_ROWS)
  await made.bucket('box')
  await made.bucket('gone')
  const from = made.namespace.revision() + 1
  for (const bucket of ['box', 'gone']) {
    await made.put(bucket, 'deep/er/1')
    await made.remove(bucket, 'deep/er/1')
    await made.put(bucket, 'deep/er/1')
    await made.remove(bucket, 'deep/er/1')
  }
  await made.namespace.deleteBucket('gone')
  await made.reclaim()
  const events = await changesFrom(made, from)
  const cycle = (bucket: string): object[] => [put(bucket, 'deep/er/1'), { kind: 'delete', bucket, key: 'deep/er/1' }]
  expect(events.map(withoutRevision)).toEqual(['box', 'box', 'gone', 'gone'].flatMap(cycle))
  await made.stop()
})

test('C3: a bucket made again under its name: who reads late still hears that the old keys were deleted', async () => {
  const made = await fixture(WATCHED_ROWS)
  await made.bucket('box')
  await made.put('box', 'dir/old')
  const from = made.namespace.revision() + 1
  await made.remove('box', 'dir/old')
  await made.namespace.deleteBucket('box')
  await made.bucket('box')
  await made.put('box', 'new')
  await made.reclaim()
  expect((await changesFrom(made, from)).map(withoutRevision)).toEqual([
    { kind: 'delete', bucket: 'box', key: 'dir/old' },
    put('box', 'new'),
  ])
  await made.stop()
})

test('C7: what the log no longer keeps is RevisionGone, which says from where on it does', async () => {
  const made = await fixture({ ...WATCHED_ROWS, changeLogRevisionsMax: 20 })
  await made.bucket('box')
  for (let i = 0; i < 60; i++) {
    await made.put('box', `k${i}`)
    await made.namespace.flush()
  }
  const error: unknown = await changesFrom(made, 1).catch((reason: unknown) => reason)
  if (!isTidegateError(error, 'RevisionGone')) throw error
  const events = await changesFrom(made, error.details['oldest'] as number)
  expect(events.length).toBeGreaterThanOrEqual(20)
  expect(events.at(-1)).toMatchObject({ key: 'k59' })
  await made.stop()
})

test('an entry too large to be logged is read from the table, and left out once it has been replaced', async () => {
  const made = await fixture({ ...WATCHED_ROWS, loggedValueBytesMax: 100 })
  await made.bucket('box')
  const from = made.namespace.revision() + 1
  const long = 'long'.repeat(100)
  await made.put('box', 'a', { etag: long })
  await made.put('box', 'b', { etag: long })
  await made.put('box', 'a', { etag: `${long}2` })
  await made.remove('box', 'b')
  await made.put('box', 'c', { etag: long })
  await made.namespace.rename({ bucket: 'box', from: 'c', to: 'd', replace: false })
  expect((await changesFrom(made, from)).map(withoutRevision)).toEqual([
    { ...put('box', 'a'), etag: `${long}2` },
    { kind: 'delete', bucket: 'box', key: 'b' },
    { kind: 'renamed', bucket: 'box', from: 'c', to: 'd' },
  ])
  await made.stop()
})

test('names of a thousand bytes are logged whole', async () => {
  const made = await fixture(WATCHED_ROWS)
  await made.bucket('box')
  const name = 'n'.repeat(1_000)
  await made.put('box', `${name}/1`, { attributes: { ...PLAIN, storageClass: 'GLACIER' } })
  const from = made.namespace.revision() + 1
  await made.namespace.rename({ bucket: 'box', from: `${name}/`, to: 'short/', replace: false })
  await made.reclaim()
  expect((await changesFrom(made, from)).map(withoutRevision)).toEqual([
    { kind: 'renamed', bucket: 'box', from: `${name}/`, to: 'short/' },
  ])
  await made.stop()
})

test('C3: who applies every event in order to a listing ends up with the present one, from any revision on', async () => {
  const seed = testSeed()
  const random = new Random(seed)
  const made = await fixture(WATCHED_ROWS)
  await made.bucket('box')
  const from = made.namespace.revision() + 1
  const listings = new Map<number, string[]>()
  const key = (): string => {
    const path: string[] = []
    for (let depth = random.below(3); depth > 0; depth--) path.push(`${random.pick(['a', 'b'])}/`)
    return path.join('') + random.pick(['x', 'y', 'z'])
  }
  for (let step = 0; step < 400; step++) {
    await randomChange(made, random, key)
    listings.set(made.namespace.revision(), await keysOf(made))
    if (random.chance(0.2)) await made.reclaim()
  }
  const events = await changesFrom(made, from)
  const replica = new Set<string>()
  let seen = 0
  events.forEach((event, index) => {
    apply(replica, event)
    const listing = events[index + 1]?.revision === event.revision ? undefined : listings.get(event.revision)
    if (listing === undefined) return
    seen++
    expect([...replica].toSorted(), `seed ${seed}, revision ${event.revision}`).toEqual(listing)
  })
  expect(seen).toBeGreaterThan(100)
  expect([...replica].toSorted()).toEqual(await keysOf(made))
  const middle = events[Math.floor(events.length / 2)]?.revision ?? 0
  expect(await changesFrom(made, middle)).toEqual(events.filter((event) => event.revision >= middle))
  await made.stop()
})

async function randomChange(made: Fixture, random: Random, key: () => string): Promise<void> {
  const pick = random.below(10)
  try {
    if (pick < 5) await made.put('box', key())
    else if (pick < 8) await made.remove('box', key())
    else {
      const cut = (path: string): string => path.slice(0, path.lastIndexOf('/') + 1)
      const [from, to] = pick === 8 ? [key(), key()] : [cut(key()), cut(key())]
      if (from !== '' && to !== '') await made.namespace.rename({ bucket: 'box', from, to, replace: true })
    }
  } catch (error) {
    if (!isTidegateError(error, 'NoSuchKey') && !isTidegateError(error, 'InvalidArgument')) throw error
  }
}

async function keysOf(made: Fixture): Promise<string[]> {
  const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', after: '', limit: 1000 })
  return page.objects.map((object) => object.key).toSorted()
}

function apply(replica: Set<string>, event: NamespaceChange): void {
  if (event.kind === 'put') return void replica.add(event.key)
  if (event.kind === 'delete') return void replica.delete(event.key)
  const { from, to } = event
  const moved = [...replica].filter((key) => (from.endsWith('/') ? key.startsWith(from) : key === from))
  for (const key of moved) replica.delete(key)
  for (const key of moved) replica.add(to + key.slice(from.length))
}
