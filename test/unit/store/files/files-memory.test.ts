/** Memory for what was written, and who waits for it. */
import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { DEFAULT_FILE_LIMITS } from '../../../../src/store/files/limits.ts'
import { createFixture, turns, type Fixture } from './files-fixture.ts'

const filled = (bytes: number, byte: number): Buffer => Buffer.alloc(bytes, byte)

let fixture: Fixture
beforeEach(() => {
  fixture = createFixture()
})

test('appends of several handles never overlap', async () => {
  const { files } = fixture
  const inode = await fixture.make('a')
  const handles = [await fixture.open(inode), await fixture.open(inode), await fixture.open(inode)]
  const writes = Array.from({ length: 300 }, (_, index) =>
    files.write(handles[index % 3] as number, 0, filled(100 + (index % 7), index % 256), true),
  )
  await Promise.all(writes)
  const content = await fixture.contentOf(handles[0] as number)
  expect(content).toHaveLength(Array.from({ length: 300 }, (_, index) => 100 + (index % 7)).reduce((a, b) => a + b))
  const seen = new Map<number, number>()
  for (let at = 0; at < content.length;) {
    const byte = content[at] as number
    let end = at
    while (content[end] === byte) end++
    seen.set(byte, (seen.get(byte) ?? 0) + 1)
    at = end
  }
  expect(seen.size).toBe(256)
})

test('C19: a stream to a slow journal stays within the memory bound and is never refused', async () => {
  const { files, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  let most = 0
  journal.hook = async () => {
    most = Math.max(most, files.activity.dirtyBytes)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const piece = filled(16 * 1024, 7)
  const total = 128 * piece.length
  for (let at = 0; at < total; at += 8 * piece.length) {
    await Promise.all(
      Array.from({ length: 8 }, (_, index) => files.write(handle, at + index * piece.length, piece, false)),
    )
    most = Math.max(most, files.activity.dirtyBytes)
  }
  expect(most).toBeLessThanOrEqual(64 * 1024)
  await files.sync(handle)
  expect((await fixture.publishedContent(inode)).equals(filled(total, 7))).toBe(true)
  expect([journal.pending, files.activity.dirtyBytes, journal.bytes]).toEqual([0, 0, total])
})

test('C19: 1 GiB written to a slow journal with the default bounds holds 8 MiB at most', async () => {
  fixture = createFixture(DEFAULT_FILE_LIMITS, 1024 * 1024)
  const { files, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  journal.keepsBytes = false
  journal.hook = () => new Promise((resolve) => setTimeout(resolve, 1))
  const piece = filled(1024 * 1024, 7)
  let most = 0
  for (let at = 0; at < 1024; at++) {
    await files.write(handle, at * piece.length, piece, false)
    most = Math.max(most, files.activity.dirtyBytes)
  }
  expect(most).toBeLessThanOrEqual(8 * piece.length)
  await files.sync(handle)
  expect(await fixture.metadata.fileNode(inode)).toMatchObject({ size: 2 ** 30 })
  expect([journal.pending, files.activity.dirtyBytes, journal.bytes]).toEqual([0, 0, 2 ** 30])
})

test('C19: who finds no memory within the admission time is told SlowDown, and nothing of his write is there', async () => {
  const { files, journal, clock } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  let open = (): void => undefined
  const gate = new Promise<void>((resolve) => (open = resolve))
  journal.hook = () => gate
  for (let at = 0; at < 4; at++) await files.write(handle, at * 16384, filled(16384, 1), false)
  const refused = expect(files.write(handle, 4 * 16384, filled(16384, 2), false)).rejects.toMatchObject({
    code: 'SlowDown',
  })
  await turns()
  await clock.advance(30_000)
  await refused
  open()
  await files.sync(handle)
  expect(await fixture.publishedContent(inode)).toEqual(filled(4 * 16384, 1))
})

test("C19: another file's bytes make room for a writer, the oldest first", async () => {
  const { files, journal } = fixture
  const inodes = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((key) => fixture.make(key)))
  const handles = await Promise.all(inodes.map((inode) => fixture.open(inode)))
  for (const handle of handles) await files.write(handle, 0, filled(16384, handle), false)
  for (const handle of handles) await files.write(handle, 16384, filled(15000, handle), false)
  await turns()
  expect(files.activity.dirtyBytes).toBeLessThanOrEqual(128 * 1024)
  expect(journal.log[0]).toContain('"k":"a"')
  for (const handle of handles) expect(await fixture.contentOf(handle)).toEqual(filled(31384, handle))
})

test('StorageFull is told by the write, by the journal to those who wait, and what was taken stays', async () => {
  const { files, journal } = fixture
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await files.write(handle, 0, filled(100, 1), false)
  fixture.full = new TidegateError('StorageFull', 'full')
  await expect(files.write(handle, 0, filled(100, 2), false)).rejects.toMatchObject({ code: 'StorageFull' })
  await expect(
    files.allocate(handle, { offset: 0, length: 1e9 }, { kind: 'allocate', keepSize: false }),
  ).rejects.toMatchObject({ code: 'StorageFull' })
  fixture.full = undefined
  journal.hook = () => Promise.reject(new TidegateError('StorageFull', 'full'))
  const outcomes = await Promise.allSettled(
    Array.from({ length: 6 }, (_, index) => files.write(handle, index * 16384, filled(16384, 3), false)),
  )
  expect(outcomes.some((outcome) => outcome.status === 'rejected')).toBe(true)
  await expect(files.sync(handle)).rejects.toMatchObject({ code: 'StorageFull' })
  journal.hook = () => undefined
  await files.sync(handle)
  expect((await fixture.contentOf(handle)).subarray(0, 16384)).toEqual(filled(16384, 3))
})
