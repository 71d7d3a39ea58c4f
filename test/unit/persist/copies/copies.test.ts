import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { readFooter } from '../../../../src/persist/segment-files.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { copyPath, GRACE_MS, replicated, TestCluster, type TestNode } from './fixture.ts'

let cluster: TestCluster
let one: TestNode
let two: TestNode

beforeEach(async () => {
  cluster = new TestCluster()
  one = await cluster.start(1)
  two = await cluster.start(2)
})

afterEach(() => cluster.stop())

function turns(ms = 10): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function bytesOf(length: number, seed = 1): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 7 + seed) % 251))
}

test('C17: a replicated body is synced on two nodes, at the same place of the same segment', async () => {
  const body = bytesOf(700)
  const appended = await one.append(body)
  await replicated(one, appended)
  const { segment, segmentOffset } = appended.run
  expect(cluster.table.get(segment)).toMatchObject({ node: 1, copies: [2], state: 'open' })
  // What a power cut leaves of it.
  const found = cluster.cutPower(two, 1)
  expect(found.contents(copyPath(segment)).subarray(segmentOffset, segmentOffset + 700)).toEqual(body)
})

test('the row names the partner before a byte is sent to it', async () => {
  const named: unknown[] = []
  cluster.wires.intercept = ({ method, head }) => {
    if (method === 'copy-open') named.push(cluster.table.get(head['segment'] as never)?.copies)
    return Promise.resolve()
  }
  await one.append(bytesOf(10))
  expect(named).toEqual([[2]])
})

test('C22: bodies appended together share a call and a sync on the partner', async () => {
  await replicated(one, await one.append(bytesOf(10)))
  const { syncs } = two.fileSystem.counts
  const calls = cluster.wires.seen.length
  const bodies = await Promise.all(Array.from({ length: 20 }, (_, index) => one.append(bytesOf(20, index))))
  await Promise.all(bodies.map((body) => replicated(one, body)))
  expect(cluster.wires.seen.length - calls).toBeLessThanOrEqual(3)
  expect(two.fileSystem.counts.syncs - syncs).toBeLessThanOrEqual(3)
})

test('the plain lane sends nothing, and has segments of its own', async () => {
  const plain = await one.append(bytesOf(100), { copied: false })
  await plain.sync()
  expect(cluster.wires.seen).toEqual([])
  expect(cluster.table.get(plain.run.segment)).not.toHaveProperty('copies')
  const copied = await one.append(bytesOf(100))
  expect(copied.run.segment).not.toBe(plain.run.segment)
})

test('a sealed segment is the same on both nodes, byte by byte', async () => {
  const bodies = await Promise.all(Array.from({ length: 3 }, (_, index) => one.append(bytesOf(1000, index))))
  const { segment } = bodies[0]!.run
  for (const body of bodies) await replicated(one, body)
  await one.journal.sealOpen()
  const here = one.fileSystem.contents(one.files.journalPath(segment))
  expect(two.fileSystem.contents(copyPath(segment))).toEqual(here)
  expect(cluster.table.get(segment)).toMatchObject({ state: 'sealed', copies: [2] })
  // Blocks may be evicted now: nothing is read from them any more.
  expect(one.sealed).toEqual([segment])
})

test('what waits when the partner fails is made safe on another, and its place does not change', async () => {
  const three = await cluster.start(3)
  const first = await one.append(bytesOf(300))
  await replicated(one, first)
  const { segment } = first.run
  const partner = cluster.table.get(segment)?.copies?.[0]
  const other = partner === 2 ? three : two
  const body = bytesOf(500, 9)
  const second = await one.append(body)
  cluster.wires.kill(partner!)
  await replicated(one, second)
  expect(second.run.segment).toBe(segment)
  expect(cluster.table.get(segment)).toMatchObject({ state: 'sealed', copies: [other.number] })
  // The next segment goes to a partner that answers.
  const third = await one.append(bytesOf(10))
  expect(third.run.segment).not.toBe(segment)
  expect(cluster.table.get(third.run.segment)?.copies).toEqual([other.number])
  const found = cluster.cutPower(other, 2)
  const { segmentOffset } = second.run
  expect(found.contents(copyPath(segment)).subarray(segmentOffset, segmentOffset + 500)).toEqual(body)
  expect(one.broken).toEqual([])
})

test('what waits for a copy is safe once all nodes reach it, also when its file has gone meanwhile', async () => {
  await cluster.start(3)
  const first = await one.append(bytesOf(300))
  await replicated(one, first)
  const { segment } = first.run
  const second = await one.append(bytesOf(500, 9))
  cluster.wires.kill(cluster.table.get(segment)?.copies?.[0] ?? 0)
  const use = one.files.use.bind(one.files)
  one.files.use = async (id, work) => {
    one.files.use = use
    await one.index.segmentChanged(id, 'persisted', 0)
    cluster.reachedByAll = true
    await one.fileSystem.remove(one.files.journalPath(id))
    return await use(id, work)
  }
  await replicated(one, second)
  expect(cluster.table.get(segment)?.state).toBe('persisted')
})

test('without a partner nothing is appended and nothing stays; a body that waits is told within the time', async () => {
  const waiting = await one.append(bytesOf(50))
  cluster.lose(2)
  await expect(replicated(one, waiting)).rejects.toMatchObject({ code: 'Unavailable' })
  // It can still be published at a lower level: its bytes are here.
  await waiting.sync()
  const rows = cluster.table.size
  await expect(one.append(bytesOf(10))).rejects.toMatchObject({ code: 'Unavailable' })
  expect(cluster.table.size).toBe(rows)
  await expect(one.append(bytesOf(10), { copied: false })).resolves.toBeDefined()
})

test('a partner that refuses is passed over, and the row names the one that took it', async () => {
  await cluster.start(3)
  let refused: number | undefined
  cluster.wires.intercept = ({ method, to }) => {
    if (method !== 'copy-open' || (refused !== undefined && refused !== to)) return Promise.resolve()
    refused = to
    return Promise.reject(new Error('no'))
  }
  const body = await one.append(bytesOf(10))
  await replicated(one, body)
  expect(cluster.table.get(body.run.segment)?.copies).toEqual([refused === 2 ? 3 : 2])
})

test('C33: bytes that were changed on the way are not written, and the copy is made good elsewhere or anew', async () => {
  let broken = 0
  cluster.wires.intercept = ({ method }, pieces) => {
    const last = pieces.at(-1)
    if (method === 'copy-write' && last && broken++ === 0) last[0] = (last[0] ?? 0) ^ 1
    return Promise.resolve()
  }
  const body = bytesOf(300)
  const appended = await one.append(body)
  await replicated(one, appended)
  const { segment, segmentOffset } = appended.run
  expect(two.fileSystem.contents(copyPath(segment)).subarray(segmentOffset, segmentOffset + 300)).toEqual(body)
})

test('writes that come in another order are carried out in that of their positions', async () => {
  const held = Promise.withResolvers<void>()
  let first = true
  cluster.wires.intercept = async ({ method }) => {
    if (method !== 'copy-write' || !first) return
    first = false
    await held.promise
  }
  const early = await one.append(bytesOf(100, 1))
  const waiting = replicated(one, early)
  await turns()
  const late = await one.append(bytesOf(100, 2))
  const waitingToo = replicated(one, late)
  await turns()
  held.resolve()
  await Promise.all([waiting, waitingToo])
  const here = one.fileSystem.contents(one.files.journalPath(early.run.segment))
  expect(two.fileSystem.contents(copyPath(early.run.segment))).toEqual(here)
})

test('C16: what was written in the plain lane is sent whole when something replicated refers to it', async () => {
  const plain = await one.append(bytesOf(600), { copied: false })
  await plain.sync()
  const { segment } = plain.run
  await one.copies.copied(segment)
  expect(cluster.table.get(segment)).toMatchObject({ state: 'sealed', copies: [2] })
  const here = one.fileSystem.contents(one.files.journalPath(segment))
  expect(cluster.cutPower(two, 3).contents(copyPath(segment))).toEqual(here)
})

test("C16: of another node's segment the owner is asked", async () => {
  const plain = await two.append(bytesOf(600), { copied: false })
  await plain.sync()
  await one.copies.copied(plain.run.segment)
  expect(cluster.table.get(plain.run.segment)).toMatchObject({ node: 2, state: 'sealed', copies: [1] })
  await expect(one.copies.holds(plain.run.segment)).resolves.toBe(true)
})

test('a large body is on both nodes when it is finished, and given up on both when it is not', async () => {
  const stream = one.journal.stream({ content: 1, copied: true })
  for (let block = 0; block < 6; block++) {
    const slot = await one.memory.acquire('stream')
    one.slab.view(slot, 256).set(bytesOf(256, block))
    await stream.write(slot, 256)
    one.memory.release(slot)
  }
  const run = await stream.finish('{}')
  await one.copies.copied(run.segment, run.length)
  one.journal.streamPublished(run.segment)
  const here = one.fileSystem.contents(one.files.journalPath(run.segment))
  expect(cluster.cutPower(two, 4).contents(copyPath(run.segment))).toEqual(here)
  expect(cluster.wires.seen.filter(({ head }) => head['mode'] === 'whole')).toEqual([])
})

test('a large body whose partner fails half way goes on, and is sent whole once it is there', async () => {
  const three = await cluster.start(3)
  const stream = one.journal.stream({ content: 1, copied: true })
  const slot = await one.memory.acquire('stream')
  one.slab.view(slot, 256).set(bytesOf(256))
  await stream.write(slot, 256)
  const partner = cluster.table.get(stream.segment)?.copies?.[0]
  cluster.wires.kill(partner!)
  await stream.write(slot, 256)
  const run = await stream.finish('{}')
  await one.copies.copied(run.segment, run.length)
  const other = partner === 2 ? three : two
  expect(cluster.table.get(run.segment)?.copies).toEqual([other.number])
  const here = one.fileSystem.contents(one.files.journalPath(run.segment))
  expect(other.fileSystem.contents(copyPath(run.segment))).toEqual(here)
})

test('a large body that is discarded leaves no row, and its copy goes with the next sweep', async () => {
  const stream = one.journal.stream({ content: 1, copied: true })
  const slot = await one.memory.acquire('stream')
  await stream.write(slot, 256)
  await expect(two.copies.holds(stream.segment)).resolves.toBe(true)
  await one.journal.discardStream(stream)
  expect(cluster.table.has(stream.segment)).toBe(false)
  await two.copies.jobs[1]!.round()
  await expect(two.copies.holds(stream.segment)).resolves.toBe(false)
})

test('a large body that is discarded while metadata is away waits for no copy once it is back', async () => {
  const stream = one.journal.stream({ content: 1, copied: true })
  const slot = await one.memory.acquire('stream')
  await stream.write(slot, 256)
  cluster.wires.kill(2)
  await stream.write(slot, 256)
  expect(one.copies.status().wantingCopies).toBe(1)
  const away = new TidegateError('Unavailable', 'metadata is away')
  const remove = vi.spyOn(one.index, 'segmentRemoved').mockRejectedValue(away)
  await one.journal.discardStream(stream)
  expect(one.fileSystem.paths()).toEqual([])
  expect(cluster.table.get(stream.segment)).toMatchObject({ state: 'open' })
  remove.mockRestore()
  one.journal.sealAged()
  await expect.poll(() => cluster.table.has(stream.segment)).toBe(false)
  await one.copies.jobs[0]!.round()
  expect(one.copies.status().wantingCopies).toBe(0)
})

test('a copy that was lost later is made again, after the grace', async () => {
  const three = await cluster.start(3)
  const body = await one.append(bytesOf(300))
  await replicated(one, body)
  const { segment } = body.run
  await one.journal.sealOpen()
  const partner = cluster.table.get(segment)?.copies?.[0]
  const other = partner === 2 ? three : two
  const [again] = one.copies.jobs
  await again!.round()
  cluster.lose(partner!)
  await again!.round()
  expect(cluster.table.get(segment)?.copies).toEqual([partner])
  await turns(GRACE_MS + 20)
  // The first look only notices since when it is away.
  await again!.round()
  await turns(GRACE_MS + 20)
  await again!.round()
  expect(cluster.table.get(segment)?.copies).toEqual([other.number])
  const file = await other.fileSystem.open(copyPath(segment), 'read')
  expect(await readFooter(file, segment)).toBeDefined()
})

test('who waits for a sync while the segment is being sealed shares that of the seal', async () => {
  const held = Promise.withResolvers<void>()
  cluster.wires.intercept = ({ method }) => (method === 'copy-seal' ? held.promise : Promise.resolve())
  const body = await one.append(bytesOf(300))
  const sealing = one.journal.sealOpen()
  await expect.poll(() => cluster.wires.seen.some(({ method }) => method === 'copy-seal')).toBe(true)
  const calls = cluster.wires.seen.length
  const waiting = replicated(one, body)
  await turns()
  expect(cluster.wires.seen.length).toBe(calls)
  held.resolve()
  await Promise.all([waiting, sealing])
  expect(cluster.wires.seen.filter(({ head }) => head['mode'] === 'whole')).toEqual([])
})

test('a copy that this node gave up says nothing of its partner', async () => {
  const three = await cluster.start(3)
  const stream = one.journal.stream({ content: 1, copied: true })
  const slot = await one.memory.acquire('stream')
  await stream.write(slot, 256)
  const partner = cluster.table.get(stream.segment)?.copies?.[0]
  await one.journal.discardStream(stream)
  const next = await one.append(bytesOf(10))
  expect(partner).toBe(three.number)
  expect(cluster.table.get(next.run.segment)?.copies).toEqual([partner])
})

test('a segment that is bad here keeps no other from being copied again', async () => {
  const bad = await one.append(bytesOf(600), { copied: false })
  await bad.sync()
  await one.journal.sealOpen()
  const good = await one.append(bytesOf(600), { copied: false })
  await good.sync()
  await one.journal.sealOpen()
  const file = await one.fileSystem.open(one.files.journalPath(bad.run.segment), 'write')
  await file.write(Buffer.from([255]), 300)
  for (const { run } of [bad, good]) await one.index.copiesChanged(run.segment, [])
  const again = one.copies.jobs[0]!
  await expect(again.round()).rejects.toMatchObject({ code: 'DataLost' })
  await again.round()
  expect(cluster.table.get(good.run.segment)?.copies).toEqual([2])
  expect(cluster.table.get(bad.run.segment)?.copies).toEqual([])
})

test('what a partner has against a copy is nothing that the writer has done: another takes it', async () => {
  await cluster.start(3)
  const plain = await one.append(bytesOf(600), { copied: false })
  await plain.sync()
  const refused: number[] = []
  cluster.wires.intercept = ({ method, to }) => {
    if (method !== 'copy-open' || refused.length > 0) return Promise.resolve()
    refused.push(to)
    return Promise.reject(new TidegateError('SlowDown', 'too many copies are being written here'))
  }
  await one.copies.copied(plain.run.segment)
  expect(cluster.table.get(plain.run.segment)?.copies).toEqual([refused[0] === 2 ? 3 : 2])
})

test('a segment that was made in vain goes once metadata can be reached again, and waits for no copy', async () => {
  const remove = one.index.segmentRemoved.bind(one.index)
  let isAway = true
  one.index.segmentRemoved = async (segment) => {
    if (isAway) throw new TidegateError('Unavailable', 'metadata cannot be reached')
    return await remove(segment)
  }
  cluster.wires.intercept = ({ method }) =>
    method === 'copy-open' ? Promise.reject(new TidegateError('Unavailable', 'it is cut off')) : Promise.resolve()
  await expect(one.append(bytesOf(10))).rejects.toMatchObject({ code: 'Unavailable' })
  const [segment] = [...cluster.table.keys()]
  const round = async (): Promise<void> => {
    one.journal.sealAged()
    await turns()
    const [again] = one.copies.jobs
    await again!.round().catch(() => undefined)
  }
  await round()
  expect([one.copies.status().wantingCopies, cluster.table.size]).toEqual([1, 1])
  isAway = false
  await round()
  expect([one.copies.status().wantingCopies, cluster.table.size]).toEqual([0, 0])
  expect(await one.fileSystem.list('/data/journal')).not.toContain(`${segment}.seg`)
})

test('segments that lose their partner while nobody writes: what has bytes is sealed and copied again, what was made ahead goes', async () => {
  let segment: SegmentId | undefined
  for (let bytes = 0; bytes < TINY_LIMITS.segmentBytesMax / 2; bytes += 500) {
    const body = await one.append(bytesOf(500))
    await replicated(one, body)
    segment = body.run.segment
  }
  await expect.poll(() => cluster.table.size).toBe(2)
  const three = await cluster.start(3)
  cluster.lose(2)
  await expect
    .poll(async () => {
      one.journal.sealAged()
      await turns()
      const [again] = one.copies.jobs
      await again!.round().catch(() => undefined)
      return [one.copies.status().wantingCopies, cluster.table.size]
    })
    .toEqual([0, 1])
  expect(cluster.table.get(segment!)).toMatchObject({ state: 'sealed', copies: [three.number] })
  await expect(three.copies.holds(segment!)).resolves.toBe(true)
})
