/** An etcd of three members beside the gateway, where the machine has the program, with the flags of a supervised one that make a difference here. */
import { spawnSync } from 'node:child_process'
import { systemClock } from '../src/common/clock.ts'
import { createEtcdAdmin, type EtcdAdmin } from '../src/meta/raft/admin-client.ts'
import { ETCD_PROGRAM, EtcdCluster } from '../test/support/etcd-member.ts'
import { whenEnding } from './ending.ts'

const MEMBERS = 3
const FLAGS = [
  '--heartbeat-interval=50',
  '--election-timeout=500',
  '--max-txn-ops=4096',
  '--quota-backend-bytes=8589934592',
]
const DEFRAGMENT_MS_MAX = 60_000
/** Right after a load its members may be busy for seconds. */
const COMPACT_ATTEMPTS = 10

export interface BenchEtcd {
  readonly endpoints: readonly string[]
  /** For `--meta`. */
  location(prefix: string): string
  /** What one member's file would be without history and free pages. */
  bytesInUse(): Promise<number>
  stop(): Promise<void>
}

export function hasEtcd(): boolean {
  return spawnSync(ETCD_PROGRAM, ['--version'], { stdio: 'ignore' }).status === 0
}

export async function startEtcd(directory: string): Promise<BenchEtcd> {
  const cluster = await EtcdCluster.start({ directory, members: MEMBERS, flags: FLAGS })
  const done = whenEnding(() => cluster.members.forEach((member) => void member.kill()))
  const { endpoints } = cluster
  const admin = createEtcdAdmin({ endpoints, clock: systemClock })
  return {
    endpoints,
    location: (prefix) => `etcd://${endpoints.map((endpoint) => new URL(endpoint).host).join(',')}${prefix}`,
    bytesInUse: () => bytesInUse(admin, endpoints[0] ?? ''),
    async stop() {
      admin.close()
      await cluster.remove()
      done()
    },
  }
}

async function bytesInUse(admin: EtcdAdmin, endpoint: string): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { revision } = await admin.status(endpoint)
      await admin.compact(revision)
      break
    } catch (error) {
      if (attempt === COMPACT_ATTEMPTS) throw error
    }
  }
  await admin.defragment(endpoint, DEFRAGMENT_MS_MAX)
  return (await admin.status(endpoint)).dbBytes
}
