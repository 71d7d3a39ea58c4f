/** Rows of segments where several nodes share the namespace: copies, whose they are, and how they become another's (C23). */
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { newSegmentId, type SegmentId } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import {
  SEGMENT_STATES,
  decodeSegment,
  encodeSegment,
  type SegmentRow,
} from '../../../../src/meta/namespace/records-contents.ts'
import { createEtcdStore } from '../../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { FakeEtcd } from '../../../support/fake-etcd.ts'
import { fixture } from './fixture.ts'

const CONFLICT = { code: 'ConditionalRequestConflict' }

const stores: EmbeddedStore[] = []
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.stop()))
})

async function nodes(): Promise<[Namespace, Namespace, Namespace]> {
  const etcd = new FakeEtcd({ clock: systemClock })
  const start = async (node: number): Promise<Namespace> => {
    const client = etcd.client()
    await client.start()
    const store = createEtcdStore({ etcd: client, node, replica: new MemoryBackend(), clock: systemClock })
    stores.push(store)
    await store.start()
    const namespace = createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, nodeNumber: node })
    await namespace.join()
    return namespace
  }
  return [await start(1), await start(2), await start(3)]
}

async function parted(by: Namespace, node: number): Promise<void> {
  expect(await by.partNode(node, await by.lifeOfNode(node))).toBe(true)
}

const ids = (records: readonly { readonly segment: SegmentId }[]): SegmentId[] => records.map(({ segment }) => segment)

it('a row is read as it was written, with and without an owner and copies; the shortest ones are those of before there were copies', () => {
  const rows: SegmentRow[] = SEGMENT_STATES.flatMap((state): SegmentRow[] => [
    { state, bytes: 7 },
    { state, bytes: 7, node: 300 },
    { state, bytes: 7, copies: [] },
    { state, bytes: 2 ** 40, node: 300, copies: [] },
    { state, bytes: 0, node: 1, copies: [2, 1000] },
  ])
  for (const row of rows) expect(decodeSegment(encodeSegment(row))).toStrictEqual(row)
  expect([...encodeSegment({ state: 'sealed', bytes: 7 })]).toEqual([1, 7])
  expect([...encodeSegment({ state: 'sealed', bytes: 7, node: 3 })]).toEqual([1, 7, 3])
})

it('says which nodes hold copies, through all its states, and who holds copies of whose', async () => {
  const [one, two] = await nodes()
  const [plain, copied, wanting, theirs] = [1, 2, 3, 4].map((ms) => newSegmentId(ms)) as [
    SegmentId,
    SegmentId,
    SegmentId,
    SegmentId,
  ]
  await one.segmentOpened(plain)
  await one.segmentOpened(copied, [2, 3])
  await one.segmentOpened(wanting, [])
  await two.segmentOpened(theirs, [3])
  await one.segmentChanged(copied, 'sealed', 9)
  expect(await two.segment(copied)).toMatchObject({ node: 1, state: 'sealed', bytes: 9, copies: [2, 3] })
  expect((await two.segment(plain))?.copies).toBeUndefined()
  await one.copiesChanged(wanting, [3])
  await one.copiesChanged(wanting, [3])
  await one.copiesChanged(copied, [])
  expect(await two.segment(copied)).toMatchObject({ copies: [] })
  expect(ids(await one.segmentsCopiedTo(3, undefined, 10))).toEqual([copied, wanting, theirs])
  expect(ids(await one.segmentsCopiedTo(2, undefined, 10))).toEqual([copied])
  expect(ids(await one.segmentsCopiedTo(3, copied, 1))).toEqual([wanting])
  expect(ids(await one.segmentsCopiedTo(3, wanting, 10))).toEqual([theirs])
  expect(ids(await two.segmentsOf(1, undefined, 10))).toEqual([plain, copied, wanting])
  expect(ids(await two.segmentsOf(1, plain, 1))).toEqual([copied])
  await expect(two.copiesChanged(copied, [2])).rejects.toMatchObject(CONFLICT)
  await expect(two.segmentChanged(wanting, 'sealed', 1)).rejects.toMatchObject(CONFLICT)
  await expect(two.segmentRemoved(plain)).rejects.toMatchObject(CONFLICT)
  await one.segmentRemoved(plain)
  await two.segmentRemoved(plain)
})

it('finds its own among hundreds of another node, page by page', async () => {
  const [one, two] = await nodes()
  const own: SegmentId[] = []
  for (let index = 0; index < 600; index++) {
    const segment = newSegmentId(index)
    if (index % 290 === 5) own.push(segment)
    await (index % 290 === 5 ? one : two).segmentOpened(segment)
  }
  const found: SegmentId[] = []
  for (let after: SegmentId | undefined; ;) {
    const [next] = await one.segments(after, 1)
    if (!next) break
    found.push((after = next.segment))
  }
  expect(found).toEqual(own)
  expect(await two.segments(undefined, 1000)).toHaveLength(597)
})

it('one node inherits a segment, once the other is parted', async () => {
  const [one, two, three] = await nodes()
  const segment = newSegmentId(1)
  await three.segmentOpened(segment, [1, 2])
  await expect(one.inheritSegment(segment, 3)).rejects.toMatchObject(CONFLICT)
  expect(await one.partNode(3, 'another life')).toBe(false)
  await parted(two, 3)
  expect(await one.partNode(3, 'another life')).toBe(true)
  const tries = await Promise.all([one, two].map((node) => node.inheritSegment(segment, 3)))
  expect(tries.filter(({ value }) => value)).toHaveLength(1)
  const heir = tries[0]?.value ? one : two
  expect(ids(await heir.segments(undefined, 10))).toEqual([segment])
  expect(await three.segments(undefined, 10)).toEqual([])
  await expect(three.segmentChanged(segment, 'sealed', 5)).rejects.toMatchObject(CONFLICT)
  await heir.segmentChanged(segment, 'sealed', 4)
  expect((await one.inheritSegment(segment, 3)).value).toBe(false)
  expect((await one.inheritSegment(newSegmentId(2), 3)).value).toBe(false)
  await three.join()
  expect(await one.lifeOfNode(3)).toMatch(/^[\da-f]{16}$/)
})

it('what all reach is inherited in steps, by whoever cleans up, and not by holders of copies', async () => {
  const [one, two, three] = await nodes()
  const segments: SegmentId[] = []
  for (let index = 0; index < 10; index++) {
    const segment = newSegmentId(index)
    const node = index % 3 === 0 ? two : three
    await node.segmentOpened(segment, [1])
    await node.segmentChanged(segment, index === 1 ? 'sealed' : 'persisted', index)
    segments.push(segment)
  }
  await parted(one, 3)
  expect((await one.inheritSegment(segments[2] as SegmentId, 3)).value).toBe(false)
  let [inherited, steps] = [0, 0]
  for (let after: SegmentId | undefined; ; steps++) {
    const { value } = await one.inheritPersisted(3, after, 3)
    inherited += value.inherited
    after = value.next
    if (after === undefined) break
  }
  expect({ inherited, steps }).toEqual({ inherited: 5, steps: 3 })
  expect(await one.segment(segments[8] as SegmentId)).toStrictEqual({
    segment: segments[8],
    node: 1,
    state: 'persisted',
    bytes: 8,
    liveBytes: 0,
  })
  expect(ids(await one.segmentsOf(3, undefined, 10))).toEqual([segments[1]])
  expect((await one.inheritPersisted(3, undefined, 100)).value).toEqual({ inherited: 0, next: undefined })
})

it('rows of one gateway alone are as they were', async () => {
  const { namespace, segment, stop } = await fixture()
  if (await namespace.segments(undefined, 1).then(([first]) => first?.node !== undefined)) return await stop()
  await namespace.segmentChanged(segment, 'sealed', 5)
  expect(await namespace.segments(undefined, 10)).toStrictEqual([{ segment, state: 'sealed', bytes: 5, liveBytes: 0 }])
  expect(namespace.files.locks).toBeUndefined()
  await stop()
})
