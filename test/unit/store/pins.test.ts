import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import type { Extent, ObjectVersion } from '../../../src/common/model.ts'
import type { BlockPin, Memory } from '../../../src/store/byte-ports.ts'
import { pinObject, unpinObject, type PinParts } from '../../../src/store/pins.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const BLOCK_BYTES = TINY_LIMITS.blockBytes
const [ONE, TWO] = ['1', '2'].map((digit) => digit.repeat(32)) as [SegmentId, SegmentId]
/** Over the end of a block into the next two, then a piece of another segment, then more of a block that was there before. */
const EXTENTS: Extent[] = [
  { offset: 0, length: 400, segment: ONE, segmentOffset: 200 },
  { offset: 400, length: 50, segment: TWO, segmentOffset: 1000 },
  { offset: 450, length: 100, segment: ONE, segmentOffset: 612 },
]
const INODE = 7
let pins: Map<string, number>
let lent: string[]
let leases: number
let failing: { lend?: string; pin?: string }
let ahead: string[]
let extentsAsked: number
let pinnedBytesMax: number
let parts: PinParts

beforeEach(() => {
  pins = new Map()
  lent = []
  leases = 0
  failing = {}
  ahead = []
  extentsAsked = 0
  pinnedBytesMax = 10 * BLOCK_BYTES
  const name = ({ segment, block }: Omit<BlockPin, 'holder'>): string => `${segment[0]}/${block}`
  const memory = {
    lend: (segment: SegmentId, block: number, needed: number) => {
      if (name({ segment, block }) === failing.lend) return Promise.reject(new TidegateError('DataLost', 'gone'))
      lent.push(`${name({ segment, block })}:${needed}`)
      leases++
      return Promise.resolve({ slabOffset: 0, length: BLOCK_BYTES, lease: leases })
    },
    prefetch: (segment: SegmentId, firstBlock: number, count: number) => {
      ahead.push(`${segment[0]}/${firstBlock}+${count}`)
      return count
    },
    giveBack: () => leases--,
    pin: (pin: BlockPin, untilMs: number) => {
      expect([pin.holder, leases]).toEqual([INODE, 1])
      if (name(pin) === failing.pin) return undefined
      pins.set(name(pin), untilMs)
      return () => void pins.delete(name(pin))
    },
    unpin: (pin: BlockPin) => void pins.delete(name(pin)),
    get pinnedBytesMax() {
      return pinnedBytesMax
    },
  } as unknown as Memory
  /** One extent a call: the walk goes on where the window ended. */
  const metadata = {
    extents: (_: number, offset: number) => {
      extentsAsked++
      const from = EXTENTS.filter((extent) => extent.offset + extent.length > offset)
      return Promise.resolve(from.slice(0, 1))
    },
  } as unknown as PinParts['metadata']
  parts = { memory, metadata, limits: TINY_LIMITS }
})

function version(body: ObjectVersion['body'] = { kind: 'content', content: 3 }, size = 550): ObjectVersion {
  return { inode: INODE, body, size } as ObjectVersion
}

test('every block that an object lies in is fetched as far as the object needs, pinned once, and given back', async () => {
  expect(await pinObject(parts, version(), 99)).toBe(550)
  expect(lent).toEqual(['1/0:256', '1/1:256', '1/2:200', '2/3:256', '2/4:26'])
  // Fetched ahead in as few runs as they lie in.
  expect(ahead).toEqual(['1/0+3', '2/3+2'])
  expect(leases).toBe(0)
  expect([...pins]).toEqual(['1/0', '1/1', '1/2', '2/3', '2/4'].map((block) => [block, 99]))
  await unpinObject(parts, version())
  expect(pins.size).toBe(0)
})

test('a body in the metadata needs no pin', async () => {
  const inline = version({ kind: 'inline', bytes: new Uint8Array(3) }, 3)
  expect(await pinObject(parts, inline, 99)).toBe(0)
  await unpinObject(parts, inline)
  expect([lent, extentsAsked]).toEqual([[], 0])
})

test.each<[string, typeof failing, string]>([
  ['a block cannot be fetched', { lend: '2/3' }, 'DataLost'],
  ['the share of memory is used up', { pin: '2/3' }, 'StorageFull'],
])('all or nothing: when %s, what was pinned is let go', async (_, fails, code) => {
  failing = fails
  await expect(pinObject(parts, version(), 99)).rejects.toMatchObject({ code })
  expect([pins.size, leases]).toEqual([0, 0])
})

test('an object that can never be pinned is refused before anything is fetched, naming bytes and limit', async () => {
  pinnedBytesMax = 4 * BLOCK_BYTES
  const refusal = { code: 'StorageFull', details: { bytes: 550, pinnedBytesMax: 1024 } }
  await expect(pinObject(parts, version(), 99)).rejects.toMatchObject(refusal)
  expect(lent).toEqual([])
  pins.set('1/0', 1)
  await unpinObject(parts, version())
  expect(pins.size, 'and so it never was').toBe(1)
})
