/** `ack=replicated` over a whole engine, with a partner that notes what it is sent. */
import { createHash, randomFillSync } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import { TidegateError } from '../../src/common/errors.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import type { AckLevel } from '../../src/common/model.ts'
import type { NodeCalls } from '../../src/common/node-calls.ts'
import { startEngine, type Engine } from '../../src/engine.ts'
import { MemoryBackend } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../src/persist/journal/device-threads.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { Members } from './persist/copies/fixture.ts'

const BUCKET = 'copied'
const LIMITS = { ...DEFAULT_LIMITS, admissionWaitMsMax: 2000, blockBytes: 128 * 1024, sharedBodyBytesMax: 512 * 1024 }
const MADE = { mode: 0o644, uid: 1000, gid: 1000 } as const
const LARGE_BYTES = 900_000
const ATTRIBUTES = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }

/** Keeps what it is sent, in order, and says that it has it. */
class Partner {
  readonly synced = new Map<string, Buffer>()
  readonly #taken = new Map<string, Buffer>()
  readonly #whole = new Set<string>()
  isAway = false

  get calls(): NodeCalls {
    return {
      serve: () => undefined,
      call: async (_, { method, head, pieces = [] }) => {
        if (this.isAway) throw new TidegateError('Unavailable', 'the partner is away')
        const said = JSON.parse(Buffer.from(head).toString()) as {
          segment: string
          segments: string[]
          position: number
          crc: number
          sync: boolean
        }
        const bytes = Buffer.concat(pieces)
        if (method === 'copy-open') this.#taken.set(said.segment, Buffer.alloc(0))
        if (method === 'copy-write' || method === 'copy-seal') {
          const before = this.#taken.get(said.segment) ?? Buffer.alloc(0)
          expect([said.position, said.crc]).toEqual([before.length, crc32(bytes)])
          const after = Buffer.concat([before, bytes])
          this.#taken.set(said.segment, after)
          if (said.sync || method === 'copy-seal') this.synced.set(said.segment, after)
          if (method === 'copy-seal') this.#whole.add(said.segment)
        }
        const held = (said.segments ?? [])
          .filter((segment) => this.#whole.has(segment))
          .map((segment) => ({ segment, bytes: 1, sealed: true }))
        return await Promise.resolve({ head: Buffer.from(JSON.stringify({ held })), body: Buffer.alloc(0) })
      },
    }
  }

  has(bytes: Uint8Array): boolean {
    return [...this.synced.values()].some((segment) => segment.includes(bytes))
  }
}

let directory: string
let engine: Engine
let partner: Partner
let members: Members

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-copies-'))
  await mkdir(join(directory, 'store'), { recursive: true })
  partner = new Partner()
  members = new Members()
  members.set(1)
  members.set(2)
  engine = await startEngine({
    clock: systemClock,
    limits: LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(directory, 'journal'), store: join(directory, 'store') },
    nodeNumber: 1,
    copies: {
      calls: partner.calls,
      view: members.view(1),
      directory: join(directory, 'copies'),
      graceMs: 1000,
    },
    slabBytes: 256 * LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) => createMemoryStore({ backend: new MemoryBackend(), beforeCommit }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: () => undefined,
    poison: true,
  })
  await engine.store.buckets.create({ name: BUCKET, owner: 'root', region: 'us-east-1', ack: 'replicated' })
})

afterEach(async () => {
  await engine.drain()
  await engine.stop()
  await rm(directory, { recursive: true, force: true })
})

function random(length: number): Buffer {
  return randomFillSync(Buffer.alloc(length))
}

async function put(key: string, bytes: Buffer, ack?: AckLevel): Promise<void> {
  const md5 = createHash('md5').update(bytes).digest('hex')
  await engine.store.objects.put({
    bucket: BUCKET,
    key,
    body: { kind: 'bytes', bytes, digests: { md5, checksums: {} } },
    attributes: ATTRIBUTES,
    checksum: undefined,
    owner: 'root',
    conditions: NO_CONDITIONS,
    ack,
  })
}

test("a PUT at the bucket's level is on the partner, synced, before it is answered; one that asks for less is not sent", async () => {
  const bytes = random(100_000)
  await put('a', bytes)
  expect(partner.has(bytes)).toBe(true)
  const plain = random(100_000)
  await put('b', plain, 'journal')
  expect(partner.has(plain)).toBe(false)
})

test("a large body goes to the partner as it comes, by the bucket's level", async () => {
  const bytes = random(LARGE_BYTES)
  const { bodies } = engine.store
  const body = await bodies.open({
    expectedLength: bytes.length,
    algorithms: [],
    sha256: false,
    label: { bucket: BUCKET, key: 'large' },
  })
  await bodies.append(body, bytes)
  await bodies.finish(body)
  await engine.store.objects.put({
    bucket: BUCKET,
    key: 'large',
    body: { kind: 'streamed', body },
    attributes: ATTRIBUTES,
    checksum: undefined,
    owner: 'root',
    conditions: NO_CONDITIONS,
    ack: undefined,
  })
  expect(partner.has(bytes)).toBe(true)
})

test('C16: a copy at a higher level raises what it refers to', async () => {
  const bytes = random(100_000)
  await put('source', bytes, 'journal')
  expect(partner.has(bytes)).toBe(false)
  await engine.store.objects.copy({
    source: { bucket: BUCKET, key: 'source' },
    sourceConditions: NO_CONDITIONS,
    bucket: BUCKET,
    key: 'target',
    attributes: undefined,
    tags: undefined,
    owner: 'root',
    conditions: NO_CONDITIONS,
    ack: undefined,
  })
  expect(partner.has(bytes)).toBe(true)
})

test("C20: fsync of a file reaches the bucket's level, also of what a close has published before", async () => {
  const { files } = engine.store
  const { inode: root } = await files.find(0, BUCKET as ByteString)
  const { handle } = await files.create(root, 'file' as ByteString, MADE, { write: true })
  const [first, second] = [random(50_000), random(60_000)]
  await files.write(handle, 0, first, false)
  await files.flush(handle)
  expect(partner.has(first)).toBe(false)
  await files.sync(handle)
  expect(partner.has(first)).toBe(true)
  await files.write(handle, 50_000, second, false)
  await files.sync(handle)
  expect(partner.has(second)).toBe(true)
  partner.isAway = true
  await files.write(handle, 0, random(50_000), false)
  await expect(files.sync(handle)).rejects.toMatchObject({ code: 'Unavailable' })
  partner.isAway = false
  await files.release(handle)
})

test('with no node to take a copy a PUT is refused and publishes nothing; at a lower level it is taken', async () => {
  members.leave(2)
  await expect(put('a', random(100_000))).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(engine.store.objects.head({ bucket: BUCKET, key: 'a' }, NO_CONDITIONS)).rejects.toMatchObject({
    code: 'NoSuchKey',
  })
  await put('a', random(100_000), 'journal')
  // What lies in metadata is where metadata are.
  await put('small', random(100))
})
