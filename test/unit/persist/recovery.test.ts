/** The table at the top of src/persist/recovery.ts, row by row. */
import { beforeEach, expect, test } from 'vitest'
import { recover, type Recovered } from '../../../src/persist/recovery.ts'
import { SegmentFiles } from '../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../sim/forgetful-file-system.ts'
import { FakeIndex, newFileSystem, PLACES, segmentImage, segmentNumber, writeFile } from './fixtures.ts'

const SEGMENT = segmentNumber(1)
const IMAGE = segmentImage(SEGMENT, [Buffer.from('one'), Buffer.alloc(200, 2)])
let fileSystem: ForgetfulFileSystem
let files: SegmentFiles
let index: FakeIndex

beforeEach(() => {
  fileSystem = newFileSystem()
  files = new SegmentFiles(fileSystem, PLACES)
  index = new FakeIndex()
})

function run(carries: 'adopting' | 'uploading' = 'adopting'): Promise<Recovered> {
  return recover({ fileSystem, files, index, pageBytes: 64, carries, strangers: 'removed' })
}

function inJournal(bytes: Uint8Array): Promise<void> {
  return writeFile(fileSystem, files.journalPath(SEGMENT), bytes)
}

function adopted(bytes: Uint8Array): Promise<void> {
  return writeFile(fileSystem, files.adoptedPath(SEGMENT), bytes)
}

test('in the journal, sealed; metadata says open: marked sealed, queued for adoption', async () => {
  await inJournal(IMAGE.sealed)
  index.set(SEGMENT, { liveBytes: 3 })
  const { report, toPersist } = await run()
  expect(toPersist).toEqual([SEGMENT])
  expect(index.rows.get(SEGMENT)).toMatchObject({ state: 'sealed', bytes: IMAGE.data.length })
  expect(report).toMatchObject({ segments: 1, resealed: 0, lost: [] })
})

test('in the journal, unsealed; open: cut at the first torn frame, sealed, queued, and what lay after it reported', async () => {
  const torn = IMAGE.data.subarray(0, IMAGE.data.length - 1)
  await inJournal(torn)
  index.set(SEGMENT, { liveBytes: 3 })
  const { report, toPersist } = await run()
  const first = IMAGE.bodies[0]
  const end = (first?.offset ?? 0) + 3
  expect(toPersist).toEqual([SEGMENT])
  expect(report.resealed).toBe(1)
  expect(index.rows.get(SEGMENT)).toMatchObject({ state: 'sealed', bytes: end })
  expect(index.lost).toEqual([{ segment: SEGMENT, from: end, to: Number.MAX_SAFE_INTEGER }])
  expect(await files.use(SEGMENT, ({ footer }) => Promise.resolve(footer.bodies))).toEqual([first])
})

test('C18: of what a torn tail took, memory objects are counted and others reported', async () => {
  await inJournal(IMAGE.data.subarray(0, 10))
  index.set(SEGMENT, { liveBytes: 3 })
  index.bytesLostAnswer = { removedMemory: 2, lost: [{ bucket: 'b', key: 'k' }] }
  const { report } = await run()
  expect(report).toMatchObject({ removedMemory: 2, lost: [{ bucket: 'b', key: 'k' }] })
})

test('a footer that reached the disk before its pages is not trusted while metadata says open', async () => {
  const broken = Buffer.from(IMAGE.sealed)
  broken.fill(0, (IMAGE.bodies[1]?.offset ?? 0) + 50, IMAGE.data.length)
  await inJournal(broken)
  index.set(SEGMENT, { liveBytes: 3 })
  const { report } = await run()
  expect(report.resealed).toBe(1)
  expect(await files.use(SEGMENT, ({ footer }) => Promise.resolve(footer.bodies))).toEqual(IMAGE.bodies.slice(0, 1))
})

test('in the journal, unsealed; sealed: the disk broke its promise, which is reported', async () => {
  await inJournal(IMAGE.data)
  index.set(SEGMENT, { state: 'sealed', bytes: IMAGE.data.length, liveBytes: 3 })
  await run()
  expect(index.lost).toEqual([{ segment: SEGMENT, from: IMAGE.data.length, to: Number.MAX_SAFE_INTEGER }])
})

test.each(['open', 'sealed', 'persisted'] as const)('adopted; %s: marked persisted', async (state) => {
  await adopted(IMAGE.sealed)
  index.set(SEGMENT, { state, bytes: state === 'open' ? 0 : IMAGE.data.length, liveBytes: 3 })
  const { toPersist } = await run()
  expect(toPersist).toEqual([])
  expect(index.rows.get(SEGMENT)).toMatchObject({ state: 'persisted', bytes: IMAGE.data.length })
})

test('C21: in both places, after a crash inside adoption: one is kept, the whole one', async () => {
  await inJournal(IMAGE.sealed)
  await adopted(IMAGE.sealed)
  index.set(SEGMENT, { state: 'sealed', bytes: IMAGE.data.length, liveBytes: 3 })
  await run()
  expect(fileSystem.paths()).toEqual([files.adoptedPath(SEGMENT)])
  fileSystem = newFileSystem()
  files = new SegmentFiles(fileSystem, PLACES)
  await inJournal(IMAGE.sealed)
  await adopted(IMAGE.sealed.subarray(0, 30))
  expect((await run()).report.lost).toEqual([])
  expect(fileSystem.paths()).toEqual([files.journalPath(SEGMENT)])
})

test('a file that metadata does not know is an orphan and goes, and so does an unfinished copy', async () => {
  await inJournal(IMAGE.data)
  await writeFile(fileSystem, `${files.adoptedPath(segmentNumber(2))}.part`, Buffer.from('half'))
  await writeFile(fileSystem, `${PLACES.journal}/notes.txt`, Buffer.from('not ours'))
  expect((await run()).report.orphansRemoved).toBe(1)
  expect(fileSystem.paths()).toEqual([`${PLACES.journal}/notes.txt`])
})

test('no file, live bytes: reported as lost from the first byte on', async () => {
  index.set(SEGMENT, { state: 'persisted', bytes: 500, liveBytes: 3 })
  await run()
  expect(index.lost).toEqual([{ segment: SEGMENT, from: 0, to: Number.MAX_SAFE_INTEGER }])
})

test('no live bytes: left to the reclaimer, with or without a file', async () => {
  await inJournal(IMAGE.data)
  index.set(SEGMENT, {})
  index.set(segmentNumber(2), { state: 'persisted', bytes: 9 })
  const { report, empty } = await run()
  expect(empty).toEqual([SEGMENT, segmentNumber(2)])
  expect(report.lost).toEqual([])
})

test('recovery that is cut short by another crash comes to the same end', async () => {
  await inJournal(IMAGE.data.subarray(0, IMAGE.data.length - 1))
  index.set(SEGMENT, { liveBytes: 3 })
  fileSystem.faults.failNthSync = 1
  await expect(run()).rejects.toThrow('EIO')
  const { report } = await run()
  expect(report.lost).toEqual([])
  expect(await files.use(SEGMENT, ({ footer }) => Promise.resolve(footer.bodies))).toEqual(IMAGE.bodies.slice(0, 1))
})

test('where segments are uploaded: persisted and on no disk, it lies in the remote store', async () => {
  index.set(SEGMENT, { state: 'persisted', bytes: IMAGE.data.length, liveBytes: 3 })
  const { report, toPersist, uploaded } = await run('uploading')
  expect({ toPersist, uploaded, lost: index.lost }).toEqual({ toPersist: [], uploaded: [], lost: [] })
  expect(report).toMatchObject({ segments: 1, orphansRemoved: 0 })
})

test('where segments are uploaded: persisted and still in the journal, its file is handed on', async () => {
  await inJournal(IMAGE.sealed)
  index.set(SEGMENT, { state: 'persisted', bytes: IMAGE.data.length, liveBytes: 3 })
  expect(await run('uploading')).toMatchObject({ toPersist: [], uploaded: [SEGMENT], report: { orphansRemoved: 0 } })
})

test('where segments are uploaded: persisted, empty and still in the journal, its file is handed on all the same', async () => {
  await inJournal(IMAGE.sealed)
  index.set(SEGMENT, { state: 'persisted', bytes: IMAGE.data.length, liveBytes: 0 })
  expect(await run('uploading')).toMatchObject({ toPersist: [], uploaded: [SEGMENT], empty: [SEGMENT] })
})

test('where segments are uploaded: sealed and on no disk is a loss there too', async () => {
  index.set(SEGMENT, { state: 'sealed', bytes: IMAGE.data.length, liveBytes: 3 })
  await run('uploading')
  expect(index.lost).toEqual([{ segment: SEGMENT, from: 0, to: Number.MAX_SAFE_INTEGER }])
})

test('what metadata does not know stays where a former holder’s backup may need it, and goes from the journal', async () => {
  await inJournal(IMAGE.sealed)
  const other = segmentNumber(2)
  await writeFile(fileSystem, files.adoptedPath(other), segmentImage(other, [Buffer.from('x')]).sealed)
  const { report } = await recover({
    fileSystem,
    files,
    index,
    pageBytes: 64,
    carries: 'adopting',
    strangers: 'kept',
  })
  expect([report.orphansRemoved, fileSystem.paths()]).toEqual([1, [files.adoptedPath(other)]])
})
