/** Nodes that are lost, over etcd in memory: shut out, cleaned up after, and what becomes of their segments (C23). */
import { afterEach, expect, it } from 'vitest'
import { systemClock, type Clock } from '../../src/common/clock.ts'
import { newSegmentId, type ByteString, type InodeId, type SegmentId } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import type { NodeMember } from '../../src/common/node-view.ts'
import { LostNodesJob, type LostNodeEvent, type LostNodesOptions } from '../../src/lost-nodes.ts'
import { MemoryBackend } from '../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import { EtcdLayout, uint32 } from '../../src/meta/raft/layout.ts'
import { LostNodes } from '../../src/meta/raft/nodes/lost-nodes.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'
import { OWNER, publishRequest } from './meta/namespace/fixture.ts'

const BUCKET = 'shared'
const PREFIX = '/tidegate/'
const GRACE_MS = 3_000

interface Node {
  readonly number: number
  readonly namespace: Namespace
  readonly open: Set<InodeId>
  readonly job: LostNodesJob
  /** Copies that lie here, and those that became its own. */
  readonly held: Set<SegmentId>
  readonly adopted: SegmentId[]
  readonly events: LostNodeEvent[]
  fenced: boolean
  adopts: boolean
}

class Cluster {
  readonly etcd = new FakeEtcd({ clock: systemClock })
  readonly members = new Map<number, NodeMember>()
  readonly stores: EmbeddedStore[] = []
  nowMs = 0
  readonly clock: Clock = { ...systemClock, monotonicMs: () => this.nowMs }

  async start(number: number, options: Partial<LostNodesOptions> = {}): Promise<Node> {
    const client = this.etcd.client()
    await client.start()
    await this.#isThere(number)
    const onFenced = (): void => void (node.fenced = true)
    const shared = { prefix: PREFIX, node: number, clock: systemClock, onFenced }
    const store = createEtcdStore({ ...shared, etcd: client, replica: new MemoryBackend() })
    this.stores.push(store)
    await store.start()
    const namespace = createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, nodeNumber: number })
    const open = new Set<InodeId>()
    namespace.files.keepFiles((inode) => open.has(inode))
    await namespace.join()
    const job = new LostNodesJob({
      clock: this.clock,
      view: {
        self: number,
        members: () => [...this.members.values()].sort((a, b) => a.number - b.number),
        member: (other) => this.members.get(other),
        onChange: () => () => {},
      },
      graceMs: GRACE_MS,
      fencing: new LostNodes({ etcd: client, layout: new EtcdLayout(PREFIX), clock: this.clock }),
      namespace,
      remote: 'all',
      copies: {
        holds: (segment) => Promise.resolve(node.held.has(segment)),
        adopt: (segment) => {
          if (!node.adopts) return Promise.reject(new Error('no room'))
          node.adopted.push(segment)
          return Promise.resolve(true)
        },
      },
      onEvent: (event) => node.events.push(event),
      ...options,
    })
    const held = new Set<SegmentId>()
    const node: Node = { number, namespace, open, job, held, adopted: [], events: [], fenced: false, adopts: true }
    return node
  }

  /** What the register does. */
  async #isThere(number: number): Promise<void> {
    await this.#write({ kind: 'put', key: memberKey(number), value: new Uint8Array(1) })
    const said = { name: `n${number}`, incarnation: '', address: '', weight: 1, labels: {}, version: '' }
    this.members.set(number, { ...said, number, state: 'serving' })
  }

  /** Its lease runs out; its process may go on. */
  async disappears(number: number): Promise<void> {
    const key = memberKey(number)
    await this.#write({ kind: 'delete', range: { start: key, end: `${key}\0` as ByteString } })
    this.members.delete(number)
  }

  async #write(operation: Parameters<ReturnType<FakeEtcd['client']>['transact']>[0]['success'][number]): Promise<void> {
    const client = this.etcd.client()
    await client.start()
    await client.transact({ compares: [], success: [operation], failure: [] })
  }

  /** Rounds of these, a second each. */
  async pass(seconds: number, nodes: readonly Node[]): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.nowMs += 1_000
      for (const { job } of nodes) while (await job.round()) continue
    }
  }
}

function memberKey(number: number): ByteString {
  return `${PREFIX}\0member/${uint32(number)}` as ByteString
}

let cluster: Cluster
afterEach(async () => {
  await Promise.all(cluster.stores.map((store) => store.stop()))
})

async function threeNodes(options: Partial<LostNodesOptions> = {}): Promise<[Node, Node, Node]> {
  cluster = new Cluster()
  const nodes: [Node, Node, Node] = [
    await cluster.start(1, options),
    await cluster.start(2, options),
    await cluster.start(3, options),
  ]
  await nodes[0].namespace.createBucket({ name: BUCKET, owner: OWNER, region: 'us-east-1', ack: 'journal' })
  return nodes
}

let made = 0

/** A segment with one body. */
async function segmentOf(
  node: Node,
  state: 'open' | 'sealed' | 'persisted',
  copies?: readonly Node[],
): Promise<SegmentId> {
  const { namespace } = node
  const segment = newSegmentId(++made)
  await namespace.segmentOpened(
    segment,
    copies?.map(({ number }) => number),
  )
  for (const copy of copies ?? []) copy.held.add(segment)
  const run = { content: await namespace.allocateContentId(), segment, segmentOffset: 0, length: 10 }
  await namespace.publish(publishRequest(BUCKET, `k${made}`, { run }))
  if (state !== 'open') await namespace.segmentChanged(segment, state, 10)
  return segment
}

it('fences a node that is away for the grace, and not sooner; its process, alive or not, changes nothing any more', async () => {
  const [one, two, three] = await threeNodes()
  const segment = await segmentOf(three, 'sealed')
  const empty = newSegmentId(++made)
  await three.namespace.segmentOpened(empty)
  await cluster.pass(1, [one, two])
  await cluster.disappears(3)
  await cluster.pass(GRACE_MS / 1000, [one, two])
  expect(one.job.lost()).toMatchObject([{ number: 3, name: 'n3', state: 'away', awayMs: GRACE_MS - 1000 }])
  await three.namespace.publish(publishRequest(BUCKET, 'still', { bytes: 'x' }))
  await cluster.pass(1, [one, two])
  expect(one.events).toMatchObject([{ kind: 'fenced', node: 3, absentMs: GRACE_MS }])
  expect(two.events).toEqual([])
  const { namespace } = three
  const attempts = await Promise.allSettled([
    namespace.publish(publishRequest(BUCKET, 'late', { bytes: 'x' })),
    namespace.segmentChanged(segment, 'persisted', 10),
    namespace.segmentRemoved(empty),
    namespace.segment(segment),
  ])
  expect(attempts.map(({ status }) => status)).toEqual(attempts.map(() => 'rejected'))
  expect(three.fenced).toBe(true)
  await expect(one.namespace.lookup(BUCKET, 'late')).rejects.toMatchObject({ code: 'NoSuchKey' })
  expect(await one.namespace.segment(empty)).toMatchObject({ node: 3, state: 'open' })
  expect(await one.namespace.segment(segment)).toMatchObject({ node: 3, state: 'sealed' })
})

it('declares nobody lost while it does not see etcd, nor for what it saw before', async () => {
  const [one] = await threeNodes()
  await cluster.disappears(3)
  await cluster.pass(2, [one])
  cluster.etcd.next('transact', { fails: 'unavailable' })
  cluster.nowMs += 1_000
  await expect(one.job.round()).rejects.toMatchObject({ code: 'Unavailable' })
  cluster.nowMs += 60_000
  await cluster.pass(1, [one])
  expect(one.job.lost()).toMatchObject([{ state: 'away', awayMs: 0 }])
  await cluster.pass(GRACE_MS / 1000 - 1, [one])
  expect(one.events).toEqual([])
  await cluster.pass(1, [one])
  expect(one.events).toMatchObject([{ kind: 'fenced' }])
})

it('fences nobody who is back by then, and not a gateway of before there were member rows', async () => {
  const [one] = await threeNodes()
  const client = cluster.etcd.client()
  await client.start()
  const fencing = new LostNodes({ etcd: client, layout: new EtcdLayout(PREFIX), clock: cluster.clock })
  await cluster.disappears(3)
  const [seen] = await fencing.look()
  expect(seen).toMatchObject({ node: 3, state: 'absent' })
  const again = await cluster.start(3)
  expect(await fencing.fence(seen ?? { node: 0, session: 0 })).toBe(false)
  await cluster.disappears(3)
  // It has a newer session than was seen.
  expect(await fencing.fence(seen ?? { node: 0, session: 0 })).toBe(false)
  expect(again.fenced).toBe(false)

  const store = cluster.stores[0]
  await store?.transact(async (tx) => {
    const row = await tx.get(`N\x01${'\0'.repeat(7)}\x03` as ByteString)
    tx.put(`N\x01${'\0'.repeat(7)}\x03` as ByteString, (row ?? new Uint8Array(0)).subarray(0, -8))
  })
  await cluster.pass(20, [one])
  expect(one.job.lost()).toMatchObject([{ state: 'unknown' }])
  expect(one.events).toEqual([])
})

it('lets go what the lost node kept for itself, and it has it no more when it comes back', async () => {
  const [one, two, three] = await threeNodes()
  await one.namespace.publish(publishRequest(BUCKET, 'open', { bytes: 'x' }))
  const { inode: root } = await three.namespace.files.findFile(0, BUCKET as ByteString)
  const { inode } = await three.namespace.files.findFile(root, 'open' as ByteString)
  three.open.add(inode)
  await three.namespace.files.removeFile(root, 'open' as ByteString, { keep: true, owner: OWNER })
  const lock = { type: 'write', start: 0, end: 9, pid: 1 } as const
  const locked = { inode: 7, sort: 'posix', session: '00'.repeat(8), owner: 5n } as const
  expect(await three.namespace.files.locks?.set(locked, lock)).toBe('granted')
  expect(await one.namespace.files.locks?.set(locked, lock)).toBe('in the way')
  await cluster.disappears(3)
  await cluster.pass(5, [two, one])
  expect(one.events).toContainEqual({ kind: 'let go', node: 3, files: 1, builds: 0, locks: 1 })
  expect(one.job.lost()).toMatchObject([{ number: 3, state: 'cleaned' }])
  expect(await one.namespace.files.locks?.set(locked, lock)).toBe('granted')
  expect((await one.namespace.nodes()).map(({ number }) => number)).toEqual([1, 2, 3])

  const again = await cluster.start(3)
  expect(await again.namespace.files.orphanedFiles(10)).toEqual([])
  await expect(one.namespace.letGo(3)).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  await cluster.pass(1, [one, two])
  expect(one.job.lost()).toEqual([])
})

it('a segment that names a copy of which nothing ever came is no reason to wait for its node', async () => {
  const [one, two, three] = await threeNodes()
  const segment = newSegmentId(++made)
  await three.namespace.segmentOpened(segment, [two.number])
  const copied = await segmentOf(three, 'open', [two])
  await cluster.disappears(3)
  await cluster.pass(20, [one, two])
  expect(two.adopted).toEqual([copied])
  expect(two.job.lost()).toMatchObject([{ number: 3, state: 'cleaned' }])
  expect(await two.namespace.segment(segment)).toMatchObject({ node: 3, state: 'open' })
})

it('holders of copies inherit them, and the cleaning node what all reach; nothing twice, and what has no copy stays', async () => {
  const [one, two, three] = await threeNodes()
  const byTwo = await segmentOf(three, 'open', [two])
  const byBoth = await segmentOf(three, 'sealed', [two, one])
  const everywhere = await segmentOf(three, 'persisted', [two])
  const alone = await segmentOf(three, 'sealed')
  const wanting = await segmentOf(three, 'sealed', [])
  const ofOne = await segmentOf(one, 'sealed', [three])
  await cluster.disappears(3)
  await cluster.pass(4, [two, one])
  await cluster.pass(30, [two, one])
  expect(two.adopted).toEqual([byTwo])
  expect(one.adopted).toEqual([byBoth])
  expect(await one.namespace.segment(byTwo)).toMatchObject({ node: 2, state: 'open', copies: [], liveBytes: 10 })
  expect(await one.namespace.segment(byBoth)).toMatchObject({ node: 1, state: 'sealed', bytes: 10, copies: [] })
  const taken = await one.namespace.segment(everywhere)
  expect(taken).toMatchObject({ node: 1, state: 'persisted' })
  expect(taken?.copies).toBeUndefined()
  for (const segment of [alone, wanting]) expect(await one.namespace.segment(segment)).toMatchObject({ node: 3 })
  expect(await one.namespace.segment(ofOne)).toMatchObject({ node: 1, copies: [3] })

  const again = await cluster.start(3)
  const own = (await again.namespace.segments(undefined, 10)).map(({ segment }) => segment)
  expect(own).toEqual([alone, wanting].sort())
  await expect(again.namespace.segmentChanged(byTwo, 'sealed', 10)).rejects.toMatchObject({
    code: 'ConditionalRequestConflict',
  })
  await expect(again.namespace.segmentRemoved(byBoth)).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  await expect(again.namespace.copiesChanged(byBoth, [2])).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
})

it('takes from a node that is back nothing that it has begun since', async () => {
  const [one, two, three] = await threeNodes()
  await cluster.disappears(3)
  await cluster.pass(5, [one, two])
  expect(three.fenced).toBe(true)
  const again = await cluster.start(3)
  const segment = await segmentOf(again, 'sealed', [one])
  await expect(one.namespace.inheritSegment(segment, 3)).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  await segmentOf(again, 'persisted')
  await expect(one.namespace.inheritPersisted(3, undefined, 100)).rejects.toMatchObject({
    code: 'ConditionalRequestConflict',
  })
  expect(await again.namespace.segments(undefined, 10)).toHaveLength(2)
})

it('what a lost node had persisted on its own disk only is taken from a copy, as sealed', async () => {
  const [one, two, three] = await threeNodes({ remote: 'owner' })
  const copied = await segmentOf(three, 'persisted', [two])
  const alone = await segmentOf(three, 'persisted')
  await cluster.disappears(3)
  await cluster.pass(6, [one, two])
  expect(await one.namespace.segment(copied)).toMatchObject({ node: 2, state: 'sealed', bytes: 10 })
  expect(await one.namespace.segment(alone)).toMatchObject({ node: 3, state: 'persisted' })
})

it('adopts later what failed, and the next holder takes what the first does not have', async () => {
  const [one, two, three] = await threeNodes()
  const failing = await segmentOf(three, 'sealed', [one])
  const mislaid = await segmentOf(three, 'sealed', [one, two])
  one.held.delete(mislaid)
  one.adopts = false
  await cluster.disappears(3)
  await cluster.pass(3, [one, two])
  cluster.nowMs += 1_000
  while (await one.job.round().catch((error: unknown) => expect(error).toMatchObject({ message: 'no room' }))) continue
  cluster.nowMs += 1_000
  await expect(one.job.round()).rejects.toThrow('no room')
  // Whoever asks is told of it all the same.
  expect(one.job.lost()).toMatchObject([{ number: 3, state: 'fenced' }])
  expect(await one.namespace.segment(failing)).toMatchObject({ node: 1 })
  one.adopts = true
  await cluster.pass(2, [one, two])
  expect(one.adopted).toEqual([failing])
  expect(two.adopted).toEqual([])
  await cluster.pass(25, [one, two])
  expect(two.adopted).toEqual([mislaid])
  expect(one.job.lost()).toMatchObject([{ state: 'cleaned' }])
})

it('what wants a copy and has none is inherited by a node that has it all the same, and waited for by nobody', async () => {
  const [one, two, three] = await threeNodes()
  const kept = await segmentOf(three, 'sealed', [])
  const nowhere = await segmentOf(three, 'sealed', [])
  two.held.add(kept)
  await cluster.disappears(3)
  await cluster.pass(6, [one, two])
  expect(two.adopted).toEqual([kept])
  expect(await one.namespace.segment(kept)).toMatchObject({ node: 2 })
  expect(await one.namespace.segment(nowhere)).toMatchObject({ node: 3 })
  expect(one.job.lost()).toMatchObject([{ state: 'cleaned' }])
})
