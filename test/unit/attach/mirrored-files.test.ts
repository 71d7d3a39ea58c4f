import { afterEach, beforeEach, expect, test } from 'vitest'
import type { InodeId } from '../../../src/common/ids.ts'
import { publishRequest } from '../meta/namespace/fixture.ts'
import { LISTING_TTL_MS, mirrorFixture, name, TTL_MS, type MirrorFixture } from './mirror-fixture.ts'

let here: MirrorFixture

beforeEach(async () => {
  here = await mirrorFixture()
})

afterEach(() => here.stop())

const MADE = { mode: 0o644, uid: 1, gid: 1, owner: 'owner' }
const AT_ONCE = { mode: 'replace', keep: () => false } as const

async function walk(path: string): Promise<InodeId> {
  let inode = here.root
  for (const part of path.split('/')) inode = (await here.files.findFile(inode, name(part))).inode
  return inode
}

async function dirtyKeys(): Promise<string[]> {
  return (await here.names.dirtyKeys(here.attached.record.bucketId, '', 1000)).map(({ key }) => key)
}

test('a file deep inside is found without listing a directory', async () => {
  const { external } = here
  for (let index = 0; index < 2000; index++) external.outsidePut(`a/${index}/b/c`, 'x')
  external.outsidePut('a/777/b/file', 'bytes')
  const inode = await walk('a/777/b/file')
  expect(await here.files.fileNode(inode)).toMatchObject({ kind: 'file', size: 5 })
  expect(external.calls('list')).toBe(4)
  expect(external.calls('head')).toBe(4)
  await walk('a/777/b/file')
  expect(external.operations).toHaveLength(8)
})

test('both looks for a name are sent at once', async () => {
  const { external, files, root } = here
  const head = external.pauseNth('head')
  const list = external.pauseNth('list')
  const found = files.findFile(root, name('none'))
  await Promise.all([head.reached, list.reached])
  head.release()
  list.release()
  await expect(found).rejects.toMatchObject({ code: 'NoSuchKey' })
})

test('a directory that was found by one name is listed when somebody lists it, and is empty when it is emptied outside', async () => {
  const { external, files, clock } = here
  for (const key of ['d/a', 'd/sub/x', 'd/z']) external.outsidePut(key, 'x')
  await walk('d/sub')
  const directory = await walk('d')
  const first = await files.fileEntries(directory, undefined, 2)
  expect(first).toMatchObject({ more: true, entries: [{ name: 'a' }, { name: 'sub', node: { kind: 'directory' } }] })
  const rest = await files.fileEntries(directory, name('sub/'), 2)
  expect(rest).toMatchObject({ more: false, entries: [{ name: 'z' }] })
  const { operations } = external
  const before = operations.length
  await expect(files.findFile(directory, name('none'))).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect(operations.length).toBe(before)
  for (const key of ['d/a', 'd/sub/x', 'd/z']) external.outsideDelete(key)
  clock.ms += LISTING_TTL_MS + 1
  await expect(walk('d')).rejects.toMatchObject({ code: 'NoSuchKey' })
})

test('a directory that was never listed is not removed while anything lies in it outside', async () => {
  const { external, files, root } = here
  external.outsidePut('d/file', 'x')
  await expect(files.removeDirectory(root, name('d'))).rejects.toMatchObject({ code: 'DirectoryNotEmpty' })
  await files.removeFile(await walk('d'), name('file'), { keep: false, owner: 'owner' })
  await files.removeDirectory(root, name('d'))
  expect(await dirtyKeys()).toContain('d/file')
})

test('a name that is taken outside is not made here', async () => {
  const { external, files, root } = here
  external.outsidePut('file', 'x')
  external.outsidePut('dir/x', 'x')
  await expect(files.makeFile(root, name('file'), { ...MADE, kind: 'file' })).rejects.toMatchObject({
    code: 'FileExists',
  })
  await expect(files.makeFile(root, name('dir'), { ...MADE, kind: 'file' })).rejects.toMatchObject({
    code: 'FileExists',
  })
  await expect(files.makeDirectory(root, name('dir'), MADE)).rejects.toMatchObject({ code: 'FileExists' })
  await files.makeFile(root, name('new'), { ...MADE, kind: 'file' })
  expect(await dirtyKeys()).toEqual(['new'])
})

test('a directory is renamed whole, however little of it was known', async () => {
  const { external, files, root } = here
  for (let index = 0; index < 1200; index++) external.outsidePut(`d/sub/${index}`, 'x')
  await files.renameFile({ parent: root, name: name('d') }, { parent: root, name: name('e') }, AT_ONCE)
  const sub = await walk('e/sub')
  await walk('e/sub/1100')
  await expect(files.findFile(root, name('d'))).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect((await files.fileEntries(sub, undefined, 4096)).entries).toHaveLength(1200)
})

test('a file is described before it is changed, and what was changed outside is left to be found as a conflict', async () => {
  const { external, files, metadata, names, attached } = here
  external.outsidePut('a', 'one', { headers: { contentType: 'text/x' } })
  const etag = external.outsidePut('b', 'two')
  await metadata.list({ bucket: 'far', prefix: '', delimiter: '', after: '', limit: 10 })
  const [a, b] = [await walk('a'), await walk('b')]
  const change = {
    edits: [],
    inline: Buffer.from('new'),
    size: 3,
    modified: { seconds: 1, nanoseconds: 0 },
    ack: 'journal',
  } as const
  await files.publishFile({ inode: a, ...change })
  expect((await metadata.lookup('far', 'a')).attributes.headers).toEqual({ contentType: 'text/x' })
  external.outsidePut('b', 'theirs')
  await files.publishFile({ inode: b, ...change })
  const dirty = await names.dirtyKeys(attached.record.bucketId, '', 10)
  expect(dirty).toMatchObject([{ key: 'a' }, { key: 'b', base: { kind: 'etag', etag } }])
})

test('what a file lies in is learned from its extents', async () => {
  const { external, files, segments } = here
  external.outsidePut('f', 'bytes')
  const { extents } = await files.fileExtents(await walk('f'), 0, 100)
  expect(extents).toMatchObject([{ offset: 0, length: 5, segmentOffset: 0 }])
  const [extent] = extents
  expect(extent && (await segments.find(extent.segment))).toMatchObject({ body: { key: 'f' }, attached: here.attached })
})

test('an open file shows what was changed outside, after its time', async () => {
  const { external, files, clock } = here
  external.outsidePut('f', 'bytes')
  const inode = await walk('f')
  external.outsideDelete('f')
  clock.ms += TTL_MS
  await expect(files.fileNode(inode)).rejects.toMatchObject({ code: 'StaleFile' })
})

test('when the store is down, known names are found and unknown ones are Unavailable', async () => {
  const { external, files, root, clock } = here
  external.outsidePut('d/f', 'x')
  await walk('d/f')
  clock.ms += LISTING_TTL_MS + 1
  external.down = true
  await walk('d/f')
  await expect(files.findFile(root, name('none'))).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(files.fileEntries(await walk('d'), undefined, 10)).rejects.toMatchObject({ code: 'Unavailable' })
})

test('keys of the whole bucket, and one by its key', async () => {
  const { external, files } = here
  for (const key of ['a/x', 'b', 'c/']) external.outsidePut(key, '')
  expect(await files.findKey('far', name('c/'))).toMatchObject({ kind: 'file', links: 1 })
  const page = await files.keyEntries('far', undefined, 2)
  expect(page).toMatchObject({ more: true, entries: [{ name: 'a/x' }, { name: 'b' }] })
  expect((await files.keyEntries('far', name('b'), 2)).entries).toMatchObject([{ name: 'c/' }])
})

test('buckets that are not attached never ask', async () => {
  await here.bucket('near')
  await here.metadata.publish(publishRequest('near', 'd/k'))
  const { files, external } = here
  const root = await files.findFile(0, name('near'))
  const directory = await files.findFile(root.inode, name('d'))
  await files.fileEntries(directory.inode, undefined, 10)
  expect(external.operations).toEqual([])
})

test('a name too long for any store is not asked for there', async () => {
  const { external, files } = here
  let parent = here.root
  for (let depth = 0; depth < 4; depth++) {
    parent = (await files.makeDirectory(parent, name('d'.repeat(250)), MADE)).value.inode
  }
  await expect(files.findFile(parent, name('f'.repeat(50)))).rejects.toMatchObject({ code: 'NoSuchKey' })
  const made = files.makeFile(parent, name('f'.repeat(50)), { ...MADE, kind: 'file' })
  await expect(made).rejects.toMatchObject({ code: 'KeyTooLong' })
  expect(external.operations.filter(({ key }) => Buffer.byteLength(key) > 1024)).toEqual([])
})
