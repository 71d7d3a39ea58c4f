/**
 * Finds changes made outside by listing again what has been listed, when that is older than the bucket's `compareIntervalMs`. So what nobody looks at is not
 * found wrong by much when somebody does; and who watches a bucket hears of changes that nobody here made.
 *
 * Gently: one page at a time, with pauses, a job for each bucket. What is due is what the rows of coverage say: a page that was listed again is newer than
 * the rest of its range, so there is nothing else to remember, and a restart goes on where it was.
 */
import { backingOff, BackgroundRunner } from '../common/background.ts'
import type { Clock } from '../common/clock.ts'
import type { Attached } from './attached.ts'
import { inByteOrder, predecessor } from './key-order.ts'
import type { AttachedNames, CoveredRange } from './ports.ts'
import { askPage, mergePage } from './range-listing.ts'

export interface CompareParts {
  readonly names: Pick<AttachedNames, 'coverage' | 'covered' | 'merge' | 'revision'>
  readonly clock: Clock
  readonly onFailure: (doing: string, cause: unknown) => void
}

export interface CompareStatus {
  readonly pages: number
  readonly keys: number
  /** What differed from what was known here. */
  readonly changed: number
  /** When everything was last found new enough; undefined: not since the start. */
  readonly completedMs: number | undefined
  readonly lastError: string | undefined
}

const PAGE_PAUSE_MS = 500
const ROWS_PER_LOOK = 64
/** Once nothing is due: looked for again after a part of the interval. */
const LOOKS_PER_INTERVAL = 8
const LOOK_MS_MIN = 1000
const LOOK_MS_MAX = 300_000

class Comparison {
  readonly #parts: CompareParts
  readonly #attached: Attached
  readonly #stopping = new AbortController()
  readonly #runner: BackgroundRunner
  #position = ''
  #notBeforeMs = -Infinity
  #pages = 0
  #keys = 0
  #changed = 0
  #completedMs: number | undefined
  /** Of the last page, if it failed. */
  #lastError: string | undefined

  constructor(parts: CompareParts, attached: Attached) {
    this.#parts = parts
    this.#attached = attached
    const name = `comparing bucket ${attached.record.bucket}`
    const job = backingOff({ name, pauseMs: PAGE_PAUSE_MS, round: () => this.#round() }, parts.clock)
    this.#runner = new BackgroundRunner(job, parts)
    this.#runner.start()
  }

  get status(): CompareStatus {
    return {
      pages: this.#pages,
      keys: this.#keys,
      changed: this.#changed,
      completedMs: this.#completedMs,
      lastError: this.#lastError,
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('comparing stops'))
    await this.#runner.stop()
  }

  /** One page. Always pauses: there is no hurry. */
  async #round(): Promise<boolean> {
    const { clock } = this.#parts
    const { compareIntervalMs, phase } = this.#attached.record
    if (compareIntervalMs === 0 || phase !== undefined || clock.monotonicMs() < this.#notBeforeMs) return false
    const due = await this.#nextDue(clock.nowMs() - compareIntervalMs)
    if (due) await this.#listAgain(due)
    else {
      this.#completedMs = clock.nowMs()
      const pauseMs = Math.min(LOOK_MS_MAX, Math.max(LOOK_MS_MIN, compareIntervalMs / LOOKS_PER_INTERVAL))
      this.#notBeforeMs = clock.monotonicMs() + pauseMs
    }
    return false
  }

  /** From where it was on, and once around. */
  async #nextDue(beforeMs: number): Promise<CoveredRange | undefined> {
    const { bucketId } = this.#attached.record
    for (;;) {
      const rows = await this.#parts.names.coverage(bucketId, this.#position, ROWS_PER_LOOK)
      // The rest of the range is a row behind this one afterwards.
      for (const row of rows) if (await this.#isDue(row, beforeMs)) return row
      const last = rows.at(-1)
      this.#position = last && rows.length === ROWS_PER_LOOK ? last.position : ''
      if (this.#position === '') return undefined
    }
  }

  async #isDue({ scope, from, through, sinceMs }: CoveredRange, beforeMs: number): Promise<boolean> {
    if (sinceMs > beforeMs) return false
    // A directory whose keys were all listed again needs no listing of its own.
    const { bucketId } = this.#attached.record
    const covered = await this.#parts.names.covered(bucketId, scope, from, beforeMs + 1)
    return covered?.through === undefined || inByteOrder(covered.through, through) < 0
  }

  async #listAgain(due: CoveredRange): Promise<void> {
    const { scope } = due
    const asked = { scope, after: beginning(due), signal: this.#stopping.signal }
    const page = await askPage(this.#parts, this.#attached, asked).catch((cause: unknown) => {
      this.#lastError = cause instanceof Error ? cause.message : String(cause)
      throw cause
    })
    this.#lastError = undefined
    const merged = await mergePage(this.#parts, this.#attached, page, due.through)
    this.#pages++
    this.#keys += merged.keys
    this.#changed += merged.changed
  }
}

/** The key after which a range begins. */
function beginning({ scope, from }: CoveredRange): string {
  const before = from === '' ? '' : from.endsWith('\0') ? from.slice(0, -1) : predecessor(from)
  return scope.kind === 'shallow' && inByteOrder(before, scope.directory) < 0 ? '' : before
}

/** One for each attached bucket. */
export class Comparisons {
  readonly #parts: CompareParts
  readonly #running = new Map<number, Comparison>()

  constructor(parts: CompareParts) {
    this.#parts = parts
  }

  add(attached: Attached): void {
    const { bucketId } = attached.record
    if (!this.#running.has(bucketId)) this.#running.set(bucketId, new Comparison(this.#parts, attached))
  }

  status(bucketId: number): CompareStatus | undefined {
    return this.#running.get(bucketId)?.status
  }

  /** The bucket is detached. Resolves when nothing of it is listed any more. */
  async remove(bucketId: number): Promise<void> {
    const comparison = this.#running.get(bucketId)
    this.#running.delete(bucketId)
    await comparison?.stop()
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((bucketId) => this.remove(bucketId)))
  }
}
