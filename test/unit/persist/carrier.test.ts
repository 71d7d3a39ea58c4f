import { beforeEach, expect, test } from 'vitest'
import type { SegmentId } from '../../../src/common/ids.ts'
import { UploadingCarrier, type TakesSegments } from '../../../src/persist/carrier.ts'
import { FaultyStore } from '../../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../../src/persist/remote/memory-store.ts'
import { segmentObjectName } from '../../../src/persist/remote/ports.ts'
import { SegmentFiles } from '../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../sim/forgetful-file-system.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { FakeIndex, newFileSystem, PLACES, segmentImage, segmentNumber, writeFile } from './fixtures.ts'

const SEGMENT = segmentNumber(1)
const NAME = segmentObjectName(SEGMENT)
const IMAGE = segmentImage(SEGMENT, [Buffer.from('one'), Buffer.alloc(200, 2)])
const NEVER = new AbortController().signal

let fileSystem: ForgetfulFileSystem
let files: SegmentFiles
let index: FakeIndex
let store: MemoryStore
let faulty: FaultyStore
let taken: { segment: SegmentId; path: string; dataBytes: number }[]
let takes: boolean
let ours: boolean

beforeEach(() => {
  fileSystem = newFileSystem()
  files = new SegmentFiles(fileSystem, PLACES)
  index = new FakeIndex()
  store = new MemoryStore({ clock: new HandClock(), fileSystem })
  faulty = new FaultyStore(store, { clock: new HandClock(), random: () => 0 })
  taken = []
  takes = true
  ours = true
})

function newCarrier(): UploadingCarrier {
  const diskLevel: TakesSegments = {
    async adopt(segment, path, { dataBytes }) {
      taken.push({ segment, path, dataBytes })
      if (takes) await fileSystem.remove(path)
      return takes
    },
    forget: () => undefined,
  }
  const verified = (): Promise<void> => (ours ? Promise.resolve() : Promise.reject(new Error('not ours')))
  return new UploadingCarrier({
    remote: faulty,
    fileSystem,
    files,
    index,
    diskLevel,
    guard: { verified, verifiedNow: verified },
  })
}

async function sealed(bytes: Uint8Array = IMAGE.sealed): Promise<void> {
  await writeFile(fileSystem, files.journalPath(SEGMENT), bytes)
  index.set(SEGMENT, { state: 'sealed', bytes: IMAGE.data.length, liveBytes: 3 })
}

test('C21: the object is the file, byte by byte, and the file stays until the mark', async () => {
  await sealed()
  await newCarrier().persist(SEGMENT, NEVER)
  expect(store.objects.get(NAME)?.bytes).toEqual(IMAGE.sealed)
  expect(fileSystem.paths()).toEqual([files.journalPath(SEGMENT)])
})

test('an upload whose acknowledgement was lost is done again, with the same object in the end', async () => {
  await sealed()
  faulty.failNth('putFile', 1, 'lost-acknowledgement')
  const carrier = newCarrier()
  await expect(carrier.persist(SEGMENT, NEVER)).rejects.toMatchObject({ code: 'Unavailable' })
  await carrier.persist(SEGMENT, NEVER)
  expect([...store.objects.keys()]).toEqual([NAME])
})

test('a file that is not whole is never called persisted', async () => {
  await sealed(IMAGE.data)
  await expect(newCarrier().persist(SEGMENT, NEVER)).rejects.toMatchObject({ code: 'DataLost' })
  expect(store.objects.size).toBe(0)
})

test('nothing leaves for a store that is not known to be ours', async () => {
  await sealed()
  ours = false
  await expect(newCarrier().persist(SEGMENT, NEVER)).rejects.toThrow('not ours')
  expect(store.objects.size).toBe(0)
})

test('what was reclaimed while it was on its way leaves no object', async () => {
  await sealed()
  index.rows.delete(SEGMENT)
  await newCarrier().persist(SEGMENT, NEVER)
  expect(store.objects.size).toBe(0)
})

test('after the mark the disk level has the file, or nobody', async () => {
  await sealed()
  await newCarrier().persisted(SEGMENT)
  expect(taken).toEqual([{ segment: SEGMENT, path: files.journalPath(SEGMENT), dataBytes: IMAGE.data.length }])
  takes = false
  await sealed()
  await newCarrier().persisted(SEGMENT)
  expect(fileSystem.paths()).toEqual([])
})

test('a persisted segment goes from the remote store, and stays recorded when that fails', async () => {
  await sealed()
  const carrier = newCarrier()
  await carrier.persist(SEGMENT, NEVER)
  index.set(SEGMENT, { state: 'persisted', bytes: IMAGE.data.length })
  const record = { segment: SEGMENT, state: 'persisted', bytes: IMAGE.data.length, liveBytes: 0 } as const
  faulty.faults.down = true
  await expect(carrier.remove(record)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(fileSystem.paths()).toEqual([files.journalPath(SEGMENT)])
  faulty.faults.down = false
  await carrier.remove(record)
  expect([store.objects.size, fileSystem.paths()]).toEqual([0, []])
})

test('what never left needs no remote store to go', async () => {
  await sealed()
  faulty.faults.down = true
  await newCarrier().remove({ segment: SEGMENT, state: 'sealed', bytes: IMAGE.data.length, liveBytes: 0 })
  expect(fileSystem.paths()).toEqual([])
})

test('an upload that is given up ends at once, though the store does not answer', async () => {
  await sealed()
  faulty.putFile = () => new Promise(() => undefined)
  const givingUp = new AbortController()
  const upload = newCarrier().persist(SEGMENT, givingUp.signal)
  setImmediate(() => givingUp.abort(new Error('given up')))
  await expect(upload).rejects.toThrow('given up')
})
