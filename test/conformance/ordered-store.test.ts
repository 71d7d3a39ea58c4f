import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import { systemClock } from '../../src/common/clock.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'
import { testOrderedStore } from './ordered-store.ts'
import { harness } from './store-harness.ts'

testOrderedStore(
  'memory',
  harness({
    newStorage: async () => new MemoryDisk(),
    make: (disk, options) =>
      createMemoryStore({
        ...options,
        backend: new MemoryBackend({ disk, sync: () => new Promise((resolve) => setImmediate(resolve)) }),
      }),
    removeStorage: async () => {},
  }),
)

testOrderedStore(
  'lmdb',
  harness({
    newStorage: () => mkdtemp(join(tmpdir(), 'tidegate-lmdb-')),
    make: (directory, options) => createLmdbStore({ ...options, directory }),
    removeStorage: (directory) => rm(directory, { recursive: true }),
  }),
)

testOrderedStore('etcd, in memory', {
  sharedRevisions: true,
  ...harness({
    newStorage: async () => ({ etcd: new FakeEtcd({ clock: systemClock }), disk: new MemoryDisk() }),
    make: ({ etcd, disk }, options) => {
      const client = etcd.client()
      void client.start()
      return createEtcdStore({ ...options, etcd: client, node: 1, replica: new MemoryBackend({ disk }) })
    },
    removeStorage: async () => {},
  }),
})
