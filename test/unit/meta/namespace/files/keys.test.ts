import { afterEach, expect, test } from 'vitest'
import { utf8Bytes, type ByteString, type InodeId } from '../../../../../src/common/ids.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, fixture, type Fixture } from '../fixture.ts'

const open: Fixture[] = []

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

/** What POSIX has no name for, and what it has one for. */
const KEYS = ['.', '..', '//', 'a', 'a-b', 'a/', 'a//b', 'a/b', 'ü/ü', `long/${'x'.repeat(300)}`]
const MADE = { mode: 0o600, uid: 1, gid: 2, owner: OWNER }

async function begin(versioning?: 'enabled'): Promise<Fixture> {
  const made = await fixture()
  open.push(made)
  await made.bucket('box', versioning)
  return made
}

async function listed(made: Fixture, limit: number): Promise<string[]> {
  const found: string[] = []
  let after: ByteString | undefined
  for (let more = true; more;) {
    const page = await made.namespace.files.keyEntries('box', after, limit)
    expect(page.entries.length).toBeLessThanOrEqual(limit)
    found.push(...page.entries.map(({ name }) => Buffer.from(name, 'latin1').toString()))
    after = page.entries.at(-1)?.name
    more = page.more
  }
  return found
}

const find = async (made: Fixture, key: string): Promise<InodeId> =>
  (await made.namespace.files.findKey('box', utf8Bytes(key))).inode

test.each([1, 3, 100])('lists every key in the order of its bytes, in pages of %d, and finds each', async (limit) => {
  const made = await begin()
  for (const key of KEYS) await made.put('box', key, { bytes: key })
  const found = await listed(made, limit)
  expect(found).toEqual(KEYS.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))))
  const inodes = await Promise.all(found.map((key) => find(made, key)))
  expect(new Set(inodes).size).toBe(KEYS.length)
  for (const [index, inode] of inodes.entries()) {
    const node = await made.namespace.files.fileNode(inode)
    expect(node).toMatchObject({ kind: 'file', size: Buffer.byteLength(found[index] ?? '') })
  }
})

test('of a directory that the mount made, the key is its marker, a file of its own', async () => {
  const made = await begin()
  const root = (await made.namespace.files.findFile(0, utf8Bytes('box'))).inode
  const directory = (await made.namespace.files.makeDirectory(root, utf8Bytes('dir'), MADE)).value
  expect(await listed(made, 10)).toEqual(['dir/'])
  const marker = await made.namespace.files.findKey('box', utf8Bytes('dir/'))
  expect(marker.kind).toBe('file')
  expect(marker.inode).not.toBe(directory.inode)
})

test('C31: shows neither what has expired nor what a delete marker covers', async () => {
  const made = await begin('enabled')
  await made.put('box', 'short', { ttlMs: 1_000 })
  await made.put('box', 'gone')
  await made.put('box', 'kept')
  await made.put('box', 'kept', { bytes: 'new' })
  await made.remove('box', 'gone')
  expect(await listed(made, 10)).toEqual(['kept', 'short'])
  made.clock.ms += 1_000
  expect(await listed(made, 10)).toEqual(['kept'])
  for (const key of ['short', 'gone', 'never', 'kept/'])
    await expect(find(made, key)).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect((await made.namespace.files.findKey('box', utf8Bytes('kept'))).size).toBe(3)
  await expect(made.namespace.files.keyEntries('nobody', undefined, 1)).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(made.namespace.files.findKey('nobody', utf8Bytes('a'))).rejects.toMatchObject({ code: 'NoSuchBucket' })
})

test('describes objects, directories, buckets and what is unlinked', async () => {
  const made = await begin()
  const { etag, revision } = await made.put('box', 'dir/ü', { bytes: 'x' })
  const { files } = made.namespace
  const inode = await find(made, 'dir/ü')
  const object = { etag, revision, ack: 'journal' }
  expect(await files.describeFile(inode)).toEqual({ place: { bucket: 'box', key: 'dir/ü' }, object })
  const root = (await files.findFile(0, utf8Bytes('box'))).inode
  expect(await files.describeFile(root)).toEqual({ place: { bucket: 'box', key: '' }, object: undefined })
  const directory = await files.findFile(root, utf8Bytes('dir'))
  expect(await files.describeFile(directory.inode)).toEqual({
    place: { bucket: 'box', key: 'dir/' },
    object: undefined,
  })
  expect(await files.describeFile(0)).toEqual({ place: undefined, object: undefined })
  files.keepFiles((each) => each === inode)
  await made.remove('box', 'dir/ü')
  expect(await files.describeFile(inode)).toMatchObject({ place: undefined, object })
  await files.dropFile(inode)
  await expect(files.describeFile(inode)).rejects.toMatchObject({ code: 'StaleFile' })
})
