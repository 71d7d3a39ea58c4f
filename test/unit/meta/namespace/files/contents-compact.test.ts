/** C30: files of too many pieces get fewer, and nothing else about them changes. */
import { afterEach, expect, test } from 'vitest'
import type { ByteString, ContentId, InodeId } from '../../../../../src/common/ids.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, fixture, type Fixture } from '../fixture.ts'

let made: Fixture

afterEach(() => made.stop())

const RUN_BYTES_MAX = 1024 * 1024
const QUIET_MS = 5_000

async function start(options: { readonly operationsMax?: number } = {}): Promise<void> {
  made = await fixture(options)
  await made.bucket('box')
}

/** A file of so many pieces that lie in runs of their own; some are holes. */
async function fragmented(key: string, pieces: number, isHole?: (piece: number) => boolean): Promise<InodeId> {
  const { inode } = await made.put('box', key, { bytes: '' })
  for (let at = 0; at < pieces; at += 8) {
    const edits = []
    for (let piece = at; piece < Math.min(pieces, at + 8); piece++) {
      edits.push({ offset: piece * 10, length: 10, run: isHole?.(piece) ? undefined : await made.run(10) })
    }
    await publish(inode, edits, Math.min(pieces, at + 8) * 10)
  }
  return inode
}

type Edits = Parameters<Fixture['namespace']['files']['publishFile']>[0]['edits']

async function publish(inode: InodeId, edits: Edits, size: number): Promise<void> {
  const modified = { seconds: 3, nanoseconds: 4 }
  await made.namespace.files.publishFile({ inode, edits, size, inline: undefined, modified, ack: 'journal' })
}

/** Goes through a file as the store does. Resolves with how many stretches were written anew. */
async function compact(inode: InodeId, runBytesMax = RUN_BYTES_MAX): Promise<number> {
  const { planCompaction, compactFile, settleCompaction } = made.namespace.files
  let [rewritten, at] = [0, 0]
  let rows: ContentId | undefined
  for (;;) {
    const plan = await planCompaction(inode, at, runBytesMax)
    if (!plan) break
    at = plan.to
    rows = plan.rows
    if (plan.what === 'nothing') continue
    const length = plan.pieces.reduce((sum, piece) => sum + piece.length, 0)
    const run = plan.what === 'rewrite' ? await made.run(length) : undefined
    if (run) rewritten++
    expect((await compactFile({ inode, pieces: plan.pieces, run, ack: plan.ack })).value).toBe(true)
  }
  await settleCompaction(inode, rows)
  return rewritten
}

async function candidates(): Promise<readonly InodeId[]> {
  return (await made.namespace.files.fragmentedFiles(undefined, 100)).inodes
}

async function extentsOf(inode: InodeId): Promise<number> {
  return (await made.namespace.files.fileExtents(inode, 0, 2 ** 40)).extents.length
}

test('C30: a file of many short extents is found once it is quiet, and becomes one extent', async () => {
  await start()
  const inode = await fragmented('a', 100)
  expect(await candidates()).toEqual([])
  made.clock.ms += QUIET_MS
  expect(await candidates()).toEqual([inode])
  expect(await extentsOf(inode)).toBe(100)
  expect(await compact(inode)).toBe(1)
  expect(await extentsOf(inode)).toBe(1)
  expect(await candidates()).toEqual([])
  await checkNamespace(made.store)
})

test('C29, C30: neither ETag nor times, size or version change, and no watcher is told', async () => {
  await start()
  await made.namespace.setVersioning('box', 'enabled')
  const inode = await fragmented('a', 40)
  const before = [await made.namespace.lookup('box', 'a'), await made.namespace.files.fileNode(inode)]
  made.clock.ms += 60_000
  const told: unknown[] = []
  const end = made.namespace.files.onFileChanges((changes) => told.push(changes))
  await compact(inode)
  end()
  expect(told).toEqual([])
  expect([await made.namespace.lookup('box', 'a'), await made.namespace.files.fileNode(inode)]).toEqual(before)
})

test('C12, C30: who opened the file before finds all bytes, and what was replaced is given back afterwards', async () => {
  await start()
  const inode = await fragmented('a', 64)
  const { body } = await made.namespace.lookup('box', 'a')
  if (body.kind !== 'content') throw new Error('in pieces')
  const revision = made.namespace.revision()
  await publish(inode, [{ offset: 0, length: 10, run: await made.run(10) }], 640)
  await compact(inode)
  await made.namespace.flush()
  await made.namespace.dismantle(revision)
  const found = await made.namespace.extents(body.content, 0, 640)
  expect(found.reduce((sum, { length }) => sum + length, 0)).toBe(640)
  await made.remove('box', 'a')
  await made.reclaim()
  expect(await checkNamespace(made.store)).toMatchObject({ contents: 0, dropped: 0 })
})

test('C30: holes are not filled, and what lies alone between them is left', async () => {
  await start()
  const inode = await fragmented('a', 60, (piece) => piece % 2 === 1)
  made.clock.ms += QUIET_MS
  expect(await candidates()).toEqual([inode])
  expect(await compact(inode)).toBe(0)
  expect(await extentsOf(inode)).toBe(30)
  expect((await made.namespace.files.fileNode(inode)).storedBytes).toBe(300)
  // Nothing can be done about it, so it is not looked at again before it has got much worse.
  expect(await candidates()).toEqual([])
})

test('C30: pieces that were written meanwhile stay as they were written', async () => {
  await start()
  const inode = await fragmented('a', 40)
  const { planCompaction, compactFile, settleCompaction } = made.namespace.files
  const plan = await planCompaction(inode, 0, RUN_BYTES_MAX)
  if (!plan) throw new Error('a plan')
  const newer = await made.run(10)
  await publish(inode, [{ offset: 200, length: 10, run: newer }], 400)
  const run = await made.run(400)
  expect((await compactFile({ inode, pieces: plan.pieces, run, ack: 'journal' })).value).toBe(false)
  const { extents } = await made.namespace.files.fileExtents(inode, 200, 10)
  expect(extents).toEqual([{ offset: 200, length: 10, segment: newer.segment, segmentOffset: newer.segmentOffset }])
  await settleCompaction(inode, undefined)
  made.clock.ms += QUIET_MS
  expect(await candidates()).toEqual([inode])
})

test('C2, C30: with small transactions a stretch is put in place in steps', async () => {
  await start({ operationsMax: 128 })
  const inode = await fragmented('a', 300)
  await compact(inode)
  expect((await made.namespace.files.fileNode(inode)).size).toBe(3000)
  expect(await extentsOf(inode)).toBeLessThan(20)
  await checkNamespace(made.store)
})

test('C30: a file that is gone is forgotten', async () => {
  await start()
  const inode = await fragmented('a', 40)
  await made.remove('box', 'a')
  expect(await candidates()).toEqual([inode])
  await made.namespace.files.settleCompaction(inode, undefined)
  expect(await candidates()).toEqual([])
})

async function copyTo(from: string, to: string): Promise<InodeId> {
  const { value } = await made.namespace.copy({
    source: { bucket: 'box', key: from },
    sourceConditions: {},
    bucket: 'box',
    key: to,
    attributes: undefined,
    tags: undefined,
    owner: OWNER,
    conditions: {},
    ack: 'journal',
  })
  return value.target.inode
}

test('copies that are written nest only so deep, and compaction takes the nesting away', async () => {
  // With so few operations a file of some rows is referred to whole when its copy is written.
  await start({ operationsMax: 128 })
  const inode = await fragmented('a0', 60, (piece) => piece % 2 === 1)
  const writeCopy = async (round: number): Promise<void> => {
    const copy = await copyTo(`a${round}`, `a${round + 1}`)
    for (let row = 0; row < 20; row++) {
      const offset = row * 30
      await publish(copy, [{ offset, length: 7, run: await made.run(7) }], 600)
    }
  }
  let copies = 0
  await expect(
    (async () => {
      for (; copies < 30; copies++) await writeCopy(copies)
    })(),
  ).rejects.toMatchObject({ code: 'SlowDown' })
  expect(copies).toBeGreaterThan(2)
  // Those do not wait until they are quiet.
  const last = await made.namespace.files.findFile(await rootOf(), `a${copies}` as ByteString)
  expect(await candidates()).not.toContain(inode)
  expect(await candidates()).toContain(last.inode)
  await compact(last.inode)
  await writeCopy(copies)
  await checkNamespace(made.store)
})

async function rootOf(): Promise<InodeId> {
  return (await made.namespace.files.findFile(0, 'box' as ByteString)).inode
}
