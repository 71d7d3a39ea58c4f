/** One dirty key in memory, and how long it rests between two tries. */
import { isTidegateError, type ErrorCode } from '../common/errors.ts'

/** `other`: what is no `TidegateError`. */
export type FailureCode = ErrorCode | 'other'

export interface WriteBackItem {
  readonly bucketId: number
  readonly key: string
  /** Since when it is dirty, by the wall clock: older ones go first. */
  readonly sinceMs: number
  /** Monotonic; not tried before. */
  dueMs: number
  /** Somebody waits for it, or another key does. */
  urgent: boolean
  running: boolean
  /** Running, and not held back: what lies outside at it may be another one at any moment. */
  writing: boolean
  /** It was changed while it was being carried out. */
  changedMeanwhile: boolean
  /** Failed ones in a row. */
  attempts: number
  lastError: { readonly code: FailureCode; readonly message: string } | undefined
  /** Looks in a row that found it held back; and by which keys. */
  looks: number
  heldBy: readonly string[]
  /** They are held back by it, too, and it makes room for them. */
  givesWay: boolean
  /** Monotonic, of the last try. */
  triedMs: number
}

export function newItem(made: {
  readonly bucketId: number
  readonly key: string
  readonly sinceMs: number
  readonly dueMs: number
}): WriteBackItem {
  return {
    ...made,
    urgent: false,
    running: false,
    writing: false,
    changedMeanwhile: false,
    attempts: 0,
    lastError: undefined,
    looks: 0,
    heldBy: [],
    givesWay: false,
    triedMs: -Infinity,
  }
}

interface Pauses {
  readonly minMs: number
  readonly maxMs: number
}

const AFTER_FAILURE: Pauses = { minMs: 200, maxMs: 30_000 }
/** Only somebody can mend what these say; it is seen within minutes that they did. */
const AFTER_REFUSAL: Pauses = { minMs: 5_000, maxMs: 300_000 }
const WHILE_HELD: Pauses = { minMs: 50, maxMs: 5_000 }
/** Past this many doublings every pause is the longest. */
const DOUBLINGS_MAX = 16

const REFUSALS: ReadonlySet<FailureCode> = new Set([
  'AccessDenied',
  'DataLost',
  'EntityTooLarge',
  'EntityTooSmall',
  'InvalidArgument',
  'InvalidRequest',
  'InvalidTag',
  'KeyTooLong',
  'MethodNotAllowed',
  'NoSuchBucket',
  'NotImplemented',
])

/** Growing, and jittered by half, so that what failed together is not tried again together. */
function pauseMs({ minMs, maxMs }: Pauses, doublings: number, random: () => number): number {
  return Math.min(maxMs, minMs * 2 ** Math.min(doublings, DOUBLINGS_MAX)) * (0.5 + random() / 2)
}

/** What became of a try is remembered in words: an error holds on to more than anybody reads. */
export function failed(item: WriteBackItem, cause: unknown, { nowMs, random }: RestOptions): FailureCode {
  const code = isTidegateError(cause) ? cause.code : 'other'
  item.lastError = { code, message: cause instanceof Error ? cause.message : String(cause) }
  item.dueMs = nowMs + pauseMs(REFUSALS.has(code) ? AFTER_REFUSAL : AFTER_FAILURE, item.attempts++, random)
  return code
}

export function held(item: WriteBackItem, by: readonly string[], { nowMs, random }: RestOptions): void {
  item.heldBy = by
  item.dueMs = nowMs + pauseMs(WHILE_HELD, item.looks++, random)
}

export interface RestOptions {
  readonly nowMs: number
  readonly random: () => number
}

/** It got through: what was before does not count any more. */
export function refreshed(item: WriteBackItem): void {
  item.attempts = 0
  item.looks = 0
  item.lastError = undefined
  item.heldBy = []
}
