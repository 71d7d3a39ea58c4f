import { expect, test } from 'vitest'
import type { BatchResult, DeviceMemory, DeviceOperation } from '../../../../src/persist/journal/device.ts'
import { BatchingDevice } from '../../../../src/persist/journal/batching.ts'
import { createInlineDevice } from '../../../../src/persist/journal/device-threads.ts'
import { crc32 } from 'node:zlib'
import { newFileSystem, PLACES, segmentNumber } from '../fixtures.ts'

const SEGMENT = segmentNumber(1)
const PATH = `${PLACES.journal}/${SEGMENT}.seg`
const CREATE = { kind: 'create', segment: SEGMENT, path: PATH, directory: PLACES.journal } as const
const SYNC = { kind: 'sync', segment: SEGMENT } as const

function memoryOf(bytes: Buffer): DeviceMemory {
  return { slab: (offset, length) => bytes.subarray(offset, offset + length), blockBytes: 256, pageBytes: 64 }
}

function write(position: number, length: number): DeviceOperation {
  return { kind: 'write', segment: SEGMENT, position, slabOffset: position, length }
}

test('C22: all who wait at the same moment share one sync', async () => {
  const fileSystem = newFileSystem()
  const batches: { submissions: number; syncs: number }[] = []
  const device = createInlineDevice(fileSystem, memoryOf(Buffer.alloc(256, 1)), {
    onBatch: (batch) => batches.push(batch),
  })
  await device.submit([CREATE])
  const writers = Array.from({ length: 20 }, (_, index) => device.submit([write(index * 10, 10), SYNC]))
  const answers = await Promise.all(writers)
  expect(answers.every((results) => results.every((result) => result.error === undefined))).toBe(true)
  expect(batches.map(({ submissions }) => submissions)).toEqual([1, 20])
  expect(fileSystem.counts).toMatchObject({ syncs: 1, directorySyncs: 1 })
  await device.submit([write(200, 10), SYNC])
  expect(fileSystem.counts, 'the directory is synced once').toMatchObject({ syncs: 2, directorySyncs: 1 })
})

test('what arrives while a batch is under way gathers into the next', async () => {
  const seen: number[] = []
  let release: (() => void) | undefined
  const execute = async (operations: readonly DeviceOperation[]): Promise<BatchResult> => {
    seen.push(operations.length)
    if (seen.length === 1) await new Promise<void>((resolve) => (release = resolve))
    return { results: operations.map(() => ({})), syncs: 0 }
  }
  const device = new BatchingDevice(execute, undefined)
  const first = device.submit([SYNC])
  await new Promise((resolve) => setTimeout(resolve, 5))
  const rest = [device.submit([SYNC, SYNC]), device.submit([SYNC])]
  release?.()
  expect([(await first).length, ...(await Promise.all(rest)).map((results) => results.length)]).toEqual([1, 2, 1])
  expect(seen).toEqual([1, 3])
})

test('C14: a write answers with the checksums of the pages it completes', async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
  const device = createInlineDevice(newFileSystem(), memoryOf(bytes))
  const results = await device.submit([CREATE, write(0, 63), write(63, 2), write(65, 191)])
  const page = (index: number): number => crc32(bytes.subarray(index * 64, index * 64 + 64))
  expect(results.slice(1).map(({ pages }) => pages)).toEqual([
    [],
    [[0, page(0)]],
    [1, 2, 3].map((index) => [index, page(index)]),
  ])
})

test('after a failed sync everything on that segment fails until it is closed; other segments go on', async () => {
  const fileSystem = newFileSystem()
  const device = createInlineDevice(fileSystem, memoryOf(Buffer.alloc(256, 1)))
  const other = segmentNumber(2)
  await device.submit([CREATE, { ...CREATE, segment: other, path: `${PLACES.journal}/${other}.seg` }])
  fileSystem.faults.failNthSync = 1
  const [, failed] = await device.submit([write(0, 10), SYNC])
  expect(failed?.error?.code).toBe('EIO')
  const [again, synced] = await device.submit([write(10, 10), SYNC])
  expect([again?.error?.code, synced?.error?.code]).toEqual(['EIO', 'EIO'])
  const [fine] = await device.submit([{ kind: 'sync', segment: other }])
  expect(fine?.error).toBeUndefined()
  expect(await device.submit([{ kind: 'close', segment: SEGMENT }])).toEqual([{}])
})

test('a full disk is told to the one who wrote, in the same batch as a sync that then fails', async () => {
  const fileSystem = newFileSystem()
  const device = createInlineDevice(fileSystem, memoryOf(Buffer.alloc(256, 1)))
  await device.submit([CREATE])
  fileSystem.faults.full = true
  const [written, synced] = await device.submit([write(0, 10), SYNC])
  expect([written?.error?.code, synced?.error?.code]).toEqual(['ENOSPC', 'ENOSPC'])
})

test('a device that died or stopped answers every operation with an error, and never rejects', async () => {
  const broken = new BatchingDevice(() => Promise.reject(new Error('the thread is gone')), undefined)
  expect(await broken.submit([SYNC, SYNC])).toMatchObject([{ error: { code: 'EIO' } }, { error: { code: 'EIO' } }])
  await broken.stop()
  expect(await broken.submit([SYNC])).toMatchObject([{ error: { code: 'ESHUTDOWN' } }])
})
