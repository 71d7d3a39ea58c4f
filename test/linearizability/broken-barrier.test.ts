/** That the checker would notice if reads of a replica were stale (C5): the same clients over a store whose barrier works, and over one whose does not. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { Etcd } from '../../src/meta/raft/ports.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { key } from '../conformance/ordered-store-rows.ts'
import { Random, testSeed } from '../model/random.ts'
import { FakeEtcd, type FakeEtcdClient } from '../support/fake-etcd.ts'
import { checkLinearizable } from './checker.ts'
import type { KvHistory } from './clients.ts'
import { packedKvModel, withLearnedOutcomes, type KvOperation, type KvOutput } from './kv-model.ts'

const CLIENTS = 6
const OPERATIONS_EACH = 30
const STAMP_BYTES = 8
const HELD_MS = 15

/** Its reads are answered by a member that may be behind, which is what a barrier must not be. */
function askingAnyMember(client: FakeEtcdClient): Etcd {
  return new Proxy<Etcd>(client, {
    get(target, name) {
      if (name === 'range')
        return (request: Parameters<Etcd['range']>[0]) => client.range({ ...request, serializable: true })
      const member: unknown = Reflect.get(target, name)
      return typeof member === 'function' ? (member.bind(target) as unknown) : member
    },
  })
}

async function historyOver(barrier: 'working' | 'broken'): Promise<KvHistory> {
  const etcd = new FakeEtcd({ clock: systemClock })
  const clients = [etcd.client(), etcd.client()]
  const stores: EmbeddedStore[] = []
  for (const [index, client] of clients.entries()) {
    await client.start()
    const replica = new MemoryBackend({ disk: new MemoryDisk() })
    const store = createEtcdStore({
      etcd: barrier === 'working' ? client : askingAnyMember(client),
      node: index,
      replica,
    })
    await store.start()
    stores.push(store)
  }
  const over = new AbortController()
  const behind = (async (): Promise<void> => {
    while (!over.signal.aborted) {
      clients[1]?.hold()
      await sleep(HELD_MS)
      clients[1]?.release()
      await sleep(HELD_MS / 3)
    }
  })()
  const history: KvHistory = []
  const work = async (_: unknown, client: number): Promise<void> => {
    const random = new Random(testSeed() + client)
    for (let i = 0; i < OPERATIONS_EACH; i++) {
      // Whoever writes waits for the watch that is held: so the others mostly read.
      const operation: KvOperation = random.chance(client % stores.length === 0 ? 0.3 : 0.95)
        ? { kind: 'get', key: 'k' }
        : { kind: 'put', key: 'k', value: `${client}.${i}` }
      const calledAt = performance.now()
      const output = await perform(stores[client % stores.length] as EmbeddedStore, operation)
      history.push({ operation, calledAt, returnedAt: performance.now(), output })
      await sleep(random.below(4))
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, work))
  over.abort()
  await behind
  for (const store of stores) await store.stop()
  for (const client of clients) await client.stop()
  return history
}

async function perform(store: EmbeddedStore, operation: KvOperation): Promise<KvOutput> {
  if (operation.kind === 'put') {
    const value = Buffer.concat([new Uint8Array(STAMP_BYTES), Buffer.from(operation.value)])
    const { revision } = await store.transact(async (tx) => {
      // Blind writes of one group may share a revision: these, as the namespace's, do not.
      await tx.get(key('k'))
      tx.put(key('k'), value, 0)
    })
    return { kind: 'written', revision }
  }
  const row = await store.read((view) => view.get(key('k')))
  if (row === undefined) return { kind: 'found', seen: undefined }
  const bytes = Buffer.from(row)
  return {
    kind: 'found',
    seen: { value: bytes.subarray(STAMP_BYTES).toString(), revision: Number(bytes.readBigUInt64BE(0)) },
  }
}

it('a barrier that asks any member is found out, and one that works is not', async () => {
  const sound = checkLinearizable(packedKvModel, withLearnedOutcomes(await historyOver('working')))
  expect(sound).toMatchObject({ linearizable: true })
  const stale = checkLinearizable(packedKvModel, withLearnedOutcomes(await historyOver('broken')))
  expect(stale).toMatchObject({ linearizable: false })
}, 60_000)
