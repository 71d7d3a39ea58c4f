/**
 * What etcd's answers mean. A status has a code (grpc.github.io/grpc/core/md_doc_statuscodes.html) and a text; etcd tells its own failures by the text
 * (api/v3rpc/rpctypes/error.go), which has been the same from 3.4 to 3.6. What is not in the table is judged by its code.
 *
 * `sent` says whether the request may have taken effect, now or later. False are: what is refused before it is proposed to the cluster, or before it is
 * applied (both are checked by every member alike), and what never left this process. True is everything else: time-outs, lost connections, a
 * member that stops, and `no space`, which a member also answers for a transaction that it applied and that came to lie over the quota.
 */
import { status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import { EtcdFailure } from '../ports.ts'
import type { EtcdFailureKind } from '../ports.ts'

export interface Meaning {
  readonly kind: EtcdFailureKind
  readonly sent: boolean
  /** Another member may do better, or the same one with a new token. */
  readonly remedy: 'another member' | 'new token' | undefined
}

const refused = (kind: EtcdFailureKind, remedy?: Meaning['remedy']): Meaning => ({ kind, sent: false, remedy })

/** By a part of the text. */
const BY_TEXT: readonly (readonly [text: string, meaning: Meaning])[] = [
  ['mvcc: required revision has been compacted', refused('compacted')],
  // By a member that has not got so far yet; nobody asks for a revision that he has not seen.
  ['mvcc: required revision is a future revision', refused('unavailable', 'another member')],
  ['mvcc: database space exceeded', { kind: 'no space', sent: true, remedy: undefined }],
  ['too many operations in txn request', refused('too large')],
  ['request is too large', refused('too large')],
  ['grpc: received message larger than max', refused('too large')],
  ['requested lease not found', refused('lease gone')],
  ['too many requests', refused('unavailable', 'another member')],
  // Said of a call that asks for a member with a leader, before it is looked at.
  ['etcdserver: no leader', refused('unavailable', 'another member')],
  ['rpc not supported for learner', refused('unavailable', 'another member')],
  ['not capable', refused('unavailable', 'another member')],
  ['invalid auth token', refused('refused', 'new token')],
  ['revision of auth store is old', refused('refused', 'new token')],
  // etcd 3.4 says so of a watch whose token it does not know, and of a call without one.
  ['permission denied', refused('refused', 'new token')],
  ['user name is empty', refused('refused', 'new token')],
  ['authentication failed', refused('refused')],
]

const MAYBE: Meaning = { kind: 'unavailable', sent: true, remedy: 'another member' }
const BY_CODE: Readonly<Partial<Record<status, Meaning>>> = {
  [status.INVALID_ARGUMENT]: refused('malformed'),
  [status.FAILED_PRECONDITION]: refused('malformed'),
  [status.NOT_FOUND]: refused('malformed'),
  [status.OUT_OF_RANGE]: refused('malformed'),
  [status.UNIMPLEMENTED]: refused('malformed'),
  [status.PERMISSION_DENIED]: refused('refused'),
  [status.UNAUTHENTICATED]: refused('refused', 'new token'),
}

export function meaningOf(text: string, code: status = status.UNKNOWN): Meaning {
  return BY_TEXT.find(([part]) => text.includes(part))?.[1] ?? BY_CODE[code] ?? MAYBE
}

/** A call that failed at a member. */
export class MemberFailure extends Error {
  override readonly name = 'MemberFailure'
  readonly meaning: Meaning

  constructor(message: string, meaning: Meaning, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.meaning = meaning
  }
}

export function memberFailure(endpoint: string, error: unknown): MemberFailure {
  if (error instanceof MemberFailure) return error
  const { details, code, message } = error as Partial<ServiceError>
  const text = details ?? message ?? String(error)
  return new MemberFailure(`${endpoint}: ${text}`, meaningOf(text, code), error)
}

/** Nothing has left this process. */
export function unsent(message: string): MemberFailure {
  return new MemberFailure(message, { kind: 'unavailable', sent: false, remedy: 'another member' })
}

/** As the port tells it. */
export function etcdFailure(error: unknown): EtcdFailure {
  if (error instanceof EtcdFailure) return error
  if (!(error instanceof MemberFailure))
    return new EtcdFailure('unavailable', (error as Error).message, { sent: true, cause: error })
  return new EtcdFailure(error.meaning.kind, error.message, { sent: error.meaning.sent, cause: error })
}
