import { beforeEach, expect, test } from 'vitest'
import { MemoryLevel } from '../../../src/cache-tier/memory-level.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { BlockSource, type Neighbours } from '../../../src/persist/block-source.ts'
import { segmentObjectName } from '../../../src/persist/remote/ports.ts'
import { SegmentFiles } from '../../../src/persist/segment-files.ts'
import { TINY_LIMITS } from '../../sim/life.ts'
import { PLACES, segmentNumber, writeFile, type SegmentImage } from './fixtures.ts'
import { RemoteFixture } from './reading/remote-fixture.ts'

const SEGMENT = segmentNumber(0x77)
let fixture: RemoteFixture
let files: SegmentFiles
let source: BlockSource
let badLocal: number[]

beforeEach(() => {
  fixture = new RemoteFixture()
  badLocal = []
  files = new SegmentFiles(fixture.fileSystem, PLACES)
  source = newSource()
})

function newSource(
  behind: 'remote' | 'nothing' = 'remote',
  neighbours?: Neighbours,
  copies?: { read(): Promise<number | undefined> },
): BlockSource {
  const { fileSystem, index, remote, disk, slab, verifier } = fixture
  return new BlockSource({
    fileSystem,
    files,
    journal: () => ({ unsealed: () => undefined }),
    verifier,
    limits: TINY_LIMITS,
    slabView: (offset, length) => slab.view(offset, length),
    onBadBlock: (_, block) => badLocal.push(block),
    behind: behind === 'remote' ? { index, remote, disk } : undefined,
    neighbours,
    copies,
  })
}

/** The bytes of a block, from wherever they come. */
async function read(block: number): Promise<Buffer> {
  const slot = fixture.slab.take() as number
  try {
    const length = await fixture.finish(source.read(SEGMENT, block, slot))
    return Buffer.from(fixture.slab.view(slot, length))
  } finally {
    fixture.slab.give(slot)
  }
}

function blockOf({ data }: SegmentImage, block: number): Buffer {
  return data.subarray(block * 256, (block + 1) * 256)
}

function withBadByte(bytes: Buffer, at: number): Buffer {
  const bad = Buffer.from(bytes)
  bad.writeUInt8(bad.readUInt8(at) ^ 1, at)
  return bad
}

test('a block is looked for in the journal, then in the disk level, then in the remote store', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  await writeFile(fixture.fileSystem, files.journalPath(SEGMENT), image.sealed)
  expect(await read(1)).toEqual(blockOf(image, 1))
  expect([fixture.reads, fixture.disk.blocks.size]).toEqual([[], 0])

  await files.remove(SEGMENT)
  fixture.disk.keep(SEGMENT, 1, blockOf(image, 1), new Uint32Array(4))
  expect(await read(1)).toEqual(blockOf(image, 1))
  expect(fixture.reads).toEqual([])

  expect(await read(2)).toEqual(blockOf(image, 2))
  expect(fixture.reads.length).toBe(2)
  expect(fixture.disk.blocks.has(`${SEGMENT}/2`)).toBe(true)
})

test('a segment that moves on between two looks is found all the same', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  await writeFile(fixture.fileSystem, files.journalPath(SEGMENT), image.sealed)
  const open = fixture.fileSystem.open.bind(fixture.fileSystem)
  // Into the disk level just before it is looked for in the journal, and out of that before it is looked for there.
  fixture.fileSystem.open = async (path, mode) => {
    fixture.fileSystem.open = open
    await fixture.fileSystem.remove(path)
    return await fixture.fileSystem.open(path, mode)
  }
  expect(await read(3)).toEqual(blockOf(image, 3))
  expect(fixture.reads.length).toBe(2)
})

test('a file that was moved away stays readable for who reads it, and is not kept open', async () => {
  const image = await fixture.upload(SEGMENT, 600)
  const path = files.journalPath(SEGMENT)
  await writeFile(fixture.fileSystem, path, image.sealed)
  expect(await read(0)).toEqual(blockOf(image, 0))
  const reading = read(1)
  await fixture.fileSystem.remove(path)
  files.moved(SEGMENT)
  expect(await reading).toEqual(blockOf(image, 1))
  expect(fixture.reads).toEqual([])
  expect(await read(1)).toEqual(blockOf(image, 1))
  expect(fixture.reads.length).toBe(2)
})

test('that a segment has no file is found out once', async () => {
  await fixture.upload(SEGMENT, 2000)
  let opens = 0
  const open = fixture.fileSystem.open.bind(fixture.fileSystem)
  fixture.fileSystem.open = (path, mode) => {
    opens++
    return open(path, mode)
  }
  for (const block of [0, 1, 2, 3]) await read(block)
  expect(opens).toBe(2)
})

test('C14: a bad page of a local file comes from the remote store if that has it, and is told if not', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  await writeFile(fixture.fileSystem, files.journalPath(SEGMENT), withBadByte(image.sealed, 300))
  expect(await read(1)).toEqual(blockOf(image, 1))
  expect([badLocal, fixture.badBlocks]).toEqual([[1, 1], []])
  expect(await read(2)).toEqual(blockOf(image, 2))
  fixture.index.set(SEGMENT, { state: 'sealed', bytes: image.data.length })
  await expect(read(1)).rejects.toMatchObject({ code: 'DataLost' })
  fixture.index.set(SEGMENT, { state: 'persisted', bytes: image.data.length })
  source = newSource('nothing')
  await expect(read(1)).rejects.toMatchObject({ code: 'DataLost' })
})

test('a disk that fails is no reason not to read what the remote store has', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  await writeFile(fixture.fileSystem, files.journalPath(SEGMENT), image.sealed)
  const open = fixture.fileSystem.open.bind(fixture.fileSystem)
  fixture.fileSystem.open = () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }))
  expect(await read(0)).toEqual(blockOf(image, 0))
  fixture.fileSystem.open = open
  await files.remove(SEGMENT)
  fixture.disk.failing = true
  expect(await read(1)).toEqual(blockOf(image, 1))
})

test('while the remote store is down, what lies here is read and the rest is Unavailable', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  await read(0)
  fixture.faulty.faults.down = true
  expect(await read(0)).toEqual(blockOf(image, 0))
  await expect(read(1)).rejects.toMatchObject({ code: 'Unavailable' })
  fixture.faulty.faults.down = false
  expect(await read(1)).toEqual(blockOf(image, 1))
})

test('of a run only what is not here comes from the remote store, in as few requests as there are gaps', async () => {
  const image = await fixture.upload(SEGMENT, 2500)
  for (const block of [2, 5]) await read(block)
  fixture.reads.length = 0
  const slots = fixture.slots(7)
  await fixture.finish(Promise.all(source.readRun(SEGMENT, 1, slots)))
  expect(fixture.reads.sort()).toEqual(['1536+512', '256+256', '768+512'])
  const got = Buffer.concat(slots.map((slot) => Buffer.from(fixture.slab.view(slot, 256))))
  expect(got).toEqual(image.data.subarray(256, 8 * 256))
})

test('a segment without a remote store behind it that is on no disk is DataLost', async () => {
  source = newSource('nothing')
  await expect(read(0)).rejects.toMatchObject({ code: 'DataLost', message: expect.stringContaining('on no disk') })
})

test('a footer is read wherever the segment lies', async () => {
  const image = await fixture.upload(SEGMENT, 600)
  const bodies = async (): Promise<unknown> => (await fixture.finish(source.footer(SEGMENT))).bodies
  expect(await bodies()).toEqual(image.bodies)
  source = newSource()
  await writeFile(fixture.fileSystem, files.journalPath(SEGMENT), image.sealed)
  fixture.memory.objects.delete(segmentObjectName(SEGMENT))
  expect(await bodies()).toEqual(image.bodies)
  source = newSource('nothing')
  expect(await bodies()).toEqual(image.bodies)
})

/** What others answer when they are asked for a block. */
function withNeighbours(
  ask: (block: number, slabOffset: number) => Promise<number | undefined> | undefined,
  behind: 'remote' | 'nothing' = 'remote',
): { readonly asked: string[] } {
  const asked: string[] = []
  source = newSource(behind, {
    ask: ({ block, slabOffset, needed }) => {
      asked.push(`${block}/${needed}`)
      const length = ask(block, slabOffset)
      return Promise.resolve(length && { length })
    },
  })
  return { asked }
}

test('other nodes are asked after the disks here and before the remote store, unless there is nobody to ask', async () => {
  const image = await fixture.upload(SEGMENT, 2500)
  const { slab } = fixture
  fixture.disk.keep(SEGMENT, 3, blockOf(image, 3), new Uint32Array(4))
  const { asked } = withNeighbours((block, slabOffset) => {
    if (block === 1) return undefined
    if (block === 2) return Promise.resolve(undefined)
    slab.view(slabOffset, 256).set(blockOf(image, block))
    return Promise.resolve(256)
  })
  const slots = fixture.slots(5)
  await fixture.finish(Promise.all(source.readRun(SEGMENT, 0, slots)))
  const got = Buffer.concat(slots.map((slot) => Buffer.from(slab.view(slot, 256))))
  expect(got).toEqual(image.data.subarray(0, 5 * 256))
  expect(asked).toEqual(['0/0', '1/0', '2/0', '4/0'])
  expect(fixture.reads.filter((read) => read.endsWith('+256')).sort()).toEqual(['256+256', '512+256'])
  await fixture.finish(source.read(SEGMENT, 0, fixture.slots(1)[0] as number, { needed: 77 }))
  expect(asked.at(-1)).toBe('0/77')
})

test('what there is nobody to ask for does not wait for those who are asked', async () => {
  await fixture.upload(SEGMENT, 2500)
  const answer = Promise.withResolvers<undefined>()
  withNeighbours((block) => (block === 0 ? answer.promise : undefined))
  const [first, second] = source.readRun(SEGMENT, 0, fixture.slots(2)) as [Promise<number>, Promise<number>]
  expect(await fixture.finish(second)).toBe(256)
  answer.resolve(undefined)
  expect(await fixture.finish(first)).toBe(256)
})

test('what others alone have and do not give is their error, and without a remote store nobody to ask is DataLost', async () => {
  withNeighbours((block) => (block === 0 ? Promise.reject(new Error('node 3 is away')) : undefined), 'nothing')
  await expect(read(0)).rejects.toThrow(/node 3 is away/)
  await expect(read(1)).rejects.toMatchObject({ code: 'DataLost', message: expect.stringContaining('on no disk') })
})

test('for another node only what lies here is read, and the remote store only if told to', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  const { asked } = withNeighbours(() => Promise.resolve(256))
  const [slabOffset] = fixture.slots(1) as [number]
  const place = { segment: SEGMENT, block: 1, slabOffset }
  expect(await fixture.finish(source.readHere(place, false))).toBeUndefined()
  expect(await fixture.finish(source.readHere(place, true))).toBe(256)
  expect(Buffer.from(fixture.slab.view(slabOffset, 256))).toEqual(blockOf(image, 1))
  fixture.reads.length = 0
  expect(await fixture.finish(source.readHere(place, false))).toBe(256)
  expect([asked, fixture.reads]).toEqual([[], []])
})

function newMemory(): {
  memory: MemoryLevel
  lend: (block: number) => Promise<number>
  prefetch: (segment: SegmentId, firstBlock: number, count: number) => number
} {
  const { slab, scheduler } = fixture
  const memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: scheduler.clock })
  return {
    memory,
    lend: async (block) => {
      const lent = await memory.lend(SEGMENT, block, 1, (segment, index, slot) => source.read(segment, index, slot))
      memory.giveBack(lent.lease)
      return slab.view(lent.slabOffset, 1)[0] as number
    },
    prefetch: (segment, firstBlock, count) =>
      memory.prefetch({ segment, firstBlock, count }, (of, first, slots) => source.readRun(of, first, slots)),
  }
}

test('a thousand readers of one block cause one request', async () => {
  const image = await fixture.upload(SEGMENT, 2000)
  const { lend } = newMemory()
  const read0 = await fixture.finish(Promise.all(Array.from({ length: 1000 }, () => lend(2))))
  expect(new Set(read0)).toEqual(new Set([image.data[512]]))
  expect(fixture.reads.filter((one) => !one.startsWith(`${image.data.length}+`))).toEqual(['512+256'])
  expect(fixture.reads.length).toBe(2)
})

test('who reads a block of a run under way waits for it and asks for nothing', async () => {
  const image = await fixture.upload(SEGMENT, 4000)
  const { lend, prefetch, memory } = newMemory()
  expect(prefetch(SEGMENT, 1, 12)).toBe(12)
  const got = await fixture.finish(Promise.all(Array.from({ length: 500 }, (_, at) => lend(1 + (at % 12)))))
  expect(got.every((byte, at) => byte === image.data[(1 + (at % 12)) * 256])).toBe(true)
  expect(fixture.reads.filter((one) => !one.startsWith(`${image.data.length}+`))).toEqual([`256+${12 * 256}`])
  expect(memory.leases).toBe(0)
})

test('a run that fails costs those who wait for it a request of their own, shared, and nobody else anything', async () => {
  const image = await fixture.upload(SEGMENT, 4000)
  const { lend, prefetch } = newMemory()
  fixture.faulty.failNth('read', 1, 'torn')
  fixture.faulty.failNth('read', 2, 'unavailable')
  prefetch(SEGMENT, 1, 8)
  const got = await fixture.finish(Promise.all(Array.from({ length: 100 }, (_, at) => lend(1 + (at % 2)))))
  expect(got.slice(0, 2)).toEqual([image.data[256], image.data[512]])
  expect(fixture.reads.filter((one) => !one.startsWith(`${image.data.length}+`)).sort()).toEqual(
    ['256+2048', '256+256', '512+256'].sort(),
  )
  expect(fixture.health.isDown).toBe(false)
})

test('a copy that is behind its owner is not what a reader needs: other nodes are asked', async () => {
  const neighbours: Neighbours = { ask: () => Promise.resolve({ length: Promise.resolve(200) }) }
  source = newSource('nothing', neighbours, { read: () => Promise.resolve(100) })
  const slot = fixture.slab.take() as number
  expect(await source.read(SEGMENT, 0, slot, { needed: 100 })).toBe(100)
  expect(await source.read(SEGMENT, 0, slot, { needed: 101 })).toBe(200)
  fixture.slab.give(slot)
})
