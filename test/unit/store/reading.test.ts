import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import type { Extent, ObjectVersion } from '../../../src/common/model.ts'
import type { Memory } from '../../../src/store/byte-ports.ts'
import type { BodyPlaces } from '../../../src/store/external-extents.ts'
import { Readers } from '../../../src/store/reading.ts'

const BLOCK_BYTES = 256
const [ONE, TWO] = ['1', '2'].map((digit) => digit.repeat(32)) as [SegmentId, SegmentId]
/** 100 bytes that cross a block, then 50 of another segment, then 600 over three blocks. */
const EXTENTS: Extent[] = [
  { offset: 0, length: 100, segment: ONE, segmentOffset: 200 },
  { offset: 100, length: 50, segment: TWO, segmentOffset: 0 },
  { offset: 150, length: 600, segment: ONE, segmentOffset: 512 },
]
let lent: string[]
let prefetched: string[]
/** Blocks that there is memory for. */
let room: number
let leases: Set<number>
let readers: Readers
let asked: number

beforeEach(() => {
  lent = []
  prefetched = []
  room = Infinity
  leases = new Set()
  asked = 0
  const memory = {
    lend: (segment: SegmentId, block: number, needed: number) => {
      lent.push(`${segment[0]}/${block}:${needed}`)
      const lease = lent.length
      leases.add(lease)
      return Promise.resolve({ slabOffset: block * BLOCK_BYTES, length: BLOCK_BYTES, lease })
    },
    prefetch: (segment: SegmentId, firstBlock: number, count: number) => {
      const covered = Math.min(count, room)
      if (covered > 0) prefetched.push(`${segment[0]}/${firstBlock}+${covered}`)
      return covered
    },
    aheadBytesMax: 16 * BLOCK_BYTES,
    giveBack: (lease: number) => leases.delete(lease),
    view: () => new Uint8Array(0),
  } as unknown as Memory
  const metadata = {
    extents: () => {
      asked++
      return Promise.resolve(EXTENTS)
    },
  } as unknown as BodyPlaces
  readers = new Readers({ memory, contents: metadata, blockBytes: BLOCK_BYTES })
})

function open(body: ObjectVersion['body'] = { kind: 'content', content: 1 }): number {
  const reader = readers.begin(10)
  readers.opened(reader, { size: 750, body } as ObjectVersion)
  return reader
}

test('a slice never crosses a block or an extent, and all slices together are the object', async () => {
  const reader = open()
  const slices: [number, number][] = []
  for (let at = 0; at < 750;) {
    const slice = await readers.read(reader, at, 750 - at)
    slices.push([slice.slabOffset, slice.length])
    readers.release(slice.lease)
    at += slice.length
  }
  expect(slices).toEqual([
    [200, 56],
    [256, 44],
    [0, 50],
    [512, 256],
    [768, 256],
    [1024, 88],
  ])
  expect(lent).toEqual(['1/0:256', '1/1:44', '2/0:50', '1/2:256', '1/3:256', '1/4:88'])
  expect([leases.size, asked]).toEqual([0, 1])
})

test('holes are zeros, at most a block at a time, each with a lease of its own', async () => {
  let acquired = 0
  const zeros = new Uint8Array(BLOCK_BYTES).fill(7)
  const memory = {
    lend: () => Promise.resolve({ slabOffset: 0, length: BLOCK_BYTES, lease: 5 }),
    prefetch: (_: SegmentId, __: number, count: number) => count,
    aheadBytesMax: 16 * BLOCK_BYTES,
    acquire: () => {
      if (acquired++ === 0) return Promise.reject(new TidegateError('SlowDown', 'no memory'))
      return Promise.resolve(4096)
    },
    giveBack: (lease: number) => expect(lease).toBe(5),
    view: () => zeros,
  } as unknown as Memory
  const extent = { offset: 300, length: 10, segment: ONE, segmentOffset: 0 }
  const contents = {
    extents: () => {
      asked++
      return Promise.resolve([extent])
    },
  } as unknown as BodyPlaces
  readers = new Readers({ memory, contents, blockBytes: BLOCK_BYTES })
  const reader = open()
  await expect(readers.read(reader, 0, 750)).rejects.toMatchObject({ code: 'SlowDown' })
  const slices: [number, number][] = []
  const leasesOfHoles = new Set<number>()
  for (let at = 0; at < 750;) {
    const slice = await readers.read(reader, at, 750 - at)
    slices.push([slice.slabOffset, slice.length])
    if (slice.lease !== 5) leasesOfHoles.add(slice.lease)
    readers.release(slice.lease)
    at += slice.length
  }
  expect(slices).toEqual([
    [4096, 256],
    [4096, 44],
    [0, 10],
    [4096, 256],
    [4096, 184],
  ])
  expect([leasesOfHoles.size, acquired, asked]).toEqual([4, 2, 1])
  expect(zeros.every((byte) => byte === 0)).toBe(true)
})

test('what was asked for is fetched ahead across extents, in windows that grow, and nothing beyond its end', async () => {
  const reader = open()
  for (let at = 0; at < 600;) at += (await readers.read(reader, at, 600 - at)).length
  // Of 600 bytes: the second block of the first extent, then the next extents as far as they are asked for.
  expect(prefetched).toEqual(['1/1+1', '2/0+1', '1/2+1', '1/3+1'])
})

test('who asks for one piece after the other is fetched ahead of, and who jumps is not', async () => {
  const reader = open()
  await readers.read(reader, 300, 10)
  expect(prefetched).toEqual([])
  await readers.read(reader, 310, 10)
  expect(prefetched).toEqual(['1/2+2'])
  for (const at of [700, 200, 450]) await readers.read(reader, at, 10)
  expect(prefetched).toEqual(['1/2+2'])
})

test('what memory had no room for is asked for again, and the window does not grow meanwhile', async () => {
  const reader = open()
  room = 0
  for (const at of [150, 160, 170]) await readers.read(reader, at, 10)
  expect(prefetched).toEqual([])
  room = 1
  await readers.read(reader, 180, 10)
  expect(prefetched).toEqual(['1/2+1'])
})

test('C12: the horizon is the oldest reader, until it closes', () => {
  const old = readers.begin(5)
  const young = readers.begin(9)
  expect(readers.horizon(12)).toBe(5)
  readers.close(old)
  readers.close(old)
  expect(readers.horizon(12)).toBe(9)
  readers.close(young)
  expect([readers.horizon(12), readers.count]).toEqual([12, 0])
})

test('what cannot be read is refused', async () => {
  const reader = open()
  await expect(readers.read(reader, 750, 1)).rejects.toMatchObject({ code: 'InvalidRange' })
  await expect(readers.read(reader, 0, 0)).rejects.toMatchObject({ code: 'InvalidRange' })
  await expect(readers.read(open({ kind: 'inline', bytes: new Uint8Array(3) }), 0, 1)).rejects.toMatchObject({
    code: 'InvalidRequest',
  })
  readers.close(reader)
  await expect(readers.read(reader, 0, 1)).rejects.toMatchObject({ code: 'InvalidRequest' })
})
