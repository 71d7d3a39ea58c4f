/** What the flusher says of itself: for `tidegate flush status`, the admin API and metrics. */
import type { SegmentId } from '../../common/ids.ts'
import type { FailureCode, FlushAction, FlushItem } from './item.ts'

/** How many failing items a status lists; it counts all. */
const LISTED_ITEMS_MAX = 100

export interface FlushStatus {
  readonly paused: boolean
  /** How long nothing has got through to the remote store; undefined while it answers. */
  readonly awayMs: number | undefined
  readonly items: number
  readonly bytes: number
  /** Of the oldest item; undefined when there is none. */
  readonly oldestAgeMs: number | undefined
  readonly uploads: readonly UploadStatus[]
  readonly failingItems: number
  /** Those that have failed most often, `LISTED_ITEMS_MAX` at most. */
  readonly failing: readonly ItemStatus[]
  /** Measured; undefined until something was carried. */
  readonly bytesPerSecond: number | undefined
  readonly totals: FlushTotals
}

export interface UploadStatus {
  readonly segment: SegmentId
  readonly bytes: number
  readonly forMs: number
}

export interface ItemStatus {
  readonly segment: SegmentId
  readonly bucket: string | undefined
  readonly bytes: number
  readonly ageMs: number
  readonly action: FlushAction
  readonly attempts: number
  readonly cause: { readonly code: FailureCode; readonly message: string } | undefined
  /** 0: it is tried now, or as soon as it is its turn. */
  readonly nextTryInMs: number
}

/** Since the start. */
export interface FlushTotals {
  readonly persistedItems: number
  readonly persistedBytes: number
  /** Overwritten or deleted before they left. */
  readonly notSentItems: number
  readonly notSentBytes: number
  readonly failures: ReadonlyMap<FailureCode, number>
}

export interface DrainResult {
  /** Names this drain: given again, the same items are waited for. */
  readonly through: number
  readonly paused: boolean
  readonly leftItems: number
  readonly leftBytes: number
  /** `LISTED_ITEMS_MAX` at most, failing ones first. */
  readonly left: readonly ItemStatus[]
}

/** Those that have failed most often first, `LISTED_ITEMS_MAX` at most. */
export function listed(items: readonly FlushItem[], nowMs: number): ItemStatus[] {
  return items
    .toSorted((a, b) => b.attempts - a.attempts || a.sequence - b.sequence)
    .slice(0, LISTED_ITEMS_MAX)
    .map(({ segment, bucket, bytes, sealedMs, action, attempts, lastError, state, nextTryMs }) => ({
      segment,
      bucket,
      bytes,
      ageMs: nowMs - sealedMs,
      action,
      attempts,
      cause: lastError,
      nextTryInMs: state === 'resting' ? Math.max(0, nextTryMs - nowMs) : 0,
    }))
}
