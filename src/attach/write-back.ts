/**
 * Carries changes of attached buckets to the external ones: several keys at once, never two at once for one key, the oldest first, buckets in turn.
 *
 * What is to be done is the rows of dirty keys; this is a window on them (write-back-window.ts), so memory is bounded however many there are and a restart begins
 * where the rows are. A key waits a moment before it is carried out, unless somebody waits for it: what is overwritten or deleted by then is never sent.
 *
 *   row --> fresh --due, its turn--> running --> clean: gone | changed meanwhile: fresh
 *             ^                        |
 *             +-------- time -------- resting (failed, or held back by other keys) | listed as a conflict: gone from here, not from the rows
 *
 * A key that fails rests for growing, jittered pauses and is tried for ever, holding nobody up; one that is refused is tried seldom. Where
 * several in a row fail for the store's sake it is probed with one at a time (write-back-health.ts).
 *
 * Paused, nothing is begun: what is on its way arrives. A pause ends with `resume` or with the process.
 */
import { assert } from '../common/assert.ts'
import { backingOff, BackgroundRunner } from '../common/background.ts'
import type { Revision } from '../common/ids.ts'
import type { AttachedBuckets } from './attached.ts'
import { carryOut, type CarriedOut, type CarryOutParts } from './carry-out.ts'
import { DirectoryMoves } from './moves.ts'
import { conflicted, gone, notCarriedOut, notWhilePaused } from './write-back-errors.ts'
import { concernsTheStore } from './write-back-health.ts'
import { failed, held, refreshed, type WriteBackItem } from './write-back-item.ts'
import {
  countDirty,
  failedKeys,
  gaugesOf,
  statusOf,
  type FailedKey,
  type WriteBackGauges,
  type WriteBackStatus,
  type WriteBackTotals,
} from './write-back-status.ts'
import { WriteBackWaiters } from './write-back-waiters.ts'
import { DirtyWindow } from './write-back-window.ts'

export interface WriteBackOptions extends CarryOutParts {
  readonly attached: AttachedBuckets
  readonly random: () => number
  /** Keys carried out at once. One more may be, that somebody waits for: so it does not wait for others' large ones. */
  readonly concurrency: number
  /** How long a change waits for others of the same key. */
  readonly delayMs: number
  /** How long `written` waits. */
  readonly waitMsMax: number
  readonly onFailure: (failure: { bucket: string; key: string; cause: unknown; attempt: number }) => void
  readonly onConflict: (conflict: { bucket: string; key: string; ended: ConflictEnd; as: string | undefined }) => void
}

export type ConflictEnd = Extract<CarriedOut, { kind: 'conflict' }>['ended']

export interface WriteBackDrain {
  /** Not carried out, conflicts apart. */
  readonly left: number
  readonly leftIsAtLeast: boolean
  readonly conflicts: number
  readonly failed: readonly FailedKey[]
  readonly paused: boolean
}

interface Run {
  readonly item: WriteBackItem
  readonly givingUp: AbortController
  ended: Promise<void>
}

const MOVES_PAUSE_MS = 500
/** Between two looks at the rows while somebody drains. */
const DRAIN_LOOK_MS = 250
/** What is left is counted at each look. */
const DRAIN_COUNTED_KEYS = 1000

export class WriteBack {
  readonly #options: WriteBackOptions
  readonly #windows = new Map<number, DirtyWindow>()
  readonly #waiters: WriteBackWaiters
  readonly #runs = new Set<Run>()
  readonly #reads = new Map<number, Promise<void>>()
  readonly #observers = new Set<() => void>()
  readonly #moves: DirectoryMoves
  readonly #movesRunner: BackgroundRunner
  readonly totals: WriteBackTotals = { carriedOut: 0, failures: 0, conflicts: 0 }
  #timer: { readonly atMs: number; readonly cancel: AbortController } | undefined
  #unlisten: (() => void) | undefined
  #sequence = 0
  /** Buckets before this one in the order of turns have had theirs. */
  #lastBucket = -1
  #drains = 0
  #paused = false
  #stopped = false

  constructor(options: WriteBackOptions) {
    assert(options.concurrency >= 1, 'at least one key is carried out at a time')
    const { clock, names, attached } = options
    this.#options = options
    this.#waiters = new WriteBackWaiters(clock)
    this.#moves = new DirectoryMoves({ names, attached })
    const job = { name: 'attached-renames', pauseMs: MOVES_PAUSE_MS, round: () => this.#moves.round() }
    const onFailure = (key: string, cause: unknown): void => options.onFailure({ bucket: '', key, cause, attempt: 1 })
    this.#movesRunner = new BackgroundRunner(backingOff(job, clock), { clock, onFailure })
  }

  /** Begins with what the rows of all attached buckets say. */
  start(): void {
    const { names, attached } = this.#options
    this.#unlisten = names.onDirty((changes) => {
      for (const { bucketId, key } of changes) this.#changedHere(bucketId, key)
      this.#fill()
    })
    for (const { record } of attached.all()) this.#windowOf(record.bucketId)
    this.#movesRunner.start()
    this.#fill()
  }

  /** A bucket that was attached after the start, or whose store can be asked now, or whose conflicts were decided: looks at its rows at once. */
  look(bucketId: number): void {
    const window = this.#windowOf(bucketId)
    window?.lookAgain()
    window?.wake(this.#nowMs(), () => true)
    this.#fill()
  }

  /** The bucket is detached: nothing of it is begun any more. Resolves when nothing of it runs. */
  async forget(bucketId: number): Promise<void> {
    this.#windows.delete(bucketId)
    this.#moves.forget(bucketId)
    const runs = [...this.#runs].filter(({ item }) => item.bucketId === bucketId)
    for (const { givingUp } of runs) givingUp.abort(gone())
    this.#waiters.refuseAll(notCarriedOut('the bucket is detached'), (other) => other === bucketId)
    await Promise.all([...runs.map(({ ended }) => ended), this.#reads.get(bucketId)])
  }

  #windowOf(bucketId: number): DirtyWindow | undefined {
    const known = this.#windows.get(bucketId)
    if (known || this.#stopped || !this.#options.attached.ofId(bucketId)) return known
    const window = new DirtyWindow(bucketId)
    this.#windows.set(bucketId, window)
    return window
  }

  #changedHere(bucketId: number, key: string): void {
    const window = this.#windowOf(bucketId)
    // It may be a directory that was renamed, rather than its marker. What fails here is tried again by the job.
    if (key.endsWith('/')) this.#moves.step(bucketId).catch(() => undefined)
    const item = window?.add(key, { sinceMs: this.#options.clock.nowMs(), dueMs: this.#nowMs() + this.#delayMs })
    if (item?.running) item.changedMeanwhile = true
  }

  /** Who drains does not wait for changes that may come. */
  get #delayMs(): number {
    return this.#drains > 0 ? 0 : this.#options.delayMs
  }

  /**
   * Resolves once what the key was at that revision is in the external bucket (or was overwritten by what is), and brings it forward.
   * @throws PreconditionFailed when it ended as a conflict; Unavailable when it is not there within `waitMsMax`, or when this is paused or stops: what was
   * published stays published, and is carried out later
   */
  async written(bucketId: number, key: string, revision: Revision): Promise<void> {
    const window = this.#windowOf(bucketId)
    if (this.#stopped || !window) throw notCarriedOut(this.#stopped ? 'the gateway stops' : 'the bucket is detached')
    const { clock, waitMsMax } = this.#options
    const dueMs = this.#nowMs()
    const item = window.add(key, { sinceMs: clock.nowMs(), dueMs, urgent: true })
    if (this.#paused && !item?.running) throw notWhilePaused()
    const at = { bucketId, key, revision, sequence: this.#sequence++ }
    const waiting = this.#waiters.wait(at, waitMsMax, () => this.#tooLate(window, key))
    this.#fill()
    await waiting
  }

  #tooLate(window: DirtyWindow, key: string): Error {
    const item = window.get(key)
    if (item && !this.#waiters.has(window.bucketId, key)) item.urgent = false
    const why = item?.lastError ? `; it failed with ${item.lastError.code}: ${item.lastError.message}` : ''
    return notCarriedOut(`waited ${this.#options.waitMsMax} ms${why}`)
  }

  get paused(): boolean {
    return this.#paused
  }

  pause(): void {
    this.#paused = true
    const isRunning = (bucketId: number, key: string): boolean =>
      this.#windows.get(bucketId)?.get(key)?.running === true
    this.#waiters.refuseAll(notWhilePaused(), (bucketId, key) => !isRunning(bucketId, key))
    this.#changed()
  }

  resume(): void {
    this.#paused = false
    this.#fill()
  }

  // ---- turns

  /** Starts what may be started now, and reads on where little is left. */
  #fill(): void {
    if (this.#stopped) return
    const nowMs = this.#nowMs()
    for (const window of this.#windows.values()) {
      if (window.wantsMore(nowMs) && !this.#reads.has(window.bucketId)) this.#readOn(window)
    }
    if (!this.#paused) for (let next = this.#next(nowMs); next; next = this.#next(nowMs)) this.#start(next, nowMs)
    this.#armTimer(nowMs)
  }

  #readOn(window: DirtyWindow): void {
    const { names, clock, onFailure } = this.#options
    const { bucketId } = window
    const dueMs = (sinceMs: number): number => {
      const delayMs = this.#delayMs
      return this.#nowMs() + Math.min(delayMs, Math.max(0, delayMs - (clock.nowMs() - sinceMs)))
    }
    const reading = window
      .readOn(names, { nowMs: () => this.#nowMs(), dueMs })
      .catch((cause: unknown) => {
        if (!this.#stopped) onFailure({ bucket: this.#bucketName(bucketId), key: '', cause, attempt: 1 })
        window.readFailed(this.#nowMs())
      })
      .finally(() => {
        this.#reads.delete(bucketId)
        this.#changed()
        this.#fill()
      })
    this.#reads.set(bucketId, reading)
  }

  #next(nowMs: number): WriteBackItem | undefined {
    const free = this.#options.concurrency - this.#runs.size
    if (free < 0) return undefined
    for (const window of this.#inTurn()) {
      const item = this.#nextOf(window, nowMs, free === 0)
      if (!item) continue
      this.#lastBucket = window.bucketId
      return item
    }
    return undefined
  }

  /** From the bucket after the one that had its turn last. */
  #inTurn(): DirtyWindow[] {
    const windows = [...this.#windows.values()].sort((a, b) => a.bucketId - b.bucketId)
    const cut = windows.findIndex(({ bucketId }) => bucketId > this.#lastBucket)
    return cut <= 0 ? windows : [...windows.slice(cut), ...windows.slice(0, cut)]
  }

  #nextOf(window: DirtyWindow, nowMs: number, urgentOnly: boolean): WriteBackItem | undefined {
    const { health } = window
    if (!health.isAway) return window.next(nowMs, urgentOnly)
    return window.running === 0 && nowMs >= health.nextProbeMs && !urgentOnly ? window.longestUntried() : undefined
  }

  #armTimer(nowMs: number): void {
    let atMs = Infinity
    for (const window of this.#windows.values()) {
      const { health } = window
      if (health.isAway && window.running > 0) continue
      const dueMs = health.isAway ? Math.max(health.nextProbeMs, 0) : window.nextDueMs()
      // What is due already waits for a slot, whose end comes back here.
      if (dueMs > nowMs) atMs = Math.min(atMs, dueMs)
    }
    if (atMs === Infinity || (this.#timer && this.#timer.atMs <= atMs)) return
    this.#timer?.cancel.abort(new Error('an earlier time is due'))
    const timer = { atMs, cancel: new AbortController() }
    this.#timer = timer
    this.#options.clock.sleep(atMs - nowMs, timer.cancel.signal).then(
      () => {
        if (this.#timer === timer) this.#timer = undefined
        this.#fill()
      },
      () => undefined,
    )
  }

  // ---- one carry-out

  #start(item: WriteBackItem, nowMs: number): void {
    const window = this.#windows.get(item.bucketId)
    assert(window && !item.running, 'never two at once for one key')
    item.running = true
    item.changedMeanwhile = false
    item.triedMs = nowMs
    window.running++
    const run: Run = { item, givingUp: new AbortController(), ended: Promise.resolve() }
    this.#runs.add(run)
    run.ended = this.#run(run, window).finally(() => {
      item.running = false
      item.writing = false
      window.running--
      this.#runs.delete(run)
      this.#changed()
      this.#fill()
    })
  }

  /** Never rejects. Leaves the item gone, resting or fresh. */
  async #run({ item, givingUp }: Run, window: DirtyWindow): Promise<void> {
    const { bucketId, key } = item
    const attached = this.#options.attached.ofId(bucketId)
    if (!attached) return window.remove(item)
    const begun = this.#sequence++
    try {
      const { givesWay: makeRoom } = item
      const outcome = await carryOut(this.#options, {
        attached,
        key,
        signal: givingUp.signal,
        makeRoom,
        onWriting: () => (item.writing = true),
        isBeingWritten: (other) => window.get(other)?.writing === true,
      })
      this.#ended(window, item, { outcome, begun })
    } catch (cause) {
      // Nothing is wrong with it: the row brings it back.
      if (givingUp.signal.aborted) return window.remove(item)
      const nowMs = this.#nowMs()
      const code = failed(item, cause, { nowMs, random: this.#options.random })
      this.totals.failures++
      window.health.failed(key, code, { nowMs, random: this.#options.random })
      window.rest(item)
      this.#options.onFailure({ bucket: attached.record.bucket, key, cause, attempt: item.attempts })
    }
  }

  #ended(
    window: DirtyWindow,
    item: WriteBackItem,
    { outcome, begun }: { readonly outcome: CarriedOut; readonly begun: number },
  ): void {
    switch (outcome.kind) {
      case 'clean':
      case 'changed':
        if (outcome.through !== undefined) this.#gotThrough(window, item)
        this.#waiters.carried(item, begun, outcome.through)
        return this.#goOn(window, item, outcome.kind === 'changed')
      case 'again':
      case 'held':
        return this.#hold(window, item, outcome.kind === 'held' ? outcome.by : [])
      case 'undecided':
        this.#waiters.refuse(item, conflicted(item.key))
        return this.#goOn(window, item, false)
      case 'conflict': {
        const bucket = this.#bucketName(item.bucketId)
        this.totals.conflicts++
        this.#gotThrough(window, item)
        this.#waiters.refuse(item, conflicted(item.key))
        this.#goOn(window, item, false)
        // Its row says so too; a commit that this was not told of would wait for the next pass over the rows.
        if (outcome.as !== undefined) this.#changedHere(item.bucketId, outcome.as)
        return this.#options.onConflict({ bucket, key: item.key, ended: outcome.ended, as: outcome.as })
      }
    }
  }

  /** What is changed meanwhile, or waited for by somebody who came meanwhile, has another turn. */
  #goOn(window: DirtyWindow, item: WriteBackItem, isDirty: boolean): void {
    const isWaitedFor = this.#waiters.has(item.bucketId, item.key)
    const goesOn = isDirty || item.changedMeanwhile || isWaitedFor
    window.remove(item)
    if (!goesOn) return
    const dueMs = this.#nowMs() + (isWaitedFor ? 0 : this.#delayMs)
    window.add(item.key, { sinceMs: item.sinceMs, dueMs, urgent: isWaitedFor })
  }

  #gotThrough(window: DirtyWindow, item: WriteBackItem): void {
    this.totals.carriedOut++
    this.#moves.carriedOut(item.bucketId, item.key)
    refreshed(item)
    const isBack = window.health.gotThrough()
    window.wake(this.#nowMs(), (other) => {
      const isFreed = other.heldBy.includes(item.key)
      return isFreed || (isBack && other.lastError !== undefined && concernsTheStore(other.lastError.code))
    })
  }

  #hold(window: DirtyWindow, item: WriteBackItem, by: readonly string[]): void {
    const nowMs = this.#nowMs()
    held(item, by, { nowMs, random: this.#options.random })
    item.givesWay = window.givesWay(item)
    window.rest(item)
    for (const key of by) window.add(key, { sinceMs: item.sinceMs, dueMs: nowMs, urgent: item.urgent })
  }

  // ---- draining

  /**
   * Resolves when nothing is left to be carried out but listed conflicts, or tells what is left: when the time is up, or at once when
   * paused. Meanwhile changes do not wait for others, and what failed is tried anew.
   */
  async drain(options: { readonly bucketId?: number; readonly waitMsMax: number }): Promise<WriteBackDrain> {
    const buckets = options.bucketId === undefined ? [...this.#windows.keys()] : [options.bucketId]
    const untilMs = this.#nowMs() + options.waitMsMax
    this.#drains++
    try {
      for (const bucketId of buckets) this.look(bucketId)
      for (;;) {
        const left = await this.#left(buckets)
        const nowMs = this.#nowMs()
        if (left.left === 0 || this.#paused || this.#stopped || nowMs >= untilMs) return left
        await this.#untilIdle(buckets, Math.min(nowMs + DRAIN_LOOK_MS, untilMs))
      }
    } finally {
      this.#drains--
    }
  }

  /** Rows are counted by looking at them, so not after each key. */
  async #untilIdle(buckets: readonly number[], untilMs: number): Promise<void> {
    const isIdle = (): boolean => buckets.every((bucketId) => this.#windows.get(bucketId)?.isIdle !== false)
    while (!isIdle() && !this.#paused && !this.#stopped && this.#nowMs() < untilMs) {
      await this.#nextChange(untilMs - this.#nowMs())
    }
  }

  async #left(buckets: readonly number[]): Promise<WriteBackDrain> {
    const { names } = this.#options
    let [left, conflicts, leftIsAtLeast] = [0, 0, false]
    const items: WriteBackItem[] = []
    for (const bucketId of buckets) {
      // What a rename has not written down yet is not counted by its keys, and must not be missed.
      while (!this.#paused && (await this.#moves.step(bucketId)));
      left += (await names.moves(bucketId)).length
      const counted = await countDirty(names, bucketId, DRAIN_COUNTED_KEYS)
      left += counted.dirty
      conflicts += counted.conflicts
      leftIsAtLeast ||= counted.isAtLeast
      const window = this.#windows.get(bucketId)
      if (!window) continue
      items.push(...window.all())
      // Its keys are dirty, and the window has none of them: some came about without being told.
      if (counted.dirty > 0 && window.isIdle) window.lookAgain()
      // What was held back may not be any more.
      window.wake(this.#nowMs(), ({ lastError }) => lastError === undefined)
    }
    this.#fill()
    return { left, leftIsAtLeast, conflicts, failed: failedKeys(items, this.#nowMs()), paused: this.#paused }
  }

  #changed(): void {
    const observers = [...this.#observers]
    this.#observers.clear()
    for (const observer of observers) observer()
  }

  async #nextChange(waitMsMax: number): Promise<void> {
    const over = new AbortController()
    const changed = new Promise<void>((resolve) => this.#observers.add(resolve))
    await Promise.race([changed, this.#options.clock.sleep(waitMsMax, over.signal).catch(() => undefined)])
    over.abort(new Error('something changed'))
  }

  // ---- for people

  gauges(): WriteBackGauges[] {
    const nowMs = this.#nowMs()
    return [...this.#windows.values()].map((window) => gaugesOf(window, nowMs))
  }

  async status(): Promise<WriteBackStatus[]> {
    const { names, attached, clock } = this.#options
    const all: WriteBackStatus[] = []
    for (const window of this.#windows.values()) {
      const bucket = attached.ofId(window.bucketId)
      if (!bucket) continue
      const times = { names, wallMs: clock.nowMs(), nowMs: this.#nowMs() }
      all.push(await statusOf(times, bucket, window, await this.#moves.progress(window.bucketId)))
    }
    return all
  }

  /** Begins nothing more from here on, and gives up what is on its way: the next start carries it out. Resolves when nothing runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#unlisten?.()
    this.#timer?.cancel.abort(new Error('carrying out stops'))
    for (const { givingUp } of this.#runs) givingUp.abort(gone())
    this.#waiters.refuseAll(notCarriedOut('the gateway stops'))
    await Promise.all([...[...this.#runs].map(({ ended }) => ended), ...this.#reads.values(), this.#movesRunner.stop()])
    this.#changed()
  }

  #bucketName(bucketId: number): string {
    return this.#options.attached.ofId(bucketId)?.record.bucket ?? ''
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }
}
