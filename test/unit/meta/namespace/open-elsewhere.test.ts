/** Files that one node takes away while another has them open, and a node that will not be back (C12, C27), over etcd in memory. */
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { newSegmentId, type ByteString, type InodeId } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../../src/meta/raft/etcd-store.ts'
import { EtcdLayout } from '../../../../src/meta/raft/layout.ts'
import { forgetNode, isKnownNode, takeNodeNumber } from '../../../../src/meta/raft/node-number.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { FakeEtcd } from '../../../support/fake-etcd.ts'
import { OWNER, publishRequest } from './fixture.ts'

const BUCKET = 'shared'
const PREFIX = '/tidegate/'
const NAME = 'file' as ByteString
const BYTES = 1000

interface Node {
  readonly namespace: Namespace
  readonly store: EmbeddedStore
  readonly open: Set<InodeId>
  fenced: boolean
}

const nodes: Node[] = []
afterEach(async () => {
  await Promise.all(nodes.splice(0).map(({ store }) => store.stop()))
})

async function startNode(etcd: FakeEtcd, number: number): Promise<Node> {
  const client = etcd.client()
  await client.start()
  const open = new Set<InodeId>()
  const store = createEtcdStore({
    etcd: client,
    prefix: PREFIX,
    node: number,
    replica: new MemoryBackend(),
    clock: systemClock,
    onFenced: () => {
      node.fenced = true
    },
  })
  await store.start()
  const namespace = createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, nodeNumber: number })
  const node: Node = { namespace, store, open, fenced: false }
  nodes.push(node)
  namespace.files.keepFiles((inode) => open.has(inode))
  await namespace.join()
  return node
}

/** Two nodes, and a file of the first that the second has open. Its bytes lie in a segment of the second. */
async function openOnSecond(): Promise<{ etcd: FakeEtcd; one: Node; two: Node; root: InodeId; file: InodeId }> {
  const etcd = new FakeEtcd({ clock: systemClock })
  const [one, two] = [await startNode(etcd, 1), await startNode(etcd, 2)]
  await one.namespace.createBucket({ name: BUCKET, owner: OWNER, region: 'us-east-1', ack: 'journal' })
  const segment = newSegmentId(systemClock.nowMs())
  await two.namespace.segmentOpened(segment)
  const content = await two.namespace.allocateContentId()
  const run = { content, segment, segmentOffset: 0, length: BYTES }
  await two.namespace.publish(publishRequest(BUCKET, NAME, { run }))
  const { inode: root } = await two.namespace.files.findFile(0, BUCKET as ByteString)
  const { inode: file } = await two.namespace.files.findFile(root, NAME)
  two.open.add(file)
  return { etcd, one, two, root, file }
}

/** Both nodes do so until nothing is left to do. */
async function reclaim(of: readonly Node[]): Promise<void> {
  for (let quiet = 0; quiet < 6;) {
    let steps = 0
    for (const { namespace } of of) steps += (await namespace.dismantle(namespace.revision())).value.steps
    quiet = steps === 0 ? quiet + 1 : 0
  }
}

it('keeps what another node removes while it is open here, with its bytes, until it is closed', async () => {
  const { one, two, root, file } = await openOnSecond()
  const { gone } = (await one.namespace.files.removeFile(root, NAME, { keep: false, owner: OWNER })).value
  expect(gone).toBe(true)
  await reclaim([one, two])
  expect(await two.namespace.files.fileNode(file)).toMatchObject({ links: 0, size: BYTES })
  expect((await two.namespace.files.fileExtents(file, 0, BYTES)).extents).toHaveLength(1)
  expect(await checkNamespace(one.store)).toMatchObject({ inodes: 2, contents: 1 })
  two.open.delete(file)
  await two.namespace.files.dropFile(file)
  await reclaim([one, two])
  expect(await checkNamespace(one.store)).toMatchObject({ inodes: 1, contents: 0, dropped: 0 })
})

it.each(['S3 has replaced', 'S3 has deleted'])('keeps what %s there', async (how) => {
  const { one, two, file } = await openOnSecond()
  if (how === 'S3 has deleted') await one.namespace.remove({ bucket: BUCKET, key: NAME, conditions: {}, owner: OWNER })
  else await one.namespace.publish(publishRequest(BUCKET, NAME, { bytes: 'new' }))
  expect(await two.namespace.files.fileNode(file)).toMatchObject({ links: 0, size: BYTES })
  await reclaim([one, two])
  expect((await two.namespace.files.fileExtents(file, 0, BYTES)).extents).toHaveLength(1)
  expect(await two.namespace.files.orphanedFiles(10)).toEqual([file])
})

it('keeps it for two nodes until both have closed it, in either order', async () => {
  for (const first of [0, 1]) {
    const { etcd, one, two, root, file } = await openOnSecond()
    const three = await startNode(etcd, 3)
    three.open.add(file)
    await one.namespace.files.removeFile(root, NAME, { keep: false, owner: OWNER })
    for (const { namespace } of [two, three]) expect(await namespace.files.fileNode(file)).toMatchObject({ links: 0 })
    const [closing, staying] = first === 0 ? [two, three] : [three, two]
    closing.open.delete(file)
    await closing.namespace.files.dropFile(file)
    await reclaim([one, two, three])
    expect(await staying.namespace.files.fileNode(file)).toMatchObject({ links: 0, size: BYTES })
    staying.open.delete(file)
    await staying.namespace.files.dropFile(file)
    await reclaim([one, two, three])
    expect(await checkNamespace(one.store)).toMatchObject({ inodes: 1, contents: 0, dropped: 0 })
  }
})

it('takes apart what was removed and nobody has open', async () => {
  const { one, two, root, file } = await openOnSecond()
  two.open.delete(file)
  await one.namespace.files.removeFile(root, NAME, { keep: false, owner: OWNER })
  await expect(two.namespace.files.fileNode(file)).rejects.toMatchObject({ code: 'StaleFile' })
  await reclaim([one, two])
  expect(await checkNamespace(one.store)).toMatchObject({ inodes: 1, contents: 0, dropped: 0 })
})

it('a node that is removed for good is shut out, and what it kept is let go', async () => {
  const { etcd, one, two, root, file } = await openOnSecond()
  await one.namespace.files.removeFile(root, NAME, { keep: false, owner: OWNER })
  expect(await two.namespace.files.fileNode(file)).toMatchObject({ links: 0 })
  await one.namespace.publish(publishRequest(BUCKET, 'other', { bytes: 'x' }))
  await one.namespace.remove({ bucket: BUCKET, key: 'other', conditions: {}, owner: OWNER })
  expect((await one.namespace.nodes()).map(({ number }) => number)).toEqual([1, 2])

  const client = etcd.client()
  await client.start()
  const layout = new EtcdLayout(PREFIX)
  const options = { etcd: client, layout, clock: systemClock, fillRandom: () => {}, waitMsMax: 1000 }
  expect(await forgetNode(options, 7)).toEqual({ wasKnown: false })
  const [first, second] = [await takeNodeNumber(options), await takeNodeNumber(options)]
  expect([first.number, second.number]).toEqual([1, 2])
  expect(await forgetNode(options, 2)).toEqual({ wasKnown: true })
  expect(await isKnownNode(options, second)).toBe(false)
  expect((await takeNodeNumber(options)).number).toBe(3)
  await expect(two.namespace.files.fileNode(file)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(two.fenced).toBe(true)

  expect(await one.namespace.removeNode(2)).toEqual({ files: 1, builds: 0, locks: 0 })
  expect((await one.namespace.nodes()).map(({ number }) => number)).toEqual([1])
  await reclaim([one])
  expect(await checkNamespace(one.store)).toMatchObject({ inodes: 1, contents: 0, dropped: 0 })
})
