import { crc32 } from 'node:zlib'
import { beforeEach, expect, test } from 'vitest'
import { MemoryLevel } from '../../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../../src/cache-tier/slab.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { createInlineDevice } from '../../../../src/persist/journal/device-threads.ts'
import { Journal, type AppendedBody } from '../../../../src/persist/journal/journal.ts'
import { readFooter, SegmentFiles } from '../../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { FakeIndex, newFileSystem, PLACES } from '../fixtures.ts'

let fileSystem: ForgetfulFileSystem
let index: FakeIndex
let memory: MemoryLevel
let slab: Slab
let scheduler: Scheduler
let journal: Journal
let sealed: SegmentId[]
let broken: SegmentId[]
let files: SegmentFiles

beforeEach(() => {
  fileSystem = newFileSystem()
  index = new FakeIndex()
  scheduler = new Scheduler()
  slab = new Slab({ bytes: 64 * 256, slotBytes: 256, poison: true })
  memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock: scheduler.clock })
  sealed = []
  broken = []
  files = new SegmentFiles(fileSystem, PLACES)
  const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
  const device = { slab: slabView, blockBytes: 256, pageBytes: 64 }
  let id = 0
  journal = new Journal({
    files,
    index,
    memory,
    sharedDevice: createInlineDevice(fileSystem, device),
    streamDevice: createInlineDevice(fileSystem, device),
    limits: TINY_LIMITS,
    clock: scheduler.clock,
    fillRandom: (bytes) => bytes.fill(++id),
    onSealed: ({ segment }) => sealed.push(segment),
    onBroken: (segment) => broken.push(segment),
    slabView,
  })
})

let contents = 0

function append(bytes: Uint8Array): Promise<AppendedBody> {
  const pieces = [bytes.subarray(0, 5), bytes.subarray(5)]
  return journal.append({ content: ++contents, label: '{}', pieces, length: bytes.length, bodyCrc: crc32(bytes) })
}

function turns(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10))
}

test('a body is readable from memory at once, and durable after sync', async () => {
  const body = Buffer.alloc(700, 7)
  const appended = await append(body)
  const { run } = appended
  const block = Math.floor(run.segmentOffset / 256)
  const lent = await memory.lend(run.segment, block, 256, () => Promise.reject(new Error('not in memory')))
  expect(lent.length).toBe(256)
  memory.giveBack(lent.lease)
  await appended.sync()
  expect(fileSystem.contents(files.journalPath(run.segment)).subarray(run.segmentOffset)).toEqual(body)
  expect(index.rows.get(run.segment)?.state).toBe('open')
})

test('C22: bodies appended together share a segment and its syncs', async () => {
  const first = await append(Buffer.alloc(10, 1))
  await first.sync()
  const { syncs } = fileSystem.counts
  const bodies = await Promise.all(Array.from({ length: 20 }, (_, index_) => append(Buffer.alloc(20, index_))))
  await Promise.all(bodies.map((body) => body.sync()))
  expect(new Set(bodies.map(({ run }) => run.segment)).size).toBe(1)
  expect(fileSystem.counts.syncs - syncs).toBeLessThanOrEqual(2)
})

test('a full segment is sealed with a footer that lists its bodies, and the next body goes into another', async () => {
  const bodies = [await append(Buffer.alloc(1000, 1))]
  while (sealed.length === 0) {
    bodies.push(await append(Buffer.alloc(1000, 1)))
    await turns()
  }
  const [segment] = sealed as [SegmentId]
  expect(index.rows.get(segment)?.state).toBe('sealed')
  const footer = await readFooter(await fileSystem.open(files.journalPath(segment), 'read'), segment)
  const inIt = bodies.filter(({ run }) => run.segment === segment)
  expect(footer?.bodies.map(({ offset }) => offset)).toEqual(inIt.map(({ run }) => run.segmentOffset))
  expect((await append(Buffer.alloc(1))).run.segment).not.toBe(segment)
})

test('a segment is sealed at its age, and at once when somebody waits for it to be persisted', async () => {
  const first = await append(Buffer.alloc(10))
  const { run } = first
  journal.sealAged()
  await turns()
  expect(sealed).toEqual([])
  scheduler.nowMs += TINY_LIMITS.segmentAgeMsMax
  journal.sealAged()
  await turns()
  expect(sealed).toEqual([run.segment])
  const second = await append(Buffer.alloc(10))
  journal.sealSoon(run.segment)
  journal.sealSoon(second.run.segment)
  await journal.drain()
  expect(sealed).toEqual([run.segment, second.run.segment])
  expect(journal.hasPending(run.segment)).toBe(true)
  first.settled()
  first.settled()
  expect(journal.hasPending(run.segment)).toBe(false)
})

test('C15: the barrier syncs what was named unsynced, and a sync that comes behind the seal is not a failure', async () => {
  const body = await append(Buffer.alloc(10))
  const { run } = body
  const { syncs } = fileSystem.counts
  await journal.barrier()
  expect(fileSystem.counts.syncs).toBe(syncs)
  journal.nameUnsynced(run)
  journal.sealSoon(run.segment)
  await Promise.all([journal.barrier(), journal.drain(), body.sync()])
  await body.sync()
  await journal.barrier()
  expect(fileSystem.counts.syncs).toBeGreaterThan(syncs)
  expect([sealed, broken]).toEqual([[run.segment], []])
})

test('C15: after a failed sync the barrier keeps failing until every body that was named there is settled', async () => {
  const named = await append(Buffer.alloc(10))
  journal.nameUnsynced(named.run)
  fileSystem.faults.failNthSync = 1
  await expect(journal.barrier()).rejects.toMatchObject({ code: 'Unavailable' })
  // The body is published only now: the commit that names it must not become durable.
  await expect(journal.barrier()).rejects.toMatchObject({ code: 'Unavailable' })
  named.settled()
  await expect(journal.barrier()).rejects.toMatchObject({ code: 'Unavailable' })
  await journal.barrier()
})

test('C15: a body that is named after its segment was cut stops the commit that names it', async () => {
  const late = await append(Buffer.alloc(10))
  fileSystem.faults.failNthSync = 1
  await expect(late.sync()).rejects.toMatchObject({ code: 'Unavailable' })
  await append(Buffer.alloc(10))
  await turns()
  expect(broken).toEqual([late.run.segment])
  journal.mended(late.run.segment)
  journal.nameUnsynced(late.run)
  await expect(journal.barrier()).rejects.toMatchObject({ code: 'Unavailable' })
  late.settled()
})

test('after a failed write the body fails, the next one goes into a new segment, and the old one is handed to the mender', async () => {
  const good = await append(Buffer.alloc(10))
  await good.sync()
  fileSystem.faults.full = true
  const bad = await append(Buffer.alloc(10))
  await expect(bad.sync()).rejects.toMatchObject({ code: 'StorageFull' })
  fileSystem.faults.full = false
  const next = await append(Buffer.alloc(10))
  await next.sync()
  await turns()
  expect(broken).toEqual([good.run.segment])
  expect(next.run.segment).not.toBe(good.run.segment)
  expect(journal.unsealed(good.run.segment)?.durableBytes).toBe(good.run.segmentOffset + 10)
})

test('a segment whose record could not be made durable is not begun, and leaves no file', async () => {
  index.durable = () => Promise.reject(Object.assign(new Error('undone'), { code: 'Unavailable' }))
  await expect(append(Buffer.alloc(10))).rejects.toThrow('undone')
  expect(fileSystem.paths()).toEqual([])
  index.durable = () => Promise.resolve()
  await (await append(Buffer.alloc(10))).sync()
})

/** Appends until more than half of the first segment is used, when the next one is made. */
async function fillHalf(): Promise<AppendedBody> {
  const first = await append(Buffer.alloc(10))
  while ((journal.unsealed(first.run.segment)?.bytes ?? 0) < TINY_LIMITS.segmentBytesMax / 2) {
    await append(Buffer.alloc(500))
  }
  await turns()
  return first
}

test('the next segment is made before it is needed, so that no append waits for its making', async () => {
  const first = await fillHalf()
  expect(index.rows.size).toBe(2)
  const [next] = [...index.rows.keys()].filter((segment) => segment !== first.run.segment) as [SegmentId]
  expect(journal.isUnsealed(next)).toBe(true)
  index.durable = () => new Promise(() => undefined)
  journal.sealSoon(first.run.segment)
  expect((await append(Buffer.alloc(10))).run.segment).toBe(next)
  index.durable = () => Promise.resolve()
  await journal.drain()
})

test('a next segment that is not needed leaves nothing behind', async () => {
  const first = await fillHalf()
  await journal.drain()
  expect([...index.rows.keys()]).toEqual([first.run.segment])
  expect(fileSystem.paths()).toEqual([files.journalPath(first.run.segment)])
  expect(sealed).toEqual([first.run.segment])
})

test('when the next segment cannot be made ahead, it is made when it is needed', async () => {
  const first = await append(Buffer.alloc(10))
  index.durable = () => Promise.reject(Object.assign(new Error('undone'), { code: 'Unavailable' }))
  while ((journal.unsealed(first.run.segment)?.bytes ?? 0) < TINY_LIMITS.segmentBytesMax / 2) {
    await append(Buffer.alloc(500))
  }
  await turns()
  index.durable = () => Promise.resolve()
  journal.sealSoon(first.run.segment)
  const later = await append(Buffer.alloc(10))
  expect(later.run.segment).not.toBe(first.run.segment)
  await later.sync()
  expect(broken).toEqual([])
})

test('a streamed body has a segment of its own, sealed and recorded before it may be published', async () => {
  const body = Buffer.from(Array.from({ length: 256 * 3 + 70 }, (_, at) => at % 251))
  const stream = journal.stream({ content: 5 })
  for (let at = 0; at < body.length; at += 256) {
    const slot = await memory.acquire('stream')
    const part = body.subarray(at, at + 256)
    slab.view(slot, part.length).set(part)
    await stream.write(slot, part.length)
    memory.release(slot)
  }
  const run = await stream.finish('big')
  expect(run).toEqual({ content: 5, segment: stream.segment, segmentOffset: 0, length: body.length })
  expect(index.rows.get(stream.segment)).toMatchObject({ state: 'sealed', bytes: body.length })
  expect(journal.hasPending(stream.segment)).toBe(true)
  journal.streamPublished(stream.segment)
  expect([sealed, journal.hasPending(stream.segment)]).toEqual([[stream.segment], false])
  const { footer } = await files.use(stream.segment, (known) => Promise.resolve(known))
  expect([...footer.pageCrcs]).toEqual(
    Array.from({ length: 14 }, (_, page) => crc32(body.subarray(page * 64, page * 64 + 64))),
  )
})

test.each([false, true])('a streamed body that is given up leaves nothing behind (finished: %s)', async (finished) => {
  const stream = journal.stream({ content: 5 })
  const slot = await memory.acquire('stream')
  await stream.write(slot, 100)
  memory.release(slot)
  if (finished) await stream.finish('big')
  await journal.discardStream(stream)
  expect([fileSystem.paths(), [...index.rows.keys()], journal.hasPending(stream.segment)]).toEqual([[], [], false])
})

test('a stream whose disk fails says so at the next write, and can still be discarded', async () => {
  const stream = journal.stream({ content: 5 })
  const slot = await memory.acquire('stream')
  fileSystem.faults.full = true
  await expect(stream.write(slot, 100)).rejects.toMatchObject({ code: 'StorageFull' })
  await expect(stream.finish('big')).rejects.toMatchObject({ code: 'StorageFull' })
  await journal.discardStream(stream)
  expect(fileSystem.paths()).toEqual([])
})
