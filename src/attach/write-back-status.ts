/** What carrying out says of itself: for `tidegate bucket status`, the admin API and metrics. */
import type { Attached } from './attached.ts'
import { isRoom } from './carry-out-room.ts'
import type { MoveProgress } from './moves.ts'
import type { AttachedNames } from './ports.ts'
import type { FailureCode, WriteBackItem } from './write-back-item.ts'
import type { DirtyWindow } from './write-back-window.ts'

/** How many a status lists or counts at most. */
const LISTED_KEYS_MAX = 100
const COUNTED_KEYS_MAX = 100_000
const PAGE_KEYS = 1000

export interface WriteBackTotals {
  /** Keys carried out since the start, and tries that failed. */
  carriedOut: number
  failures: number
  conflicts: number
}

/** From memory, at no cost. */
export interface WriteBackGauges {
  readonly bucketId: number
  /** Known in memory; of many there are more. */
  readonly waiting: number
  readonly underWay: number
  readonly failing: number
  readonly awayMs: number | undefined
}

export interface WriteBackStatus extends WriteBackGauges {
  readonly bucket: string
  readonly dirty: number
  /** There are more than were counted. */
  readonly dirtyIsAtLeast: boolean
  readonly conflicts: number
  /** Of the oldest change that is not carried out; conflicts apart. */
  readonly oldestAgeMs: number | undefined
  readonly running: readonly string[]
  /** Those that have failed most often, `LISTED_KEYS_MAX` at most. */
  readonly failed: readonly FailedKey[]
  readonly moves: readonly MoveProgress[]
}

export interface FailedKey {
  readonly key: string
  readonly attempts: number
  readonly cause: { readonly code: FailureCode; readonly message: string }
  /** 0: it is tried now, or as soon as it is its turn. */
  readonly nextTryInMs: number
}

export function gaugesOf(window: DirtyWindow, nowMs: number): WriteBackGauges {
  const { bucketId, size, running, health } = window
  let failing = 0
  for (const { lastError } of window.all()) if (lastError) failing++
  const awayMs = health.awaySinceMs === undefined ? undefined : nowMs - health.awaySinceMs
  return { bucketId, waiting: size - running, underWay: running, failing, awayMs }
}

export async function statusOf(
  { names, wallMs, nowMs }: { names: AttachedNames; wallMs: number; nowMs: number },
  { record: { bucket } }: Attached,
  window: DirtyWindow,
  moves: readonly MoveProgress[],
): Promise<WriteBackStatus> {
  const counted = await countDirty(names, window.bucketId)
  const items = [...window.all()]
  return {
    ...gaugesOf(window, nowMs),
    bucket,
    dirty: counted.dirty,
    dirtyIsAtLeast: counted.isAtLeast,
    conflicts: counted.conflicts,
    oldestAgeMs: counted.oldestMs === undefined ? undefined : Math.max(0, wallMs - counted.oldestMs),
    running: items.flatMap(({ key, running }) => (running ? [key] : [])).slice(0, LISTED_KEYS_MAX),
    failed: failedKeys(items, nowMs),
    moves,
  }
}

export function failedKeys(items: readonly WriteBackItem[], nowMs: number): FailedKey[] {
  return items
    .flatMap(({ key, attempts, lastError, dueMs }) =>
      lastError ? [{ key, attempts, cause: lastError, nextTryInMs: Math.max(0, dueMs - nowMs) }] : [],
    )
    .sort((a, b) => b.attempts - a.attempts)
    .slice(0, LISTED_KEYS_MAX)
}

export interface DirtyCount {
  readonly dirty: number
  readonly conflicts: number
  readonly isAtLeast: boolean
  readonly oldestMs: number | undefined
}

/** `dirty`: conflicts apart. */
export async function countDirty(
  names: AttachedNames,
  bucketId: number,
  countMax: number = COUNTED_KEYS_MAX,
): Promise<DirtyCount> {
  let [dirty, conflicts, after] = [0, 0, '']
  let oldestMs: number | undefined
  for (;;) {
    const page = await names.dirtyKeys(bucketId, after, PAGE_KEYS)
    for (const { key, conflict, sinceMs, neededBy } of page) {
      if (conflict) conflicts++
      // A copy for who still needs it is nothing that waits; whoever needs it is counted, or is open.
      else if (!isRoom(key) || neededBy.length === 0) {
        dirty++
        oldestMs = Math.min(oldestMs ?? Infinity, sinceMs)
      }
    }
    const last = page.at(-1)
    if (!last || page.length < PAGE_KEYS) return { dirty, conflicts, isAtLeast: false, oldestMs }
    if (dirty >= countMax) return { dirty, conflicts, isAtLeast: true, oldestMs }
    after = last.key
  }
}
