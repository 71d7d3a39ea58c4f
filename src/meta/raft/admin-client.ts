/**
 * What a supervised member and `tidegate cluster` need of etcd beside its rows: members, leadership and upkeep. Like the client's, every call settles by
 * its deadline; what changes the cluster is sent to one member, and never again unless it is known not to have been sent.
 */
import type { Revision } from '../../common/ids.ts'
import {
  ADD_MEMBER,
  ALARM,
  COMPACT,
  CORRUPT,
  DEACTIVATE,
  DEFRAGMENT,
  GET,
  LIST_MEMBERS,
  MOVE_LEADER,
  NO_SPACE,
  PROMOTE_MEMBER,
  REMOVE_MEMBER,
  SNAPSHOT,
  STATUS,
  UPDATE_MEMBER,
} from './grpc/admin-messages.ts'
import type { MemberMessage, SnapshotAnswer } from './grpc/admin-messages.ts'
import { MemberFailure, unsent } from './grpc/failures.ts'
import type { Member } from './grpc/member.ts'
import { Members } from './grpc/members.ts'
import type { EtcdClientOptions } from './grpc/members.ts'
import type { Method } from './grpc/messages.ts'

/** Decimal text: a 64-bit number. */
export type MemberId = string

export interface MemberStatus {
  readonly clusterId: string
  readonly memberId: MemberId
  readonly version: string
  /** Of the file, free pages included: what the quota is held against. */
  readonly dbBytes: number
  /** Without free pages: what defragmenting would leave. */
  readonly dbInUseBytes: number
  /** Undefined: it knows none, so there is no majority as far as it can see. */
  readonly leaderId: MemberId | undefined
  readonly isLearner: boolean
  readonly revision: Revision
  readonly raftTerm: string
  readonly raftIndex: string
  readonly raftAppliedIndex: string
  /** In etcd's words; alarms among them. */
  readonly errors: readonly string[]
}

export interface ClusterMember {
  readonly id: MemberId
  /** Empty until it has been started for the first time. */
  readonly name: string
  readonly peerUrls: readonly string[]
  readonly clientUrls: readonly string[]
  readonly isLearner: boolean
}

export interface Alarm {
  readonly kind: 'no space' | 'corrupt'
  readonly memberId: MemberId
}

export interface EtcdAdmin {
  /** Asked of that member alone, majority or not. */
  status(endpoint: string): Promise<MemberStatus>
  /** As the majority knows them; etcd 3.4 answers with what the member that is asked knows. */
  members(): Promise<readonly ClusterMember[]>
  /** It is to be started with these peer URLs, and counts towards no majority before it is promoted. */
  addLearner(peerUrls: readonly string[]): Promise<ClusterMember>
  /** @throws EtcdAdminFailure `not yet`: it has not caught up with the leader */
  promote(member: MemberId): Promise<void>
  remove(member: MemberId): Promise<void>
  update(member: MemberId, peerUrls: readonly string[]): Promise<void>
  /** From whoever leads to that voter. Nothing happens if it leads already. */
  moveLeader(to: MemberId): Promise<void>
  /** That member answers nothing meanwhile; it may take as long as `timeoutMs`. */
  defragment(endpoint: string, timeoutMs: number): Promise<void>
  /** Resolves when what lies before that revision is gone. It having gone before is no failure. */
  compact(revision: Revision): Promise<void>
  alarms(): Promise<readonly Alarm[]>
  /** Takes them back; without effect where the reason for them is still there. */
  disarm(alarm: Alarm): Promise<void>
  /** A database of etcd, in pieces, followed by 32 bytes of SHA-256 over them. Ends with a failure when it is cut short. */
  snapshot(endpoint: string, timeoutMs: number): AsyncIterable<Uint8Array>
  close(): void
}

export type EtcdAdminFailureKind =
  /** Nobody answers, or there is no majority. */
  | 'unavailable'
  /** etcd would put its majority at risk, or the learner has not caught up: later it may be right. */
  | 'not yet'
  | 'no such member'
  /** A member with these peer URLs is there, or it is no learner any more: what was asked for may have been done before. */
  | 'already so'
  /** Wrong user, password, or no permission. */
  | 'refused'
  | 'malformed'

export class EtcdAdminFailure extends Error {
  override readonly name = 'EtcdAdminFailure'
  readonly kind: EtcdAdminFailureKind
  /** It may have happened, or may still. */
  readonly sent: boolean

  constructor(kind: EtcdAdminFailureKind, message: string, options: { sent: boolean; cause?: unknown }) {
    super(message, { cause: options.cause })
    this.kind = kind
    this.sent = options.sent
  }
}

/** By a part of etcd's text; what is refused like that has not happened. */
const KIND_BY_TEXT: readonly (readonly [text: string, kind: EtcdAdminFailureKind])[] = [
  ['member not found', 'no such member'],
  ['Peer URLs already exists', 'already so'],
  ['member ID already exist', 'already so'],
  ['can only promote a learner member which is in sync', 'not yet'],
  ['can only promote a learner member', 'already so'],
  ['too many learner members', 'not yet'],
  ['unhealthy cluster', 'not yet'],
  ['not enough started members', 'not yet'],
  ['bad leader transferee', 'malformed'],
  ['not leader', 'not yet'],
]

const ALARM_NUMBERS: Readonly<Record<Alarm['kind'], number>> = { 'no space': NO_SPACE, corrupt: CORRUPT }

export function createEtcdAdmin(options: EtcdClientOptions): EtcdAdmin {
  return new AdminClient(options)
}

class AdminClient implements EtcdAdmin {
  readonly #members: Members

  constructor(options: EtcdClientOptions) {
    this.#members = new Members(options)
  }

  async status(endpoint: string): Promise<MemberStatus> {
    const answer = await this.#callAt(endpoint, STATUS, {})
    const { version, dbSize, dbSizeInUse, leader, isLearner, header, errors } = answer
    const { raftTerm, raftIndex, raftAppliedIndex } = answer
    return {
      clusterId: header?.clusterId ?? '0',
      memberId: header?.memberId ?? '0',
      revision: header?.revision ?? 0,
      version,
      dbBytes: dbSize,
      dbInUseBytes: dbSizeInUse,
      leaderId: leader === '0' ? undefined : leader,
      isLearner,
      raftTerm,
      raftIndex,
      raftAppliedIndex,
      errors,
    }
  }

  async members(): Promise<readonly ClusterMember[]> {
    const { members } = await this.#call(LIST_MEMBERS, { linearizable: true }, true)
    return members
  }

  async addLearner(peerUrls: readonly string[]): Promise<ClusterMember> {
    const { member } = await this.#call(ADD_MEMBER, { peerUrls, isLearner: true }, false)
    return member as MemberMessage
  }

  async promote(id: MemberId): Promise<void> {
    await this.#call(PROMOTE_MEMBER, { id }, false)
  }

  async remove(id: MemberId): Promise<void> {
    await this.#call(REMOVE_MEMBER, { id }, false)
  }

  async update(id: MemberId, peerUrls: readonly string[]): Promise<void> {
    await this.#call(UPDATE_MEMBER, { id, peerUrls }, false)
  }

  async moveLeader(to: MemberId): Promise<void> {
    const statuses = await Promise.allSettled(this.#members.endpoints.map((endpoint) => this.status(endpoint)))
    const known = statuses.flatMap((status) => (status.status === 'fulfilled' ? [status.value] : []))
    const leading = statuses.findIndex(
      (status) => status.status === 'fulfilled' && status.value.leaderId === status.value.memberId,
    )
    const endpoint = this.#members.endpoints[leading]
    if (known.some((status) => status.leaderId === to && status.memberId === to)) return
    if (endpoint === undefined) throw new EtcdAdminFailure('not yet', 'none of the members leads', { sent: false })
    await this.#callAt(endpoint, MOVE_LEADER, { id: to })
  }

  async defragment(endpoint: string, timeoutMs: number): Promise<void> {
    await this.#callAt(endpoint, DEFRAGMENT, {}, timeoutMs)
  }

  async compact(revision: Revision): Promise<void> {
    try {
      await this.#members.call(COMPACT, { revision, physical: true }, { repeatable: true })
    } catch (error) {
      if (!(error instanceof MemberFailure) || error.meaning.kind !== 'compacted') throw adminFailure(error)
    }
  }

  async alarms(): Promise<readonly Alarm[]> {
    const { alarms } = await this.#call(ALARM, { action: GET }, true)
    return alarms.map(({ memberId, alarm }) => ({ memberId, kind: alarm === NO_SPACE ? 'no space' : 'corrupt' }))
  }

  async disarm({ kind, memberId }: Alarm): Promise<void> {
    await this.#call(ALARM, { action: DEACTIVATE, memberId, alarm: ALARM_NUMBERS[kind] }, true)
  }

  async *snapshot(endpoint: string, timeoutMs: number): AsyncGenerator<Uint8Array, void> {
    try {
      yield* await this.#members.callAt(endpoint, (member, token) => blobsOf(member, { timeoutMs, token }))
    } catch (error) {
      throw adminFailure(error)
    }
  }

  close(): void {
    this.#members.close()
  }

  async #call<Request, Response>(
    method: Method<Request, Response>,
    message: Partial<Request>,
    repeatable: boolean,
  ): Promise<Response> {
    try {
      return await this.#members.call(method, message, { repeatable })
    } catch (error) {
      throw adminFailure(error)
    }
  }

  async #callAt<Request, Response>(
    endpoint: string,
    method: Method<Request, Response>,
    message: Partial<Request>,
    timeoutMs: number = this.#members.callTimeoutMs,
  ): Promise<Response> {
    try {
      return await this.#members.callAt(endpoint, (member, token) => member.call(method, message, { timeoutMs, token }))
    } catch (error) {
      throw adminFailure(error)
    }
  }
}

async function* blobsOf(
  member: Member,
  call: { timeoutMs: number; token: string | undefined },
): AsyncGenerator<Uint8Array, void> {
  const stream = member.download(SNAPSHOT, {}, call)
  try {
    for await (const { blob } of stream as AsyncIterable<SnapshotAnswer>) if (blob.length > 0) yield blob
  } catch (error) {
    throw member.failure(error)
  } finally {
    stream.cancel()
  }
}

function adminFailure(error: unknown): EtcdAdminFailure {
  if (error instanceof EtcdAdminFailure) return error
  const { message, meaning } = error instanceof MemberFailure ? error : unsent((error as Error).message)
  const told = KIND_BY_TEXT.find(([text]) => message.includes(text))
  if (told !== undefined) return new EtcdAdminFailure(told[1], message, { sent: false, cause: error })
  const kind = meaning.kind === 'unavailable' || meaning.kind === 'refused' ? meaning.kind : 'malformed'
  return new EtcdAdminFailure(kind, message, { sent: meaning.sent, cause: error })
}
