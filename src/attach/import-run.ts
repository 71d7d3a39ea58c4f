/**
 * One import: several listers go through ranges of keys (key-ranges.ts), each with its next page asked for while the last one is merged. A lister with nothing to
 * do cuts the range of which most seems to be left.
 *
 * What has been listed is covered in the mirror, and is skipped. So an import that was stopped, or whose process was killed, goes on where it was when it is
 * started again, and nothing has to be remembered for that. Memory: two pages a lister.
 */
import type { Clock } from '../common/clock.ts'
import { isTidegateError } from '../common/errors.ts'
import type { Attached } from './attached.ts'
import { inByteOrder, later, successor } from './key-order.ts'
import { cutAt, findCut, wholeRange, type KeyRange } from './key-ranges.ts'
import type { AttachedNames } from './ports.ts'
import { askPage, mergePage, type AskedPage } from './range-listing.ts'

export interface ImportRunParts {
  readonly names: Pick<AttachedNames, 'covered' | 'merge' | 'revision'>
  readonly clock: Clock
  /** Listers. */
  readonly concurrency: number
}

export type ImportState = 'running' | 'done' | 'failed' | 'stopped'

export interface ImportStatus {
  readonly state: ImportState
  readonly startedMs: number
  /** Undefined while it runs. */
  readonly endedMs: number | undefined
  readonly keys: number
  /** Keys of which the mirror did not know, or something else. */
  readonly changed: number
  readonly keysPerSecond: number
  readonly requests: number
  /** Ranges that are being listed, or wait for that. */
  readonly rangesLeft: number
  /** From 0 to 1; a guess, for how many keys there are is not known before. */
  readonly share: number
  /** Why it failed, or why it is held up now. */
  readonly problem: string | undefined
}

const DEEP = { kind: 'deep' } as const
const CUT_QUESTIONS_MAX = 16
/** A range that could not be cut is left alone until it has got on by as many pages. */
const CUT_REST_PAGES = 4
/** So far down does the first look go for a directory with several in it. */
const LEVELS_MAX = 8
const RANGES_PER_LISTER = 4
const FAILURES_MAX = 8
const RETRY_MS_MIN = 500
const RETRY_MS_MAX = 30_000

interface OpenRange extends KeyRange {
  isListed: boolean
  isBeingCut: boolean
  /** Pages to go before another cut is tried. */
  restPages: number
}

export class ImportRun {
  readonly attached: Attached
  readonly #parts: ImportRunParts
  /** What was listed since then is skipped. */
  readonly #sinceMs: number
  readonly #stopping = new AbortController()
  readonly #ranges = new Set<OpenRange>()
  readonly #startedMs: number
  readonly #startedMonotonicMs: number
  #changedRanges = Promise.withResolvers<void>()
  #state: ImportState = 'running'
  #ended: { readonly atMs: number; readonly monotonicMs: number } | undefined
  #keys = 0
  #changed = 0
  #requests = 0
  #problem: string | undefined
  readonly done: Promise<void>

  /** `again`: also what has been listed at some time. */
  constructor(parts: ImportRunParts, attached: Attached, { again }: { readonly again: boolean }) {
    this.#parts = parts
    this.attached = attached
    this.#startedMs = parts.clock.nowMs()
    this.#startedMonotonicMs = parts.clock.monotonicMs()
    this.#sinceMs = again ? this.#startedMs : 0
    this.done = this.#run()
  }

  get status(): ImportStatus {
    const { atMs, monotonicMs } = this.#ended ?? { atMs: undefined, monotonicMs: this.#parts.clock.monotonicMs() }
    const seconds = Math.max(1, monotonicMs - this.#startedMonotonicMs) / 1000
    let left = 0
    for (const { share } of this.#ranges) left += share
    return {
      state: this.#state,
      startedMs: this.#startedMs,
      endedMs: atMs,
      keys: this.#keys,
      changed: this.#changed,
      keysPerSecond: Math.round(this.#keys / seconds),
      requests: this.#requests,
      rangesLeft: this.#ranges.size,
      share: this.#state === 'done' ? 1 : Math.max(0, 1 - left),
      problem: this.#problem,
    }
  }

  stop(): void {
    this.#stopping.abort(new Error('the import stops'))
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    try {
      const whole = this.#open(wholeRange())
      await this.#seed(whole)
      const listers = Array.from({ length: this.#parts.concurrency }, () => this.#lister())
      const outcomes = await Promise.allSettled(listers)
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
      this.#state = 'done'
      this.#problem = undefined
    } catch (cause) {
      // The first of them, not those that it made end.
      this.#state = this.#state === 'failed' ? 'failed' : this.#stopping.signal.aborted ? 'stopped' : 'failed'
      if (this.#state === 'failed') this.#problem ??= cause instanceof Error ? cause.message : String(cause)
      else this.#problem = undefined
    }
    this.#ended = { atMs: this.#parts.clock.nowMs(), monotonicMs: this.#parts.clock.monotonicMs() }
  }

  #open(range: KeyRange): OpenRange {
    const open = Object.assign(range, { isListed: false, isBeingCut: false, restPages: 0 })
    this.#ranges.add(open)
    this.#rangesChange()
    return open
  }

  #rangesChange(): void {
    this.#changedRanges.resolve()
    this.#changedRanges = Promise.withResolvers<void>()
  }

  /** The first cuts: between the directories of the uppermost one that has several. */
  async #seed(range: OpenRange): Promise<void> {
    let prefix = ''
    for (let level = 0; level < LEVELS_MAX; level++) {
      const scope = { kind: 'shallow', directory: prefix } as const
      const { page } = await this.#asked((signal) => askPage(this.#parts, this.attached, { scope, after: '', signal }))
      const [only, ...others] = page.prefixes
      if (only === undefined) return
      if (others.length > 0 || page.objects.length > 0) {
        for (const part of cutAt(range, this.#spread(page.prefixes))) this.#open(part)
        return
      }
      prefix = only
    }
  }

  /** So many of them, at equal distances. */
  #spread(names: readonly string[]): string[] {
    const most = this.#parts.concurrency * RANGES_PER_LISTER
    if (names.length <= most) return [...names]
    return Array.from({ length: most }, (_, index) => names[Math.floor((index * names.length) / most)] ?? '')
  }

  // ---- listers

  async #lister(): Promise<void> {
    try {
      for (;;) {
        const change = this.#changedRanges.promise
        const range = this.#next()
        if (range) await this.#list(range)
        else if (this.#ranges.size === 0) return
        else if (!(await this.#cut())) await change
      }
    } catch (cause) {
      if (!this.#stopping.signal.aborted) {
        this.#state = 'failed'
        this.#problem = cause instanceof Error ? cause.message : String(cause)
        this.stop()
      }
      this.#rangesChange()
      throw cause
    }
  }

  #next(): OpenRange | undefined {
    this.#stopping.signal.throwIfAborted()
    for (const range of this.#ranges) {
      if (range.isListed) continue
      range.isListed = true
      return range
    }
    return undefined
  }

  async #list(range: OpenRange): Promise<void> {
    let ahead: Promise<AskedPage> | undefined
    while (inByteOrder(range.after, range.through) < 0) {
      if (await this.#skip(range)) {
        ahead = undefined
        continue
      }
      const asked = await (ahead ?? this.#page(range.after))
      const { next } = asked.page
      const goesOn = next !== undefined && inByteOrder(next, range.through) < 0
      ahead = goesOn ? this.#page(next) : undefined
      // Whoever takes it is told; if nobody does, nobody needs to be.
      ahead?.catch(() => undefined)
      // Before it is merged: who cuts the range meanwhile must not have the same keys listed again.
      range.after = goesOn ? next : range.through
      await this.#merge(asked, range.after)
      const [first, last] = [asked.page.objects[0], asked.page.objects.at(-1)]
      if (first && last) range.seen = [first.key, last.key]
      range.restPages = Math.max(0, range.restPages - 1)
      this.#rangesChange()
    }
    this.#ranges.delete(range)
    this.#rangesChange()
  }

  #page(after: string): Promise<AskedPage> {
    return this.#asked((signal) => askPage(this.#parts, this.attached, { scope: DEEP, after, signal }))
  }

  async #merge(asked: AskedPage, through: string): Promise<void> {
    this.#stopping.signal.throwIfAborted()
    const merged = await mergePage(this.#parts, this.attached, asked, through)
    this.#keys += merged.keys
    this.#changed += merged.changed
  }

  /** Over what is covered. False when nothing is. */
  async #skip(range: OpenRange): Promise<boolean> {
    this.#stopping.signal.throwIfAborted()
    const { bucketId } = this.attached.record
    const from = range.after === '' ? '' : successor(range.after)
    const covered = await this.#parts.names.covered(bucketId, DEEP, from, this.#sinceMs)
    if (covered?.through === undefined || inByteOrder(covered.through, range.after) <= 0) return false
    range.after = later(range.after, covered.through)
    return true
  }

  // ---- cutting

  /** False when there is none that can be cut now. */
  async #cut(): Promise<boolean> {
    const range = this.#cuttable()
    if (!range) return false
    range.isBeingCut = true
    try {
      const point = await findCut(range, (at) => this.#isBehind(range, at), CUT_QUESTIONS_MAX)
      const parts = point === undefined ? [] : cutAt(range, [point])
      for (const part of parts) this.#open(part)
      if (parts.length === 0) range.restPages = CUT_REST_PAGES
    } finally {
      range.isBeingCut = false
    }
    return true
  }

  #cuttable(): OpenRange | undefined {
    let best: OpenRange | undefined
    for (const range of this.#ranges) {
      // Before its first page it may well have only one.
      if (range.isBeingCut || range.restPages > 0 || !range.seen) continue
      if (!best || range.share > best.share) best = range
    }
    return best
  }

  /** Where nothing lies behind, the range ends there, and the rest of it is known. */
  async #isBehind(range: OpenRange, point: string): Promise<boolean> {
    const asked = await this.#asked((signal) =>
      askPage(this.#parts, this.attached, { scope: DEEP, after: point, limit: 1, signal }),
    )
    const [first] = asked.page.objects
    // A page of nothing that says there is more says nothing.
    if (first ? inByteOrder(first.key, range.through) <= 0 : asked.page.next !== undefined) return true
    if (inByteOrder(point, range.through) >= 0) return false
    await this.#merge(asked, range.through)
    if (inByteOrder(point, range.after) > 0) range.through = point
    return false
  }

  // ---- asking

  /** Again and again, with pauses, as long as it may be worth it. */
  async #asked<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = this.#stopping
    for (let failures = 0; ;) {
      signal.throwIfAborted()
      this.#requests++
      try {
        const answer = await ask(signal)
        this.#problem = undefined
        return answer
      } catch (cause) {
        signal.throwIfAborted()
        const isPassing = isTidegateError(cause, 'Unavailable') || isTidegateError(cause, 'SlowDown')
        if (!isPassing || ++failures === FAILURES_MAX) throw cause
        this.#problem = cause.message
      }
      await this.#parts.clock.sleep(Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** failures), signal)
    }
  }
}
