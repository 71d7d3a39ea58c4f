// needs: etcd
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { Etcd } from '../../src/meta/raft/ports.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import { testOrderedStore } from './ordered-store.ts'
import { harness } from './store-harness.ts'

let scratch: string
let cluster: EtcdCluster
let etcd: Etcd
let prefixes = 0

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'tidegate-etcd-'))
  cluster = await EtcdCluster.start({ directory: scratch, members: 1 })
  etcd = createEtcdClient({ endpoints: cluster.endpoints, clock: systemClock })
  await etcd.start()
}, 60_000)

afterAll(async () => {
  await etcd.stop()
  await cluster.remove()
  await rm(scratch, { recursive: true, force: true })
})

testOrderedStore('the program etcd, replicas in lmdb', {
  sharedRevisions: true,
  ...harness({
    newStorage: async () => ({
      prefix: `/test/${prefixes++}/`,
      directory: await mkdtemp(join(tmpdir(), 'tidegate-replica-')),
    }),
    make: ({ prefix, directory }, options) =>
      createEtcdStore({ ...options, etcd, prefix, node: 7, replica: new LmdbBackend({ directory }) }),
    removeStorage: ({ directory }) => rm(directory, { recursive: true }),
  }),
})
