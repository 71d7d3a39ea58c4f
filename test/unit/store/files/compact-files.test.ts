/** C30 over the whole engine: files are compacted while they are written, and the old bytes are given back. */
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock, type Clock } from '../../../../src/common/clock.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { startEngine, type Engine } from '../../../../src/engine.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { createHashWorkers } from '../../../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../../../src/persist/journal/device-threads.ts'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import { Random, testSeed } from '../../../model/random.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'

const LIMITS = { ...DEFAULT_LIMITS, blockBytes: 128 * 1024, sharedBodyBytesMax: 512 * 1024 }
const MAIN = 'main' as ByteString
const COPY = 'copy' as ByteString
const FILE_BYTES = 400_000

let directory: string
let engine: Engine
let aheadMs = 0
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs }

beforeEach(async () => {
  aheadMs = 0
  directory = await mkdtemp(join(tmpdir(), 'tidegate-compact-'))
  await mkdir(join(directory, 'store'), { recursive: true })
  engine = await startEngine({
    clock,
    limits: LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(directory, 'journal'), store: join(directory, 'store') },
    slabBytes: 128 * LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) => createMemoryStore({ beforeCommit }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: () => undefined,
    poison: true,
    backgroundJobs: false,
  })
  await engine.store.buckets.create({ name: 'box', owner: 'root', region: 'us-east-1' })
})

afterEach(async () => {
  await engine.drain()
  await engine.stop()
  await rm(directory, { recursive: true, force: true })
})

async function open(name: ByteString): Promise<{ inode: number; handle: number }> {
  const { files } = engine.store
  const { inode } = await files.find(0, 'box' as ByteString)
  const made = { kind: 'file', mode: 0o644, uid: 1000, gid: 1000 } as const
  const node = await files.makeFile(inode, name, made)
  return { inode: node.inode, handle: (await files.open(node.inode, { write: true, truncate: false })).handle }
}

async function contentOf(handle: number): Promise<Buffer> {
  const { files, reading } = engine.store
  const content: Uint8Array[] = []
  for (let offset = 0; ;) {
    const pieces = await files.read(handle, offset, 64 * 1024)
    if (pieces.length === 0) return Buffer.concat(content)
    for (const piece of pieces) {
      if (piece.kind === 'bytes') content.push(piece.bytes)
      else if (piece.kind === 'hole') content.push(Buffer.alloc(piece.length))
      else {
        content.push(Buffer.from(reading.view(piece)))
        reading.release(piece.lease)
      }
      offset += content.at(-1)?.length ?? 0
    }
  }
}

async function writeRandomly(random: Random, handle: number, bytes: Buffer): Promise<void> {
  const [offset, length] = [random.below(FILE_BYTES - 3000), 1 + random.below(3000)]
  const written = randomFillSync(Buffer.alloc(length))
  bytes.set(written, offset)
  await engine.store.files.write(handle, offset, written, false)
}

async function reclaimAll(): Promise<void> {
  await engine.orderedStore.flush()
  for (let round = 0; round < 50; round++) {
    await engine.reclaimer.step()
    await engine.reclaimer.removePersisted()
  }
}

async function extentCount(inode: number): Promise<number> {
  return (await engine.namespace.files.fileExtents(inode, 0, FILE_BYTES)).extents.length
}

test('C11, C12, C30: random writes are compacted between and under other writes, and a model agrees', async () => {
  const seed = testSeed()
  const random = new Random(seed)
  const { files } = engine.store
  const main = await open(MAIN)
  const bytes = randomFillSync(Buffer.alloc(FILE_BYTES))
  await files.write(main.handle, 0, bytes, false)
  for (let round = 0; round < 12; round++) {
    for (let i = 0; i < 30; i++) {
      await writeRandomly(random, main.handle, bytes)
      if (random.chance(0.5)) await files.flush(main.handle)
    }
    await files.flush(main.handle)
    aheadMs += 10_000
    const before = [await files.node(main.inode), (await engine.namespace.lookup('box', MAIN)).etag]
    if (round % 2 === 0) {
      while (await engine.store.files.compactor.round());
      expect([await files.node(main.inode), (await engine.namespace.lookup('box', MAIN)).etag]).toEqual(before)
      expect(await extentCount(main.inode), `seed ${seed}`).toBeLessThan(40)
    } else {
      const writing = (async () => {
        for (let i = 0; i < 20; i++) {
          await writeRandomly(random, main.handle, bytes)
          await files.flush(main.handle)
        }
      })()
      await Promise.all([writing, engine.store.files.compactor.round(), reclaimAll()])
    }
    expect((await contentOf(main.handle)).equals(bytes), `seed ${seed}`).toBe(true)
    await checkNamespace(engine.orderedStore)
  }
  const copy = await open(COPY)
  expect(
    await files.copyRange({ handle: main.handle, offset: 0 }, { handle: copy.handle, offset: 0 }, FILE_BYTES),
  ).toBe(FILE_BYTES)
  expect((await contentOf(copy.handle)).equals(bytes)).toBe(true)
  await files.release(main.handle)
  await files.release(copy.handle)
})

test('C12, C30: the segments of what was compacted are given back', async () => {
  const random = new Random(7)
  const main = await open(MAIN)
  const bytes = randomFillSync(Buffer.alloc(FILE_BYTES))
  await engine.store.files.write(main.handle, 0, bytes, false)
  for (let i = 0; i < 200; i++) {
    await writeRandomly(random, main.handle, bytes)
    await engine.store.files.flush(main.handle)
  }
  aheadMs += 10_000
  const pieces = await extentCount(main.inode)
  while (await engine.store.files.compactor.round());
  expect(pieces).toBeGreaterThan(100)
  await engine.store.files.release(main.handle)
  await reclaimAll()
  expect(await checkNamespace(engine.orderedStore)).toMatchObject({ dropped: 0 })
  expect(await extentCount(main.inode)).toBeLessThan(pieces / 10)
})
