/**
 * What the replicated ordered store needs of etcd, as etcd's v3 API gives it (etcd api/etcdserverpb/rpc.proto), in the words of this project:
 * keys are `ByteString`s, revisions are numbers. Two twins satisfy it, held to test/conformance/etcd.ts: the gRPC client
 * (client.ts) and one in memory with faults at will (test/support/fake-etcd.ts).
 *
 * Every call has a deadline and settles by it.
 */
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'

export interface EtcdRow {
  readonly key: ByteString
  /** The caller's to keep. */
  readonly value: Uint8Array
  /** Revision of the last change of this row. */
  readonly modRevision: Revision
}

export interface RangeRequest {
  readonly range: KeyRange
  /** 0: no limit. */
  readonly limit: number
  /** As of that revision; undefined: now. */
  readonly revision?: Revision | undefined
  /** Answered by whichever member is asked, from what it knows: for who serves what may be old. */
  readonly serializable?: boolean | undefined
}

export interface RangeResult {
  /** Ascending by key. */
  readonly rows: readonly EtcdRow[]
  /** The limit cut it. */
  readonly more: boolean
  /** Of the store, when it answered. */
  readonly revision: Revision
}

export type Compare =
  /** The row was last changed at exactly that revision; 0: there is none. */
  | { readonly kind: 'unchanged'; readonly key: ByteString; readonly modRevision: Revision }
  /** No row in the range was changed after that revision. Says nothing of rows that were deleted (C4). */
  | { readonly kind: 'none younger'; readonly range: KeyRange; readonly revision: Revision }

export type EtcdOperation =
  | { readonly kind: 'put'; readonly key: ByteString; readonly value: Uint8Array; readonly lease?: LeaseId | undefined }
  | { readonly kind: 'delete'; readonly range: KeyRange }
  | { readonly kind: 'range'; readonly range: KeyRange; readonly limit: number }
  | { readonly kind: 'transaction'; readonly transaction: EtcdTransaction }

/** All compares of all levels are evaluated before anything is applied. No key may be put or deleted twice, on any level. */
export interface EtcdTransaction {
  readonly compares: readonly Compare[]
  /** Applied when every compare holds. */
  readonly success: readonly EtcdOperation[]
  /** Applied otherwise. */
  readonly failure: readonly EtcdOperation[]
}

export type OperationResult =
  | { readonly kind: 'put' }
  | { readonly kind: 'delete'; readonly deleted: number }
  | { readonly kind: 'range'; readonly found: RangeResult }
  | { readonly kind: 'transaction'; readonly result: TransactionResult }

export interface TransactionResult {
  readonly succeeded: boolean
  /** Of `success` or of `failure`, whichever was applied, in its order. */
  readonly results: readonly OperationResult[]
  /** Of the store when it answered: that of this transaction if it changed anything. */
  readonly revision: Revision
}

/** Decimal text: a 64-bit number. */
export type LeaseId = string

export interface WatchedChange {
  readonly key: ByteString
  /** Undefined: deleted. */
  readonly value: Uint8Array | undefined
  readonly modRevision: Revision
}

export interface Etcd extends Lifecycle {
  /** @throws EtcdFailure */
  range(request: RangeRequest): Promise<RangeResult>
  /** Never sent twice. @throws EtcdFailure; with `sent`, it may have been applied, or still be */
  transact(transaction: EtcdTransaction): Promise<TransactionResult>
  /**
   * Every change in the range from that revision (inclusive) on, in order, in batches that end at whole revisions; goes on at another member
   * when one goes away. Whenever it begins at a member it yields an empty batch, before what that one tells: who goes on from an earlier revision can then look
   * whether that revision still is what it was (follower.ts). Ends when the signal aborts.
   * @throws EtcdFailure `compacted`: what changed since is not kept any more; `unavailable` when no member answers for longer than the deadline of calls
   */
  watch(range: KeyRange, fromRevision: Revision, signal: AbortSignal): AsyncIterable<readonly WatchedChange[]>
  /** A lease of so many seconds. @throws EtcdFailure */
  grantLease(seconds: number): Promise<LeaseId>
  /** Resolves with the seconds that are left; 0: it has run out. @throws EtcdFailure */
  keepLease(lease: LeaseId): Promise<number>
  /** Its rows go. @throws EtcdFailure */
  revokeLease(lease: LeaseId): Promise<void>
}

export type EtcdFailureKind =
  /** No member that was asked answers, or there is no majority. */
  | 'unavailable'
  /** History up to after that revision is gone. */
  | 'compacted'
  /** More operations, or more bytes, than etcd takes in one transaction. */
  | 'too large'
  /**
   * Over etcd's quota: only reads and deletes pass until it is compacted and the alarm is taken back. Always `sent`: a transaction that comes to
   * lie over the quota while it is under way is applied and answered like that. Only puts at the outermost level are held against the quota.
   */
  | 'no space'
  /** A put names a lease that has run out. Nothing was applied. */
  | 'lease gone'
  /** Wrong user, password, or no permission. */
  | 'refused'
  /** A defect: etcd says that the request is none. */
  | 'malformed'

export class EtcdFailure extends Error {
  override readonly name = 'EtcdFailure'
  readonly kind: EtcdFailureKind
  /** The request may have reached a member: a transaction may have been applied, or may be applied later. */
  readonly sent: boolean

  constructor(kind: EtcdFailureKind, message: string, options: { sent: boolean; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.kind = kind
    this.sent = options.sent
  }
}
