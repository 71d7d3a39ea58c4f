/**
 * A hit in the disk level of the cache against a plain `pread` of as many bytes of a local file, both straight into the slab, in turn, in
 * this process. The `pread` is the fastest that an event loop has: by libuv's pool, with a callback rather than a `FileHandle`. The
 * level checks every page on the way (C14), `pread` nothing. `warm`: the kernel has the file in memory, so that
 * what is compared is the work beside the disk's; `cold`: both files were dropped from there, and the disk is read.
 */
import { execFileSync } from 'node:child_process'
import { read as readFile, readdirSync } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { createDiskLevel, type DiskLevel } from '../../src/cache-tier/disk/disk-level.ts'
import { createPageReaderThreads } from '../../src/cache-tier/disk/page-reader.ts'
import { MemoryLevel } from '../../src/cache-tier/memory-level.ts'
import { Slab } from '../../src/cache-tier/slab.ts'
import { must } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import { crc32 } from '../../src/common/crc32.ts'
import type { SegmentId } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { interleave, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'

const MIB = 2 ** 20
const BLOCKS = 256
const IN_FLIGHT_MAX = 4
const THREADS = 2
const SMALL_BYTES = 4096
const WHOLE = 'a'.repeat(32) as SegmentId
const { blockBytes, pageBytes } = DEFAULT_LIMITS

interface Setting {
  readonly level: DiskLevel
  readonly slab: Slab
  readonly plain: FileHandle
  readonly files: readonly string[]
}

/** Reads one thing into the slot at this offset. */
type ReadOne = (index: number, slabOffset: number) => Promise<unknown>

export const diskLevel: Benchmark = {
  name: 'disk-level',
  async run(context) {
    const setting = await prepare(context)
    try {
      return await measure(context, setting)
    } finally {
      await setting.plain.close()
      await setting.level.stop()
    }
  },
}

async function prepare(context: BenchmarkContext): Promise<Setting> {
  const directory = join(context.directory, 'cache')
  const slab = new Slab({ bytes: 64 * MIB, slotBytes: blockBytes })
  const level = createDiskLevel({
    fileSystem: nodeFileSystem,
    directory,
    bytesMax: 4 * 2 ** 30,
    freeBytesMin: 0,
    limits: DEFAULT_LIMITS,
    clock: systemClock,
    reader: createPageReaderThreads({ slab: slab.buffer, clock: systemClock, threads: THREADS }),
    readFooter: () => Promise.resolve(undefined),
    onFailure: (doing, cause) => context.note(`${doing}: ${(cause as Error).message}`),
  })
  await level.start()
  const path = join(context.directory, 'plain')
  const plain = await open(path, 'w+')
  const block = Buffer.alloc(blockBytes)
  for (let at = 0; at < block.length; at += 4) block.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at)
  for (let index = 0; index < BLOCKS; index++) {
    await plain.write(block, 0, block.length, index * blockBytes)
    await keep(level, WHOLE, index, block)
    await keep(level, smallSegment(index), 0, block.subarray(0, SMALL_BYTES))
  }
  await plain.sync()
  return { level, slab, plain, files: [path, ...readdirSync(directory).map((name) => join(directory, name))] }
}

function smallSegment(index: number): SegmentId {
  return index.toString(16).padStart(32, '0') as SegmentId
}

async function keep(level: DiskLevel, segment: SegmentId, block: number, bytes: Uint8Array): Promise<void> {
  const crcs = Array.from({ length: Math.ceil(bytes.length / pageBytes) }, (_, page) =>
    crc32(bytes.subarray(page * pageBytes, (page + 1) * pageBytes)),
  )
  const { writes } = level.stats
  level.keep(segment, block, bytes, crcs)
  while (level.stats.writes === writes) await new Promise((resolve) => setTimeout(resolve, 1))
}

async function measure(context: BenchmarkContext, setting: Setting): Promise<Measurement[]> {
  const { level, slab, plain } = setting
  const view = (slabOffset: number, length: number): Buffer => slab.view(slabOffset, length)
  const hit =
    (segment: (index: number) => SegmentId, block: (index: number) => number): ReadOne =>
    async (index, slabOffset) =>
      must(await level.read(segment(index), block(index), view(slabOffset, blockBytes)), 'a hit')
  const pread =
    (bytes: number): ReadOne =>
    (index, slabOffset) =>
      readPlain(plain, view(slabOffset, bytes), index * blockBytes)
  const large = hit(
    () => WHOLE,
    (index) => index,
  )
  const small = hit(smallSegment, () => 0)
  const rows: Measurement[] = []
  for (const inFlight of [1, IN_FLIGHT_MAX]) {
    rows.push(await compareReads(context, `1m-${inFlight}`, { read: large, plain: pread(blockBytes), inFlight }))
    rows.push(await compareReads(context, `4k-${inFlight}`, { read: small, plain: pread(SMALL_BYTES), inFlight }))
  }
  rows.push(await compareRequests(context, setting))
  rows.push(await compareCold(context, setting, { read: large, plain: pread(blockBytes) }))
  return rows
}

function readPlain({ fd }: FileHandle, into: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    readFile(fd, into, 0, into.length, position, (error) => (error ? reject(error) : resolve()))
  })
}

function row(name: string, unit: string, compared: { value: number; ceiling: number; ratio: number }): Measurement {
  return { name: `disk-level-${name}`, unit, ...compared, aim: '>= 0.8', durability: 'none' }
}

async function compareReads(
  context: BenchmarkContext,
  name: string,
  { read, plain, inFlight }: { read: ReadOne; plain: ReadOne; inFlight: number },
): Promise<Measurement> {
  const random = (): number => Math.floor(Math.random() * BLOCKS)
  const rate = async (one: ReadOne): Promise<number> => {
    const endMs = performance.now() + (context.seconds * 1000) / 4
    let reads = 0
    const startMs = performance.now()
    const lane = async (_: unknown, slot: number): Promise<void> => {
      for (; performance.now() < endMs; reads++) await one(random(), slot * blockBytes)
    }
    await Promise.all(Array.from({ length: inFlight }, lane))
    return reads / ((performance.now() - startMs) / 1000)
  }
  await rate(read)
  const compared = await interleave(
    context.rounds,
    () => rate(read),
    () => rate(plain),
  )
  return row(`${name}-warm`, 'reads/s', compared)
}

/** Requests of 4 KiB one after another through memory, which takes whole blocks from the level, against as many `pread`s. */
async function compareRequests(context: BenchmarkContext, { level, slab, plain }: Setting): Promise<Measurement> {
  const memorySlab = new Slab({ bytes: 32 * MIB, slotBytes: blockBytes })
  const memory = new MemoryLevel({ slab: memorySlab, limits: DEFAULT_LIMITS, clock: systemClock })
  // The level reads into its own slab: here a slot of it stands for that of the memory level.
  const fetch = async (segment: SegmentId, block: number): Promise<number> =>
    must(await level.read(segment, block, slab.view(0, blockBytes)), 'a hit')
  const into = Buffer.alloc(SMALL_BYTES)
  const requests = (BLOCKS / 4) * (blockBytes / SMALL_BYTES)
  const rate = async (one: (at: number) => Promise<void>): Promise<number> => {
    const startMs = performance.now()
    for (let request = 0; request < requests; request++) await one(request * SMALL_BYTES)
    return requests / ((performance.now() - startMs) / 1000)
  }
  const throughLevels = async (at: number): Promise<void> => {
    const block = Math.floor(at / blockBytes)
    const lent = memory.lendNow(WHOLE, block, blockBytes) ?? (await memory.lend(WHOLE, block, blockBytes, fetch))
    into.set(memorySlab.view(lent.slabOffset + (at % blockBytes), SMALL_BYTES))
    memory.giveBack(lent.lease)
  }
  const compared = await interleave(
    context.rounds,
    async () => {
      memory.forget(WHOLE)
      return await rate(throughLevels)
    },
    () => rate((at) => readPlain(plain, into, at)),
  )
  return row('4k-requests', 'requests/s', compared)
}

/** All blocks in order, several in flight, from the disk. */
async function compareCold(
  context: BenchmarkContext,
  { files }: Setting,
  { read, plain }: { read: ReadOne; plain: ReadOne },
): Promise<Measurement> {
  const rate = async (one: ReadOne): Promise<number> => {
    for (const path of files) {
      execFileSync('sync', [path])
      execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' })
    }
    const startMs = performance.now()
    let next = 0
    const lane = async (_: unknown, slot: number): Promise<void> => {
      while (next < BLOCKS) await one(next++, slot * blockBytes)
    }
    await Promise.all(Array.from({ length: IN_FLIGHT_MAX }, lane))
    return (BLOCKS * blockBytes) / MIB / ((performance.now() - startMs) / 1000)
  }
  const compared = await interleave(
    context.rounds,
    () => rate(read),
    () => rate(plain),
  )
  return row('1m-cold', 'MiB/s', compared)
}
