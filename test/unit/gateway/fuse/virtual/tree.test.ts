import { expect, it } from 'vitest'
import { systemClock } from '../../../../../src/common/clock.ts'
import type { ByteString, InodeId } from '../../../../../src/common/ids.ts'
import { DirectoryCursor } from '../../../../../src/gateway/fuse/directory-cursors.ts'
import { FLAT_VIEWS, ROOT, VIRTUAL_ROOT, flatViewOf } from '../../../../../src/gateway/fuse/virtual/nodes.ts'
import { VirtualTree } from '../../../../../src/gateway/fuse/virtual/tree.ts'
import { FakeFileDoor } from '../../../../support/fake-file-door.ts'

const MADE = { mode: 0o755, uid: 1, gid: 1 }
const unused = (): Promise<never> => Promise.reject(new Error('not to be called'))

async function begin(...keys: readonly string[]): Promise<{ tree: VirtualTree; files: FakeFileDoor; bucket: InodeId }> {
  const files = new FakeFileDoor({ uid: 0, gid: 0 })
  const { inode: bucket } = await files.makeDirectory(ROOT, 'first' as ByteString, MADE)
  await files.makeDirectory(ROOT, 'second' as ByteString, MADE)
  for (const key of keys) files.put(bucket, key, key)
  const owner = { uid: 5, gid: 6 }
  const objects = { put: unused, delete: unused }
  return { tree: new VirtualTree({ files, objects, clock: systemClock, owner }), files, bucket }
}

/** As a reader of the directory gets it, in steps of so many entries. */
async function listed(tree: VirtualTree, inode: InodeId, step: number): Promise<string[]> {
  const cursor = new DirectoryCursor(tree, inode)
  const names: string[] = []
  for (let position = 2; ;) {
    const { entries } = await cursor.freshFrom(position, step)
    if (entries.length === 0) return names
    names.push(...entries.map(({ name }) => name))
    position += entries.length
  }
}

it.each([1, 2, 100])('lists what is virtual and what is real, in steps of %d', async (step) => {
  const { tree, bucket } = await begin('a%', 'plain')
  expect(await listed(tree, ROOT, step)).toEqual(['first', 'second'])
  expect(tree.fixedChild(ROOT, '.tidegate' as ByteString)?.inode).toBe(VIRTUAL_ROOT)
  // Two names that are always there come at once.
  expect(await listed(tree, VIRTUAL_ROOT, step)).toEqual(['kv', 'stats'])
  expect(await listed(tree, FLAT_VIEWS, step)).toEqual(['first', 'second'])
  expect(await listed(tree, flatViewOf(bucket), step)).toEqual(['a%25', 'plain'])
  expect(await listed(tree, bucket, step)).toEqual(['a%', 'plain'])
})

it.each([1, 2, 5])(
  'passes over keys whose names would be too long, also when a page holds nothing else',
  async (step) => {
    const long = Array.from({ length: 7 }, (_, index) => `l${index}${'%'.repeat(100)}`)
    const { tree, bucket } = await begin('a', ...long, 'z')
    expect(await listed(tree, flatViewOf(bucket), step)).toEqual(['a', 'z'])
  },
)

it('says of the flat view of a bucket what its root says, under a number that no real inode has', async () => {
  const { tree, files, bucket } = await begin()
  const node = await tree.node(flatViewOf(bucket))
  expect(node).toEqual({ ...(await files.node(bucket)), inode: flatViewOf(bucket) })
  expect(node.inode).toBeGreaterThan(2 ** 52)
  expect(Number.isSafeInteger(node.inode + 1)).toBe(true)
  await files.removeDirectory(ROOT, 'first' as ByteString)
  await expect(tree.node(flatViewOf(bucket))).rejects.toMatchObject({ code: 'StaleFile' })
  await expect(tree.child(flatViewOf(bucket), 'a' as ByteString)).rejects.toMatchObject({ code: 'StaleFile' })
})

it('lets who mounted into the flat views, and nobody else', async () => {
  const { tree } = await begin()
  expect(await tree.node(FLAT_VIEWS)).toMatchObject({ mode: 0o700, uid: 5, gid: 6 })
})

it('knows no handle that it has not given, or that was closed', async () => {
  const { tree } = await begin()
  const handle = tree.openText(Buffer.from('text'))
  expect(Buffer.from(tree.text(handle)).toString()).toBe('text')
  expect(() => tree.cursor(handle)).toThrow(/virtual handle/)
  tree.close(handle)
  expect(() => tree.text(handle)).toThrow(/virtual handle/)
})
