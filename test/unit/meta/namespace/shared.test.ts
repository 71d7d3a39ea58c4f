/** Two nodes that share a namespace (docs/decisions/0016), over etcd in memory. */
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { newSegmentId } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { FakeEtcd } from '../../../support/fake-etcd.ts'
import { OWNER, publishRequest } from './fixture.ts'

const BUCKET = 'shared'

const stores: EmbeddedStore[] = []
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.stop()))
})

async function startNode(etcd: FakeEtcd, node: number): Promise<Namespace> {
  const clock = systemClock
  const client = etcd.client()
  await client.start()
  const store = createEtcdStore({ etcd: client, node, replica: new MemoryBackend(), clock })
  stores.push(store)
  await store.start()
  const namespace = createNamespace({ store, clock, limits: DEFAULT_LIMITS, nodeNumber: node })
  await namespace.join()
  return namespace
}

async function twoNodes(): Promise<[Namespace, Namespace]> {
  const etcd = new FakeEtcd({ clock: systemClock })
  const nodes: [Namespace, Namespace] = [await startNode(etcd, 1), await startNode(etcd, 2)]
  await nodes[0].createBucket({ name: BUCKET, owner: OWNER, region: 'us-east-1', ack: 'journal' })
  return nodes
}

it('what one node has put the other finds at once, by the revision that the put was told, also where it knew an older version (C3, C5)', async () => {
  const [one, two] = await twoNodes()
  for (let round = 0; round < 20; round++) {
    const put = await one.publish(publishRequest(BUCKET, 'd/k', { bytes: `${round}` }))
    expect(put.value.revision).toBe(put.revision)
    // Twice, so that the second would be answered from memory.
    for (const node of [two, two, one, one]) expect((await node.lookup(BUCKET, 'd/k')).revision).toBe(put.revision)
  }
  await two.remove({ bucket: BUCKET, key: 'd/k', conditions: {}, owner: OWNER })
  await expect(one.lookup(BUCKET, 'd/k')).rejects.toMatchObject({ code: 'NoSuchKey' })
})

it('listings, copies and delete markers say the revision of their commit', async () => {
  const [one, two] = await twoNodes()
  await one.setVersioning(BUCKET, 'enabled')
  await one.publish(publishRequest(BUCKET, 'k', { bytes: 'x' }))
  const address = { bucket: BUCKET, key: 'k' }
  const copied = await two.copy({
    source: address,
    sourceConditions: {},
    bucket: BUCKET,
    key: 'copy',
    attributes: undefined,
    tags: undefined,
    owner: OWNER,
    conditions: {},
    ack: 'journal',
  })
  expect(copied.value.target.revision).toBe(copied.revision)
  const removed = await one.remove({ ...address, conditions: {}, owner: OWNER })
  const page = await two.listVersions({
    bucket: BUCKET,
    prefix: '',
    delimiter: '',
    keyMarker: '',
    versionIdMarker: undefined,
    limit: 10,
  })
  const revisions = page.versions.map(({ key, revision }) => [key, revision])
  expect(revisions).toContainEqual(['copy', copied.revision])
  expect(revisions).toContainEqual(['k', removed.revision])
  expect(revisions.every(([, revision]) => Number(revision) > 0)).toBe(true)
})

it('a transaction of values answers with its revision, increments too', async () => {
  const [one, two] = await twoNodes()
  const increment = { op: 'increment', key: 'n', delta: 1n, ttlMs: undefined } as const
  const request = { bucket: BUCKET, owner: OWNER, ack: 'journal', compares: [], else: [], known: [] } as const
  const add = (node: Namespace): ReturnType<Namespace['transactValues']> =>
    node.transactValues({ ...request, then: [increment] })
  const done = await Promise.all([add(one), add(two), add(one), add(two)])
  for (const { value, revision } of done) {
    expect(value).toMatchObject({ kind: 'done', outcomes: [{ op: 'increment', version: { revision } }] })
  }
  expect(new Set(done.map(({ revision }) => revision)).size).toBe(4)
})

it('a node sees its own segments only, and learns whose another one is (C23)', async () => {
  const [one, two] = await twoNodes()
  const [mine, theirs] = [newSegmentId(1), newSegmentId(2)]
  await one.segmentOpened(mine)
  await two.segmentOpened(theirs)
  await two.segmentChanged(theirs, 'sealed', 10)
  expect((await one.segments(undefined, 1)).map(({ segment }) => segment)).toEqual([mine])
  expect((await two.segments(undefined, 1)).map(({ segment }) => segment)).toEqual([theirs])
  expect(await one.segment(theirs)).toMatchObject({ node: 2, state: 'sealed' })
})

it('what was dropped is taken apart only when no node reads from before it (C12)', async () => {
  const [one, two] = await twoNodes()
  const segment = newSegmentId(1)
  await one.segmentOpened(segment)
  const run = { content: await one.allocateContentId(), segment, segmentOffset: 0, length: 1000 }
  await one.publish(publishRequest(BUCKET, 'k', { run }))
  const readerOfTwo = two.revision()
  await one.remove({ bucket: BUCKET, key: 'k', conditions: {}, owner: OWNER })
  await one.segmentChanged(segment, 'sealed', 1000)
  const round = async (horizonOfTwo: number): Promise<readonly string[]> => {
    await two.dismantle(horizonOfTwo)
    const { value } = await one.dismantle(one.revision())
    return value.emptied
  }
  for (let rounds = 0; rounds < 5; rounds++) expect(await round(readerOfTwo)).toEqual([])
  expect((await one.segment(segment))?.liveBytes).toBe(1000)
  for (let rounds = 0; rounds < 5; rounds++) await round(two.revision())
  expect((await one.segment(segment))?.liveBytes).toBe(0)
})
