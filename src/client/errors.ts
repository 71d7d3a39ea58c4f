import type { ErrorCode } from '../common/errors.ts'

/**
 * A code of the gateway's closed table (docs/kv.md, "Errors"), or one of this client: `NoAnswer` when the connection failed
 * or nothing came in time, so that a write may or may not have been done; `BadAnswer` when what came is not this API's.
 */
export type KvErrorCode = ErrorCode | 'Unauthenticated' | 'NoAnswer' | 'BadAnswer'

export interface KvErrorFacts {
  readonly code: KvErrorCode
  /** For people; names the value at fault. */
  readonly detail: string
  /** 0 when there was no answer. */
  readonly status: number
  readonly requestId?: string | undefined
  /** The problem document as it came. */
  readonly problem?: Readonly<Record<string, unknown>> | undefined
  readonly cause?: unknown
}

export class KvError extends Error {
  readonly code: KvErrorCode
  readonly status: number
  readonly detail: string
  readonly requestId: string | undefined
  /** Every member of the problem document, the values at fault among them; empty when there was none. */
  readonly problem: Readonly<Record<string, unknown>>

  constructor(facts: KvErrorFacts) {
    super(`${facts.code}: ${facts.detail}`, facts.cause === undefined ? undefined : { cause: facts.cause })
    this.name = 'KvError'
    this.code = facts.code
    this.status = facts.status
    this.detail = facts.detail
    this.requestId = facts.requestId
    this.problem = facts.problem ?? {}
  }
}

/** The changes asked for are no longer kept: scan again, and watch from the revision of the scan plus one. */
export class RevisionGone extends KvError {
  constructor(facts: Omit<KvErrorFacts, 'code'>) {
    super({ ...facts, code: 'RevisionGone' })
    this.name = 'RevisionGone'
  }
}

export function isKvError(error: unknown, code?: KvErrorCode): error is KvError {
  return error instanceof KvError && (code === undefined || error.code === code)
}

/** What an `application/problem+json` document says, whether it was a whole answer, a line or an event. */
export function errorFromProblem(problem: Readonly<Record<string, unknown>>, status: number): KvError {
  const facts = {
    detail: textOf(problem['detail']) ?? textOf(problem['title']) ?? `status ${status}`,
    status: typeof problem['status'] === 'number' ? problem['status'] : status,
    requestId: textOf(problem['requestId']),
    problem,
  }
  const code = textOf(problem['code'])
  if (code === 'RevisionGone') return new RevisionGone(facts)
  return new KvError({ ...facts, code: (code as KvErrorCode | undefined) ?? 'BadAnswer' })
}

export function badAnswer(detail: string, cause?: unknown): KvError {
  return new KvError({ code: 'BadAnswer', status: 0, detail, cause })
}

/** What became of an exchange that failed in its midst: the caller's own abort stays what it is. */
export function brokenOff(error: unknown, what: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason
  if (error instanceof KvError) return error
  const { message = String(error), code } = error as Partial<NodeJS.ErrnoException>
  // Node's failure to connect to any of several addresses has a code and no message.
  return new KvError({ code: 'NoAnswer', status: 0, detail: `${what}: ${message || code}`, cause: error })
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
