/** The key-value operations over the real engine: metadata, journal and memory level together. */
import { createHash } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import type { Engine } from '../../../src/engine.ts'
import type { TransactionOperation, TransactionRequest, TransactionResult } from '../../../src/store/kv-types.ts'
import type { BodySource, ReaderId } from '../../../src/store/types.ts'
import { Random } from '../../model/random.ts'
import { Life, newMachine, TINY_LIMITS } from '../../sim/life.ts'

const ATTRIBUTES = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const SCAN = { bucket: 'b-1', prefix: '', start: '', end: '', after: undefined, reverse: false, limit: 100 }
const HOUR_MS = 3_600_000
const LARGE = Buffer.alloc(600, 5)
let life: Life
let engine: Engine

beforeEach(async () => {
  life = new Life(newMachine(new Random(3), undefined, 'local disk'), new Random(3))
  await life.start(undefined)
  engine = life.engine
  await until(engine.store.buckets.create({ name: 'b-1', owner: 'root', region: 'r' }))
})

function until<T>(work: Promise<T>): Promise<T> {
  return life.scheduler.until(work, 'a call')
}

function bodyOf(bytes: Buffer): BodySource {
  return { kind: 'bytes', bytes, digests: { md5: createHash('md5').update(bytes).digest('hex'), checksums: {} } }
}

function putOf(key: string, bytes: Buffer): TransactionOperation {
  return { op: 'put', key, body: bodyOf(bytes), attributes: ATTRIBUTES, ttlMs: undefined }
}

function put(key: string, bytes: Buffer, ttlMs?: number): ReturnType<Engine['store']['objects']['put']> {
  const request = { bucket: 'b-1', key, body: bodyOf(bytes), attributes: ATTRIBUTES, owner: 'root' }
  return until(engine.store.objects.put({ ...request, checksum: undefined, conditions: {}, ack: undefined, ttlMs }))
}

function transact(fields: Partial<TransactionRequest>): Promise<TransactionResult> {
  const request = { bucket: 'b-1', compares: [], then: [], else: [], owner: 'root', ack: undefined, ...fields }
  return until(engine.store.keyValues.transact(request))
}

async function readAll(reader: ReaderId, size: number): Promise<Buffer> {
  const { reading } = engine.store
  const bytes = Buffer.alloc(size)
  for (let done = 0; done < size;) {
    const slice = await until(reading.read(reader, done, size - done))
    bytes.set(reading.view(slice), done)
    reading.release(slice.lease)
    done += slice.length
  }
  reading.close(reader)
  return bytes
}

/** Reads so much else that nothing stays in memory that need not. */
async function flood(): Promise<void> {
  for (let round = 0; round < 2; round++) {
    for (let each = 0; each < 40; each++) {
      const key = `flood-${each}`
      if (round === 0) await put(key, Buffer.alloc(1000, each))
      const { reader, version } = await until(engine.store.objects.open({ bucket: 'b-1', key }, {}))
      await readAll(reader, version.size)
    }
  }
}

async function missesOf(key: string): Promise<number> {
  const before = engine.memory.stats.misses
  const { reader, version } = await until(engine.store.objects.open({ bucket: 'b-1', key }, {}))
  await readAll(reader, version.size)
  return engine.memory.stats.misses - before
}

test('a transaction puts, gets, counts and deletes, values large and small, and nothing is left open', async () => {
  await put('old', LARGE)
  const { succeeded, outcomes, revision } = await transact({
    compares: [{ target: 'value', key: 'old', operator: '=', operand: LARGE }],
    then: [
      { op: 'get', key: 'old' },
      putOf('large', LARGE),
      putOf('small', Buffer.from('s')),
      { op: 'increment', key: 'n', delta: 41n, ttlMs: undefined },
      { op: 'delete', key: 'old' },
      { op: 'exists', key: 'old' },
      { op: 'get', key: 'large' },
    ],
    else: [putOf('never', LARGE)],
  })
  expect(succeeded).toBe(true)
  expect(outcomes.map(({ op }) => op)).toEqual(['get', 'put', 'put', 'increment', 'delete', 'exists', 'get'])
  for (const at of [0, 6]) {
    const outcome = outcomes[at]
    if (outcome?.op !== 'get' || outcome.reader === undefined) throw new Error(`no reader for operation ${at}`)
    expect((await readAll(outcome.reader, 600)).equals(LARGE)).toBe(true)
  }
  expect(outcomes[3]).toMatchObject({ value: 41n, version: { revision } })
  expect(outcomes.slice(4, 6)).toEqual([
    { op: 'delete', existed: true },
    { op: 'exists', exists: false },
  ])
  const keys = ['old', 'large', 'small', 'n', 'never']
  expect((await until(engine.store.keyValues.exist('b-1', keys))).exist).toEqual([false, true, true, true, false])
  expect((await until(engine.store.keyValues.countLeading('b-1', keys.slice(1)))).count).toBe(3)
  expect(engine.store.activity()).toEqual({ bodies: 0, readers: 0, reservedSlots: 0 })
})

test('C12: what a transaction got can be read after it was deleted and reclaimed', async () => {
  await put('a', LARGE)
  const { outcomes } = await transact({
    then: [
      { op: 'get', key: 'a' },
      { op: 'delete', key: 'a' },
    ],
  })
  for (let step = 0; step < 10; step++) {
    await until(engine.reclaimer.step())
    await until(engine.reclaimer.removePersisted())
  }
  const [got] = outcomes
  if (got?.op !== 'get' || got.reader === undefined) throw new Error('no reader')
  expect((await readAll(got.reader, 600)).equals(LARGE)).toBe(true)
})

test('a failed compare does the other branch', async () => {
  await put('a', LARGE)
  const { succeeded, outcomes } = await transact({
    compares: [{ target: 'value', key: 'a', operator: '=', operand: Buffer.alloc(600) }],
    then: [putOf('a', Buffer.from('new'))],
    else: [{ op: 'exists', key: 'a' }],
  })
  expect([succeeded, outcomes]).toEqual([false, [{ op: 'exists', exists: true }]])
})

test('a scan brings values, inline and as readers, at one revision', async () => {
  await put('a', Buffer.from('1'))
  await put('b', LARGE)
  await put('c', Buffer.alloc(900))
  const { keyValues } = engine.store
  const { keys, next } = await until(keyValues.scan({ ...SCAN, values: true, valueBytesMax: 600 }))
  expect([keys.map(({ key }) => key), next]).toEqual([['a', 'b', 'c'], undefined])
  const [a, b, c] = keys.map(({ value }) => value?.body)
  expect(a?.kind === 'inline' && Buffer.from(a.bytes).toString()).toBe('1')
  expect(b?.kind === 'content' && (await readAll(b.reader, 600)).equals(LARGE)).toBe(true)
  expect(c).toBeUndefined()
  expect(engine.store.activity().readers).toBe(0)
})

test('a put with a time to live says when it ends, and is gone then', async () => {
  const { mtimeMs, expiresMs } = await put('a', LARGE, 5000)
  expect((expiresMs ?? 0) - mtimeMs).toBe(5000)
  expect((await put('b', LARGE)).expiresMs).toBeUndefined()
  await until(life.scheduler.delay(5000))
  expect((await until(engine.store.keyValues.exist('b-1', ['a', 'b']))).exist).toEqual([false, true])
})

test('a pinned object stays in memory whatever else is read, until it is unpinned or its time is over', async () => {
  const { keyValues } = engine.store
  for (const key of ['a', 'b', 'c']) await put(key, LARGE)
  await flood()
  expect(await missesOf('a')).toBeGreaterThan(0)
  const address = (key: string): { bucket: string; key: string } => ({ bucket: 'b-1', key })
  expect(await until(keyValues.pin(address('a'), HOUR_MS))).toEqual({ bytes: 600 })
  expect(await until(keyValues.pin(address('a'), 1))).toEqual({ bytes: 600 })
  expect(await until(keyValues.pin(address('b'), HOUR_MS))).toEqual({ bytes: 600 })
  await flood()
  expect(await missesOf('a')).toBe(0)
  expect(await until(keyValues.pin(address('b'), 0))).toEqual({ bytes: 0 })
  await flood()
  expect(await missesOf('a'), 'a block that both lie in is still held').toBe(0)
  await until(life.scheduler.delay(HOUR_MS))
  expect(engine.memory.bytesPinned).toBe(0)
  expect(engine.store.activity().readers).toBe(0)
})

test('what is open for writing can be pinned; what lies in the metadata, or is not there, need not', async () => {
  const { keyValues } = engine.store
  await put('a', LARGE)
  await put('inline', Buffer.from('x'))
  expect((await until(keyValues.pin({ bucket: 'b-1', key: 'a' }, 1000))).bytes).toBe(600)
  expect((await until(keyValues.pin({ bucket: 'b-1', key: 'inline' }, 1000))).bytes).toBe(0)
  await expect(until(keyValues.pin({ bucket: 'b-1', key: 'none' }, 1000))).rejects.toMatchObject({ code: 'NoSuchKey' })
})

test('pins beyond their share of memory are StorageFull, and leave those before as they were', async () => {
  const { keyValues } = engine.store
  const share = engine.memory.bytesPinnedMax
  expect(share).toBe(12 * TINY_LIMITS.blockBytes)
  const outcomes: string[] = []
  for (let each = 0; each < 6; each++) {
    await put(`k${each}`, Buffer.alloc(1000, each))
    const before = engine.memory.bytesPinned
    const pinned = keyValues.pin({ bucket: 'b-1', key: `k${each}` }, HOUR_MS)
    const outcome = await until(pinned).then(
      () => 'pinned',
      (error: { code: string }) => error.code,
    )
    outcomes.push(outcome)
    if (outcome !== 'pinned') expect(engine.memory.bytesPinned).toBe(before)
  }
  expect(outcomes[0]).toBe('pinned')
  expect(outcomes.at(-1)).toBe('StorageFull')
  expect(engine.memory.bytesPinned).toBeLessThanOrEqual(share)
  expect(engine.memory.leases).toBe(0)
})
