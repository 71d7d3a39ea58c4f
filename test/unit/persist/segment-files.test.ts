import { beforeEach, expect, test } from 'vitest'
import { SegmentFiles } from '../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../sim/forgetful-file-system.ts'
import { newFileSystem, PLACES, segmentImage, segmentNumber, writeFile } from './fixtures.ts'

const SEGMENT = segmentNumber(0x1a)
let fileSystem: ForgetfulFileSystem
let files: SegmentFiles

beforeEach(() => {
  fileSystem = newFileSystem()
  files = new SegmentFiles(fileSystem, PLACES)
})

const { sealed, data } = segmentImage(SEGMENT, [Buffer.from('body')])

test('segments are found in both places, and nothing else is', async () => {
  await writeFile(fileSystem, files.journalPath(SEGMENT), data)
  await writeFile(fileSystem, files.adoptedPath(segmentNumber(2)), data)
  await writeFile(fileSystem, `${PLACES.journal}/${SEGMENT}.seg.part`, data)
  await writeFile(fileSystem, `${PLACES.store}/segments/zz/${SEGMENT}.seg`, data)
  await writeFile(fileSystem, `${PLACES.store}/segments/77/${SEGMENT}.seg`, data)
  expect(await files.find()).toEqual([
    { segment: SEGMENT, place: 'journal', path: files.journalPath(SEGMENT) },
    { segment: segmentNumber(2), place: 'adopted', path: `${PLACES.store}/segments/02/${segmentNumber(2)}.seg` },
  ])
})

test('a sealed segment is found wherever it lies, and stays open for the next reader while it is renamed', async () => {
  await writeFile(fileSystem, files.journalPath(SEGMENT), sealed)
  const dataBytes = (): Promise<number> => files.use(SEGMENT, ({ footer }) => Promise.resolve(footer.dataBytes))
  expect(await dataBytes()).toBe(data.length)
  await fileSystem.makeDirectory(files.adoptedDirectory(SEGMENT))
  await fileSystem.rename(files.journalPath(SEGMENT), files.adoptedPath(SEGMENT))
  expect(await dataBytes()).toBe(data.length)
  expect(
    await new SegmentFiles(fileSystem, PLACES).use(SEGMENT, ({ footer }) => Promise.resolve(footer.bodies.length)),
  ).toBe(1)
})

test('no file, or one without a valid footer, is DataLost, and is looked for again next time', async () => {
  const use = (): Promise<number> => files.use(SEGMENT, () => Promise.resolve(1))
  await expect(use()).rejects.toMatchObject({ code: 'DataLost' })
  await writeFile(fileSystem, files.journalPath(SEGMENT), data)
  await expect(use()).rejects.toMatchObject({ code: 'DataLost' })
  const file = await fileSystem.open(files.journalPath(SEGMENT), 'write')
  await file.write(sealed, 0)
  expect(await use()).toBe(1)
})

test('a removed segment is closed when its last reader is done, not before', async () => {
  await writeFile(fileSystem, files.journalPath(SEGMENT), sealed)
  const into = Buffer.alloc(4)
  await files.use(SEGMENT, async ({ file, footer }) => {
    await files.remove(SEGMENT)
    await file.read(into, footer.bodies[0]?.offset ?? 0)
  })
  expect(into.toString()).toBe('body')
  expect(fileSystem.paths()).toEqual([])
})

test('a file that is read while it is removed does not stay open', async () => {
  await writeFile(fileSystem, files.adoptedPath(SEGMENT), sealed)
  const remove = fileSystem.remove.bind(fileSystem)
  const dataBytes = (): Promise<number> => files.use(SEGMENT, ({ footer }) => Promise.resolve(footer.dataBytes))
  fileSystem.remove = async (path) => {
    if (path === files.adoptedPath(SEGMENT)) expect(await dataBytes()).toBe(data.length)
    await remove(path)
  }
  await files.remove(SEGMENT)
  await expect(dataBytes()).rejects.toMatchObject({ code: 'DataLost' })
})

test('a file whose footer cannot be read is Unavailable, does not stay open, and is read again next time', async () => {
  await writeFile(fileSystem, files.journalPath(SEGMENT), sealed)
  const open = fileSystem.open.bind(fileSystem)
  let isBad = true
  let opened = 0
  fileSystem.open = async (path, mode) => {
    const file = await open(path, mode)
    opened++
    return {
      read: (into, position) =>
        isBad ? Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })) : file.read(into, position),
      write: (bytes, position) => file.write(bytes, position),
      sync: () => file.sync(),
      truncate: (length) => file.truncate(length),
      size: () => file.size(),
      close: async () => {
        opened--
        await file.close()
      },
    }
  }
  const use = (): Promise<number> => files.use(SEGMENT, () => Promise.resolve(1))
  await expect(use()).rejects.toMatchObject({ code: 'Unavailable', message: expect.stringContaining(SEGMENT) })
  expect(opened).toBe(0)
  isBad = false
  expect(await use()).toBe(1)
})
