/** Files over the whole engine: the namespace, the journal on disk, the slab; beside S3 on the same bucket. */
import { randomBytes, randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { startEngine, type Engine } from '../../../../src/engine.ts'
import { MemoryBackend, MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { createHashWorkers } from '../../../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../../../src/persist/journal/device-threads.ts'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'

const BUCKET = 'files'
const LIMITS = { ...DEFAULT_LIMITS, blockBytes: 128 * 1024, sharedBodyBytesMax: 512 * 1024 }

let directory: string
let disk: MemoryDisk
let engine: Engine
let root: number

async function start(): Promise<void> {
  await mkdir(join(directory, 'store'), { recursive: true })
  engine = await startEngine({
    clock: systemClock,
    limits: LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(directory, 'journal'), store: join(directory, 'store') },
    slabBytes: 128 * LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) => createMemoryStore({ backend: new MemoryBackend({ disk }), beforeCommit }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: () => undefined,
    poison: true,
  })
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-files-'))
  disk = new MemoryDisk()
  await start()
  await engine.store.buckets.create({ name: BUCKET, owner: 'root', region: 'us-east-1' })
  root = (await engine.store.files.find(0, BUCKET as ByteString)).inode
})

afterEach(async () => {
  await engine.drain()
  await engine.stop()
  await rm(directory, { recursive: true, force: true })
})

async function make(name: string): Promise<{ inode: number; handle: number }> {
  const { files } = engine.store
  const made = { kind: 'file', mode: 0o644, uid: 1000, gid: 1000 } as const
  const { inode } = await files.makeFile(root, name as ByteString, made)
  return { inode, handle: (await files.open(inode, { write: true, truncate: false })).handle }
}

async function contentOf(handle: number): Promise<Buffer> {
  const { files, reading } = engine.store
  const content: Uint8Array[] = []
  for (let offset = 0; ;) {
    const pieces = await files.read(handle, offset, 1024 * 1024)
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

async function objectContent(key: string): Promise<Buffer> {
  const { objects, reading } = engine.store
  const { reader, version } = await objects.open({ bucket: BUCKET, key }, {})
  const content = Buffer.alloc(version.size)
  if (version.body.kind === 'inline') content.set(version.body.bytes)
  else {
    for (let offset = 0; offset < version.size;) {
      const slice = await reading.read(reader, offset, version.size - offset)
      content.set(reading.view(slice), offset)
      reading.release(slice.lease)
      offset += slice.length
    }
  }
  reading.close(reader)
  return content
}

test('C20: what is written and synced is read by S3, and after a start', async () => {
  const { files } = engine.store
  const { handle, inode } = await make('big')
  const bytes = randomBytes(5_000_000)
  for (let at = 0; at < bytes.length; at += 1024 * 1024) {
    await files.write(handle, at, bytes.subarray(at, at + 1024 * 1024), false)
  }
  expect((await contentOf(handle)).equals(bytes)).toBe(true)
  await files.sync(handle)
  expect((await contentOf(handle)).equals(bytes)).toBe(true)
  expect((await objectContent('big')).equals(bytes)).toBe(true)
  bytes.fill(1, 1_000_000, 1_000_100)
  await files.write(handle, 1_000_000, bytes.subarray(1_000_000, 1_000_100), false)
  await files.allocate(handle, { offset: 2_000_000, length: 500_000 }, { kind: 'punch', keepSize: true })
  bytes.fill(0, 2_000_000, 2_500_000)
  await files.sync(handle)
  expect((await objectContent('big')).equals(bytes)).toBe(true)
  expect(await files.seek(handle, 0, 'hole')).toBe(2_000_000)
  await files.release(handle)
  await engine.drain()
  await engine.stop()
  await start()
  const again = await engine.store.files.open(inode, { write: false, truncate: false })
  expect((await contentOf(again.handle)).equals(bytes)).toBe(true)
  await engine.store.files.release(again.handle)
})

test('small files lie inline, grow out of it and are cut back', async () => {
  const { files } = engine.store
  const { handle, inode } = await make('small')
  await files.write(handle, 0, Buffer.from('hello'), false)
  await files.flush(handle)
  expect((await objectContent('small')).toString()).toBe('hello')
  await files.write(handle, 10_000, Buffer.from('!'), false)
  await files.flush(handle)
  const grown = Buffer.alloc(10_001)
  grown.set(Buffer.from('hello'))
  grown[10_000] = 33
  expect((await objectContent('small')).equals(grown)).toBe(true)
  await files.change(inode, { size: 4 })
  await files.sync(handle)
  expect((await objectContent('small')).toString()).toBe('hell')
  await files.release(handle)
})

test('C27: what is deleted or overwritten by S3 while it is open stays readable, and goes with the last release', async () => {
  const { files, objects } = engine.store
  const { handle, inode } = await make('gone')
  const bytes = randomBytes(300_000)
  await files.write(handle, 0, bytes, false)
  await files.sync(handle)
  await objects.delete({ bucket: BUCKET, key: 'gone' }, {})
  await files.write(handle, 0, Buffer.from('x'), false)
  await files.sync(handle)
  bytes.set(Buffer.from('x'))
  expect((await contentOf(handle)).equals(bytes)).toBe(true)
  await expect(objects.head({ bucket: BUCKET, key: 'gone' }, {})).rejects.toMatchObject({ code: 'NoSuchKey' })
  await files.release(handle)
  await expect(files.node(inode)).rejects.toMatchObject({ code: 'StaleFile' })
})
