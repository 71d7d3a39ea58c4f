import { crc32 } from 'node:zlib'
import { beforeEach, expect, test } from 'vitest'
import { encodeAnswer } from '../../../../src/cache-tier/neighbours/messages.ts'
import { ownersOf } from '../../../../src/cache-tier/neighbours/ownership.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { segmentNumber } from '../../persist/fixtures.ts'
import { blockOf, imageOf, member, Nodes } from './nodes.ts'

const { blockBytes } = TINY_LIMITS
let nodes: Nodes

beforeEach(() => {
  nodes = new Nodes(3)
})

/** A segment whose blocks this node owns, and after it the others in their order. */
function ownedBy(owner: number): SegmentId {
  for (let number = 1; ; number++) {
    if (ownersOf(nodes.alive, segmentNumber(number), 0, blockBytes)[0] === owner) return segmentNumber(number)
  }
}

/** Requests for data, without those for page tables. */
function dataReads(segment: SegmentId): string[] {
  const dataBytes = nodes.rows.get(segment)?.bytes ?? 0
  return nodes.remoteReads.filter((read) => Number(read.split(':')[1]?.split('+')[0]) < dataBytes)
}

test('a thousand readers on three nodes of one cold block cause one request, by its owner', async () => {
  const segment = ownedBy(2)
  const image = await nodes.upload(segment, 2000)
  const readers = Array.from({ length: 1000 }, (_, at) => nodes.node(1 + (at % 3)).read(segment, 3))
  const got = await nodes.finish(Promise.all(readers))
  expect(got.every((bytes) => bytes.equals(blockOf(image, 3)))).toBe(true)
  expect(nodes.remoteReads.length).toBe(2)
  expect(dataReads(segment)).toEqual([`2:${3 * blockBytes}+${blockBytes}`])
  expect(nodes.calls.sort()).toEqual(['1>2', '3>2'])
  // Copied to where it is read, and kept on the owner's disk alone.
  expect(nodes.nodes.map(({ memory }) => memory.residentBytes(segment, 3 * blockBytes, blockBytes))).toEqual([
    blockBytes,
    blockBytes,
    blockBytes,
  ])
  expect(nodes.nodes.map(({ kept }) => kept.length)).toEqual([0, 1, 0])
  expect(nodes.nodes.map(({ memory }) => memory.leases)).toEqual([0, 0, 0])
})

test('of a run each block comes from its owner, and what this node owns by one request that waits for nobody', async () => {
  nodes = new Nodes(3, { slots: 128 })
  const image = await nodes.upload(segmentNumber(7), 8000)
  const here = nodes.node(1)
  const slots = Array.from({ length: 8 }, () => here.slab.take() as number)
  await nodes.finish(Promise.all(here.source.readRun(segmentNumber(7), 0, slots)))
  const got = Buffer.concat(slots.map((slot) => Buffer.from(here.slab.view(slot, blockBytes))))
  expect(got).toEqual(image.data.subarray(0, 8 * blockBytes))
  const own = ownersOf(nodes.alive, segmentNumber(7), 0, blockBytes)[0]
  if (own === 1) expect(dataReads(segmentNumber(7))).toEqual([`1:0+${8 * blockBytes}`])
  else expect(new Set(nodes.calls)).toEqual(new Set([`1>${own}`]))
})

test('what lies with one node alone is read from there, and the row is read once for many blocks', async () => {
  const segment = segmentNumber(1)
  const image = imageOf(segment, 2000)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 3 })
  await nodes.node(3).hold(segment, image.sealed)
  for (let block = 0; block < 7; block++) expect(await nodes.node(1).get(segment, block)).toEqual(blockOf(image, block))
  expect([nodes.looks, nodes.remoteReads]).toEqual([1, []])
  expect(nodes.node(1).kept).toEqual([])
})

test('without a shared remote store `persisted` means on that node: it is asked', async () => {
  nodes = new Nodes(2, { isRemoteShared: false })
  const segment = segmentNumber(1)
  const image = imageOf(segment, 600)
  nodes.rows.set(segment, { state: 'persisted', bytes: image.data.length, node: 2 })
  await nodes.node(2).hold(segment, image.sealed)
  expect(await nodes.node(1).get(segment, 1)).toEqual(blockOf(image, 1))
})

test('a dead node costs a bounded time, then a copy is read, and then that first', async () => {
  const segment = segmentNumber(1)
  const image = imageOf(segment, 2000)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 3, copies: [2] })
  for (let block = 0; block < 7; block++) nodes.node(2).copies.set(`${segment}/${block}`, blockOf(image, block))
  nodes.faults.set(3, 'silent')
  expect(await nodes.node(1).get(segment, 0)).toEqual(blockOf(image, 0))
  expect(nodes.scheduler.nowMs).toBeLessThan(2100)
  const before = nodes.scheduler.nowMs
  expect(await nodes.node(1).get(segment, 1)).toEqual(blockOf(image, 1))
  expect(nodes.scheduler.nowMs - before).toBeLessThan(50)
  expect(nodes.node(1).level.figures()).toMatchObject([
    { node: 3, timeouts: 1, isResting: true },
    { node: 2, hits: 2, timeouts: 0 },
  ])
})

test('a silent owner costs a bounded time; then the remote store is asked, and the next in rank is the owner', async () => {
  const segment = ownedBy(2)
  const image = await nodes.upload(segment, 2000)
  nodes.faults.set(2, 'silent')
  const before = nodes.scheduler.nowMs
  expect(await nodes.node(1).get(segment, 0)).toEqual(blockOf(image, 0))
  expect(nodes.scheduler.nowMs - before).toBeLessThan(2100)
  const next = ownersOf(nodes.alive, segment, 0, blockBytes)[1] as number
  await nodes.node(1).get(segment, 1)
  expect(dataReads(segment).at(-1)?.startsWith(`${next}:`)).toBe(true)
})

test.each(['spoils', 'garbage', 'refuses'] as const)(
  'C14: an owner that %s is counted, and the right bytes come from elsewhere',
  async (fault) => {
    const segment = ownedBy(2)
    const image = await nodes.upload(segment, 2000)
    nodes.faults.set(2, fault)
    expect(await nodes.node(1).get(segment, 2)).toEqual(blockOf(image, 2))
    const bad = fault === 'spoils' ? { badPages: 1, failures: 0 } : { badPages: 0, failures: 1 }
    expect(nodes.node(1).level.figures()).toMatchObject([{ node: 2, hits: 0, ...bad, isResting: true }])
  },
)

test('bytes that lie with a dead node alone are Unavailable: at once when it has gone, after a bounded time when it only does not answer', async () => {
  const segment = segmentNumber(1)
  nodes.rows.set(segment, { state: 'sealed', bytes: 600, node: 3 })
  nodes.faults.set(3, 'refuses')
  const details = { code: 'Unavailable', details: { node: 3 } }
  await expect(nodes.node(1).get(segment, 0)).rejects.toMatchObject(details)
  expect(nodes.scheduler.nowMs).toBeGreaterThan(8000)
  expect(nodes.scheduler.nowMs).toBeLessThan(10_100)
  nodes.setAlive([member(1), member(2)])
  const before = nodes.scheduler.nowMs
  await expect(nodes.node(1).get(segment, 0)).rejects.toMatchObject(details)
  expect(nodes.scheduler.nowMs - before).toBeLessThan(10)
})

test('who waits for a node that does not answer gets the bytes as soon as it does', async () => {
  const segment = segmentNumber(1)
  const image = imageOf(segment, 600)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 3 })
  await nodes.node(3).hold(segment, image.sealed)
  nodes.setAlive([member(1), member(2), member(3, { state: 'starting' })])
  nodes.scheduler.after(3000, () => nodes.setAlive([member(1), member(2), member(3)]))
  expect(await nodes.node(1).get(segment, 0)).toEqual(blockOf(image, 0))
  expect(nodes.scheduler.nowMs).toBeLessThan(4100)
})

test('a segment that has moved since its row was read is looked for anew', async () => {
  const segment = segmentNumber(1)
  const image = await nodes.upload(segment, 2000)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 3 })
  await nodes.node(3).hold(segment, image.sealed)
  await nodes.node(1).get(segment, 0)
  // Carried to the remote store, and gone from its node.
  await nodes.node(3).files.remove(segment)
  nodes.rows.set(segment, { state: 'persisted', bytes: image.data.length, node: 3 })
  const before = nodes.scheduler.nowMs
  expect(await nodes.node(1).get(segment, 1)).toEqual(blockOf(image, 1))
  expect(nodes.scheduler.nowMs - before).toBeLessThan(100)
  // Inherited by a holder of a copy.
  const other = segmentNumber(2)
  nodes.rows.set(other, { state: 'sealed', bytes: image.data.length, node: 3 })
  await nodes.node(3).hold(other, imageOf(other, 2000).sealed)
  await nodes.node(1).get(other, 0)
  nodes.faults.set(3, 'refuses')
  await nodes.node(2).hold(other, imageOf(other, 2000).sealed)
  nodes.rows.set(other, { state: 'sealed', bytes: image.data.length, node: 2 })
  expect(await nodes.node(1).get(other, 1)).toEqual(blockOf(imageOf(other, 2000), 1))
})

test('a block of an open segment is asked for again when more of it is needed than is here', async () => {
  const segment = segmentNumber(1)
  nodes.rows.set(segment, { state: 'open', bytes: 0, node: 3 })
  const writer = nodes.node(3)
  const slot = await writer.memory.acquire('journal')
  writer.slab.view(slot, blockBytes).fill(7)
  writer.memory.publish(segment, 0, slot, 10)
  expect((await nodes.node(1).get(segment, 0, 10)).length).toBe(10)
  writer.memory.publish(segment, 0, slot, 150)
  expect((await nodes.node(1).get(segment, 0, 10)).length).toBe(10)
  expect(await nodes.node(1).get(segment, 0, 140)).toEqual(Buffer.alloc(150, 7))
  // Of which two pages of 64 bytes are not sent again.
  writer.memory.publish(segment, 0, slot, 200)
  expect(await nodes.node(1).get(segment, 0, 151)).toEqual(Buffer.alloc(200, 7))
  expect(writer.server.figures.bytesOut).toBe(10 + 150 + 200 - 128)
  expect(nodes.node(1).level.figures()).toMatchObject([{ node: 3, hits: 3, bytesIn: 232 }])
  expect(nodes.node(1).slab.freeSlots).toBe(63)
  // An answer that is spoiled leaves what is here as it is.
  writer.memory.publish(segment, 0, slot, 256)
  nodes.faults.set(3, 'spoils')
  await expect(nodes.node(1).get(segment, 0, 256)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(await nodes.node(1).get(segment, 0, 200)).toEqual(Buffer.alloc(200, 7))
})

test('two nodes that each take the other for the owner do not wait for each other', async () => {
  const segment = segmentNumber(5)
  const image = await nodes.upload(segment, 2000)
  // Each sees the other alone as one that owns blocks.
  nodes.seenBy.set(1, [member(1, { weight: 0 }), member(2)])
  nodes.seenBy.set(2, [member(1), member(2, { weight: 0 })])
  const before = nodes.scheduler.nowMs
  const got = await nodes.finish(Promise.all([1, 2].map((number) => nodes.node(number).read(segment, 0))))
  expect(got).toEqual([blockOf(image, 0), blockOf(image, 0)])
  expect(nodes.calls).toEqual(['1>2', '2>1'])
  expect(nodes.scheduler.nowMs - before).toBeLessThan(100)
})

test('a bad file of our own is read from a copy', async () => {
  nodes = new Nodes(2, { isRemoteShared: false })
  const segment = segmentNumber(1)
  const image = imageOf(segment, 600)
  const bad = Buffer.from(image.sealed)
  bad.writeUInt8(bad.readUInt8(300) ^ 1, 300)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 1, copies: [2] })
  await nodes.node(1).hold(segment, bad)
  await expect(nodes.node(1).get(segment, 1)).rejects.toMatchObject({ code: 'DataLost' })
  nodes.node(2).copies.set(`${segment}/1`, blockOf(image, 1))
  expect(await nodes.node(1).get(segment, 1)).toEqual(blockOf(image, 1))
  expect(nodes.calls.at(-1)).toBe('1>2')
})

test('what cannot be read any more where it lies is DataLost', async () => {
  nodes = new Nodes(2, { isRemoteShared: false })
  const segment = segmentNumber(1)
  const image = imageOf(segment, 600)
  const bad = Buffer.from(image.sealed)
  bad.writeUInt8(bad.readUInt8(300) ^ 1, 300)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 2 })
  await nodes.node(2).hold(segment, bad)
  await expect(nodes.node(1).get(segment, 1)).rejects.toMatchObject({ code: 'DataLost' })
  expect(nodes.scheduler.nowMs).toBeLessThan(100)
})

test('C14: an answer with too few checksums is not taken', async () => {
  const segment = ownedBy(2)
  const image = await nodes.upload(segment, 2000)
  nodes.handlers.set(2, () => {
    const pageCrcs = Uint32Array.of(crc32(Buffer.alloc(64)))
    const head = encodeAnswer({ outcome: 'here', length: 256, pageBytes: 64, pageCrcs })
    return Promise.resolve({ head, pieces: [Buffer.alloc(256)] })
  })
  expect(await nodes.node(1).get(segment, 0)).toEqual(blockOf(image, 0))
  expect(nodes.node(1).level.figures()).toMatchObject([{ node: 2, hits: 0, badPages: 1 }])
})

test('a stop ends what waits', async () => {
  const segment = segmentNumber(1)
  nodes.rows.set(segment, { state: 'sealed', bytes: 600, node: 3 })
  nodes.faults.set(3, 'refuses')
  const reading = nodes.node(1).read(segment, 0)
  nodes.scheduler.after(100, () => nodes.node(1).level.stop())
  await expect(nodes.finish(reading)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(nodes.scheduler.nowMs).toBeLessThan(200)
})
