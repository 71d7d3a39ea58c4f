import { afterEach, describe, expect, test } from 'vitest'
import type { ByteString, ContentId, InodeId } from '../../../../../src/common/ids.ts'
import type { StoredRun } from '../../../../../src/common/model.ts'
import type { MemoryStoreOptions } from '../../../../../src/meta/memory/memory-store.ts'
import { fileEditsMax } from '../../../../../src/meta/namespace/files/contents-publish.ts'
import type { FileEdit, PublishFileRequest } from '../../../../../src/common/file-contents.ts'
import { piecesPrefix, prefixRange, PIECES } from '../../../../../src/meta/namespace/keys.ts'
import { decodePieceRow } from '../../../../../src/meta/namespace/records-contents.ts'
import { readContent } from '../../../../../src/meta/namespace/references.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, fixture, type Fixture } from '../fixture.ts'

const open: Fixture[] = []
const MODIFIED = { seconds: 1_700_000_100, nanoseconds: 123_456_789 }
const ETCD = { operationsMax: 128, bytesMax: 1_400_000 }

async function begin(options: MemoryStoreOptions = {}): Promise<Fixture> {
  const made = await fixture(options)
  open.push(made)
  await made.bucket('box')
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

function publish(made: Fixture, request: Partial<PublishFileRequest> & Pick<PublishFileRequest, 'inode' | 'size'>) {
  return made.namespace.files.publishFile({
    edits: [],
    inline: undefined,
    modified: MODIFIED,
    ack: 'journal',
    ...request,
  })
}

/** Each of its bytes lies alone: pieces that cannot be joined. */
async function scattered(made: Fixture, inode: InodeId, count: number): Promise<void> {
  const run = await made.run(count * 2)
  const edits: FileEdit[] = []
  for (let i = 0; i < count; i++) edits.push({ offset: i, length: 1, run, runOffset: i * 2 })
  await publish(made, { inode, edits, size: count })
}

async function contentOf(made: Fixture, key = 'f'): Promise<ContentId> {
  const { body } = await made.namespace.lookup('box', key)
  if (body.kind !== 'content') throw new Error('the file lies inline')
  return body.content
}

async function rowLengths(made: Fixture, key = 'f'): Promise<number[]> {
  const content = await contentOf(made, key)
  return made.store.read(async (view) => {
    const record = await readContent(view, content)
    const rows = await view.scan(prefixRange(piecesPrefix(record?.kind === 'file' ? record.rows : content)), 10_000)
    return rows.map(({ value }) => decodePieceRow(value).pieces.length)
  })
}

async function where(
  made: Fixture,
  inode: InodeId,
): Promise<[offset: number, length: number, segmentOffset: number][]> {
  const { extents } = await made.namespace.files.fileExtents(inode, 0, Number.MAX_SAFE_INTEGER)
  return extents.map(({ offset, length, segmentOffset }) => [offset, length, segmentOffset])
}

async function put(made: Fixture, length: number, key = 'f'): Promise<{ inode: InodeId; run: StoredRun }> {
  const run = await made.run(length)
  const { inode } = await made.put('box', key, { run })
  return { inode, run }
}

function copy(made: Fixture, from: string, key: string) {
  return made.namespace.copy({
    source: { bucket: 'box', key: from },
    sourceConditions: {},
    bucket: 'box',
    key,
    attributes: undefined,
    tags: undefined,
    owner: OWNER,
    conditions: {},
    ack: 'journal',
  })
}

describe('publishing a file', () => {
  test('C29: an object that S3 made gets an opaque ETag, new each time, and loses what was said of its bytes', async () => {
    const made = await begin()
    const { inode, run } = await put(made, 100)
    const more = await made.run(10)
    const { value } = await publish(made, { inode, edits: [{ offset: 20, length: 10, run: more }], size: 100 })
    expect(value).toMatchObject({ inode, size: 100, modified: MODIFIED, storedBytes: 100 })
    expect(await where(made, inode)).toEqual([
      [0, 20, run.segmentOffset],
      [20, 10, more.segmentOffset],
      [30, 70, run.segmentOffset + 30],
    ])
    const first = await made.namespace.lookup('box', 'f')
    expect(first.etag).toMatch(/^[0-9a-f]{32}-[0-9]+$/)
    expect(first).toMatchObject({ checksum: undefined, partsCount: undefined, mtimeMs: 1_700_000_100_123 })
    await publish(made, { inode, size: 100 })
    expect((await made.namespace.lookup('box', 'f')).etag).not.toBe(first.etag)
  })

  test('C28: every link shows the new size, time and ETag', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    const { root } = await made.namespace.bucket('box')
    await made.namespace.files.linkFile(inode, root, 'g' as ByteString)
    await publish(made, { inode, size: 4 })
    const { objects } = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', after: '', limit: 10 })
    expect(objects.map(({ key, size }) => [key, size])).toEqual([
      ['f', 4],
      ['g', 4],
    ])
    expect(objects[0]?.etag).toBe(objects[1]?.etag)
  })

  test('an inode that is gone is stale; a directory has no content', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    await made.remove('box', 'f')
    await expect(publish(made, { inode, size: 1 })).rejects.toMatchObject({ code: 'StaleFile' })
    await expect(made.namespace.files.fileExtents(inode, 0, 1)).rejects.toMatchObject({ code: 'StaleFile' })
    const { root } = await made.namespace.bucket('box')
    await expect(publish(made, { inode: root, size: 1 })).rejects.toMatchObject({ code: 'IsADirectory' })
  })

  test('C12: a file that was replaced inline is dropped, and so is what an empty one had', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    await publish(made, { inode, inline: Buffer.from('abc'), size: 3 })
    expect(await made.namespace.files.fileExtents(inode, 0, 9)).toMatchObject({ inline: Buffer.from('abc'), size: 3 })
    await publish(made, { inode, edits: [{ offset: 0, length: 9, run: await made.run(9) }], size: 9 })
    await publish(made, { inode, size: 0 })
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ contents: 0, dropped: 0 })
  })

  test('holes are not stored, and are found', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    const size = 2 ** 50
    const run = await made.run(5)
    const { value } = await publish(made, { inode, edits: [{ offset: 2 ** 40, length: 5, run }], size })
    expect(value).toMatchObject({ size, storedBytes: 15 })
    const { seekFile } = made.namespace.files
    expect(await seekFile(inode, 3, 'hole')).toBe(10)
    expect(await seekFile(inode, 10, 'data')).toBe(2 ** 40)
    expect(await seekFile(inode, 2 ** 40 + 1, 'hole')).toBe(2 ** 40 + 5)
    expect(await seekFile(inode, 2 ** 41, 'data')).toBe(undefined)
    expect(await seekFile(inode, size, 'hole')).toBe(undefined)
    await publish(made, { inode, edits: [{ offset: 0, length: 10, run: undefined }], size: 2 ** 40 })
    expect(await where(made, inode)).toEqual([])
    expect(await seekFile(inode, 0, 'hole')).toBe(0)
  })

  test('rows are cut when they are full, and joined when they are short', async () => {
    const made = await begin()
    const { inode } = await made.put('box', 'f')
    await scattered(made, inode, 100)
    expect(await rowLengths(made)).toEqual([32, 32, 32, 4])
    await publish(made, { inode, edits: [{ offset: 40, length: 1, run: await made.run(1) }], size: 100 })
    const run = await made.run(90)
    await publish(made, { inode, edits: [{ offset: 5, length: 90, run }], size: 100 })
    expect(await rowLengths(made)).toEqual([5 + 1 + 5])
  })
})

describe('work in steps', () => {
  test('C2: the edits that are said to fit are published in one transaction', async () => {
    const made = await begin({ operationsMax: 256 })
    const { inode } = await made.put('box', 'f')
    await scattered(made, inode, 2000)
    const before = made.namespace.revision()
    const edits: FileEdit[] = []
    for (let i = 0; i < fileEditsMax(made.store.limits); i++) {
      edits.push({ offset: 100 * i + 50, length: 2, run: await made.run(2) })
    }
    expect(edits.length).toBeGreaterThan(10)
    const { revision } = await publish(made, { inode, edits, size: 2000 })
    expect(revision).toBe(before + 1)
  })

  test('C2: a cut of very many pieces is seen at once, and a crash in between harms nothing', async () => {
    const made = await begin(ETCD)
    const { inode } = await made.put('box', 'f')
    await scattered(made, inode, 4000)
    const old = await contentOf(made)
    const before = made.namespace.revision()
    const { revision } = await publish(made, { inode, size: 10 })
    expect(revision).toBeGreaterThan(before + 1)
    expect(await rowLengths(made)).toEqual([10])
    expect(await made.namespace.extents(old, 0, 4000)).toHaveLength(4000)
    await publish(made, { inode, size: 4000 })
    expect(await where(made, inode)).toHaveLength(10)
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ contents: 2, dropped: 0 })
  })

  test('C2: an edit over very many pieces goes in ascending steps', async () => {
    const made = await begin({ ...ETCD, forceRetry: true })
    const { inode } = await made.put('box', 'f')
    await scattered(made, inode, 4000)
    const old = await contentOf(made)
    const run = await made.run(3990)
    await publish(made, { inode, edits: [{ offset: 5, length: 3990, run }], size: 4000 })
    expect((await where(made, inode)).slice(4, 7)).toEqual([
      [4, 1, 8],
      [5, 3990, run.segmentOffset],
      [3995, 1, 7990],
    ])
    expect(await made.namespace.extents(old, 0, 4000)).toHaveLength(4000)
  })
})

describe('who else has the content', () => {
  test('C11: a copy keeps what it has when the source is written, and the other way round', async () => {
    const made = await begin()
    const { inode, run } = await put(made, 10)
    const { value } = await copy(made, 'f', 'g')
    const [one, two] = [await made.run(2), await made.run(3)]
    await publish(made, { inode, edits: [{ offset: 0, length: 2, run: one }], size: 10 })
    await publish(made, { inode: value.target.inode, edits: [{ offset: 7, length: 3, run: two }], size: 10 })
    const at = run.segmentOffset
    expect(await where(made, inode)).toEqual([
      [0, 2, one.segmentOffset],
      [2, 8, at + 2],
    ])
    expect(await where(made, value.target.inode)).toEqual([
      [0, 7, at],
      [7, 3, two.segmentOffset],
    ])
  })

  test('a copy of a file in very many pieces is referred to, one of few is taken apart', async () => {
    for (const options of [{}, ETCD]) {
      const made = await begin(options)
      const { inode } = await made.put('box', 'f')
      await scattered(made, inode, 200)
      const was = await where(made, inode)
      await copy(made, 'f', 'g')
      await publish(made, { inode, edits: [{ offset: 100, length: 1, run: undefined }], size: 200 })
      expect(await where(made, inode)).toEqual(was.filter(([offset]) => offset !== 100))
      expect((await rowLengths(made)).reduce((sum, length) => sum + length)).toBe(options === ETCD ? 3 : 200)
      await made.remove('box', 'g')
      await made.reclaim()
      expect(await where(made, inode)).toHaveLength(199)
    }
  })

  test('C12, C27: a reader sees the version it opened, whole, however often the file is published meanwhile', async () => {
    const made = await begin()
    const { inode } = await made.put('box', 'f')
    await scattered(made, inode, 50)
    const opened = made.namespace.revision()
    const content = await contentOf(made)
    const was = await made.namespace.extents(content, 0, 50)
    for (let i = 0; i < 20; i++) {
      await publish(made, { inode, edits: [{ offset: i * 2, length: 3, run: await made.run(3) }], size: 60 - i })
      await made.namespace.flush()
      await made.namespace.dismantle(opened)
    }
    expect(await made.namespace.extents(content, 0, 99)).toEqual(was)
    await made.reclaim()
    await expect(made.namespace.extents(content, 0, 99)).rejects.toMatchObject({ code: 'DataLost' })
    expect(await made.store.read((view) => view.scan(prefixRange(PIECES), 10))).toHaveLength(1)
  })

  test('C27: what is written where a hole at the end was is not seen by who opened the hole', async () => {
    const made = await begin()
    const { inode } = await put(made, 30)
    await publish(made, { inode, edits: [{ offset: 10, length: 10, run: undefined }], size: 30 })
    const content = await contentOf(made)
    const was = await made.namespace.extents(content, 0, 30)
    await publish(made, { inode, edits: [{ offset: 20, length: 10, run: undefined }], size: 30 })
    await publish(made, { inode, edits: [{ offset: 12, length: 3, run: await made.run(3) }], size: 30 })
    expect(await made.namespace.extents(content, 0, 30)).toEqual(was)
  })

  test('a run that was published in part and overwritten can be published further', async () => {
    const made = await begin()
    const { inode } = await made.put('box', 'f')
    const run = await made.run(10)
    await publish(made, { inode, edits: [{ offset: 0, length: 5, run }], size: 5 })
    await publish(made, { inode, edits: [], size: 0 })
    await made.namespace.flush()
    await made.namespace.dismantle(made.namespace.revision())
    await publish(made, { inode, edits: [{ offset: 0, length: 5, run, runOffset: 5 }], size: 5 })
    expect(await where(made, inode)).toEqual([[0, 5, run.segmentOffset + 5]])
  })

  test('UploadPartCopy of a sparse file takes its holes along', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    await publish(made, { inode, edits: [{ offset: 3, length: 4, run: undefined }], size: 15 })
    const { uploadId } = await made.namespace
      .createUpload({
        bucket: 'box',
        key: 'up',
        owner: OWNER,
        attributes: { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' },
        checksumAlgorithm: undefined,
        checksumType: undefined,
      })
      .then(({ value }) => value)
    const etag = '0'.repeat(32)
    const common = { bucket: 'box', key: 'up', uploadId, sourceConditions: {}, etag, checksum: undefined }
    const source = { bucket: 'box', key: 'f' }
    await made.namespace.copyPart({ ...common, source, partNumber: 1, range: undefined })
    await made.namespace.copyPart({ ...common, source, partNumber: 2, range: { offset: 4, length: 2 } })
    const parts = [1, 2].map((partNumber) => ({ partNumber, etag }))
    const whole = { ...common, parts, conditions: {}, ack: 'journal' } as const
    await made.namespace.completeUpload({ ...whole, etag: `${etag}-2` })
    const extents = await made.namespace.extents(await contentOf(made, 'up'), 0, 99)
    expect(extents.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 3],
      [7, 3],
    ])
    expect((await made.namespace.lookup('box', 'up')).size).toBe(17)
  })

  test('C18: lost bytes of a file are found through its pieces', async () => {
    const made = await begin()
    const { inode } = await put(made, 10)
    const run = await made.run(10)
    await publish(made, { inode, edits: [{ offset: 5, length: 10, run }], size: 15 })
    const { segmentOffset, length, segment } = run
    expect(await made.namespace.bytesLost(segment, segmentOffset, segmentOffset + length)).toMatchObject({
      lost: [{ bucket: 'box', key: 'f' }],
    })
  })
})
