/** Messages of etcd's v3 API about the cluster, its members and their upkeep (api/etcdserverpb/rpc.proto); see messages.ts. */
import { answer, empty, method, responseHeader } from './messages.ts'
import type { Answer, Empty, Method, ResponseHeader } from './messages.ts'
import type { Schema } from './protobuf.ts'

export interface StatusAnswer {
  readonly header: ResponseHeader | undefined
  readonly version: string
  readonly dbSize: number
  readonly leader: string
  readonly raftIndex: string
  readonly raftTerm: string
  readonly raftAppliedIndex: string
  readonly errors: readonly string[]
  readonly dbSizeInUse: number
  readonly isLearner: boolean
}
const statusResponse: Schema<StatusAnswer> = {
  header: [1, () => responseHeader],
  version: [2, 'text'],
  dbSize: [3, 'number'],
  leader: [4, 'id'],
  raftIndex: [5, 'id'],
  raftTerm: [6, 'id'],
  raftAppliedIndex: [7, 'id'],
  errors: [8, 'text', true],
  dbSizeInUse: [9, 'number'],
  isLearner: [10, 'bool'],
}

export interface MemberMessage {
  readonly id: string
  readonly name: string
  readonly peerUrls: readonly string[]
  readonly clientUrls: readonly string[]
  readonly isLearner: boolean
}
const member: Schema<MemberMessage> = {
  id: [1, 'id'],
  name: [2, 'text'],
  peerUrls: [3, 'text', true],
  clientUrls: [4, 'text', true],
  isLearner: [5, 'bool'],
}

export interface MembersAnswer extends Answer {
  readonly members: readonly MemberMessage[]
}
const membersResponse: Schema<MembersAnswer> = { header: [1, () => responseHeader], members: [2, () => member, true] }

export interface MembersList {
  readonly linearizable: boolean
}
const membersList: Schema<MembersList> = { linearizable: [1, 'bool'] }

export interface MemberAdd {
  readonly peerUrls: readonly string[]
  readonly isLearner: boolean
}
const memberAdd: Schema<MemberAdd> = { peerUrls: [1, 'text', true], isLearner: [2, 'bool'] }

export interface MemberAddAnswer extends Answer {
  readonly member: MemberMessage | undefined
}
const memberAddResponse: Schema<MemberAddAnswer> = { header: [1, () => responseHeader], member: [2, () => member] }

export interface MemberName {
  readonly id: string
}
const memberName: Schema<MemberName> = { id: [1, 'id'] }

export interface MemberUpdate extends MemberName {
  readonly peerUrls: readonly string[]
}
const memberUpdate: Schema<MemberUpdate> = { id: [1, 'id'], peerUrls: [2, 'text', true] }

export interface Compaction {
  readonly revision: number
  /** Answered once the space is free to be used again. */
  readonly physical: boolean
}
const compaction: Schema<Compaction> = { revision: [1, 'number'], physical: [2, 'bool'] }

/** `AlarmAction` */
export const GET = 0
export const DEACTIVATE = 2
/** `AlarmType` */
export const NO_SPACE = 1
export const CORRUPT = 2

export interface AlarmMessage {
  readonly action: number
  readonly memberId: string
  readonly alarm: number
}
const alarmRequest: Schema<AlarmMessage> = { action: [1, 'number'], memberId: [2, 'id'], alarm: [3, 'number'] }

export interface AlarmMember {
  readonly memberId: string
  readonly alarm: number
}
const alarmMember: Schema<AlarmMember> = { memberId: [1, 'id'], alarm: [2, 'number'] }

export interface AlarmsAnswer extends Answer {
  readonly alarms: readonly AlarmMember[]
}
const alarmsResponse: Schema<AlarmsAnswer> = { header: [1, () => responseHeader], alarms: [2, () => alarmMember, true] }

export interface SnapshotAnswer {
  readonly blob: Uint8Array
}
const snapshotResponse: Schema<SnapshotAnswer> = { blob: [3, 'value'] }

export const STATUS: Method<Empty, StatusAnswer> = method('Maintenance/Status', empty, statusResponse)
export const ALARM: Method<AlarmMessage, AlarmsAnswer> = method('Maintenance/Alarm', alarmRequest, alarmsResponse)
export const DEFRAGMENT: Method<Empty, Answer> = method('Maintenance/Defragment', empty, answer)
export const MOVE_LEADER: Method<MemberName, Answer> = method('Maintenance/MoveLeader', memberName, answer)
export const SNAPSHOT: Method<Empty, SnapshotAnswer> = method('Maintenance/Snapshot', empty, snapshotResponse)
export const COMPACT: Method<Compaction, Answer> = method('KV/Compact', compaction, answer)
export const LIST_MEMBERS: Method<MembersList, MembersAnswer> = method(
  'Cluster/MemberList',
  membersList,
  membersResponse,
)
export const ADD_MEMBER: Method<MemberAdd, MemberAddAnswer> = method('Cluster/MemberAdd', memberAdd, memberAddResponse)
export const PROMOTE_MEMBER: Method<MemberName, MembersAnswer> = method(
  'Cluster/MemberPromote',
  memberName,
  membersResponse,
)
export const REMOVE_MEMBER: Method<MemberName, MembersAnswer> = method(
  'Cluster/MemberRemove',
  memberName,
  membersResponse,
)
export const UPDATE_MEMBER: Method<MemberUpdate, MembersAnswer> = method(
  'Cluster/MemberUpdate',
  memberUpdate,
  membersResponse,
)
