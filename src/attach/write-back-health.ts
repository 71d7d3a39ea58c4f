/**
 * Whether the external store of one bucket takes anything at all. When several keys in a row fail for reasons that concern the store and not the key, only one at a time is
 * tried, with pauses, until one gets through. One key alone never makes it so, however often it fails.
 */
import type { FailureCode } from './write-back-item.ts'

const CONCERNS_THE_STORE: ReadonlySet<FailureCode> = new Set([
  'AccessDenied',
  'NoSuchBucket',
  'RequestTimeout',
  'SlowDown',
  'StorageFull',
  'Unavailable',
])

const FAILED_KEYS_MAX = 3
const PROBE_PAUSE_MS_MIN = 250
const PROBE_PAUSE_MS_MAX = 4_000
const DOUBLINGS_MAX = 8

export class StoreHealth {
  readonly #failedInRow = new Set<string>()
  #probes = 0
  /** Monotonic; meaningful while it is away. */
  nextProbeMs = 0
  awaySinceMs: number | undefined

  get isAway(): boolean {
    return this.awaySinceMs !== undefined
  }

  /** Returns whether that ends an absence, or a row of failures that could have become one. */
  gotThrough(): boolean {
    const ended = this.#failedInRow.size > 0
    this.#failedInRow.clear()
    this.awaySinceMs = undefined
    this.#probes = 0
    return ended
  }

  failed(key: string, code: FailureCode, { nowMs, random }: { nowMs: number; random: () => number }): void {
    if (concernsTheStore(code) && this.#failedInRow.size < FAILED_KEYS_MAX) this.#failedInRow.add(key)
    if (this.#failedInRow.size === FAILED_KEYS_MAX) this.awaySinceMs ??= nowMs
    if (!this.isAway) return
    const pauseMs = Math.min(PROBE_PAUSE_MS_MAX, PROBE_PAUSE_MS_MIN * 2 ** Math.min(this.#probes++, DOUBLINGS_MAX))
    this.nextProbeMs = nowMs + pauseMs * (0.5 + random() / 2)
  }
}

export function concernsTheStore(code: FailureCode): boolean {
  return CONCERNS_THE_STORE.has(code)
}
