/**
 * How the cluster is, in words. Every member is asked by itself, majority or not; who belongs to it is told by the members, or else taken from what was known
 * last. Three levels, by what an operator has to do: nothing, something soon, something now.
 */
import type { Alarm, EtcdAdmin, MemberId, MemberStatus } from '../admin-client.ts'
import type { KnownMember } from './node-record.ts'

export type ClusterLevel = 'well' | 'impaired' | 'failing'

export interface MemberHealth {
  readonly id: MemberId
  readonly name: string
  readonly peerUrl: string
  readonly clientUrl: string | undefined
  readonly role: 'leader' | 'follower' | 'learner'
  /** Why it does not answer; undefined: it does. */
  readonly trouble: string | undefined
  /** Undefined from here on when it does not answer. */
  readonly version: string | undefined
  readonly knowsLeader: boolean | undefined
  readonly dbBytes: number | undefined
  readonly dbInUseBytes: number | undefined
  /** Changes that another member has applied and this one has not. */
  readonly lag: number | undefined
}

export interface ClusterView {
  readonly members: readonly MemberHealth[]
  readonly alarms: readonly Alarm[]
  /** How many are to vote. */
  readonly voters: number
  readonly quotaBytes: number
}

export interface Verdict {
  readonly level: ClusterLevel
  /** Whole sentences; none when all is well. */
  readonly words: readonly string[]
}

const FULL_SHARE = 0.8
/** More is not caught up within a moment. */
const LAG_MAX = 5_000

export interface LookOptions {
  readonly admin: EtcdAdmin
  /** Who belongs to it, if the members do not tell. */
  readonly known: readonly KnownMember[]
  readonly members: () => Promise<readonly KnownMember[]>
}

/** Asks all of them at once. Never rejects. */
export async function look({
  admin,
  known,
  members: list,
}: LookOptions): Promise<Pick<ClusterView, 'members' | 'alarms'>> {
  const members = await list().catch(() => known)
  const [statuses, alarms] = await Promise.all([
    Promise.all(members.map((member) => statusOf(admin, member))),
    admin.alarms().catch(() => []),
  ])
  const applied = statuses.flatMap((status) => (typeof status === 'string' ? [] : [BigInt(status.raftAppliedIndex)]))
  const most = applied.reduce((a, b) => (a > b ? a : b), 0n)
  return { alarms, members: members.map((member, index) => healthOf(member, statuses[index] ?? 'not asked', most)) }
}

/** Its status, or why there is none. */
function statusOf(admin: EtcdAdmin, { clientUrl }: KnownMember): Promise<MemberStatus | string> {
  if (clientUrl === undefined) return Promise.resolve('it was never started')
  return admin.status(clientUrl).catch((error: Error) => error.message)
}

function healthOf(member: KnownMember, status: MemberStatus | string, mostApplied: bigint): MemberHealth {
  const { id, name, peerUrl, clientUrl } = member
  const isAnother = typeof status !== 'string' && status.memberId !== id
  if (typeof status === 'string' || isAnother) {
    const trouble = typeof status === 'string' ? status : `another member (${status.memberId}) answers in its place`
    const nothing = { version: undefined, knowsLeader: undefined, dbBytes: undefined, dbInUseBytes: undefined }
    const role = member.isLearner ? 'learner' : 'follower'
    return { id, name, peerUrl, clientUrl, role, trouble, ...nothing, lag: undefined }
  }
  const { version, leaderId, isLearner, dbBytes, dbInUseBytes } = status
  return {
    id,
    name,
    peerUrl,
    clientUrl,
    role: leaderId === id ? 'leader' : isLearner ? 'learner' : 'follower',
    trouble: undefined,
    version,
    knowsLeader: leaderId !== undefined,
    dbBytes,
    dbInUseBytes,
    lag: Number(mostApplied - BigInt(status.raftAppliedIndex)),
  }
}

/** Pure. */
export function judge(view: ClusterView): Verdict {
  const { members } = view
  const voters = members.filter((member) => member.role !== 'learner')
  const away = voters.filter((member) => member.trouble !== undefined || member.knowsLeader === false)
  const needed = majorityOf(voters.length)
  const left = voters.length - away.length
  const notReached = members
    .filter((member) => member.trouble !== undefined)
    .map((member) => `${called(member)}: ${member.trouble}`)
    .join('; ')
  if (members.length === 0) return { level: 'failing', words: ['no member is known'] }
  if (left < needed) return { level: 'failing', words: [quorumLost({ voters, left, needed, notReached })] }
  const words = [
    ...(notReached === '' ? [] : [`not reached: ${notReached}${spare(left - needed)}`]),
    ...fullness(view),
    ...members.flatMap((member) => lagging(member)),
    ...(voters.length < view.voters ? [fewVoters(view, voters.length)] : []),
  ]
  const isFull = view.alarms.length > 0
  return { level: isFull ? 'failing' : words.length > 0 ? 'impaired' : 'well', words }
}

export function majorityOf(voters: number): number {
  return Math.floor(voters / 2) + 1
}

interface Lost {
  readonly voters: readonly MemberHealth[]
  readonly left: number
  readonly needed: number
  readonly notReached: string
}

function quorumLost({ voters, left, needed, notReached }: Lost): string {
  const reason = notReached === '' ? 'they know no leader yet' : `not reached: ${notReached}`
  if (voters.every((member) => member.trouble !== undefined))
    return `quorum is lost: none of the ${voters.length} voters answers, ${needed} are needed; ${reason}. Nothing can be written`
  return (
    `quorum is lost: ${left} of ${voters.length} voters ${left === 1 ? 'knows' : 'know'} a leader, ${needed} are needed; ${reason}. ` +
    'Nothing can be written until enough of them are back'
  )
}

function called({ name, clientUrl }: MemberHealth): string {
  return clientUrl === undefined ? name : `${name} (${clientUrl})`
}

function spare(count: number): string {
  return count === 0 ? '. If one more goes, nothing can be written' : ''
}

function fewVoters({ voters }: ClusterView, there: number): string {
  return `${there} of ${voters} voters ${there === 1 ? 'is' : 'are'} there: the loss of one ${there < 3 ? 'stops writes' : 'is borne'}`
}

function lagging(member: MemberHealth): string[] {
  if (member.role === 'learner' && member.trouble === undefined)
    return [`${called(member)} does not vote yet: it is catching up`]
  return (member.lag ?? 0) > LAG_MAX ? [`${called(member)} is ${member.lag} changes behind`] : []
}

function fullness({ members, alarms, quotaBytes }: ClusterView): string[] {
  const inUse = Math.max(0, ...members.map((member) => member.dbInUseBytes ?? 0))
  const amount = `${mebibytes(inUse)} of ${mebibytes(quotaBytes)} MiB are in use`
  const corrupt = alarms.filter((alarm) => alarm.kind === 'corrupt')
  const words = corrupt.map(({ memberId }) => {
    const name = members.find(({ id }) => id === memberId)?.name ?? memberId
    return `the data of ${name} differs from the others': stop it, empty its disk, and start it again`
  })
  if (alarms.some((alarm) => alarm.kind === 'no space'))
    words.push(
      `etcd is over its quota, only reads and deletes pass: ${amount}. Delete, or give it more (--cluster-quota)`,
    )
  else if (inUse > quotaBytes * FULL_SHARE) words.push(`etcd is nearly full: ${amount} (--cluster-quota)`)
  return words
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)
}
