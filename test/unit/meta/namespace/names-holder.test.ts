/** Names of a namespace that nodes share: what is copied of it, and the row that says who does (names-holder.ts). */
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { NAMES_KEY_LOG } from '../../../../src/meta/namespace/names-source.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { FakeEtcd } from '../../../support/fake-etcd.ts'
import { OWNER, publishRequest } from './fixture.ts'

const stores: EmbeddedStore[] = []
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.stop()))
})

async function node(etcd: FakeEtcd, number: number, replica = new MemoryBackend()): Promise<Namespace> {
  const client = etcd.client()
  await client.start()
  const clock = systemClock
  const store = createEtcdStore({ etcd: client, node: number, replica, clock, keyLog: NAMES_KEY_LOG })
  stores.push(store)
  await store.start()
  const namespace = createNamespace({ store, clock, limits: DEFAULT_LIMITS, nodeNumber: number })
  await namespace.join()
  return namespace
}

async function twoNodes(): Promise<[Namespace, Namespace]> {
  const etcd = new FakeEtcd({ clock: systemClock })
  const nodes: [Namespace, Namespace] = [await node(etcd, 1), await node(etcd, 2)]
  await nodes[0].createBucket({ name: 'shared', owner: OWNER, region: 'us-east-1', ack: 'journal' })
  return nodes
}

it('a delta has what any node has written, and a base no counters, horizons or rows of who ships', async () => {
  const [one, two] = await twoNodes()
  await one.names.holding.want(7)
  await two.names.holding.change(() => Buffer.from('holder'))
  await one.flush()
  const before = one.names.durableRevision()
  await two.publish(publishRequest('shared', 'by-two', { bytes: 'x' }))
  // A read here sees what was committed there.
  await one.names.holding.look()
  await one.names.flush()
  const delta = await one.names.delta(before, 1e6)
  expect(delta?.rows.map(({ key }) => key.charAt(0))).toEqual(expect.arrayContaining(['D', 'I']))
  const tables = new Set<string>()
  for (let after: ByteString | undefined, more = true; more;) {
    const page = await one.names.basePage(after, 1e6)
    for (const { key } of page.rows) tables.add(key.charAt(0))
    after = page.next
    more = after !== undefined
  }
  expect([...tables].toSorted()).toEqual(['B', 'C', 'D', 'I'])
})

it('what no name tells of moves the revision on, and changes nothing', async () => {
  const [one, two] = await twoNodes()
  await one.names.flush()
  const before = one.names.durableRevision()
  await two.names.holding.want(1)
  await one.names.holding.look()
  await one.names.flush()
  expect(one.names.durableRevision()).toBeGreaterThan(before)
  expect(one.names.unchangedThrough(before)).toBe(one.names.durableRevision())
  await two.publish(publishRequest('shared', 'key', { bytes: 'x' }))
  await one.names.holding.look()
  await one.names.flush()
  expect(one.names.unchangedThrough(before)).toBeUndefined()
})

it('a base begins at what is read of it, not at what is visible: the copy here lies behind', async () => {
  const replica = new MemoryBackend()
  const etcd = new FakeEtcd({ clock: systemClock })
  const one = await node(etcd, 1, replica)
  await one.names.flush()
  const held = Promise.withResolvers<void>()
  const commit = replica.commit.bind(replica)
  replica.commit = async (groups) => {
    await held.promise
    await commit(groups)
  }
  await one.createBucket({ name: 'shared', owner: OWNER, region: 'us-east-1', ack: 'journal' })
  const page = await one.names.basePage(undefined, 1e6)
  expect(one.durableRevision()).toBeGreaterThan(page.revision)
  expect(one.names.durableRevision()).toBe(page.revision)
  held.resolve()
  await one.names.flush()
  expect(one.names.durableRevision()).toBe(one.durableRevision())
})

it('of two that change the row at once one finds what the other has made of it', async () => {
  const [one, two] = await twoNodes()
  const append = (what: string) => (row: Uint8Array | undefined) =>
    Buffer.from(`${row ? Buffer.from(row).toString() : ''}${what}`)
  await Promise.all([one.names.holding.change(append('a')), two.names.holding.change(append('b'))])
  const { row } = await one.names.holding.look()
  expect(['ab', 'ba']).toContain(Buffer.from(row ?? '').toString())
  const refused = one.names.holding.change(() => {
    throw new Error('not mine')
  })
  await expect(refused).rejects.toThrow('not mine')
  expect((await two.names.holding.look()).row).toEqual(row)
})

it('what nodes want is the most that any of them does', async () => {
  const [one, two] = await twoNodes()
  await one.names.holding.want(5)
  await two.names.holding.want(9)
  await one.names.holding.want(6)
  expect((await one.names.holding.look()).wanted).toBe(9)
})
