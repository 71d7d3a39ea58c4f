/** Moving the leadership away from a member that is about to stop, or to stand still. */
import type { EtcdAdmin, MemberId, MemberStatus } from '../admin-client.ts'
import type { KnownMember } from './node-record.ts'

interface Candidate {
  readonly member: KnownMember
  readonly status: MemberStatus
}

/** Voters that know this leader, that which has applied most first. Pure. */
export function successors(leader: MemberId, voters: readonly Candidate[]): MemberId[] {
  return voters
    .filter(({ member, status }) => member.id !== leader && !status.isLearner && status.leaderId === leader)
    .toSorted((a, b) => Number(BigInt(b.status.raftAppliedIndex) - BigInt(a.status.raftAppliedIndex)))
    .map(({ member }) => member.id)
}

/** Resolves with whether that member leads no longer, or never did. Alone, it goes on leading. */
export async function moveLeadershipFrom(
  id: MemberId,
  { admin, members }: { admin: EtcdAdmin; members: readonly KnownMember[] },
): Promise<boolean> {
  const voters = members.filter((member) => !member.isLearner)
  const own = voters.find((member) => member.id === id)
  if (own?.clientUrl === undefined) return true
  const known = await admin.status(own.clientUrl).catch(() => undefined)
  if (known !== undefined && known.leaderId !== id) return true
  const asked = await Promise.allSettled(
    voters.flatMap((member) =>
      member.clientUrl === undefined ? [] : [admin.status(member.clientUrl).then((status) => ({ member, status }))],
    ),
  )
  const answers = asked.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
  for (const successor of successors(id, answers)) {
    const moved = await admin.moveLeader(successor).then(
      () => true,
      () => false,
    )
    if (moved) return true
  }
  return false
}
