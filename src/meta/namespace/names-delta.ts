/**
 * Reads every row that changed after one revision, as it is at one later revision, in turns so short that requests pass between them.
 *
 * The key log says which rows; they are read while writers go on, so what was read first may have changed by the time the last is read. But
 * the log tells that too. So: follow the log to its end, reading what it names; what it names again is read again; and since reading is
 * faster than writing, the rest grows smaller with each turn until it fits one turn. That last turn is the capture: the log up to
 * that revision has been followed, so no row that was read before has changed since it was read.
 */
import type { Clock } from '../../common/clock.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { Turns } from '../../common/turns.ts'
import type { DurableRows } from '../stage/ports.ts'

export interface ChangedRows {
  readonly through: Revision
  /** Not in order. Undefined: the row is gone. */
  readonly rows: ReadonlyMap<ByteString, Uint8Array | undefined>
  /** Those of them with the prefix that was asked for: found while reading, since the turn of the capture must be short. */
  readonly apart: ReadonlyMap<ByteString, Uint8Array | undefined>
}

export interface DeltaSource {
  readonly readDurable: <T>(fn: (rows: DurableRows) => T) => T
  readonly clock: Clock
}

/** One step reads so many rows: a fraction of a millisecond, or so. */
const ROWS_PER_STEP = 128
/**
 * It follows the log by so many groups of commits. A group has one key or thousands, so how many are asked for next depends on how many keys the
 * last ones had; the first step of a log of large groups is the longest.
 */
const GROUPS_PER_STEP_MAX = 32
const KEYS_PER_STEP = 1024
/** Writers that outrun the reader get one long step in the end. */
const STEPS_MAX = 1_000_000
const ROW_OVERHEAD_BYTES = 64

/**
 * @param finish runs in the turn of the capture, and sees the rows as the capture does
 * @returns undefined when the log does not reach back to `after`, or the rows take more than `bytesMax`
 */
export async function readChangedRows<T>(
  { readDurable, clock }: DeltaSource,
  { after, bytesMax, apart }: { after: Revision; bytesMax: number; apart?: string },
  finish: (rows: DurableRows, changed: ChangedRows) => T,
): Promise<{ changed: ChangedRows; finished: T } | undefined> {
  const reading = new Reading(after, apart)
  const turns = new Turns(clock)
  for (let step = 1; ; step++) {
    const outcome = readDurable((view) => {
      if (!reading.follow(view, step > STEPS_MAX)) return 'too far back'
      reading.read(view, step > STEPS_MAX ? Infinity : ROWS_PER_STEP)
      if (reading.bytes > bytesMax) return 'too much'
      if (!reading.upToDate(view)) return 'more'
      const changed = { through: view.revision, rows: reading.rows, apart: reading.apart }
      return { changed, finished: finish(view, changed) }
    })
    if (typeof outcome === 'object') return outcome
    if (outcome !== 'more') return undefined
    await turns.pass()
  }
}

class Reading {
  readonly rows: Map<ByteString, Uint8Array | undefined> = new Map()
  readonly apart: Map<ByteString, Uint8Array | undefined> = new Map()
  bytes = 0
  readonly #prefix: string | undefined
  /** The log was followed to here. */
  #followed: Revision
  #groups = 1
  /** Named by the log, and to be read (again). */
  readonly #due = new Set<ByteString>()

  constructor(after: Revision, prefix: string | undefined) {
    this.#followed = after
    this.#prefix = prefix
  }

  follow(view: DurableRows, toTheEnd: boolean): boolean {
    // What is due already is read first, so that neither the set nor a step grows.
    if (this.#due.size >= ROWS_PER_STEP) return true
    const found = view.changedKeys(this.#followed, toTheEnd ? Infinity : this.#groups)
    if (!found) return false
    for (const key of found.keys) this.#due.add(key)
    this.#followed = found.through
    const groups = found.keys.length * 2 > KEYS_PER_STEP ? this.#groups / 2 : this.#groups * 2
    this.#groups = Math.min(Math.max(1, Math.floor(groups)), GROUPS_PER_STEP_MAX)
    return true
  }

  read(view: DurableRows, limit: number): void {
    let left = limit
    for (const key of this.#due) {
      if (left-- <= 0) return
      this.#due.delete(key)
      const value = view.get(key)
      if (this.rows.has(key)) this.bytes -= this.rows.get(key)?.length ?? 0
      else this.bytes += key.length + ROW_OVERHEAD_BYTES
      this.bytes += value?.length ?? 0
      this.rows.set(key, value)
      if (this.#prefix !== undefined && key.startsWith(this.#prefix)) this.apart.set(key, value)
    }
  }

  upToDate(view: DurableRows): boolean {
    return this.#due.size === 0 && this.#followed >= view.revision
  }
}

const SORTED_AT_ONCE = 1024

/** The keys in ascending order, sorted in turns. */
export async function sortedInTurns(keys: Iterable<ByteString>, clock: Clock): Promise<ByteString[]> {
  const turns = new Turns(clock)
  let runs: ByteString[][] = []
  let run: ByteString[] = []
  for (const key of keys) {
    if (run.push(key) < SORTED_AT_ONCE) continue
    runs.push(run.sort())
    run = []
    await turns.pass()
  }
  runs.push(run.sort())
  while (runs.length > 1) {
    const longer: ByteString[][] = []
    for (let at = 0; at < runs.length; at += 2) longer.push(await merged(runs[at] ?? [], runs[at + 1] ?? [], turns))
    runs = longer
  }
  return runs[0] ?? []
}

async function merged(one: ByteString[], other: ByteString[], turns: Turns): Promise<ByteString[]> {
  if (other.length === 0) return one
  const result: ByteString[] = []
  for (let i = 0, k = 0; i < one.length || k < other.length;) {
    const fromOne = k >= other.length || (i < one.length && one[i]! < other[k]!)
    result.push(fromOne ? one[i++]! : other[k++]!)
    if (result.length % SORTED_AT_ONCE === 0) await turns.pass()
  }
  return result
}
