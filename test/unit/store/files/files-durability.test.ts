/**
 * What fsync waits for, and what a failed commit or a broken segment takes from others, over the whole engine: a gate and faults before
 * the metadata's sync, and in front of the journal's device.
 */
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { startEngine, type Engine } from '../../../../src/engine.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { createHashWorkers } from '../../../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../../../src/persist/journal/device-threads.ts'
import type { DeviceOperation, JournalDevice } from '../../../../src/persist/journal/device.ts'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import type { Files } from '../../../../src/store/doors.ts'

const BUCKET = 'files'
const LIMITS = { ...DEFAULT_LIMITS, admissionWaitMsMax: 3000, blockBytes: 128 * 1024, sharedBodyBytesMax: 512 * 1024 }
const MADE = { mode: 0o644, uid: 1000, gid: 1000 } as const
/** Without a gate all of this is done in a tenth of the time. */
const WAITS_MS = 300
/** What is waited for with a deadline takes far less. */
const SETTLED_MS_MAX = 10_000
/** Larger than a shared body: the journal has it under way while the file is still being written. */
const LARGE_BYTES = 900_000

let directory: string
let engine: Engine
let root: number
/** While it is pending no commit becomes durable. */
let gate: Promise<void> | undefined
/** The next commit fails. */
let failsCommit = false
/** What is written to the journal is answered with EIO. */
let failsWrites = false
let writesFailed = 0

function failing(device: JournalDevice): JournalDevice {
  const isFailing = ({ kind }: DeviceOperation): boolean => failsWrites && (kind === 'write' || kind === 'sync')
  return {
    submit: async (operations) => {
      const fails = operations.some(isFailing)
      const results = await device.submit(operations)
      if (!fails) return results
      writesFailed++
      return results.map((result) => ({ ...result, error: { code: 'EIO', message: 'injected' } }))
    },
    drain: () => device.drain(),
    stop: () => device.stop(),
  }
}

async function passGate(): Promise<void> {
  await gate
  if (!failsCommit) return
  failsCommit = false
  throw Object.assign(new Error('injected'), { code: 'EIO' })
}

async function start(): Promise<void> {
  await mkdir(join(directory, 'store'), { recursive: true })
  engine = await startEngine({
    clock: systemClock,
    limits: LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(directory, 'journal'), store: join(directory, 'store') },
    slabBytes: 256 * LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) =>
      failing(createThreadDevice({ slab: buffer, blockBytes, pageBytes })),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) =>
      createMemoryStore({
        backend: new MemoryBackend(),
        beforeCommit: async () => {
          await passGate()
          await beforeCommit()
        },
      }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: () => undefined,
    poison: true,
  })
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-durability-'))
  writesFailed = 0
  await start()
  await engine.store.buckets.create({ name: BUCKET, owner: 'root', region: 'us-east-1' })
  root = (await engine.store.files.find(0, BUCKET as ByteString)).inode
  await writeOnce('first')
})

afterEach(async () => {
  gate = undefined
  failsCommit = false
  failsWrites = false
  await engine.drain()
  await engine.stop()
  await rm(directory, { recursive: true, force: true })
})

function create(name: string): ReturnType<Files['create']> {
  return engine.store.files.create(root, name as ByteString, MADE, { write: true })
}

/** So that the journal has a segment that is whole, and the metadata nothing to commit. */
async function writeOnce(name: string): Promise<void> {
  const { files } = engine.store
  const { handle } = await create(name)
  await files.write(handle, 0, Buffer.alloc(100_000), false)
  await files.sync(handle)
  await files.release(handle)
  await engine.orderedStore.flush()
}

/** Holds back every commit until it is called. */
function shutGate(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>()
  gate = promise
  return () => {
    gate = undefined
    resolve()
  }
}

type Outcome = 'done' | 'failed' | 'waiting'

/** Never rejects. */
function outcomeOf(work: Promise<unknown>, withinMs = SETTLED_MS_MAX): Promise<Outcome> {
  const settled = work.then(
    () => 'done' as const,
    () => 'failed' as const,
  )
  return Promise.race([settled, sleep(withinMs, 'waiting' as const)])
}

/** How a sync fares while the metadata cannot be committed, and how when it can be again. */
async function syncThroughGate(handle: number, openGate: () => void): Promise<[Outcome, Outcome]> {
  const syncing = engine.store.files.sync(handle)
  const held = await outcomeOf(syncing, WAITS_MS)
  openGate()
  return [held, await outcomeOf(syncing)]
}

test('C15, C20: fsync of a file that was just made waits until its name is durable', async () => {
  const openGate = shutGate()
  const { handle } = await create('lock')
  expect(await syncThroughGate(handle, openGate)).toEqual(['waiting', 'done'])
  await engine.store.files.release(handle)
})

test('C15, C20: fsync waits for what was written and closed by another handle', async () => {
  const { files } = engine.store
  const openGate = shutGate()
  const { handle, node } = await create('data')
  await files.write(handle, 0, Buffer.alloc(100, 'a'), false)
  await files.flush(handle)
  await files.release(handle)
  const again = await files.open(node.inode, { write: true, truncate: false })
  expect(await syncThroughGate(again.handle, openGate)).toEqual(['waiting', 'done'])
  await files.release(again.handle)
})

test('C15, C20: fsync waits for a change of mode', async () => {
  const { files } = engine.store
  const { handle, node } = await create('mode')
  await files.write(handle, 0, Buffer.from('x'), false)
  await files.sync(handle)
  const openGate = shutGate()
  await files.change(node.inode, { mode: 0o600 })
  expect(await syncThroughGate(handle, openGate)).toEqual(['waiting', 'done'])
  await files.release(handle)
})

test('C20: what a failed commit has undone is published again', async () => {
  const { files, objects } = engine.store
  const { handle } = await create('undone')
  await files.write(handle, 0, Buffer.alloc(100, 'a'), false)
  await files.sync(handle)
  failsCommit = true
  await files.write(handle, 0, Buffer.alloc(50_000, 'b'), false)
  await outcomeOf(files.flush(handle))
  await expect.poll(() => failsCommit, { timeout: SETTLED_MS_MAX }).toBe(false)
  await files.write(handle, 50_000, Buffer.from('tail'), false)
  // The first may be told of the failure.
  await outcomeOf(files.sync(handle))
  expect(await outcomeOf(files.sync(handle))).toBe('done')
  expect((await objects.head({ bucket: BUCKET, key: 'undone' }, {})).size).toBe(50_004)
  await files.release(handle)
})

test('C15, C20: a file whose bytes were lost takes nothing from others whose commit is under way', async () => {
  const { files, objects } = engine.store
  const [bad, good] = [await create('bad'), await create('good')]
  await engine.orderedStore.flush()
  failsWrites = true
  for (let index = 0; index < 5; index++) {
    await files.write(bad.handle, index * LARGE_BYTES, Buffer.alloc(LARGE_BYTES, 'b'), false)
  }
  await expect.poll(() => writesFailed, { timeout: SETTLED_MS_MAX }).toBeGreaterThan(0)
  failsWrites = false
  await writeOnce('second')
  const openGate = shutGate()
  await files.write(good.handle, 0, Buffer.from('good'), false)
  expect(await outcomeOf(files.flush(good.handle))).toBe('done')
  await outcomeOf(files.flush(bad.handle), WAITS_MS)
  openGate()
  expect(await outcomeOf(files.sync(good.handle))).toBe('done')
  expect((await objects.head({ bucket: BUCKET, key: 'good' }, {})).size).toBe(4)
  await files.release(good.handle)
  await outcomeOf(files.release(bad.handle))
})
