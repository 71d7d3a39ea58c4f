import { afterEach, expect, test } from 'vitest'
import type { ByteString } from '../../../../../src/common/ids.ts'
import type { NamespaceChange } from '../../../../../src/meta/namespace/changes.ts'
import type { DescribedObject } from '../../../../../src/meta/namespace/attached/types.ts'
import { WATCHED_ROWS } from '../../../../../src/meta/namespace/changes.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, PLAIN, publishRequest } from '../fixture.ts'
import { BUCKET, DEEP, attachedFixture, type AttachedFixture } from './fixture.ts'

const MD5 = '0123456789abcdef0123456789abcdef'
const MODIFIED_MS = 1_700_000_777_000
const open: AttachedFixture[] = []

async function begin(...keys: string[]): Promise<AttachedFixture> {
  const made = await attachedFixture({ ...WATCHED_ROWS, changeLogRevisionsMax: 10_000 })
  open.push(made)
  for (const key of keys) made.outside.set(key, { etag: `out-${key}`, size: 100 })
  await made.mirror.merge(made.page(DEEP))
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

function outside(key: string, etag: string, size: number): DescribedObject {
  const known = { modifiedMs: MODIFIED_MS, storageClass: 'STANDARD', attributes: PLAIN, partsCount: undefined }
  return { key, etag, size, ...known }
}

async function put(made: AttachedFixture, key: string, bytes: string): Promise<void> {
  await made.namespace.publish(publishRequest(BUCKET, key, { bytes }))
}

async function settle(
  made: AttachedFixture,
  key: string,
  seen: { outside: DescribedObject | undefined; written?: string; revision?: number },
): Promise<boolean> {
  const bucketId = made.attachment.bucketId
  const state = await made.mirror.dirtyState(bucketId, key)
  const revision = seen.revision ?? state?.dirty.revision ?? 0
  return (await made.mirror.settle({ bucketId, key, ...seen, revision })).value
}

async function eventsSince(made: AttachedFixture, revision: number): Promise<NamespaceChange[]> {
  await made.namespace.flush()
  const end = new AbortController()
  const events: NamespaceChange[] = []
  for await (const batch of made.namespace.watch(revision + 1, end.signal)) {
    events.push(...batch.events)
    if (batch.through >= made.namespace.revision()) end.abort()
  }
  return events
}

test('what arrived unchanged is told to nobody: only its time and the place of its bytes are others', async () => {
  const made = await begin()
  await put(made, 'a', 'five!')
  const before = await made.namespace.lookup(BUCKET, 'a')
  const revision = made.namespace.revision()
  expect(await settle(made, 'a', { outside: outside('a', MD5, 5), written: MD5 })).toBe(true)
  const after = await made.namespace.lookup(BUCKET, 'a')
  expect(after).toMatchObject({ inode: before.inode, etag: MD5, revision: before.revision, mtimeMs: MODIFIED_MS })
  expect(after.body).toEqual({ kind: 'external', external: { key: 'a', etag: MD5, size: 5, isDescribed: true } })
  expect(await eventsSince(made, revision)).toEqual([])
  expect(await made.dirty()).toEqual([])
})

test('C29: another ETag is a change, of the same inode', async () => {
  const made = await begin()
  await put(made, 'a', 'five!')
  const { inode } = await made.namespace.lookup(BUCKET, 'a')
  const revision = made.namespace.revision()
  await settle(made, 'a', { outside: outside('a', 'another', 5), written: 'another' })
  expect(await made.namespace.lookup(BUCKET, 'a')).toMatchObject({ inode, etag: 'another' })
  expect(await eventsSince(made, revision)).toMatchObject([{ kind: 'put', key: 'a', etag: 'another' }])
})

test('what is not ours takes the key as a PUT would', async () => {
  const made = await begin()
  await put(made, 'a', 'five!')
  const { inode } = await made.namespace.lookup(BUCKET, 'a')
  expect(await settle(made, 'a', { outside: outside('a', 'theirs', 5), written: MD5 })).toBe(true)
  const theirs = await made.namespace.lookup(BUCKET, 'a')
  expect(theirs.etag).toBe('theirs')
  expect(theirs.inode).not.toBe(inode)
})

test('C32: what was changed since knows nothing of what somebody else has put over ours meanwhile', async () => {
  const made = await begin('a')
  await put(made, 'a', 'one')
  const { dirty } = (await made.mirror.dirtyState(made.attachment.bucketId, 'a'))!
  await put(made, 'a', 'two')
  const revision = dirty.revision
  expect(await settle(made, 'a', { outside: outside('a', 'theirs', 9), written: 'ours', revision })).toBe(false)
  expect(await made.dirty()).toMatchObject([{ key: 'a', base: { kind: 'etag', etag: 'ours' } }])
  // Nor of what was only looked at.
  expect(await settle(made, 'a', { outside: outside('a', 'theirs', 9), revision })).toBe(false)
  expect(await made.dirty()).toMatchObject([{ key: 'a', base: { kind: 'etag', etag: 'ours' } }])
})

test('what was changed since stays dirty, on what lies there now', async () => {
  const made = await begin('a')
  await put(made, 'a', 'one')
  const state = await made.mirror.dirtyState(made.attachment.bucketId, 'a')
  await put(made, 'a', 'two')
  const seen = { outside: outside('a', 'new', 3), written: 'new', revision: state!.dirty.revision }
  expect(await settle(made, 'a', seen)).toBe(false)
  expect(await made.dirty()).toMatchObject([{ key: 'a', base: { kind: 'etag', etag: 'new', size: 3 } }])
})

test('a deletion comes clean; a listing asked before does not bring the key back', async () => {
  const made = await begin('a', 'd/b')
  const page = made.page(DEEP)
  for (const key of ['a', 'd/b']) {
    await made.namespace.remove({ bucket: BUCKET, key, conditions: {}, owner: OWNER })
    made.outside.delete(key)
    expect(await settle(made, key, { outside: undefined })).toBe(true)
  }
  await made.mirror.merge(page)
  expect(await made.list()).toEqual([])
})

test('theirs comes back where ours was deleted', async () => {
  const made = await begin('a')
  await made.namespace.remove({ bucket: BUCKET, key: 'a', conditions: {}, owner: OWNER })
  expect(await settle(made, 'a', { outside: outside('a', 'theirs', 7) })).toBe(true)
  expect(await made.namespace.lookup(BUCKET, 'a')).toMatchObject({ etag: 'theirs', size: 7 })
})

const LINK = { kind: 'symlink', target: 'there' as ByteString, mode: 0o777, uid: 0, gid: 0, owner: OWNER } as const

/** Carried out. */
async function makeLink(made: AttachedFixture, key: string): Promise<void> {
  const [directory, name] = key.includes('/') ? (key.split('/') as [string, string]) : ['', key]
  const root = made.attachment.bucketId
  const { files } = made.namespace
  const make = { kind: 'directory', mode: 0o755, uid: 0, gid: 0, owner: OWNER } as const
  const parent = directory && (await files.makeDirectory(root, directory as ByteString, make)).value.inode
  await files.makeFile(parent || root, name as ByteString, LINK)
  expect(await settle(made, key, { outside: outside(key, 'link', 5), written: 'link' })).toBe(true)
  if (directory)
    await settle(made, `${directory}/`, { outside: outside(`${directory}/`, 'marker', 0), written: 'marker' })
}

async function writeDownMoves(made: AttachedFixture): Promise<void> {
  const { bucketId } = made.attachment
  for (const { id } of await made.mirror.moves(bucketId)) {
    while (!(await made.mirror.stepMove(bucketId, id)).value.done);
  }
  expect(await made.mirror.moves(bucketId)).toEqual([])
}

async function baseAt(made: AttachedFixture, key: string): Promise<unknown> {
  return (await made.mirror.dirtyState(made.attachment.bucketId, key))?.dirty.base
}

test('C32: where a symlink was before it was renamed nothing is expected once that has gone, however often it is renamed until it is carried out', async () => {
  const made = await begin()
  await makeLink(made, 'l')
  await made.namespace.rename({ bucket: BUCKET, from: 'l', to: 'm', replace: false })
  expect(await settle(made, 'l', { outside: undefined })).toBe(true)
  await made.namespace.rename({ bucket: BUCKET, from: 'm', to: 'n', replace: false })
  expect(await baseAt(made, 'l')).toBeUndefined()
  await put(made, 'l', 'new')
  expect(await baseAt(made, 'l')).toEqual({ kind: 'absent' })
})

test('C32: the same when it is renamed with its directory', async () => {
  const made = await begin()
  await makeLink(made, 'd/l')
  await made.namespace.rename({ bucket: BUCKET, from: 'd/', to: 'e/', replace: false })
  await writeDownMoves(made)
  expect(await baseAt(made, 'd/l')).toEqual({ kind: 'etag', etag: 'link', size: 5 })
  expect(await settle(made, 'd/l', { outside: undefined })).toBe(true)
  await made.namespace.rename({ bucket: BUCKET, from: 'e/', to: 'f/', replace: false })
  await writeDownMoves(made)
  expect(await baseAt(made, 'd/l')).toBeUndefined()
  await put(made, 'd/l', 'new')
  expect(await baseAt(made, 'd/l')).toEqual({ kind: 'absent' })
})

test('C32: a symlink that comes back with its directory while it is removed there stays', async () => {
  const made = await begin()
  await makeLink(made, 'd/l')
  const { bucketId } = made.attachment
  await made.namespace.rename({ bucket: BUCKET, from: 'd/', to: 'e/', replace: false })
  await writeDownMoves(made)
  const { dirty } = (await made.mirror.dirtyState(bucketId, 'd/l')) ?? {}
  await made.namespace.rename({ bucket: BUCKET, from: 'e/', to: 'd/', replace: false })
  await writeDownMoves(made)
  expect(await settle(made, 'd/l', { outside: undefined, revision: dirty?.revision ?? -1 })).toBe(false)
  expect(await made.tree()).toContain('d/l')
  expect(await baseAt(made, 'd/l')).toEqual({ kind: 'absent' })
})

test('a symlink is followed here also when it has been carried out, and is mirrored like any object', async () => {
  const made = await begin()
  const root = made.attachment.bucketId
  const { value } = await made.namespace.files.makeFile(root, 'l' as ByteString, LINK)
  await settle(made, 'l', { outside: outside('l', 'arrived', 5), written: 'arrived' })
  expect(await made.namespace.files.linkTarget(value.inode)).toBe('there')
  await made.namespace.rename({ bucket: BUCKET, from: 'l', to: 'm', replace: false })
  expect(await made.dirty()).toMatchObject([
    { key: 'l', base: { kind: 'etag', etag: 'arrived', size: 5 }, neededBy: [] },
    { key: 'm', base: { kind: 'absent' } },
  ])
})

test('the loser is set aside, dirty, and theirs takes the key', async () => {
  const made = await begin('a')
  await put(made, 'a', 'ours')
  const { dirty } = (await made.mirror.dirtyState(made.attachment.bucketId, 'a'))!
  const aside = { bucketId: made.attachment.bucketId, key: 'a', revision: dirty.revision, as: 'a.conflict-1' }
  const { value } = await made.mirror.setAside({ ...aside, outside: outside('a', 'theirs', 9) })
  expect(value).toBe(true)
  expect(await made.namespace.lookup(BUCKET, 'a')).toMatchObject({ etag: 'theirs' })
  expect((await made.namespace.lookup(BUCKET, 'a.conflict-1')).body).toMatchObject({ kind: 'inline' })
  expect(await made.dirty()).toMatchObject([{ key: 'a.conflict-1', base: { kind: 'absent' } }])
  await put(made, 'a', 'later')
  expect((await made.mirror.setAside({ ...aside, outside: undefined })).value).toBe(false)
})

test('C18: what is lost with its bytes is no deletion', async () => {
  const made = await begin('a')
  const content = await made.namespace.allocateContentId()
  const segment = 'ab'.repeat(16) as never
  const run = { content, segment, segmentOffset: 0, length: 9 }
  await made.namespace.publish(publishRequest(BUCKET, 'a', { run, ack: 'memory' }))
  expect(await made.dirty()).toHaveLength(1)
  expect(await made.namespace.bytesLost(segment, 0, 100)).toMatchObject({ removedMemory: 1 })
  expect(await made.dirty()).toEqual([])
  const covered = await made.mirror.covered(made.attachment.bucketId, DEEP, 'a', 0)
  expect(covered).toBeUndefined()
  await made.mirror.merge(made.page(DEEP))
  expect(await made.namespace.lookup(BUCKET, 'a')).toMatchObject({ etag: 'out-a' })
})

test('what went from a key with its directory while it was on its way does not come back there', async () => {
  const made = await begin()
  await put(made, 'd/a', 'five!')
  const { bucketId } = made.attachment
  const { dirty } = (await made.mirror.dirtyState(bucketId, 'd/a')) ?? {}
  await made.namespace.rename({ bucket: BUCKET, from: 'd/', to: 'e/', replace: false })
  // All of it is written down before the answer of the upload comes.
  for (const { id } of await made.mirror.moves(bucketId)) {
    while (!(await made.mirror.stepMove(bucketId, id)).value.done);
  }
  expect(await made.mirror.moves(bucketId)).toEqual([])
  const arrived = { outside: outside('d/a', MD5, 5), written: MD5, revision: dirty?.revision ?? -1 }
  expect(await settle(made, 'd/a', arrived)).toBe(false)
  await expect(made.namespace.lookup(BUCKET, 'd/a')).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect(await made.mirror.dirtyState(bucketId, 'd/a')).toMatchObject({
    dirty: { base: { kind: 'etag', etag: MD5 } },
    version: undefined,
  })
})

test('C32: what comes to a key with its directory while what was there is removed outside stays', async () => {
  const made = await begin('d/a', 'e/a')
  const { bucketId } = made.attachment
  await made.namespace.remove({ bucket: BUCKET, key: 'd/a', conditions: {}, owner: OWNER })
  const { dirty } = (await made.mirror.dirtyState(bucketId, 'd/a')) ?? {}
  await made.namespace.rename({ bucket: BUCKET, from: 'e/', to: 'd/', replace: false })
  // Nothing of it is written down when the answer comes.
  expect(await settle(made, 'd/a', { outside: undefined, revision: dirty?.revision ?? -1 })).toBe(false)
  expect(await made.namespace.lookup(BUCKET, 'd/a')).toMatchObject({ etag: 'out-e/a' })
  await writeDownMoves(made)
  expect(await made.dirty()).toMatchObject([
    { key: 'd/a', base: { kind: 'absent' } },
    { key: 'e/a', base: { kind: 'etag', etag: 'out-e/a' }, neededBy: [expect.any(Number)] },
  ])
})
