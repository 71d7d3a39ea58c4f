import { afterEach, beforeEach, expect, test } from 'vitest'
import { must } from '../../../../src/common/assert.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { recover } from '../../../../src/persist/recovery.ts'
import { readFooter } from '../../../../src/persist/segment-files.ts'
import { copyPath, replicated, TestCluster, type TestNode } from './fixture.ts'

let cluster: TestCluster
let one: TestNode
let two: TestNode

beforeEach(async () => {
  cluster = new TestCluster()
  one = await cluster.start(1)
  two = await cluster.start(2)
})

afterEach(() => cluster.stop())

function bytesOf(length: number, seed = 1): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 7 + seed) % 251))
}

function sweep(node: TestNode): Promise<unknown> {
  return must(node.copies.jobs[1], 'sweep').round()
}

/** What a reader of a block is given. */
async function readBlock(node: TestNode, segment: SegmentId, block: number): Promise<Buffer | undefined> {
  const slot = await node.memory.acquire('read')
  const length = await node.copies.read(segment, block, slot)
  const bytes = length === undefined ? undefined : Buffer.from(node.slab.view(slot, length))
  node.memory.release(slot)
  return bytes
}

async function bodyFrom(
  node: TestNode,
  run: { segment: SegmentId; segmentOffset: number; length: number },
): Promise<Buffer> {
  const blocks: Buffer[] = []
  const first = Math.floor(run.segmentOffset / 256)
  for (let block = first; block * 256 < run.segmentOffset + run.length; block++) {
    blocks.push(must(await readBlock(node, run.segment, block), `block ${block}`))
  }
  const from = run.segmentOffset - first * 256
  return Buffer.concat(blocks).subarray(from, from + run.length)
}

test('a copy is read while it is written, when its owner is gone, and when it is whole', async () => {
  const body = bytesOf(700)
  const appended = await one.append(body)
  await replicated(one, appended)
  expect(await bodyFrom(two, appended.run)).toEqual(body)
  await one.journal.sealOpen()
  expect(await bodyFrom(two, appended.run)).toEqual(body)
  const later = await one.append(bytesOf(400, 3))
  await replicated(one, later)
  cluster.lose(1)
  expect(await bodyFrom(two, later.run)).toEqual(bytesOf(400, 3))
  expect(await readBlock(two, later.run.segment, 100)).toBeUndefined()
})

test('C14: bytes that rotted on the disk of a copy are not served from it', async () => {
  const appended = await one.append(bytesOf(700))
  await replicated(one, appended)
  const { segment } = appended.run
  const file = await two.fileSystem.open(copyPath(segment), 'write')
  await file.write(Buffer.from([255]), 300)
  expect(await readBlock(two, segment, 0)).toBeDefined()
  expect(await readBlock(two, segment, 1)).toBeUndefined()
})

test('a copy that was cut off is read by its frames after its holder has started again', async () => {
  const appended = await one.append(bytesOf(700))
  await replicated(one, appended)
  const found = cluster.cutPower(two, 5)
  const back = await cluster.start(2, found)
  expect(await bodyFrom(back, appended.run)).toEqual(bytesOf(700))
})

for (const seed of [1, 2, 3, 4, 5, 6]) {
  test(`C17, C23: everything acknowledged is the heir's, whatever was under way when both lost power (seed ${seed})`, async () => {
    const bodies = []
    for (let index = 0; index < 3; index++) {
      const appended = await one.append(bytesOf(300 + index, index))
      await replicated(one, appended)
      bodies.push({ run: appended.run, bytes: bytesOf(300 + index, index) })
    }
    // Not waited for: it may have arrived in part.
    await one.append(bytesOf(500, 99))
    cluster.cutPower(one, seed)
    const heir = await cluster.start(2, cluster.cutPower(two, seed))
    const { segment } = must(bodies[0], 'body').run
    heir.index.inherit(segment)
    expect(await heir.copies.adopt(segment)).toBe(true)
    const row = must(cluster.table.get(segment), 'row')
    expect(row).toMatchObject({ node: 2, state: 'sealed', copies: [] })
    const path = heir.files.journalPath(segment)
    const footer = must(await readFooter(await heir.fileSystem.open(path, 'read'), segment), 'footer')
    expect(footer.dataBytes).toBe(row.bytes)
    const contents = heir.fileSystem.contents(path)
    for (const { run, bytes } of bodies) {
      expect(contents.subarray(run.segmentOffset, run.segmentOffset + run.length)).toEqual(bytes)
      expect(footer.bodies.some(({ offset }) => offset === run.segmentOffset)).toBe(true)
    }
    expect(heir.adopted).toMatchObject([{ segment, bytes: row.bytes }])
    await expect(heir.copies.holds(segment)).resolves.toBe(false)
  })
}

test('adopting is safe to repeat, and false where there is nothing to adopt', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  const { segment } = appended.run
  // Still the owner's.
  expect(await two.copies.adopt(segment)).toBe(false)
  await expect(two.copies.holds(segment)).resolves.toBe(true)
  cluster.lose(1)
  two.index.inherit(segment)
  expect(await two.copies.adopt(segment)).toBe(true)
  expect(await two.copies.adopt(segment)).toBe(true)
  expect(await two.copies.adopt('f'.repeat(32) as SegmentId)).toBe(false)
})

test('an adopted segment is copied again to another node', async () => {
  const three = await cluster.start(3)
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  const { segment } = appended.run
  const partner = cluster.table.get(segment)?.copies?.[0] === 2 ? two : three
  const other = partner === two ? three : two
  cluster.lose(1)
  partner.index.inherit(segment)
  await partner.copies.adopt(segment)
  await must(partner.copies.jobs[0], 'copy again').round()
  expect(cluster.table.get(segment)).toMatchObject({ node: partner.number, copies: [other.number] })
  expect(await bodyFrom(other, appended.run)).toEqual(bytesOf(300))
})

test('a crash between the inheritance and the move: recovery finds the file in the journal', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  const { segment, segmentOffset } = appended.run
  cluster.lose(1)
  two.index.inherit(segment)
  const back = await cluster.start(2, cluster.cutPower(two, 7))
  await expect(back.copies.holds(segment)).resolves.toBe(false)
  const { fileSystem, files, index } = back
  const recovered = await recover({
    fileSystem,
    files,
    index,
    pageBytes: 64,
    carries: 'adopting',
    strangers: 'removed',
  })
  expect(recovered.report).toMatchObject({ resealed: 1, orphansRemoved: 0, lost: [] })
  expect(recovered.toPersist).toEqual([segment])
  const contents = fileSystem.contents(files.journalPath(segment))
  expect(contents.subarray(segmentOffset, segmentOffset + 300)).toEqual(bytesOf(300))
})

test('what the owner sealed shorter than the copy is long is cut there', async () => {
  const first = await one.append(bytesOf(300))
  await replicated(one, first)
  const { segment, segmentOffset } = first.run
  await replicated(one, await one.append(bytesOf(300, 2)))
  const bytes = segmentOffset + 300
  cluster.table.set(segment, { ...must(cluster.table.get(segment), 'row'), state: 'sealed', bytes })
  cluster.lose(1)
  two.index.inherit(segment)
  await two.copies.adopt(segment)
  expect(two.adopted).toMatchObject([{ bytes }])
})

test('C23: a copy stays while its row names this node, also when its owner began anew; and goes with the row', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  const { segment } = appended.run
  cluster.members.set(1, { incarnation: 'f'.repeat(16) })
  await sweep(two)
  await expect(two.copies.holds(segment)).resolves.toBe(true)
  cluster.table.delete(segment)
  const back = await cluster.start(2, cluster.cutPower(two, 8))
  await sweep(back)
  await expect(back.copies.holds(segment)).resolves.toBe(false)
})

test('a copy goes when another took its place, or when all nodes reach the bytes; its owner tells of that', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  await one.journal.sealOpen()
  const { segment } = appended.run
  cluster.reachedByAll = true
  await one.index.segmentChanged(segment, 'persisted', 400)
  one.copies.notNeeded(segment)
  await expect.poll(() => two.copies.holds(segment)).toBe(false)
  cluster.reachedByAll = false
  const second = await one.append(bytesOf(300))
  await replicated(one, second)
  await one.index.copiesChanged(second.run.segment, [3])
  await sweep(two)
  await expect(two.copies.holds(second.run.segment)).resolves.toBe(false)
})

test('a node that returns keeps as a copy what its heir has alone, until the heir has copied it elsewhere', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  await one.journal.sealOpen()
  const { segment, segmentOffset } = appended.run
  const path = one.files.journalPath(segment)
  await expect(one.copies.keep(segment, path)).resolves.toBe(false)
  two.index.inherit(segment)
  await expect(one.copies.keep(segment, path)).resolves.toBe(true)
  const { fileSystem } = one
  expect(fileSystem.contents(copyPath(segment)).subarray(segmentOffset, segmentOffset + 300)).toEqual(bytesOf(300))
  await expect(fileSystem.open(path, 'read')).rejects.toMatchObject({ code: 'ENOENT' })
  await sweep(one)
  await expect(one.copies.holds(segment)).resolves.toBe(true)
  await two.index.copiesChanged(segment, [3])
  const back = await cluster.start(1, cluster.cutPower(one, 8))
  await sweep(back)
  await expect(back.copies.holds(segment)).resolves.toBe(false)
})

test('only the node whose the segment is writes a copy of it', async () => {
  const appended = await one.append(bytesOf(300))
  await replicated(one, appended)
  const { segment } = appended.run
  const three = await cluster.start(3)
  const calls = cluster.wires.of(three.number)
  const options = { timeoutMs: 1000 }
  const ask = (method: 'copy-open' | 'copy-write' | 'copy-seal', head: object): Promise<unknown> =>
    calls.call(2, { method, head: Buffer.from(JSON.stringify(head)), pieces: [Buffer.alloc(0)] }, options)
  const name = { segment, mode: 'live' }
  await expect(ask('copy-open', name)).rejects.toMatchObject({ code: 'AccessDenied' })
  await expect(ask('copy-open', { segment, mode: 'whole' })).rejects.toMatchObject({ code: 'AccessDenied' })
  const write = { ...name, position: 400, crc: 0, sync: true }
  await expect(ask('copy-write', write)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(ask('copy-seal', write)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(ask('copy-write', { ...write, segment: '../../etc/passwd' })).rejects.toMatchObject({
    code: 'InvalidRequest',
  })
  await replicated(one, await one.append(bytesOf(50)))
})

test('one page of a large body that rotted on the copy costs that page, and not what lies behind it', async () => {
  const stream = one.journal.stream({ content: 1, copied: true })
  for (let block = 0; block < 3; block++) {
    const slot = await one.memory.acquire('stream')
    one.slab.view(slot, 256).set(bytesOf(256, block))
    await stream.write(slot, 256)
    one.memory.release(slot)
  }
  const { segment, length } = await stream.finish('{}')
  one.journal.streamPublished(segment)
  cluster.lose(1)
  const file = await two.fileSystem.open(copyPath(segment), 'write')
  await file.write(Buffer.from([255]), 300)
  two.index.inherit(segment)
  await two.copies.adopt(segment)
  expect(two.adopted).toMatchObject([{ segment, bytes: length, lost: [] }])
  const contents = two.fileSystem.contents(two.files.journalPath(segment))
  expect(contents.subarray(512, 768)).toEqual(bytesOf(256, 2))
})
