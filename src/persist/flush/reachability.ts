/**
 * Whether the remote store answers at all, as told by what became of uploads. When several segments in a row fail for reasons
 * that concern the store and not the segment, and none gets through, it counts as away: then only one upload at a time is tried, with pauses,
 * and the first that gets through ends that. So a store that is down is not hammered, and is used again within seconds.
 *
 *   answers --several segments fail in a row--> away --one gets through--> answers
 *
 * One segment alone never makes it away, however often it fails: it may be poisoned.
 */
import type { SegmentId } from '../../common/ids.ts'
import type { FailureCode } from './item.ts'

/** These say something of the store, its access or its network. */
const CONCERNS_THE_STORE: ReadonlySet<FailureCode> = new Set([
  'AccessDenied',
  'NoSuchBucket',
  'RequestTimeout',
  'SlowDown',
  'StorageFull',
  'Unavailable',
])

/** Segments that fail in a row. */
const FAILED_SEGMENTS_MAX = 3
const PROBE_PAUSE_MS_MIN = 250
const PROBE_PAUSE_MS_MAX = 4_000

export class Reachability {
  readonly #failedInRow = new Set<SegmentId>()
  #failuresAway = 0
  #nextProbeMs = 0
  #awaySinceMs: number | undefined
  #gotThroughMs = -Infinity

  get awaySinceMs(): number | undefined {
    return this.#awaySinceMs
  }

  get isAway(): boolean {
    return this.#awaySinceMs !== undefined
  }

  /** Monotonic; meaningful while it is away. */
  get nextProbeMs(): number {
    return this.#nextProbeMs
  }

  gotThroughSince(ms: number): boolean {
    return this.#gotThroughMs >= ms
  }

  /** Returns whether that ends an absence, or a row of failures that could have become one. */
  gotThrough(nowMs: number): boolean {
    const ended = this.#failedInRow.size > 0
    this.#gotThroughMs = nowMs
    this.#failedInRow.clear()
    this.#awaySinceMs = undefined
    this.#failuresAway = 0
    return ended
  }

  failed(segment: SegmentId, code: FailureCode, { nowMs, random }: { nowMs: number; random: () => number }): void {
    if (concernsTheStore(code) && this.#failedInRow.size < FAILED_SEGMENTS_MAX) this.#failedInRow.add(segment)
    if (this.#failedInRow.size === FAILED_SEGMENTS_MAX) this.#awaySinceMs ??= nowMs
    // While it is away every try that does not get through is a probe in vain, whatever it failed with.
    if (!this.isAway) return
    const pause = Math.min(PROBE_PAUSE_MS_MAX, PROBE_PAUSE_MS_MIN * 2 ** Math.min(this.#failuresAway++, 8))
    this.#nextProbeMs = nowMs + pause * (0.5 + random() / 2)
  }

  /** Somebody wants to know now: the next tries are as if it answered. */
  forgive(): void {
    this.#failedInRow.clear()
    this.#awaySinceMs = undefined
    this.#failuresAway = 0
  }
}

export function concernsTheStore(code: FailureCode): boolean {
  return CONCERNS_THE_STORE.has(code)
}
