// needs: etcd
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/common/clock.ts'
import { createEtcdAdmin } from '../../src/meta/raft/admin-client.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import { testEtcd } from './etcd.ts'

for (const members of [1, 3]) {
  let cluster: EtcdCluster
  testEtcd(`${members} of the program`, {
    start: async () => {
      cluster = await EtcdCluster.start({ directory: mkdtempSync(join(tmpdir(), 'tidegate-etcd-')), members })
    },
    client: () => createEtcdClient({ endpoints: cluster.endpoints, clock: systemClock }),
    compact: async (revision) => {
      const admin = createEtcdAdmin({ endpoints: cluster.endpoints, clock: systemClock })
      await admin.compact(revision)
      admin.close()
    },
    stop: () => cluster.remove(),
  })
}
