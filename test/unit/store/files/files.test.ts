import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { createFixture, filled, name, text, turns, type Fixture } from './files-fixture.ts'

let fixture: Fixture
beforeEach(() => {
  fixture = createFixture()
})

test('what was written is read at once by every handle, and published by the close (C20)', async () => {
  const { files, metadata, journal } = fixture
  const inode = await fixture.make('a')
  const [one, two] = [await fixture.open(inode), await fixture.open(inode)]
  await files.write(one, 0, text('hello world'), false)
  await files.write(one, 6, text('there'), false)
  expect((await fixture.contentOf(two)).toString()).toBe('hello there')
  expect(await fixture.publishedContent(inode)).toHaveLength(0)
  expect(await files.node(inode)).toMatchObject({ size: 11 })
  expect((await files.entries(1, undefined, 10)).entries[0]?.node.size).toBe(11)
  await files.flush(one)
  expect((await fixture.publishedContent(inode)).toString()).toBe('hello there')
  expect(metadata.publishes).toHaveLength(1)
  expect(journal.log).toEqual([])
  await files.release(one)
  await files.release(two)
  expect(metadata.publishes).toHaveLength(1)
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('a file that outgrows its inode takes what lay inline along', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, text('small'), false)
  await files.flush(handle)
  await files.write(handle, 1000, text('far'), false)
  await files.flush(handle)
  const expected = Buffer.concat([text('small'), Buffer.alloc(995), text('far')])
  expect(metadata.publishes[1]?.inline).toBeUndefined()
  expect(await fixture.publishedContent(inode)).toEqual(expected)
  expect(await fixture.contentOf(handle)).toEqual(expected)
  // And back: cut to where all that is left is a hole or lies in segments.
  await files.change(inode, { size: 3 })
  await files.flush(handle)
  expect((await fixture.publishedContent(inode)).toString()).toBe('sma')
})

test('C15: a close names its bytes unsynced before the commit; a sync waits for them and for the commit (C20)', async () => {
  const { files, metadata, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  metadata.hook = (what) => void journal.log.push(what)
  await files.write(handle, 0, filled(1000, 1), false)
  await files.flush(handle)
  expect(journal.log.filter((line) => !line.startsWith('file'))).toEqual([
    'append {"b":"b","k":"a","m":1700000000000,"f":2,"o":0} 1000',
    'name unsynced',
    'publishFile',
    'published',
  ])
  journal.log.length = 0
  let durable = (): void => undefined
  metadata.durable = () => new Promise((resolve) => (durable = resolve))
  await files.write(handle, 0, filled(1000, 2), false)
  let synced = false
  const sync = files.sync(handle).then(() => (synced = true))
  await turns()
  expect(journal.log).toEqual([
    'append {"b":"b","k":"a","m":1700000000000,"f":2,"o":0} 1000',
    'sync',
    'publishFile',
    'published',
  ])
  expect(synced).toBe(false)
  durable()
  await sync
  expect(metadata.publishes.map(({ ack }) => ack)).toEqual(['journal', 'journal'])
})

test('C20: a sync with nothing left to publish still waits for the commit that a close made', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(1000, 1), false)
  let durable = (): void => undefined
  metadata.durable = () => new Promise((resolve) => (durable = resolve))
  await files.flush(handle)
  let synced = false
  const sync = files.sync(handle).then(() => (synced = true))
  await turns()
  expect(synced).toBe(false)
  durable()
  await sync
})

test('C17: a sync in a bucket of level persisted waits for the remote store to have the name, and the inline bytes with it', async () => {
  const { files, metadata, persisted, named } = fixture
  metadata.ack = 'persisted'
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, text('small'), false)
  await files.flush(handle)
  expect(named).toEqual([])
  await files.sync(handle)
  expect(named).toEqual(['a'])
  expect(persisted).toEqual([])
  expect((await fixture.publishedContent(inode)).toString()).toBe('small')
  await files.write(handle, 0, filled(10_000, 1), false)
  await files.sync(handle)
  expect(persisted).toHaveLength(1)
  expect(named).toHaveLength(2)
  metadata.ack = 'memory'
  await files.write(handle, 0, text('SMALL'), false)
  await files.sync(handle)
  expect(named).toHaveLength(2)
})

test('C20: what was written is published by age, and a publish that fails keeps the data and is tried again', async () => {
  const { files, metadata, clock, failures } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(500, 1), false)
  await files.publishAged()
  expect(metadata.publishes).toHaveLength(0)
  metadata.hook = (what) => {
    if (what === 'publishFile') throw new TidegateError('Unavailable', 'not now')
  }
  await clock.advance(5_000)
  await files.publishAged()
  expect(failures).toMatchObject([{ inode, doing: 'publish', cause: { code: 'Unavailable' } }])
  await files.write(handle, 400, filled(200, 2), false)
  const expected = Buffer.concat([filled(400, 1), filled(200, 2)])
  expect(await fixture.contentOf(handle)).toEqual(expected)
  await files.publishAged()
  expect(failures).toHaveLength(1)
  await expect(files.sync(handle)).rejects.toMatchObject({ code: 'Unavailable' })
  metadata.hook = () => undefined
  await clock.advance(5_000)
  await files.publishAged()
  expect(await fixture.publishedContent(inode)).toEqual(expected)
  // The level is reached, nothing is lost: there is nothing to tell.
  await files.sync(handle)
  expect(fixture.journal.pending).toBe(0)
})

test('a close that could not publish leaves the file to be tried again, and who opens it sees it', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, text('kept'), false)
  metadata.hook = (what) => {
    if (what === 'publishFile') throw new TidegateError('Unavailable', 'not now')
  }
  await expect(files.flush(handle)).rejects.toMatchObject({ code: 'Unavailable' })
  await files.release(handle)
  expect(files.activity).toMatchObject({ files: 1, handles: 0 })
  expect(await files.node(inode)).toMatchObject({ size: 4 })
  const again = await fixture.open(inode)
  expect((await fixture.contentOf(again)).toString()).toBe('kept')
  await files.release(again)
  metadata.hook = () => undefined
  await fixture.clock.advance(5_000)
  await files.publishAged()
  expect((await fixture.publishedContent(inode)).toString()).toBe('kept')
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('C20: what a close published and was undone is put back under what was written since, and published again', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const [one, two] = [await fixture.open(inode), await fixture.open(inode)]
  await files.write(one, 0, filled(900, 1), false)
  await files.sync(one)
  metadata.durable = () => Promise.reject(new TidegateError('StorageFull', 'undone'))
  await files.write(one, 0, filled(500, 2), false)
  await files.flush(one)
  await files.write(two, 400, filled(500, 3), false)
  await files.flush(two)
  metadata.durable = () => Promise.resolve()
  await turns()
  expect(files.isUnpublished(one)).toBe(true)
  await files.write(one, 0, text('x'), false)
  const expected = Buffer.concat([text('x'), filled(399, 2), filled(500, 3)])
  expect(await fixture.contentOf(one)).toEqual(expected)
  const { length } = metadata.publishes
  await files.sync(two)
  expect(metadata.publishes).toHaveLength(length + 1)
  expect(await fixture.publishedContent(inode)).toEqual(expected)
  await files.sync(one)
  for (const handle of [one, two]) await files.release(handle)
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('C20: what was undone after the last close is published again by age', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  let undo = (): void => undefined
  metadata.durable = () => new Promise((_, reject) => (undo = () => reject(new TidegateError('Unavailable', 'undone'))))
  await files.write(handle, 0, text('kept'), false)
  await files.release(handle)
  expect(files.activity).toMatchObject({ files: 1, handles: 0 })
  metadata.durable = () => Promise.resolve()
  undo()
  await turns()
  const { length } = metadata.publishes
  await files.publishAged()
  expect(metadata.publishes).toHaveLength(length + 1)
  expect((await fixture.publishedContent(inode)).toString()).toBe('kept')
  await turns()
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('a sync whose commit is undone puts the data back', async () => {
  const { files, metadata, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(500, 1), false)
  metadata.durable = () => Promise.reject(new TidegateError('StorageFull', 'undone'))
  await expect(files.sync(handle)).rejects.toMatchObject({ code: 'StorageFull' })
  metadata.durable = () => Promise.resolve()
  expect(journal.pending).toBe(1)
  await files.sync(handle)
  expect(await fixture.publishedContent(inode)).toEqual(filled(500, 1))
  expect([journal.pending, files.activity.dirtyBytes]).toEqual([0, 0])
})

test('writes go on while a publish is under way, and belong to the next one', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(1000, 1), false)
  let go = (): void => undefined
  metadata.hook = (what) => (what === 'publishFile' ? new Promise((resolve) => (go = resolve)) : undefined)
  const flushed = files.flush(handle)
  await turns()
  await files.write(handle, 10, filled(10, 2), false)
  await files.change(inode, { size: 500 })
  const expected = Buffer.concat([filled(10, 1), filled(10, 2), filled(480, 1)])
  expect(await fixture.contentOf(handle)).toEqual(expected)
  metadata.hook = () => undefined
  go()
  await flushed
  expect(await fixture.publishedContent(inode)).toEqual(filled(1000, 1))
  expect(await fixture.contentOf(handle)).toEqual(expected)
  await files.flush(handle)
  expect(await fixture.publishedContent(inode)).toEqual(expected)
})

test('a read that began before a publish still finds every byte', async () => {
  const { files, slab, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(3000, 1), false)
  await files.flush(handle)
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  slab.hook = () => gate
  const reading = files.read(handle, 0, 3000)
  await files.write(handle, 0, filled(3000, 2), false)
  await files.flush(handle)
  expect(fixture.readers.count).toBe(1)
  go()
  expect(slab.collect(await reading)).toEqual(filled(3000, 1))
  slab.hook = () => undefined
  expect(await fixture.contentOf(handle)).toEqual(filled(3000, 2))
  expect([slab.leases.size, journal.pending]).toEqual([0, 0])
  await files.release(handle)
  expect(fixture.readers.count).toBe(0)
})

test('C12: a window of extents holds the horizon back, and not for long', async () => {
  const { files, readers, metadata, clock } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(3000, 1), false)
  await files.flush(handle)
  await fixture.contentOf(handle)
  const began = metadata.revision()
  await fixture.make('b')
  expect(readers.horizon(metadata.revision())).toBe(began)
  await clock.advance(2_500)
  await files.publishAged()
  expect(readers.horizon(metadata.revision())).toBe(metadata.revision())
})

test('C27: after a PUT of another door, what the old handle writes does not reach the key', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(500, 1), false)
  await files.flush(handle)
  const fresh = metadata.replace(1, 'a')
  await files.write(handle, 0, filled(10, 2), false)
  await files.sync(handle)
  expect(await fixture.contentOf(handle)).toEqual(Buffer.concat([filled(10, 2), filled(490, 1)]))
  expect((await files.find(1, name('a'))).inode).toBe(fresh.inode)
  expect(await fixture.publishedContent(fresh.inode)).toHaveLength(0)
  expect(await files.node(inode)).toMatchObject({ links: 0 })
  await files.release(handle)
  await expect(files.node(inode)).rejects.toMatchObject({ code: 'StaleFile' })
})

test('an unlinked file is there until its last release; after a crash it is dropped at the start', async () => {
  const { files, metadata, journal } = fixture
  const inode = await fixture.make('a')
  const [one, two] = [await fixture.open(inode), await fixture.open(inode)]
  await files.write(one, 0, filled(1000, 1), false)
  await files.remove(1, name('a'))
  await files.write(one, 1000, filled(1000, 2), false)
  await files.sync(one)
  await files.write(one, 0, filled(1000, 3), false)
  await files.release(one)
  expect(await fixture.contentOf(two)).toEqual(Buffer.concat([filled(1000, 3), filled(1000, 2)]))
  const published = metadata.publishes.length
  await files.release(two)
  expect(metadata.publishes).toHaveLength(published)
  expect([metadata.inodes.size, journal.pending, files.activity.dirtyBytes]).toEqual([1, 0, 0])
  const other = await fixture.make('b')
  await fixture.open(other)
  const target = await fixture.make('c')
  await files.rename({ parent: 1, name: name('c') }, { parent: 1, name: name('b') }, 'replace')
  expect(await metadata.orphanedFiles(10)).toEqual([other])
  expect(await files.recover()).toEqual({ dropped: 1 })
  expect((await files.find(1, name('b'))).inode).toBe(target)
})

test('a file that was unlinked before its first publish is published and synced as often as it takes (C27)', async () => {
  const { files } = fixture
  const handle = await fixture.open(await fixture.make('a'))
  await files.remove(1, name('a'))
  for (const byte of [1, 2, 3]) {
    await files.write(handle, 0, filled(16_000, byte), false)
    await files.sync(handle)
  }
  expect(await fixture.contentOf(handle)).toEqual(filled(16_000, 3))
  await files.release(handle)
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
})

test('O_TRUNC, holes and allocation', async () => {
  const { files } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(9000, 1), false)
  await files.sync(handle)
  await files.allocate(handle, { offset: 1000, length: 2000 }, { kind: 'punch', keepSize: true })
  await files.allocate(handle, { offset: 8500, length: 1500 }, { kind: 'zero', keepSize: false })
  await files.allocate(handle, { offset: 0, length: 12_000 }, { kind: 'allocate', keepSize: true })
  const expected = Buffer.concat([filled(1000, 1), filled(2000, 0), filled(5500, 1), filled(1500, 0)])
  const seeks = async (): Promise<(number | undefined)[]> => [
    await files.seek(handle, 0, 'hole'),
    await files.seek(handle, 1500, 'data'),
    await files.seek(handle, 3500, 'hole'),
    await files.seek(handle, 8600, 'data'),
    await files.seek(handle, 10_000, 'hole'),
  ]
  for (let round = 0; round < 2; round++) {
    expect(await fixture.contentOf(handle)).toEqual(expected)
    expect(await seeks()).toEqual([1000, 3000, 8500, undefined, undefined])
    await files.sync(handle)
  }
  const { handle: other, node } = await files.open(inode, { write: true, truncate: true })
  expect(node.size).toBe(0)
  expect(await fixture.contentOf(handle)).toHaveLength(0)
  await files.change(inode, { size: 20 })
  expect(await fixture.contentOf(other)).toEqual(Buffer.alloc(20))
  await files.flush(other)
  expect(await fixture.publishedContent(inode)).toEqual(Buffer.alloc(20))
})

test('a size that is changed with nobody there to close is published at once; a time that is set stays', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  await files.change(inode, { size: 5000 })
  expect(await fixture.publishedContent(inode)).toEqual(Buffer.alloc(5000))
  const handle = await fixture.open(inode)
  await files.write(handle, 0, text('x'), false)
  const modified = { seconds: 12, nanoseconds: 345 }
  expect(await files.change(inode, { modified })).toMatchObject({ modified, size: 5000 })
  await files.flush(handle)
  expect(await metadata.fileNode(inode)).toMatchObject({ modified })
  await expect(files.change(1, { size: 5 })).rejects.toMatchObject({ code: 'IsADirectory' })
  await expect(files.change(inode, { size: 2 ** 41 })).rejects.toMatchObject({ code: 'EntityTooLarge' })
})

test('read-ahead grows for who reads in order, and there is none for who jumps', async () => {
  const { files, slab } = fixture
  const inode = await fixture.make('a')
  const writer = await fixture.open(inode)
  for (let at = 0; at < 10; at++) await files.write(writer, at * 16384, filled(16384, at), false)
  await files.sync(writer)
  const random = await fixture.open(inode)
  for (const at of [80_000, 20_000, 120_000]) await fixture.contentOf(random, at, 500)
  expect(slab.prefetched).toEqual([])
  const inOrder = await fixture.open(inode)
  await fixture.contentOf(inOrder, 0, 1000)
  await fixture.contentOf(inOrder, 1000, 1000)
  expect(slab.prefetched.length).toBeGreaterThan(0)
})

test('a failed read gives back what was lent', async () => {
  const { files, slab } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(5000, 1), false)
  await files.sync(handle)
  let lends = 0
  slab.hook = () => {
    if (++lends === 3) throw new TidegateError('DataLost', 'gone')
  }
  await expect(files.read(handle, 0, 5000)).rejects.toMatchObject({ code: 'DataLost' })
  expect(slab.leases.size).toBe(0)
})

test('a file written in many places publishes before a publish becomes too large (C2)', async () => {
  const { files, metadata } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  const expected = Buffer.alloc(200 * 300)
  for (let at = 0; at < 200; at++) {
    const offset = ((at * 77) % 200) * 300
    expected.fill(at + 1, offset, offset + 10)
    await files.write(handle, offset, filled(10, at + 1), false)
  }
  await files.sync(handle)
  expect(Math.max(...metadata.publishes.map(({ edits }) => edits.length))).toBeLessThanOrEqual(130)
  expect((await fixture.publishedContent(inode)).equals(expected.subarray(0, 199 * 300 + 10))).toBe(true)
})

test('a directory is opened for its sync, and for nothing else', async () => {
  const { files, metadata } = fixture
  const { handle } = await files.open(1, { write: false, truncate: false })
  await files.sync(handle)
  expect(metadata.flushes).toBe(1)
  await expect(files.read(handle, 0, 1)).rejects.toMatchObject({ code: 'IsADirectory' })
  await expect(files.open(1, { write: true, truncate: false })).rejects.toMatchObject({ code: 'IsADirectory' })
  await files.release(handle)
  await expect(files.sync(handle)).rejects.toMatchObject({ code: 'InvalidRequest' })
})

test('what is undone by the last flush of a drain is put back and published by its next attempt', async () => {
  const { files, metadata, clock } = fixture
  metadata.ack = 'memory'
  const inode = await fixture.make('a')
  await files.write(await fixture.open(inode), 0, text('kept'), false)
  let undo = (): void => undefined
  metadata.durable = () => new Promise((_, reject) => (undo = () => reject(new TidegateError('Unavailable', 'undone'))))
  const drained = files.drain()
  await turns()
  expect(metadata.publishes).toHaveLength(1)
  metadata.durable = () => Promise.resolve()
  undo()
  await turns()
  await clock.advance(500)
  await drained
  expect(metadata.publishes).toHaveLength(2)
})

test('drain publishes and syncs everything, also when the first attempt fails', async () => {
  const { files, metadata, clock } = fixture
  const inodes = await Promise.all(['a', 'b', 'c'].map((key) => fixture.make(key)))
  for (const inode of inodes) await files.write(await fixture.open(inode), 0, filled(1000, inode), false)
  let failing = 2
  metadata.hook = (what) => {
    if (what === 'publishFile' && failing-- > 0) throw new TidegateError('Unavailable', 'not now')
  }
  const drained = files.drain()
  await turns()
  await clock.advance(500)
  await drained
  for (const inode of inodes) expect(await fixture.publishedContent(inode)).toEqual(filled(1000, inode))
  await files.stop()
  expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
  expect(await files.statistics()).toMatchObject({
    blockBytes: 4096,
    blocks: 262_144,
    blocksFree: 131_072,
    blocksAvailable: 65_536,
    files: 7,
  })
})
