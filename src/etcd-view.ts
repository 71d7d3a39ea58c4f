/** How the members of an etcd are that somebody else runs, as far as this gateway was told of them. */
import type { Alarm, EtcdAdmin, MemberStatus } from './meta/raft/admin-client.ts'
import type { MemberHealth } from './meta/raft/member/cluster-health.ts'

export type SeenMember = Pick<MemberHealth, 'name' | 'role' | 'trouble' | 'dbBytes' | 'dbInUseBytes' | 'lag'>

export interface EtcdView {
  readonly members: readonly SeenMember[]
  readonly alarms: readonly Alarm[]
  /** Undefined where this gateway does not know it. */
  readonly quotaBytes?: number
}

/** Each is asked by itself. Never rejects. */
export async function viewOfEtcd(admin: EtcdAdmin, endpoints: readonly string[]): Promise<EtcdView> {
  const asked = endpoints.map((endpoint) => admin.status(endpoint).catch((error: Error) => error.message))
  const [statuses, alarms] = await Promise.all([Promise.all(asked), admin.alarms().catch(() => [])])
  const applied = statuses.map((status) => (typeof status === 'string' ? 0n : BigInt(status.raftAppliedIndex)))
  const mostApplied = applied.reduce((a, b) => (a > b ? a : b), 0n)
  const members = endpoints.map((endpoint, index) =>
    seenMember(new URL(endpoint).host, statuses[index] ?? 'not asked', mostApplied),
  )
  return { members, alarms }
}

function seenMember(name: string, status: MemberStatus | string, mostApplied: bigint): SeenMember {
  if (typeof status === 'string') {
    const nothing = { dbBytes: undefined, dbInUseBytes: undefined, lag: undefined }
    return { name, role: 'follower', trouble: status, ...nothing }
  }
  const { memberId, leaderId, isLearner, dbBytes, dbInUseBytes, raftAppliedIndex } = status
  const role = memberId === leaderId ? 'leader' : isLearner ? 'learner' : 'follower'
  return { name, role, trouble: undefined, dbBytes, dbInUseBytes, lag: Number(mostApplied - BigInt(raftAppliedIndex)) }
}
