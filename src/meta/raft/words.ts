/** What is the matter, in the words of the table of errors. */
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import { EtcdFailure, type EtcdFailureKind } from './ports.ts'

const WHAT_IS_THE_MATTER: Readonly<Record<EtcdFailureKind, string>> = {
  unavailable: 'etcd does not answer, or has no majority',
  compacted: 'etcd does not keep what is asked for any more',
  'too large': 'etcd does not take a request of that size',
  'no space': 'etcd is over its quota: it must be compacted and defragmented, or given more (--quota-backend-bytes)',
  refused: 'etcd refuses the user, the password or the permission',
  malformed: 'etcd does not understand a request',
  'lease gone': 'a lease in etcd has run out',
}

export function unavailable(error: unknown): Error {
  if (isTidegateError(error)) return error
  if (!(error instanceof EtcdFailure)) return error as Error
  const code = error.kind === 'no space' ? 'StorageFull' : 'Unavailable'
  return new TidegateError(code, `metadata: ${WHAT_IS_THE_MATTER[error.kind]} (${error.message})`, { cause: error })
}

export function fencedError(node: number): TidegateError {
  return new TidegateError(
    'Unavailable',
    `node ${node} was shut out by another node, or taken over by another process: this one may not write any more`,
  )
}

/** For whoever is on the way when that happens. */
export function notKnown(error: Error): TidegateError {
  const message = `${error.message}; whether the change was made is not known`
  return new TidegateError('Unavailable', message, { details: { outcome: 'unknown' }, cause: error })
}

export interface TimeUp {
  readonly isRead: boolean
  readonly isSent: boolean
  readonly conflicts: number
  /** What went wrong last. */
  readonly trouble: string | undefined
}

export function timeUp({ isRead, isSent, conflicts, trouble }: TimeUp): TidegateError {
  if (isSent) {
    const message = `metadata: no answer from etcd in time; whether the change was made is not known (${trouble ?? 'it is slow'})`
    return new TidegateError('Unavailable', message, { details: { outcome: 'unknown' } })
  }
  if (trouble !== undefined) return new TidegateError('Unavailable', `metadata: ${trouble}`)
  if (isRead) return new TidegateError('Unavailable', 'metadata: the changes of other nodes did not arrive in time')
  const reason = conflicts > 0 ? `${conflicts} times other nodes changed what it had read` : 'too much is to be done'
  return new TidegateError('SlowDown', `metadata: a transaction was not over in time: ${reason}`)
}
