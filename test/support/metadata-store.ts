/** The ordered store without a gateway over it, where the switch says that metadata are (metadata-switch.ts). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/common/clock.ts'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'
import { MemoryBackend } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore, type MemoryStoreOptions } from '../../src/meta/memory/memory-store.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { StageOptions } from '../../src/meta/stage/options.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { isOverEtcd, metadataPlace } from './metadata-switch.ts'

let stores = 0

/** A new and empty one, in memory or in etcd. One that is given a backend is in memory: it is there to fail or to be looked into. */
export async function newStore(options: MemoryStoreOptions): Promise<EmbeddedStore> {
  if (!isOverEtcd() || options.backend) return createMemoryStore(options)
  return await storeInEtcd(`a store ${stores++}`, 1, options)
}

/** Not started: that of a gateway which has stopped. */
export async function storeOf(data: string): Promise<EmbeddedStore> {
  if (!isOverEtcd()) return createLmdbStore({ directory: join(data, 'meta') })
  const { number } = JSON.parse(readFileSync(join(data, 'node.json'), 'utf8')) as { number: number }
  return await storeInEtcd(data, number, {})
}

/** Not started: another node's view of the metadata of that name (`metadataPlace`). */
export async function storeOfNode(name: string, node: number): Promise<EmbeddedStore> {
  return await storeInEtcd(name, node, {})
}

async function storeInEtcd(name: string, node: number, options: StageOptions): Promise<EmbeddedStore> {
  const { endpoint, prefix } = await metadataPlace(name)
  const { unwantedGroupMsMax: _, ...own } = options
  const etcd = createEtcdClient({ endpoints: [endpoint], clock: systemClock })
  const store = createEtcdStore({ ...own, etcd, prefix, node, replica: new MemoryBackend() })
  const [start, stop] = [store.start.bind(store), store.stop.bind(store)]
  return Object.assign(store, {
    start: async () => {
      await etcd.start()
      await start()
    },
    stop: async () => {
      await stop()
      await etcd.stop()
    },
  })
}
