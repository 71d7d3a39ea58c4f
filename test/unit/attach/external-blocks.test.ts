import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ExternalBlocks, withExternalBlocks, type KeptBlocks } from '../../../src/attach/external-blocks.ts'
import { MemoryLevel } from '../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'
import { externalSegment } from '../../../src/common/external.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import type { Memory } from '../../../src/store/byte-ports.ts'
import { pinObject } from '../../../src/store/pins.ts'
import { Readers } from '../../../src/store/reading.ts'
import { TINY_LIMITS } from '../../sim/life.ts'
import { mirrorFixture, type MirrorFixture } from './mirror-fixture.ts'

const { blockBytes, pageBytes } = TINY_LIMITS
const BYTES = Buffer.from(Array.from({ length: 10 * blockBytes + 7 }, (_, index) => (index * 31) % 251))

let here: MirrorFixture
let blocks: ExternalBlocks
let memory: Memory
let readers: Readers
let kept: Map<string, Buffer>

beforeEach(async () => {
  here = await mirrorFixture()
  kept = new Map()
  const slab = new Slab({ bytes: 64 * blockBytes, slotBytes: blockBytes, poison: true })
  const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
  blocks = new ExternalBlocks({ ...here, limits: TINY_LIMITS, slabView, disk: diskOf(slabView) })
  const ours = { read: () => Promise.reject(new Error('not ours')), readRun: () => [] }
  const source = withExternalBlocks(ours, blocks)
  const level = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: here.clock })
  memory = {
    lend: (segment: SegmentId, block: number, needed: number) =>
      level.lend(segment, block, needed, (...place) => source.read(...place)),
    prefetch: (segment: SegmentId, firstBlock: number, count: number) =>
      level.prefetch({ segment, firstBlock, count }, (...run) => source.readRun(...run)),
    giveBack: (lease: number) => level.giveBack(lease),
    view: slabView,
    aheadBytesMax: level.bytesAheadMax,
    pin: level.pin.bind(level),
    pinnedBytesMax: level.bytesPinnedMax,
  } as unknown as Memory
  readers = new Readers({ memory, contents: here.metadata, blockBytes })
})

afterEach(() => here.stop())

function diskOf(slabView: (offset: number, length: number) => Buffer): KeptBlocks {
  return {
    read: (segment, block, slabOffset) => {
      const bytes = kept.get(`${segment}/${block}`)
      bytes?.copy(slabView(slabOffset, blockBytes))
      return Promise.resolve(bytes?.length)
    },
    keep: (segment, block, bytes, pageCrcs) => {
      expect(pageCrcs).toHaveLength(Math.ceil(bytes.length / pageBytes))
      expect(pageCrcs[0]).toBe(crc32(bytes.subarray(0, pageBytes)))
      kept.set(`${segment}/${block}`, Buffer.from(bytes))
    },
  }
}

async function readAll(version: ObjectVersion, from = 0, to = version.size): Promise<Buffer> {
  const reader = readers.begin(here.namespace.revision())
  readers.opened(reader, version)
  const pieces: Buffer[] = []
  try {
    for (let offset = from; offset < to;) {
      const slice = await readers.read(reader, offset, to - offset)
      pieces.push(Buffer.from(readers.view(slice)))
      readers.release(slice.lease)
      offset += slice.length
    }
  } finally {
    readers.close(reader)
  }
  return Buffer.concat(pieces)
}

test('a short object comes by one request, and then from memory', async () => {
  const { external, metadata } = here
  external.outsidePut('k', BYTES)
  const version = await metadata.lookup('far', 'k')
  expect(Buffer.compare(await readAll(version), BYTES)).toBe(0)
  expect(
    Buffer.compare(
      await readAll(version, 3 * blockBytes - 5, 3 * blockBytes + 5),
      BYTES.subarray(3 * blockBytes - 5, 3 * blockBytes + 5),
    ),
  ).toBe(0)
  expect(external.calls('read')).toBe(1)
  expect(blocks.status).toEqual({ requests: 1, bytes: BYTES.length, changedOutside: 0 })
})

test('blocks that the disk has are not asked for again; the gaps between them are', async () => {
  const { external, metadata, attached } = here
  external.outsidePut('k', BYTES)
  const version = await metadata.lookup('far', 'k')
  const { body } = version
  const segment = externalSegment(
    attached.record.bucketId,
    body.kind === 'external' ? body.external : { key: '', etag: '', size: 0 },
  )
  for (const block of [2, 3, 7]) {
    kept.set(`${segment}/${block}`, BYTES.subarray(block * blockBytes, (block + 1) * blockBytes))
  }
  expect(Buffer.compare(await readAll(version), BYTES)).toBe(0)
  expect(external.operations.filter(({ method }) => method === 'read').map(({ bytes }) => bytes)).toEqual([
    2 * blockBytes,
    3 * blockBytes,
    2 * blockBytes + 7,
  ])
  expect(kept.size).toBe(11)
})

test('C32: bytes of another object are never taken for these; the mirror learns of the change', async () => {
  const { external, metadata } = here
  external.outsidePut('k', BYTES)
  const version = await metadata.lookup('far', 'k')
  external.outsidePut('k', 'other')
  await expect(readAll(version)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(blocks.status.changedOutside).toBeGreaterThan(0)
  // Within the time for which what was seen would count.
  const now = await metadata.lookup('far', 'k')
  expect(now.size).toBe(5)
  expect((await readAll(now)).toString()).toBe('other')
})

test('what was listed and then deleted outside is found out by the first read', async () => {
  const { external, metadata } = here
  external.outsidePut('k', BYTES, {})
  await metadata.list({ bucket: 'far', prefix: '', delimiter: '', after: '', limit: 10 })
  const version = await metadata.lookup('far', 'k')
  external.outsideDelete('k')
  await expect(readAll(version)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(metadata.lookup('far', 'k')).rejects.toMatchObject({ code: 'NoSuchKey' })
})

test('a store that does not answer is Unavailable, and nothing is forgotten for that', async () => {
  const { external, metadata } = here
  external.outsidePut('k', BYTES)
  const version = await metadata.lookup('far', 'k')
  external.down = true
  await expect(readAll(version)).rejects.toMatchObject({ code: 'Unavailable' })
  external.down = false
  expect(Buffer.compare(await readAll(version), BYTES)).toBe(0)
})

test('an external object can be pinned', async () => {
  const { external, metadata } = here
  external.outsidePut('k', BYTES)
  const version = await metadata.lookup('far', 'k')
  const parts = { memory, metadata, limits: TINY_LIMITS }
  expect(await pinObject(parts, version, here.clock.ms + 1000)).toBe(BYTES.length)
})
