/** One sealed segment on its way to the remote store, and how long it rests after a failure. */
import { isTidegateError, type ErrorCode } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'

export interface SealedSegment {
  readonly segment: SegmentId
  /** Of its data region. 0 for one that is to be mended: until then the journal counts them. */
  readonly bytes: number
  /** Whose body it holds, when it has a segment of its own; undefined for the shared ones. */
  readonly bucket?: string | undefined
  /** How long ago its first byte was written; 0 when absent. */
  readonly ageMs?: number
}

export type FlushAction = 'persist' | 'mend'

/**
 * Where an item stands:
 *
 *   ready --picked--> running --done--> gone
 *     ^                  |
 *     +----- time -- resting   (after a failure, or because nothing in it is alive)
 */
export type FlushState = 'ready' | 'running' | 'resting'

export interface FlushItem {
  readonly segment: SegmentId
  readonly bucket: string | undefined
  /** Monotonic. */
  readonly sealedMs: number
  /** Counts up over all items: of two, the later one was added later. */
  readonly sequence: number
  bytes: number
  action: FlushAction
  state: FlushState
  /** Somebody waits for it. */
  urgent: boolean
  /** Failed ones, of the present action. */
  attempts: number
  /** Monotonic; of the first of them, and of the last try of all. */
  failingSinceMs: number
  triedMs: number
  lastError: { readonly code: FailureCode; readonly message: string } | undefined
  /** Monotonic; while it rests. */
  nextTryMs: number
  /** It rests since nothing in it is alive: it waits to be reclaimed. */
  dead: boolean
  /** Compacting it was tried: once is enough. */
  compacted: boolean
  /** How often somebody began to wait for it. */
  waits: number
  /** Of the drain during or after which it was last tried in vain; 0 when it was not. */
  triedForDrain: number
}

/** `other`: what is no `TidegateError`. */
export type FailureCode = ErrorCode | 'other'

export interface PauseOptions {
  readonly attempts: number
  /** Others got through since it began to fail: the fault is its own. */
  readonly othersGotThrough: boolean
  readonly random: () => number
}

const PAUSE_MS_MIN = 100
/** Below `persistWaitMsMax`, so that who waits for it sees another try. */
const PAUSE_MS_MAX = 30_000
/** While nothing gets through, the remote store may be back at any moment. */
const PAUSE_MS_MAX_WHILE_NOTHING_DOES = 5_000
/** Past this many doublings every pause is the longest. */
const DOUBLINGS_MAX = 16

/** Growing, and jittered by half, so that what failed together is not tried again together. */
export function pauseMs({ attempts, othersGotThrough, random }: PauseOptions): number {
  const longest = othersGotThrough ? PAUSE_MS_MAX : PAUSE_MS_MAX_WHILE_NOTHING_DOES
  return Math.min(longest, PAUSE_MS_MIN * 2 ** Math.min(attempts, DOUBLINGS_MAX)) * (0.5 + random() / 2)
}

export function newItem(
  { segment, bytes, bucket, ageMs = 0 }: SealedSegment,
  { action, sequence, nowMs }: { action: FlushAction; sequence: number; nowMs: number },
): FlushItem {
  return {
    segment,
    bucket,
    sealedMs: nowMs - ageMs,
    sequence,
    bytes,
    action,
    state: 'ready',
    urgent: false,
    attempts: 0,
    failingSinceMs: 0,
    triedMs: -Infinity,
    lastError: undefined,
    nextTryMs: 0,
    dead: false,
    compacted: false,
    waits: 0,
    triedForDrain: 0,
  }
}

/** What became of a try is remembered in words: an error holds on to more than anybody reads. */
export function failed(item: FlushItem, cause: unknown, nowMs: number): void {
  if (item.attempts === 0) item.failingSinceMs = nowMs
  item.attempts++
  const message = cause instanceof Error ? cause.message : String(cause)
  item.lastError = { code: isTidegateError(cause) ? cause.code : 'other', message }
}
