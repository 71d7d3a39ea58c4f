/**
 * The dirty keys of one bucket that are in memory: a window on the rows, however many they are.
 *
 *   rows, by key   a  b  c  d  e  f  g  h  i ...
 *                  [ fresh and resting ]^ position: read on from here when few are fresh; past the end from the start again
 *
 * A key that becomes dirty while the window has no room is not remembered: it has a row, and the next pass over the rows finds it. So is one that fails when too
 * many others rest already. Oldest first holds within the window; a pass over the rows is what gives every key its turn.
 */
import { newItem, type WriteBackItem } from './write-back-item.ts'
import { StoreHealth } from './write-back-health.ts'
import type { AttachedNames } from './ports.ts'

/** To be tried as soon as they are due. */
const FRESH_MAX = 1000
/** Below it, more are read. */
const FRESH_LOW = 250
const PAGE_KEYS = 500
const RESTING_MAX = 4000
/** Then another one of a circle gives way: the first could not. */
const PATIENT_LOOKS = 4
/** Between two passes over the rows that found nothing to do but what rests already. */
const PASS_PAUSE_MS = 5_000

export interface AddOptions {
  readonly sinceMs: number
  readonly dueMs: number
  /** Somebody waits for it: there is always room. */
  readonly urgent?: boolean
}

export class DirtyWindow {
  readonly bucketId: number
  readonly health: StoreHealth = new StoreHealth()
  readonly #fresh = new Map<string, WriteBackItem>()
  /** After a failure, or held back. */
  readonly #resting = new Map<string, WriteBackItem>()
  /** At or before the first time that something in `#resting` is due. */
  #restingDueMs = Infinity
  #position = ''
  /** There may be rows that the window has not seen. */
  #hasMore = true
  /** Some that this pass cannot see any more. */
  #missed = false
  #nextPassMs = -Infinity
  /** Somebody wants the next pass now, whatever this one finds. */
  #isHurried = false
  running = 0

  constructor(bucketId: number) {
    this.bucketId = bucketId
  }

  get size(): number {
    return this.#fresh.size + this.#resting.size
  }

  /** Nothing to do now, nor unseen. */
  get isIdle(): boolean {
    return this.size === 0 && this.running === 0 && !this.#hasMore && !this.#missed
  }

  get(key: string): WriteBackItem | undefined {
    return this.#fresh.get(key) ?? this.#resting.get(key)
  }

  *all(): Generator<WriteBackItem> {
    yield* this.#fresh.values()
    yield* this.#resting.values()
  }

  /** Undefined: there is no room, and a later pass brings it. */
  add(key: string, { sinceMs, dueMs, urgent = false }: AddOptions): WriteBackItem | undefined {
    const known = this.get(key)
    if (known) {
      if (urgent) this.hurry(known, dueMs)
      return known
    }
    if (this.#fresh.size >= FRESH_MAX && !urgent) {
      this.#missed = true
      return undefined
    }
    const item = newItem({ bucketId: this.bucketId, key, sinceMs, dueMs })
    item.urgent = urgent
    this.#fresh.set(key, item)
    return item
  }

  hurry(item: WriteBackItem, dueMs: number): void {
    item.urgent = true
    item.dueMs = Math.min(item.dueMs, dueMs)
    this.#restingDueMs = Math.min(this.#restingDueMs, item.dueMs)
  }

  remove(item: WriteBackItem): void {
    this.#fresh.delete(item.key)
    this.#resting.delete(item.key)
  }

  /** It is not tried before its time. */
  rest(item: WriteBackItem): void {
    this.remove(item)
    if (this.#resting.size >= RESTING_MAX && !item.urgent) {
      this.#missed = true
      return
    }
    this.#resting.set(item.key, item)
    this.#restingDueMs = Math.min(this.#restingDueMs, item.dueMs)
  }

  /** Those that are chosen are due now. */
  wake(nowMs: number, chosen: (item: WriteBackItem) => boolean): void {
    for (const item of this.all()) if (chosen(item)) item.dueMs = Math.min(item.dueMs, nowMs)
    this.#restingDueMs = Math.min(this.#restingDueMs, nowMs)
  }

  /** Whether what holds the key back is held back by it, as far as is known here, and it is this one's turn to give way: one of a circle suffices. */
  givesWay(item: WriteBackItem): boolean {
    if (!this.#reachedFrom(item).has(item.key)) return false
    const circle = [...this.#reachedFrom(item)].filter((key) => {
      const other = this.get(key)
      return other && this.#reachedFrom(other).has(item.key)
    })
    return item.looks > PATIENT_LOOKS || circle.every((key) => item.key <= key)
  }

  #reachedFrom({ heldBy }: WriteBackItem): ReadonlySet<string> {
    const reached = new Set(heldBy)
    for (const by of reached) for (const next of this.get(by)?.heldBy ?? []) reached.add(next)
    return reached
  }

  /** What is due and goes next: what somebody waits for, then the oldest. */
  next(nowMs: number, urgentOnly = false): WriteBackItem | undefined {
    this.#unrest(nowMs)
    let best: WriteBackItem | undefined
    for (const item of this.#fresh.values()) {
      if (item.running || item.dueMs > nowMs || (urgentOnly && !item.urgent)) continue
      if (!best || isBefore(item, best)) best = item
    }
    return best
  }

  /** The one that has not been tried for longest, whether it rests or not. */
  longestUntried(): WriteBackItem | undefined {
    let best: WriteBackItem | undefined
    for (const item of this.all()) {
      if (!item.running && (!best || item.triedMs < best.triedMs)) best = item
    }
    return best
  }

  /** Monotonic; Infinity when nothing waits for a time. */
  nextDueMs(): number {
    let dueMs = this.#restingDueMs
    for (const item of this.#fresh.values()) if (!item.running) dueMs = Math.min(dueMs, item.dueMs)
    if (this.#hasMore || this.#missed) dueMs = Math.min(dueMs, this.#nextPassMs)
    return dueMs
  }

  #unrest(nowMs: number): void {
    if (this.#restingDueMs > nowMs) return
    this.#restingDueMs = Infinity
    for (const item of this.#resting.values()) {
      if (item.dueMs > nowMs) {
        this.#restingDueMs = Math.min(this.#restingDueMs, item.dueMs)
        continue
      }
      this.#resting.delete(item.key)
      this.#fresh.set(item.key, item)
    }
  }

  /** The rows have what the window does not: at once. */
  lookAgain(): void {
    this.#missed = true
    this.#isHurried = true
    this.#nextPassMs = -Infinity
  }

  wantsMore(nowMs: number): boolean {
    return (this.#hasMore || this.#missed) && this.#fresh.size < FRESH_LOW && nowMs >= this.#nextPassMs
  }

  readFailed(nowMs: number): void {
    this.lookAgain()
    this.#nextPassMs = nowMs + PASS_PAUSE_MS
  }

  /** Reads the next page of rows. */
  async readOn(
    names: AttachedNames,
    times: { nowMs: () => number; dueMs: (sinceMs: number) => number },
  ): Promise<void> {
    if (this.#position === '') {
      this.#missed = false
      this.#isHurried = false
    }
    const page = await names.dirtyKeys(this.bucketId, this.#position, PAGE_KEYS)
    let added = 0
    for (const { key, sinceMs, conflict } of page) {
      if (conflict || this.get(key)) continue
      if (this.add(key, { sinceMs, dueMs: times.dueMs(sinceMs) })) added++
    }
    const last = page.at(-1)
    this.#hasMore = page.length === PAGE_KEYS
    this.#position = this.#hasMore && last ? last.key : ''
    if (!this.#hasMore && added === 0 && !this.#isHurried) this.#nextPassMs = times.nowMs() + PASS_PAUSE_MS
  }
}

function isBefore(one: WriteBackItem, other: WriteBackItem): boolean {
  return one.urgent === other.urgent ? one.sinceMs < other.sinceMs : one.urgent
}
