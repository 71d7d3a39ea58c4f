import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { createFixture, filled, name, text, type Fixture } from './files-fixture.ts'

let fixture: Fixture
beforeEach(() => {
  fixture = createFixture()
})

test('a file that is created open outlives its name, even one that is gone at once (C27)', async () => {
  const { files, metadata } = fixture
  metadata.hook = async (what) => {
    if (what !== 'makeFile committed') return
    metadata.hook = () => undefined
    await files.remove(1, name('fleeting'))
  }
  const made = { mode: 0o600, uid: 1, gid: 1 }
  const { handle, node } = await files.create(1, name('fleeting'), made, { write: true })
  await files.write(handle, 0, text('still here'), false)
  expect((await fixture.contentOf(handle)).toString()).toBe('still here')
  expect(metadata.inodes.has(node.inode)).toBe(true)
  await files.release(handle)
  expect(metadata.inodes.has(node.inode)).toBe(false)
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('a file that could not be created leaves nothing open', async () => {
  const { files, metadata } = fixture
  metadata.hook = (what) => {
    if (what === 'makeFile committed') throw new TidegateError('FileExists', 'somebody was faster')
  }
  const made = { mode: 0o600, uid: 1, gid: 1 }
  await expect(files.create(1, name('a'), made, { write: true })).rejects.toMatchObject({ code: 'FileExists' })
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('what is at hand is read and written at once, and what is not says so', async () => {
  const { files, slab } = fixture
  const handle = await fixture.open(await fixture.make('a'))
  expect(files.writeNow(handle, 0, filled(2000, 1), false)).toBe(true)
  expect(files.writeNow(handle, 0, filled(500, 2), true)).toBe(true)
  // Unpublished bytes are pieced together by `read`.
  expect(files.readNow(handle, 0, 100)).toBeUndefined()
  await files.sync(handle)
  expect(files.readNow(handle, 0, 2500)).toBeUndefined()
  const content = Buffer.concat([filled(2000, 1), filled(500, 2)])
  expect(await fixture.contentOf(handle)).toEqual(content)
  // Now it is known where the bytes lie.
  expect(slab.collect(files.readNow(handle, 0, 5000) ?? [])).toEqual(content)
  expect(files.readNow(handle, 2500, 10)).toEqual([])
  slab.here = (block) => block === 0
  const leases = slab.leases.size
  expect(files.readNow(handle, 0, 2500)).toBeUndefined()
  expect(slab.leases.size).toBe(leases)
  fixture.full = new TidegateError('StorageFull', 'full')
  expect(files.writeNow(handle, 0, filled(10, 3), false)).toBe(false)
  await expect(files.write(handle, 0, filled(10, 3), false)).rejects.toMatchObject({ code: 'StorageFull' })
  expect(await fixture.contentOf(handle)).toEqual(content)
  fixture.full = undefined
  await files.release(handle)
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('a size that is changed while only readers have it open is published at once: no close of theirs would do it', async () => {
  const { files } = fixture
  const inode = await fixture.make('a')
  const writer = await fixture.open(inode)
  await files.write(writer, 0, filled(100, 1), false)
  const { handle: reader } = await files.open(inode, { write: false, truncate: false })
  // Whoever writes publishes it with what he wrote.
  await files.change(inode, { size: 90 })
  expect(await fixture.publishedContent(inode)).toHaveLength(0)
  await files.release(writer)
  expect(await fixture.publishedContent(inode)).toEqual(filled(90, 1))
  await files.change(inode, { size: 80 })
  expect(await fixture.publishedContent(inode)).toEqual(filled(80, 1))
  await files.release(reader)
  const { handle: truncating } = await files.open(inode, { write: false, truncate: true })
  await files.flush(truncating)
  expect(await fixture.publishedContent(inode)).toHaveLength(0)
  await files.release(truncating)
  await files.change(inode, { size: 70 })
  const { handle: unflushed } = await files.open(inode, { write: false, truncate: true })
  await files.release(unflushed)
  expect(await fixture.publishedContent(inode)).toHaveLength(0)
})
