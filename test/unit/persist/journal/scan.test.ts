import { beforeEach, expect, test } from 'vitest'
import { encodeFrame } from '../../../../src/persist/journal/format.ts'
import { pagesMatch, scanFrames, sealScanned } from '../../../../src/persist/journal/scan.ts'
import { readFooter } from '../../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { newFileSystem, PLACES, segmentImage, segmentNumber, writeFile } from '../fixtures.ts'

const SEGMENT = segmentNumber(1)
const PATH = `${PLACES.journal}/${SEGMENT}.seg`
const TARGET = { segment: SEGMENT, path: PATH, directory: PLACES.journal }
let fileSystem: ForgetfulFileSystem

beforeEach(() => {
  fileSystem = newFileSystem()
})

const BODIES = [Buffer.from('first'), Buffer.alloc(0), Buffer.alloc(300, 3), Buffer.from('last')]

test('a file that was cut at any byte holds exactly the bodies that are whole', async () => {
  const { data, bodies } = segmentImage(SEGMENT, BODIES)
  for (let length = 0; length <= data.length; length++) {
    fileSystem = newFileSystem()
    await writeFile(fileSystem, PATH, data.subarray(0, length))
    const scanned = await scanFrames(await fileSystem.open(PATH, 'read'), SEGMENT)
    const whole = bodies.filter((body) => body.offset + body.length <= length)
    expect(scanned.bodies, `cut at ${length}`).toEqual(whole)
    expect(scanned.dataBytes).toBe(whole.length > 0 ? (whole.at(-1)?.offset ?? 0) + (whole.at(-1)?.length ?? 0) : 0)
  }
})

test('a changed byte ends the scan before the body it lies in', async () => {
  const { data, bodies } = segmentImage(SEGMENT, BODIES)
  const third = bodies[2]
  for (const at of [third?.offset ?? 0, (third?.offset ?? 0) - 1, (third?.offset ?? 0) - 60]) {
    fileSystem = newFileSystem()
    const changed = Buffer.from(data)
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
    await writeFile(fileSystem, PATH, changed)
    expect((await scanFrames(await fileSystem.open(PATH, 'read'), SEGMENT)).bodies).toEqual(bodies.slice(0, 2))
  }
})

test('a frame inside a body is never taken for one, even behind a torn frame', async () => {
  const forged = encodeFrame(segmentNumber(99), { labelBytes: 0, bodyBytes: 0, labelCrc: 0, bodyCrc: 0, content: 666 })
  const copied = encodeFrame(SEGMENT, { labelBytes: 0, bodyBytes: 0, labelCrc: 0, bodyCrc: 0, content: 667 })
  const { data, bodies } = segmentImage(SEGMENT, [Buffer.concat([forged, copied]), Buffer.from('after')])
  await writeFile(fileSystem, PATH, data)
  expect((await scanFrames(await fileSystem.open(PATH, 'read'), SEGMENT)).bodies).toEqual(bodies)
  const file = await fileSystem.open(PATH, 'write')
  await file.write(Buffer.from([0]), 4)
  expect((await scanFrames(file, SEGMENT)).bodies).toEqual([])
})

test('nothing from cutAt on is trusted, whole or not', async () => {
  const { data, bodies } = segmentImage(SEGMENT, BODIES)
  await writeFile(fileSystem, PATH, data)
  const end = (bodies[0]?.offset ?? 0) + (bodies[0]?.length ?? 0)
  const file = await fileSystem.open(PATH, 'read')
  expect((await scanFrames(file, SEGMENT, end)).bodies).toEqual(bodies.slice(0, 1))
  expect((await scanFrames(file, SEGMENT, end - 1)).bodies).toEqual([])
})

test('what was sealed has a footer that fits, survives a power cut and can be sealed again', async () => {
  const { data, bodies } = segmentImage(SEGMENT, BODIES)
  await writeFile(fileSystem, PATH, Buffer.concat([data, Buffer.from('torn tail')]))
  for (let round = 0; round < 2; round++) {
    expect((await sealScanned(fileSystem, TARGET, { pageBytes: 64 })).dataBytes).toBe(data.length)
    const file = await fileSystem.open(PATH, 'read')
    const footer = await readFooter(file, SEGMENT)
    expect(footer?.bodies).toEqual(bodies)
    expect(footer && (await pagesMatch(file, footer))).toBe(true)
  }
  expect(fileSystem.contents(PATH)).toEqual(segmentImage(SEGMENT, BODIES).sealed)
})

test('a footer beside bytes that it does not vouch for is found out', async () => {
  const { sealed } = segmentImage(SEGMENT, BODIES)
  await writeFile(fileSystem, PATH, sealed)
  const file = await fileSystem.open(PATH, 'write')
  await file.write(Buffer.from([1]), 200)
  const footer = await readFooter(file, SEGMENT)
  expect(footer && (await pagesMatch(file, footer))).toBe(false)
})
