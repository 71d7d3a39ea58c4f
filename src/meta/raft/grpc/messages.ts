/**
 * What of etcd's v3 API (api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto) the store itself uses, in tables for protobuf.ts: range, transactions,
 * watch, leases and authentication. Field and enumeration numbers are those of etcd 3.4, which 3.5 and 3.6 only add to. Fields that are never used are
 * left out. For members and their upkeep see admin-messages.ts.
 */
import type { ByteString } from '../../../common/ids.ts'
import { decode, encode } from './protobuf.ts'
import type { Schema } from './protobuf.ts'

export interface Method<Request, Response> {
  readonly path: string
  readonly encode: (message: Partial<Request>) => Buffer
  readonly decode: (bytes: Buffer) => Response
}

export function method<Request, Response>(
  path: string,
  request: Schema<Request>,
  response: Schema<Response>,
): Method<Request, Response> {
  return {
    path: `/etcdserverpb.${path}`,
    encode: (message) => encode(request, message),
    decode: (bytes) => decode(response, bytes),
  }
}

export interface ResponseHeader {
  readonly clusterId: string
  readonly memberId: string
  readonly revision: number
  readonly raftTerm: string
}
export const responseHeader: Schema<ResponseHeader> = {
  clusterId: [1, 'id'],
  memberId: [2, 'id'],
  revision: [3, 'number'],
  raftTerm: [4, 'id'],
}

export interface Answer {
  readonly header: ResponseHeader | undefined
}
export const answer: Schema<Answer> = { header: [1, () => responseHeader] }

export interface KeyValue {
  readonly key: ByteString
  readonly modRevision: number
  readonly value: Uint8Array
}
const keyValue: Schema<KeyValue> = { key: [1, 'key'], modRevision: [3, 'number'], value: [5, 'value'] }

export interface RangeMessage {
  readonly key: ByteString
  readonly rangeEnd: ByteString
  readonly limit: number
  readonly revision: number
  readonly serializable: boolean
}
const rangeRequest: Schema<RangeMessage> = {
  key: [1, 'key'],
  rangeEnd: [2, 'key'],
  limit: [3, 'number'],
  revision: [4, 'number'],
  serializable: [7, 'bool'],
}

export interface RangeAnswer extends Answer {
  readonly kvs: readonly KeyValue[]
  readonly more: boolean
}
const rangeResponse: Schema<RangeAnswer> = {
  header: [1, () => responseHeader],
  kvs: [2, () => keyValue, true],
  more: [3, 'bool'],
}

export interface PutMessage {
  readonly key: ByteString
  readonly value: Uint8Array
  readonly lease: string
}
const putRequest: Schema<PutMessage> = { key: [1, 'key'], value: [2, 'value'], lease: [3, 'id'] }

export interface DeleteMessage {
  readonly key: ByteString
  readonly rangeEnd: ByteString
}
const deleteRequest: Schema<DeleteMessage> = { key: [1, 'key'], rangeEnd: [2, 'key'] }

export interface DeleteAnswer extends Answer {
  readonly deleted: number
}
const deleteResponse: Schema<DeleteAnswer> = { header: [1, () => responseHeader], deleted: [2, 'number'] }

/** `CompareResult` */
export const EQUAL = 0
export const LESS = 2
/** `CompareTarget` */
export const MOD = 2

export interface CompareMessage {
  readonly result: number
  readonly target: number
  readonly key: ByteString
  readonly modRevision: number
  readonly rangeEnd: ByteString
}
const compare: Schema<CompareMessage> = {
  result: [1, 'number'],
  target: [2, 'number'],
  key: [3, 'key'],
  modRevision: [6, 'number'],
  rangeEnd: [64, 'key'],
}

/** Exactly one is given. */
export interface OperationMessage {
  readonly range: Partial<RangeMessage> | undefined
  readonly put: Partial<PutMessage> | undefined
  readonly delete: Partial<DeleteMessage> | undefined
  readonly transaction: Partial<TransactionMessage> | undefined
}
const operation: Schema<OperationMessage> = {
  range: [1, () => rangeRequest],
  put: [2, () => putRequest],
  delete: [3, () => deleteRequest],
  transaction: [4, () => transactionRequest],
}

export interface TransactionMessage {
  readonly compare: readonly Partial<CompareMessage>[]
  readonly success: readonly Partial<OperationMessage>[]
  readonly failure: readonly Partial<OperationMessage>[]
}
const transactionRequest: Schema<TransactionMessage> = {
  compare: [1, () => compare, true],
  success: [2, () => operation, true],
  failure: [3, () => operation, true],
}

/** Exactly one is given. */
export interface OperationAnswer {
  readonly range: RangeAnswer | undefined
  readonly put: Answer | undefined
  readonly delete: DeleteAnswer | undefined
  readonly transaction: TransactionAnswer | undefined
}
const operationResponse: Schema<OperationAnswer> = {
  range: [1, () => rangeResponse],
  put: [2, () => answer],
  delete: [3, () => deleteResponse],
  transaction: [4, () => transactionResponse],
}

export interface TransactionAnswer extends Answer {
  readonly succeeded: boolean
  readonly responses: readonly OperationAnswer[]
}
const transactionResponse: Schema<TransactionAnswer> = {
  header: [1, () => responseHeader],
  succeeded: [2, 'bool'],
  responses: [3, () => operationResponse, true],
}

export interface WatchCreate {
  readonly key: ByteString
  readonly rangeEnd: ByteString
  readonly startRevision: number
  /** A long answer may come in parts. */
  readonly fragment: boolean
}
const watchCreate: Schema<WatchCreate> = {
  key: [1, 'key'],
  rangeEnd: [2, 'key'],
  startRevision: [3, 'number'],
  fragment: [8, 'bool'],
}

/** Without fields. */
export type Empty = Record<never, never>
export const empty: Schema<Empty> = {}

/** Exactly one is given. */
export interface WatchMessage {
  readonly create: Partial<WatchCreate> | undefined
  readonly progress: Empty | undefined
}
const watchRequest: Schema<WatchMessage> = { create: [1, () => watchCreate], progress: [3, () => empty] }

/** `EventType` */
export const DELETED = 1

export interface EventMessage {
  readonly type: number
  readonly kv: KeyValue | undefined
}
const event: Schema<EventMessage> = { type: [1, 'number'], kv: [2, () => keyValue] }

export interface WatchAnswer extends Answer {
  readonly created: boolean
  readonly canceled: boolean
  readonly compactRevision: number
  readonly cancelReason: string
  /** More of the same answer follows. */
  readonly fragment: boolean
  readonly events: readonly EventMessage[]
}
const watchResponse: Schema<WatchAnswer> = {
  header: [1, () => responseHeader],
  created: [3, 'bool'],
  canceled: [4, 'bool'],
  compactRevision: [5, 'number'],
  cancelReason: [6, 'text'],
  fragment: [7, 'bool'],
  events: [11, () => event, true],
}

export interface LeaseGrant {
  readonly seconds: number
}
const leaseGrant: Schema<LeaseGrant> = { seconds: [1, 'number'] }

export interface LeaseName {
  readonly lease: string
}
const leaseName: Schema<LeaseName> = { lease: [1, 'id'] }

export interface LeaseAnswer extends Answer {
  readonly lease: string
  readonly seconds: number
}
const leaseResponse: Schema<LeaseAnswer> = {
  header: [1, () => responseHeader],
  lease: [2, 'id'],
  seconds: [3, 'number'],
}

export interface Credentials {
  readonly name: string
  readonly password: string
}
const credentials: Schema<Credentials> = { name: [1, 'text'], password: [2, 'text'] }

export interface TokenAnswer extends Answer {
  readonly token: string
}
const tokenResponse: Schema<TokenAnswer> = { header: [1, () => responseHeader], token: [2, 'text'] }

export const RANGE: Method<RangeMessage, RangeAnswer> = method('KV/Range', rangeRequest, rangeResponse)
export const TRANSACT: Method<TransactionMessage, TransactionAnswer> = method(
  'KV/Txn',
  transactionRequest,
  transactionResponse,
)
export const WATCH: Method<WatchMessage, WatchAnswer> = method('Watch/Watch', watchRequest, watchResponse)
export const GRANT_LEASE: Method<LeaseGrant, LeaseAnswer> = method('Lease/LeaseGrant', leaseGrant, leaseResponse)
export const REVOKE_LEASE: Method<LeaseName, Answer> = method('Lease/LeaseRevoke', leaseName, answer)
export const KEEP_LEASE: Method<LeaseName, LeaseAnswer> = method('Lease/LeaseKeepAlive', leaseName, leaseResponse)
export const AUTHENTICATE: Method<Credentials, TokenAnswer> = method('Auth/Authenticate', credentials, tokenResponse)
