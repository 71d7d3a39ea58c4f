import { expect, test } from 'vitest'
import { recover } from '../../../../src/persist/recovery.ts'
import { LocalDiskStore } from '../../../../src/persist/remote/local-disk.ts'
import { SegmentFiles } from '../../../../src/persist/segment-files.ts'
import { Random } from '../../../model/random.ts'
import { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { FakeIndex, newFileSystem, PLACES, segmentImage, segmentNumber, writeFile } from '../fixtures.ts'

const SEGMENT = segmentNumber(5)
const { sealed, data } = segmentImage(SEGMENT, [Buffer.alloc(500, 5)])

async function sealedInJournal(
  options: { otherDevice?: string } = {},
): Promise<{ fileSystem: ForgetfulFileSystem; files: SegmentFiles }> {
  const fileSystem = newFileSystem(options)
  const files = new SegmentFiles(fileSystem, PLACES)
  await writeFile(fileSystem, files.journalPath(SEGMENT), sealed)
  return { fileSystem, files }
}

test('C21: adoption is a rename; it writes no byte, survives a power cut, and may be repeated', async () => {
  const { fileSystem, files } = await sealedInJournal()
  const { writes } = fileSystem.counts
  const store = new LocalDiskStore(fileSystem, files)
  await store.adopt(SEGMENT)
  await store.adopt(SEGMENT)
  expect(fileSystem.counts.writes).toBe(writes)
  const after = fileSystem.crash(new Random(1))
  expect(after.paths()).toEqual([files.adoptedPath(SEGMENT)])
  expect(after.contents(files.adoptedPath(SEGMENT))).toEqual(sealed)
})

test('C21: across file systems it copies, and the copy survives a power cut', async () => {
  const { fileSystem, files } = await sealedInJournal({ otherDevice: PLACES.store })
  await new LocalDiskStore(fileSystem, files).adopt(SEGMENT)
  const after = fileSystem.crash(new Random(2))
  expect(after.paths()).toEqual([files.adoptedPath(SEGMENT)])
  expect(after.contents(files.adoptedPath(SEGMENT))).toEqual(sealed)
})

test.each([{ otherDevice: undefined }, { otherDevice: PLACES.store }])(
  'C21: a power cut anywhere inside adoption loses nothing and leaves one file ($otherDevice)',
  async ({ otherDevice }) => {
    for (let seed = 1; seed <= 120; seed++) {
      const random = new Random(seed)
      const { fileSystem, files } = await sealedInJournal(otherDevice ? { otherDevice } : {})
      const scheduler = new Scheduler()
      const slow = fileSystem.crash(random, { scheduler, random, ...(otherDevice ? { otherDevice } : {}) })
      slow.latencyMsMax = 1
      const adoption = new LocalDiskStore(slow, new SegmentFiles(slow, PLACES)).adopt(SEGMENT)
      adoption.catch(() => undefined)
      for (let steps = random.below(16); steps > 0; steps--) await scheduler.step()
      const found = slow.crash(random)
      const foundFiles = new SegmentFiles(found, PLACES)
      const index = new FakeIndex()
      index.set(SEGMENT, { state: 'sealed', bytes: data.length, liveBytes: 500 })
      const { report } = await recover({
        fileSystem: found,
        files: foundFiles,
        index,
        carries: 'adopting',
        strangers: 'removed',
        pageBytes: 64,
      })
      expect([seed, report.lost, index.lost, found.paths().length]).toEqual([seed, [], [], 1])
      expect(await foundFiles.use(SEGMENT, ({ footer }) => Promise.resolve(footer.dataBytes))).toBe(data.length)
      expect(files.places).toBe(PLACES)
    }
  },
)

test('a full disk and a failing one are told apart, and adoption succeeds later', async () => {
  const { fileSystem, files } = await sealedInJournal({ otherDevice: PLACES.store })
  const store = new LocalDiskStore(fileSystem, files)
  fileSystem.faults.full = true
  await expect(store.adopt(SEGMENT)).rejects.toMatchObject({ code: 'StorageFull' })
  fileSystem.faults.full = false
  fileSystem.faults.failNthSync = 1
  await expect(store.adopt(SEGMENT)).rejects.toMatchObject({ code: 'Unavailable' })
  await store.adopt(SEGMENT)
  expect(fileSystem.paths()).toEqual([files.adoptedPath(SEGMENT)])
})

test('the directories themselves survive a power cut once the store has started', async () => {
  const fileSystem = new ForgetfulFileSystem({ scheduler: new Scheduler(), random: new Random(1) })
  fileSystem.addDirectory('/data')
  const files = new SegmentFiles(fileSystem, PLACES)
  await new LocalDiskStore(fileSystem, files).start()
  await writeFile(fileSystem, files.journalPath(SEGMENT), sealed)
  for (let seed = 1; seed <= 20; seed++) {
    const found = fileSystem.crash(new Random(seed))
    expect(found.paths()).toEqual([files.journalPath(SEGMENT)])
  }
})
