import { afterEach, describe, expect, test } from 'vitest'
import type { AttachedNames as Port } from '../../../../../src/attach/ports.ts'
import type { ByteString, InodeId } from '../../../../../src/common/ids.ts'
import { isExternalSegment } from '../../../../../src/common/external.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, PLAIN, publishRequest, type PutOptions } from '../fixture.ts'
import { BUCKET, DEEP, attachedFixture, type AttachedFixture } from './fixture.ts'

const open: AttachedFixture[] = []
const FILE = { mode: 0o644, uid: 1, gid: 1, owner: OWNER, kind: 'file' } as const

async function begin(...keys: string[]): Promise<AttachedFixture> {
  const made = await attachedFixture()
  open.push(made)
  for (const key of keys) made.outside.set(key, { etag: `out-${key}`, size: 100 })
  await made.mirror.merge(made.page(DEEP))
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

const absent = { kind: 'absent' }

function base(key: string): object {
  return { kind: 'etag', etag: `out-${key}`, size: 100 }
}

async function dirty(made: AttachedFixture): Promise<Record<string, unknown>> {
  const rows = await made.dirty()
  return Object.fromEntries(rows.map((row) => [row.key, row.base.kind === 'etag' ? row.base.etag : '-']))
}

async function inodeOf(made: AttachedFixture, key: string): Promise<InodeId> {
  return (await made.namespace.lookup(BUCKET, key)).inode
}

function root(made: AttachedFixture): InodeId {
  return made.attachment.bucketId
}

async function publish(made: AttachedFixture, key: string, options: PutOptions = {}): Promise<void> {
  await made.namespace.publish(publishRequest(BUCKET, key, options))
}

test('the names of the namespace are what attach asks for', async () => {
  const made = await begin()
  const port: Port = made.namespace.attached
  expect(port.revision()).toBe(made.store.revision())
})

describe('C32: a change leaves its trace in its own transaction', () => {
  test('what is merged leaves none', async () => {
    const made = await begin('a', 'd/b', 'd/e/c')
    expect(await made.dirty()).toEqual([])
    expect(made.told).toEqual([])
  })

  test('put, overwrite, delete, tags; once, with the first base', async () => {
    const made = await begin('a', 'b', 'c', 'd/x')
    await publish(made, 'new')
    await publish(made, 'a')
    await publish(made, 'a', { bytes: 'again' })
    await made.namespace.remove({ bucket: BUCKET, key: 'b', conditions: {}, owner: OWNER })
    await made.namespace.remove({ bucket: BUCKET, key: 'd/x', conditions: {}, owner: OWNER })
    await made.namespace.setTags({ bucket: BUCKET, key: 'c' }, { one: 'two' })
    expect(await dirty(made)).toEqual({ new: '-', a: 'out-a', b: 'out-b', c: 'out-c', 'd/x': 'out-d/x' })
    expect(new Set(made.told.map(({ key }) => key))).toEqual(new Set(['new', 'a', 'b', 'c', 'd/x']))
    const [a] = await made.dirty()
    expect(a).toMatchObject({ base: base('a'), neededBy: [], conflict: undefined })
  })

  test('the same tags are no change, nor are mode and times', async () => {
    const made = await begin('a')
    await made.namespace.setTags({ bucket: BUCKET, key: 'a' }, {})
    const inode = await inodeOf(made, 'a')
    await made.namespace.files.changeFile(inode, { mode: 0o600, modified: { seconds: 5, nanoseconds: 0 } })
    await made.namespace.files.setFileAttribute(inode, 'user.x' as ByteString, Buffer.from('1'), 'set')
    expect(await made.dirty()).toEqual([])
  })

  test('a crash in memory tells nobody: what is refused leaves nothing', async () => {
    const made = await begin('a')
    const request = { ...publishRequest(BUCKET, 'a'), conditions: { ifNoneMatch: ['*'] } }
    await expect(made.namespace.publish(request)).rejects.toMatchObject({ code: 'PreconditionFailed' })
    expect(await made.dirty()).toEqual([])
  })

  test('none in other buckets', async () => {
    const made = await begin('a')
    await made.namespace.createBucket({ name: 'plain', owner: OWNER, region: 'us-east-1', ack: 'journal' })
    await made.namespace.publish(publishRequest('plain', 'd/k'))
    await made.namespace.rename({ bucket: 'plain', from: 'd/', to: 'e/', replace: false })
    expect(await made.dirty()).toEqual([])
    expect(await made.mirror.moves(root(made))).toEqual([])
  })

  test('a rename needs what lies outside at the old key, until it has arrived', async () => {
    const made = await begin('a')
    const inode = await inodeOf(made, 'a')
    await made.namespace.rename({ bucket: BUCKET, from: 'a', to: 'b', replace: false })
    await made.namespace.rename({ bucket: BUCKET, from: 'b', to: 'c', replace: false })
    expect(await made.dirty()).toMatchObject([
      { key: 'a', base: base('a'), neededBy: [inode] },
      { key: 'b', base: absent, neededBy: [] },
      { key: 'c', base: absent, neededBy: [] },
    ])
    const { dirty: row } = (await made.mirror.dirtyState(root(made), 'c'))!
    const outside = { ...description('c', 'out-c', 100) }
    const { value } = await made.mirror.settle({
      bucketId: root(made),
      key: 'c',
      revision: row.revision,
      outside,
      written: 'out-c',
    })
    expect(value).toBe(true)
    expect((await made.mirror.dirtyState(root(made), 'a'))?.dirty.neededBy).toEqual([])
    expect(made.told.at(-1)).toEqual({ bucketId: root(made), key: 'a' })
  })

  test('two that change places need each other', async () => {
    const made = await begin('a', 'b')
    const [a, b] = [await inodeOf(made, 'a'), await inodeOf(made, 'b')]
    const name = (text: string): { parent: InodeId; name: ByteString } => ({
      parent: root(made),
      name: text as ByteString,
    })
    await made.namespace.files.renameFile(name('a'), name('b'), { mode: 'exchange', keep: () => false })
    expect(await made.dirty()).toMatchObject([
      { key: 'a', base: base('a'), neededBy: [a] },
      { key: 'b', base: base('b'), neededBy: [b] },
    ])
  })

  test('the rename of a directory is one row; what is done to an old key meanwhile knows what lies there', async () => {
    const made = await begin('d/x', 'd/y', 'd/z')
    const x = await inodeOf(made, 'd/x')
    await made.namespace.rename({ bucket: BUCKET, from: 'd/', to: 'e/', replace: false })
    expect(await made.dirty()).toEqual([])
    expect(await made.mirror.moves(root(made))).toMatchObject([{ from: 'd/', to: 'e/', keys: 0 }])
    // Anew under the old name; and gone under the new one before it was written down.
    await publish(made, 'd/x')
    await made.namespace.remove({ bucket: BUCKET, key: 'e/y', conditions: {}, owner: OWNER })
    expect(await made.dirty()).toMatchObject([
      { key: 'd/x', base: base('d/x'), neededBy: [x] },
      { key: 'd/y', base: base('d/y'), neededBy: [] },
      { key: 'e/y', base: absent, neededBy: [] },
    ])
  })

  test('what the mount writes in place becomes a leaf of the external segment', async () => {
    const made = await begin('f')
    const inode = await inodeOf(made, 'f')
    const content = await made.namespace.allocateContentId()
    const run = { content, segment: '0'.repeat(32) as never, segmentOffset: 0, length: 10 }
    await made.namespace.files.publishFile({
      inode,
      edits: [{ offset: 20, length: 10, run }],
      inline: undefined,
      size: 100,
      modified: undefined,
      ack: 'journal',
    })
    const state = (await made.mirror.dirtyState(root(made), 'f'))!
    expect(state.dirty).toMatchObject({ base: base('f'), neededBy: [] })
    expect(state.extents.map(({ offset, length, segmentOffset }) => [offset, length, segmentOffset])).toEqual([
      [0, 20, 0],
      [20, 10, 0],
      [30, 70, 30],
    ])
    const segment = state.extents[0]!.segment
    expect(isExternalSegment(segment)).toBe(true)
    expect(await made.mirror.externalSegment(segment)).toMatchObject({
      bucketId: root(made),
      body: { key: 'f', etag: 'out-f', size: 100 },
    })
    // A copy by reference would lose its bytes as soon as the key is carried out.
    await expect(
      made.namespace.copy({
        source: { bucket: BUCKET, key: 'f' },
        sourceConditions: {},
        bucket: BUCKET,
        key: 'g',
        attributes: undefined,
        tags: undefined,
        owner: OWNER,
        conditions: {},
        ack: 'journal',
      }),
    ).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  })
})

describe('refused in an attached bucket', () => {
  test('versions, hard links, deletion', async () => {
    const made = await begin('a')
    const refused = { code: 'InvalidBucketState' }
    await expect(made.namespace.setVersioning(BUCKET, 'enabled')).rejects.toMatchObject(refused)
    await expect(made.namespace.deleteBucket(BUCKET)).rejects.toMatchObject(refused)
    const link = made.namespace.files.linkFile(await inodeOf(made, 'a'), root(made), 'b' as ByteString)
    await expect(link).rejects.toMatchObject(refused)
  })
})

test('a directory of which not all is known stays when it looks empty', async () => {
  const made = await begin()
  await made.mirror.mergeOne({
    bucketId: root(made),
    key: 'd/x',
    found: description('d/x', 'e', 1),
    askedAt: made.store.revision(),
  })
  await made.namespace.remove({ bucket: BUCKET, key: 'd/x', conditions: {}, owner: OWNER })
  const directory = await made.namespace.files.findFile(root(made), 'd' as ByteString)
  expect(directory.kind).toBe('directory')
  await made.namespace.files.makeFile(directory.inode, 'y' as ByteString, FILE)
  await made.namespace.files.removeFile(directory.inode, 'y' as ByteString, { keep: false, owner: OWNER })
  await expect(made.namespace.files.removeDirectory(root(made), 'd' as ByteString)).rejects.toMatchObject({
    code: 'Unavailable',
  })
})

function description(key: string, etag: string, size: number): Parameters<Port['settle']>[0]['outside'] & object {
  return {
    key,
    etag,
    size,
    modifiedMs: 1_700_000_500_000,
    storageClass: 'STANDARD',
    attributes: PLAIN,
    partsCount: undefined,
  }
}
