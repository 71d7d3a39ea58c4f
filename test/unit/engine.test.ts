/** The engine as a whole over its production parts (threads, real files), and its answer to a full disk. */
import { createHash, randomBytes, randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import { TidegateError } from '../../src/common/errors.ts'
import { startEngine, type Engine, type EngineEvent } from '../../src/engine.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../src/persist/journal/device-threads.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import type { TransactionOperation } from '../../src/store/kv-types.ts'
import type { BodySource } from '../../src/store/types.ts'
import { Random } from '../model/random.ts'
import { Life, newMachine, TINY_LIMITS } from '../sim/life.ts'

const ATTRIBUTES = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
let directory: string
let events: EngineEvent[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-engine-'))
  events = []
})

afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

async function start(metadata: MemoryDisk, sync?: () => Promise<void>): Promise<Engine> {
  const store = join(directory, 'store')
  await mkdir(store, { recursive: true })
  return await startEngine({
    clock: systemClock,
    limits: TINY_LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(directory, 'journal'), store },
    slabBytes: 64 * TINY_LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) =>
      createMemoryStore({ backend: new MemoryBackend({ disk: metadata, ...(sync && { sync }) }), beforeCommit }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: (event) => events.push(event),
    poison: true,
  })
}

async function put(engine: Engine, key: string, bytes: Buffer): Promise<void> {
  const { bodies, objects } = engine.store
  const body = await bodies.open({
    expectedLength: bytes.length,
    algorithms: [],
    sha256: false,
    label: { bucket: 'b-1', key },
  })
  try {
    for (let at = 0; at < bytes.length; at += 500) await bodies.append(body, bytes.subarray(at, at + 500))
    await bodies.finish(body)
    await objects.put({
      bucket: 'b-1',
      key,
      body: { kind: 'streamed', body },
      attributes: ATTRIBUTES,
      checksum: undefined,
      owner: 'root',
      conditions: NO_CONDITIONS,
      ack: undefined,
    })
  } finally {
    await bodies.discard(body)
  }
}

async function get(engine: Engine, key: string): Promise<Buffer> {
  const { objects, reading } = engine.store
  const { reader, version } = await objects.open({ bucket: 'b-1', key }, NO_CONDITIONS)
  try {
    if (version.body.kind === 'inline') return Buffer.from(version.body.bytes)
    const pieces: Buffer[] = []
    for (let at = 0; at < version.size;) {
      const slice = await reading.read(reader, at, version.size - at)
      pieces.push(Buffer.from(reading.view(slice)))
      reading.release(slice.lease)
      at += slice.length
    }
    return Buffer.concat(pieces)
  } finally {
    reading.close(reader)
  }
}

test('what was put is read back, after a drain and after a stop without one', { timeout: 60_000 }, async () => {
  const metadata = new MemoryDisk()
  const sizes = [0, 1, 32, 33, 256, 1000, 1024, 1025, 9000]
  const bodies = sizes.map((size) => randomBytes(size))
  for (const ending of ['drain', 'stop', 'read'] as const) {
    const engine = await start(metadata)
    if (ending === 'drain') await engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' })
    for (const [index, bytes] of bodies.entries()) {
      if (ending !== 'drain')
        expect((await get(engine, `${index}`)).equals(bytes), `${ending} ${bytes.length}`).toBe(true)
      await put(engine, `${index}`, bytes)
      const { etag } = await engine.store.objects.head({ bucket: 'b-1', key: `${index}` }, NO_CONDITIONS)
      expect(etag).toBe(createHash('md5').update(bytes).digest('hex'))
      expect((await get(engine, `${index}`)).equals(bytes)).toBe(true)
    }
    expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
    if (ending === 'drain') await engine.drain()
    await engine.stop()
  }
  const problems = events.filter(({ kind }) => kind !== 'recovered')
  expect(problems).toEqual([])
})

test('a drain that finds a body being published leaves it its bytes', async () => {
  for (const size of [700, 5000]) {
    let syncing: (() => void) | undefined
    let slow = false
    let commits = 0
    const engine = await start(new MemoryDisk(), () => {
      commits++
      return slow ? new Promise((resolve) => (syncing = resolve)) : Promise.resolve()
    })
    await engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' })
    const bytes = randomBytes(size)
    await put(engine, 'first', bytes)
    // The journal may be making its next segment: the commit that is held up shall be that of the put.
    for (let seen = -1; seen !== commits; await sleep(50)) seen = commits
    slow = true
    const putting = put(engine, 'k', bytes)
    await vi.waitFor(() => expect(syncing).toBeDefined())
    const draining = engine.store.stop()
    slow = false
    syncing?.()
    await Promise.all([putting, draining])
    expect((await get(engine, 'k')).equals(bytes)).toBe(true)
    expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
    await engine.stop()
  }
})

const UNKNOWN = new TidegateError('Unavailable', 'no answer in time', { details: { outcome: 'unknown' } })

describe('a large body whose publish was answered with an unknown outcome', () => {
  const bytes = randomBytes(9000)
  let metadata: MemoryDisk
  let engine: Engine

  beforeEach(async () => {
    metadata = new MemoryDisk()
    engine = await start(metadata)
    await engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' })
  })

  afterEach(() => engine.stop())

  test('is read if it took effect, and after a start', async () => {
    const { publish } = engine.namespace
    vi.spyOn(engine.namespace, 'publish').mockImplementationOnce(async (request) => {
      await publish(request)
      throw UNKNOWN
    })
    await expect(put(engine, 'k', bytes)).rejects.toBe(UNKNOWN)
    expect((await get(engine, 'k')).equals(bytes)).toBe(true)
    expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
    await engine.drain()
    await engine.stop()
    engine = await start(metadata)
    expect((await get(engine, 'k')).equals(bytes)).toBe(true)
    expect(await engine.namespace.segments(undefined, 10)).toMatchObject([{ state: 'persisted', liveBytes: 9000 }])
  })

  test('goes by itself if it did not', async () => {
    vi.spyOn(engine.namespace, 'publish').mockRejectedValueOnce(UNKNOWN)
    await expect(put(engine, 'k', bytes)).rejects.toBe(UNKNOWN)
    expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
    await expect.poll(() => engine.namespace.segments(undefined, 10), { timeout: 15_000 }).toEqual([])
    expect(await readdir(join(directory, 'journal'))).toEqual([])
  })

  test('is read as a part if it was one, and in a transaction', async () => {
    const { uploads, keyValues } = engine.store
    const { putPart, transactValues } = engine.namespace
    vi.spyOn(engine.namespace, 'putPart').mockImplementationOnce(async (request) => {
      await putPart(request)
      throw UNKNOWN
    })
    vi.spyOn(engine.namespace, 'transactValues').mockImplementationOnce(async (request) => {
      await transactValues(request)
      throw UNKNOWN
    })
    const upload = { bucket: 'b-1', key: 'parts' }
    const { uploadId } = await uploads.create({
      ...upload,
      attributes: ATTRIBUTES,
      owner: 'root',
      checksumAlgorithm: undefined,
      checksumType: undefined,
    })
    const part = { ...upload, uploadId, partNumber: 1, checksum: undefined, ack: undefined }
    await expect(streamed('parts', (body) => uploads.putPart({ ...part, body }))).rejects.toBe(UNKNOWN)
    const etag = createHash('md5').update(bytes).digest('hex')
    await uploads.complete({
      ...upload,
      uploadId,
      parts: [{ partNumber: 1, etag, checksum: undefined }],
      conditions: NO_CONDITIONS,
      checksum: undefined,
      checksumType: undefined,
      objectSize: undefined,
      ack: undefined,
    })
    expect((await get(engine, 'parts')).equals(bytes)).toBe(true)
    const then = (body: BodySource): TransactionOperation[] => [
      { op: 'put', key: 'k', body, attributes: ATTRIBUTES, ttlMs: undefined },
    ]
    const request = { bucket: 'b-1', compares: [], else: [], owner: 'root', ack: undefined }
    await expect(streamed('k', (body) => keyValues.transact({ ...request, then: then(body) }))).rejects.toBe(UNKNOWN)
    expect((await get(engine, 'k')).equals(bytes)).toBe(true)
  })

  async function streamed(key: string, publish: (body: BodySource) => Promise<unknown>): Promise<void> {
    const { bodies } = engine.store
    const label = { bucket: 'b-1', key }
    const body = await bodies.open({ expectedLength: bytes.length, algorithms: [], sha256: false, label })
    for (let at = 0; at < bytes.length; at += 500) await bodies.append(body, bytes.subarray(at, at + 500))
    await bodies.finish(body)
    await publish({ kind: 'streamed', body })
  }
})

test.each(['flush drain', 'stop'] as const)('C21: after a drain (%s) all that is alive is persisted', async (how) => {
  const engine = await start(new MemoryDisk())
  const { store, namespace, flusher, journal } = engine
  await store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' })
  flusher.pause()
  for (let at = 0; at < 60; at++) await put(engine, `${at}`, randomBytes(300))
  await journal.sealOpen()
  for (let at = 0; at < 60; at++) {
    if (at % 10 !== 0) await store.objects.delete({ bucket: 'b-1', key: `${at}` }, NO_CONDITIONS)
  }
  // So that each is worth compacting when its turn comes.
  const segments = (): ReturnType<Engine['namespace']['segments']> => namespace.segments(undefined, 1000)
  const sum = async (): Promise<number> => (await segments()).reduce((bytes, { liveBytes }) => bytes + liveBytes, 0)
  await vi.waitFor(async () => expect(await sum()).toBe(6 * 300), { timeout: 5_000 })
  flusher.resume()
  if (how === 'stop') await engine.drain()
  else expect(await engine.writeBehind.drain({ waitMsMax: 20_000, through: undefined })).toMatchObject({ leftItems: 0 })
  expect((await segments()).filter(({ liveBytes, state }) => liveBytes > 0 && state !== 'persisted')).toEqual([])
  expect(await sum()).toBe(6 * 300)
  await engine.stop()
})

/** Uploads never arrive, and fail when the store stops, as those over a network do. */
function holdUploads({ remote }: Life): { begun: number } {
  if (!remote) throw new Error('no remote store')
  const held = { begun: 0 }
  const stopped = Promise.withResolvers<never>()
  const stop = remote.stop.bind(remote)
  stopped.promise.catch(() => undefined)
  remote.putFile = () => {
    held.begun++
    return stopped.promise
  }
  remote.stop = async () => {
    stopped.reject(new Error('the remote store stops'))
    await stop()
  }
  return held
}

test('a stop with a backlog begins no uploads, and fails none', async () => {
  const life = new Life(newMachine(new Random(3), undefined, 'upload'), new Random(3))
  await life.start(undefined)
  const { engine, scheduler } = life
  const until = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'a call')
  await until(engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' }))
  const uploads = holdUploads(life)
  for (let at = 0; at < 60; at++) await until(put(engine, `${at}`, Buffer.alloc(600, at)))
  await until(engine.journal.sealOpen())
  const { begun } = uploads
  expect(engine.flusher.backlog).toBeGreaterThan(engine.flusher.uploads)
  await until(engine.stop())
  expect([uploads.begun, [...engine.flusher.totals.failures]]).toEqual([begun, []])
})

test('C19: a full disk refuses writes, lets deletes through, and takes writes again when there is room', async () => {
  const life = new Life(newMachine(new Random(3), undefined, 'local disk'), new Random(3))
  await life.start(undefined)
  const { engine, scheduler, fileSystem } = life
  const until = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'a call')
  await until(engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' }))
  const bytes = Buffer.alloc(600, 6)
  await until(put(engine, 'before', bytes))
  fileSystem.faults.full = true
  await expect(until(put(engine, 'refused', bytes))).rejects.toMatchObject({ code: 'StorageFull' })
  expect((await until(get(engine, 'before'))).equals(bytes)).toBe(true)
  await until(engine.store.objects.delete({ bucket: 'b-1', key: 'before' }, NO_CONDITIONS))
  await expect(until(get(engine, 'refused'))).rejects.toMatchObject({ code: 'NoSuchKey' })
  fileSystem.faults.full = false
  await scheduler.until(scheduler.delay(40_000), 'the mender')
  await until(put(engine, 'after', bytes))
  expect((await until(get(engine, 'after'))).equals(bytes)).toBe(true)
  expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
  await until(engine.drain())
  await until(engine.stop())
})

test('C19: a large body that was let in is refused when others have taken the room meanwhile', async () => {
  const life = new Life(newMachine(new Random(3), undefined, 'local disk'), new Random(3))
  await life.start(undefined)
  const { engine, scheduler, fileSystem } = life
  const until = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'a call')
  const { bodies } = engine.store
  const request = { expectedLength: 5000, algorithms: [], sha256: false, label: { bucket: 'b-1', key: 'k' } }
  const body = await until(bodies.open(request))
  await until(bodies.append(body, Buffer.alloc(500)))
  fileSystem.space = () => Promise.resolve({ freeBytes: -1, totalBytes: 1000 })
  await scheduler.until(scheduler.delay(1000), 'the next look')
  await expect(until(bodies.append(body, Buffer.alloc(500)))).rejects.toMatchObject({ code: 'StorageFull' })
  await until(bodies.discard(body))
  await until(engine.stop())
})
