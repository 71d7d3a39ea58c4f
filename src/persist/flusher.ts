/**
 * Carries sealed segments to the remote store, several at once, and mends segments whose writes failed. Which is next: flush/queue.ts.
 *
 * Each sealed segment that is not persisted is one item here, from `add` until metadata says `persisted` or the segment is reclaimed.
 * Nothing is forgotten in between: an item that fails keeps its data where it is (the journal), rests for growing, jittered pauses and is
 * tried again for ever; while it rests it holds no slot. All of this is memory: after a crash recovery adds the same items again, for
 * a sealed file in the journal is the item.
 *
 * What never leaves: a segment in which nothing is alive when its turn comes, unless captured names wait for it (`holds`). It stays an item
 * until it is reclaimed, since a body in it may yet be published. One that is mostly dead is compacted first.
 *
 * Carried, then marked: `persist` resolved means durable in the remote store, and only then metadata learns of it. A crash between the two
 * costs a second upload of the same bytes under the same name. When metadata has no record of the segment any more, it was
 * reclaimed, before or while it was carried: nothing refers to it, and the item is done with.
 *
 * Paused, nothing is begun: what is on its way arrives, mending (work on the local disk) goes on, and who waits for a segment that is not on
 * its way is told `Unavailable` at once. A pause ends with `resume` or with the process: a gateway that was restarted flushes.
 */
import { assert } from '../common/assert.ts'
import type { Clock } from '../common/clock.ts'
import type { SegmentId } from '../common/ids.ts'
import { carry, type CarryOptions } from './flush/carry.ts'
import { Deadline } from './flush/deadline.ts'
import { DrainRate } from './flush/drain-rate.ts'
import {
  failed,
  newItem,
  pauseMs,
  type FailureCode,
  type FlushAction,
  type FlushItem,
  type SealedSegment,
} from './flush/item.ts'
import { notPersisted, notWhilePaused } from './flush/not-persisted.ts'
import { FlushQueue } from './flush/queue.ts'
import { concernsTheStore, Reachability } from './flush/reachability.ts'
import { listed, type DrainResult, type FlushStatus, type FlushTotals } from './flush/status.ts'
import { SegmentWaiters } from './flush/waiters.ts'

export interface FlusherOptions extends CarryOptions {
  readonly clock: Clock
  readonly random: () => number
  /** Metadata says that it is persisted, durably. Keeps no slot: the disk level may have much else to do. */
  readonly onPersisted: (segment: SegmentId) => Promise<void>
  /** Seals a segment whose writes failed. Returns the bytes of its data region. */
  readonly mend: (segment: SegmentId) => Promise<number>
  /** Nothing in it is alive: it may be reclaimed, which `forget` tells us. */
  readonly onDead: (segment: SegmentId) => void
  readonly onFailure: (failure: { segment: SegmentId; action: FlushAction; cause: unknown; attempt: number }) => void
  /** Segments carried at once. One more may be, that somebody waits for: so it does not wait for others' large ones. */
  readonly concurrency: number
  /** Older ones go first, whosever turn it is. */
  readonly ageMsMax: number
  /** How long `persisted` waits for the remote store. */
  readonly waitMsMax: number
}

interface Run {
  readonly item: FlushItem
  readonly startedMs: number
  readonly givingUp: AbortController
  /** The segment is reclaimed: what becomes of the upload is of no interest. */
  forgotten: boolean
  ended: Promise<void>
}

/** A dead segment is reclaimed within a second, unless readers hold it. Then it is looked at again. */
const DEAD_LOOK_MS = 10_000

export class Flusher {
  readonly #options: FlusherOptions
  readonly #queue = new FlushQueue()
  readonly #waiters: SegmentWaiters
  readonly #reachability = new Reachability()
  readonly #rate = new DrainRate()
  readonly #running = new Map<SegmentId, Run>()
  readonly #handedOver = new Set<Promise<void>>()
  readonly #totals = {
    persistedItems: 0,
    persistedBytes: 0,
    notSentItems: 0,
    notSentBytes: 0,
    failures: new Map<FailureCode, number>(),
  }
  /** Told when an item has gone, was tried in vain, or flushing was paused. */
  readonly #observers = new Set<() => void>()
  #timer: { readonly atMs: number; readonly cancel: AbortController } | undefined
  #sequence = 0
  #drains = 0
  /** What somebody drained up to here goes as it is: compaction would move it past what he waits for. */
  #drainedThrough = 0
  #paused = false
  #stopped = false

  constructor(options: FlusherOptions) {
    assert(options.concurrency >= 1, 'at least one segment is carried at a time')
    this.#options = options
    this.#waiters = new SegmentWaiters(options.clock)
  }

  /** Sealed segments that are not persisted yet. */
  get backlog(): number {
    return this.#queue.size
  }

  get backlogBytes(): number {
    return this.#queue.bytes
  }

  /** What it carries while it has something to carry; undefined until it has. */
  get bytesPerSecond(): number | undefined {
    if (this.#running.size === 0) this.#rate.counted(this.#nowMs())
    return this.#rate.bytesPerSecond
  }

  /** Whether a sealed segment still is to be carried to the remote store. */
  isWaiting(segment: SegmentId): boolean {
    return this.#queue.get(segment) !== undefined
  }

  add(sealed: SealedSegment, action: FlushAction = 'persist'): void {
    if (this.#stopped || this.#queue.get(sealed.segment)) return
    const item = newItem(sealed, { action, sequence: ++this.#sequence, nowMs: this.#nowMs() })
    this.#queue.add(item)
    if (this.#waiters.has(item.segment)) this.#queue.hurry(item)
    this.#fill()
  }

  /**
   * Resolves once the segment is in the remote store and metadata says so, and brings it forward. @throws Unavailable when it is not there
   * within `waitMsMax`, or the flusher is paused or stops before: what was published stays published, and is carried later.
   */
  async persisted(segment: SegmentId): Promise<void> {
    if (this.#stopped) throw notPersisted('the gateway stops')
    const { waitMsMax, index } = this.#options
    const waiting = this.#waiters.wait(segment, waitMsMax, () => this.#tooLate(segment))
    // The look-up may throw first; then nobody is left to hear of this one.
    waiting.catch(() => undefined)
    this.hurry(segment)
    try {
      // Looked up after the waiter is in place, so that a segment persisted in between is not waited for.
      const record = await index.segment(segment)
      if (!record || record.state === 'persisted') this.#waiters.release(segment)
      else if (this.#paused && !this.#running.has(segment)) this.#waiters.refuse(segment, notWhilePaused())
      await waiting
    } finally {
      const item = this.#queue.get(segment)
      if (item && !this.#waiters.has(segment)) this.#queue.calm(item)
    }
  }

  /** Somebody waits for it: it goes next. */
  hurry(segment: SegmentId): void {
    const item = this.#queue.get(segment)
    if (!item) return
    item.waits++
    this.#queue.hurry(item)
    // Something in it was published since it was found dead, or there would be nothing to wait for.
    if (item.dead) this.#queue.ready(item)
    this.#fill()
  }

  #tooLate(segment: SegmentId): Error {
    const last = this.#queue.get(segment)?.lastError
    const why = last ? `; it failed with ${last.code}: ${last.message}` : ''
    return notPersisted(`waited ${this.#options.waitMsMax} ms${why}`)
  }

  /** The segment is being reclaimed. Resolves when nothing is done with it any more; to be awaited before its bytes go. */
  async forget(segment: SegmentId): Promise<void> {
    const run = this.#running.get(segment)
    if (run) {
      run.forgotten = true
      run.givingUp.abort(new Error(`segment ${segment} is reclaimed`))
      await run.ended
    }
    const item = this.#queue.get(segment)
    if (item) this.#done(item)
  }

  get paused(): boolean {
    return this.#paused
  }

  pause(): void {
    this.#paused = true
    this.#waiters.refuseAll(notWhilePaused(), (segment) => !this.#running.has(segment))
    this.#changed()
  }

  resume(): void {
    this.#paused = false
    this.#fill()
  }

  /** Starts what may be started now. */
  #fill(): void {
    if (this.#stopped) return
    const nowMs = this.#nowMs()
    this.#queue.wake(nowMs)
    for (let item = this.#next(nowMs); item; item = this.#next(nowMs)) this.#start(item, nowMs)
    this.#rate.wanting(this.#running.size > 0 || this.#queue.hasReady, nowMs)
    this.#armTimer(nowMs)
  }

  #next(nowMs: number): FlushItem | undefined {
    const { concurrency, ageMsMax } = this.#options
    const free = concurrency - this.#running.size
    if (free < 0) return undefined
    if (this.#paused) return free > 0 ? this.#queue.nextToMend() : undefined
    if (this.#reachability.isAway) {
      if (this.#running.size === 0 && nowMs >= this.#reachability.nextProbeMs) {
        return this.#queue.longestUntried() ?? this.#queue.nextToMend()
      }
      return free > 0 ? this.#queue.nextToMend() : undefined
    }
    return free > 0 ? this.#queue.next({ nowMs, ageMsMax }) : this.#queue.nextUrgent()
  }

  #armTimer(nowMs: number): void {
    const wakeMs = this.#queue.nextWakeMs()
    const { isAway, nextProbeMs } = this.#reachability
    const isProbed = isAway && !this.#paused && this.#running.size === 0 && this.#queue.longestUntried()
    const probeMs = isProbed ? nextProbeMs : undefined
    const atMs = Math.min(wakeMs ?? Infinity, probeMs ?? Infinity)
    if (atMs === Infinity || (this.#timer && this.#timer.atMs <= atMs)) return
    this.#timer?.cancel.abort(new Error('an earlier time is due'))
    const timer = { atMs, cancel: new AbortController() }
    this.#timer = timer
    this.#options.clock.sleep(Math.max(0, atMs - nowMs), timer.cancel.signal).then(
      () => {
        if (this.#timer === timer) this.#timer = undefined
        this.#fill()
      },
      () => undefined,
    )
  }

  #start(item: FlushItem, nowMs: number): void {
    this.#queue.run(item)
    item.triedMs = nowMs
    const givingUp = new AbortController()
    const run: Run = { item, startedMs: nowMs, givingUp, forgotten: false, ended: Promise.resolve() }
    this.#running.set(item.segment, run)
    run.ended = this.#run(run).finally(() => {
      this.#running.delete(item.segment)
      this.#changed()
      this.#fill()
    })
  }

  /** Never rejects. Leaves the item done, resting or ready. */
  async #run(run: Run): Promise<void> {
    const { item } = run
    try {
      if (item.action === 'mend') await this.#mend(item)
      else await this.#carry(run)
    } catch (cause) {
      if (run.forgotten) return
      // Nothing is wrong with it: the next start carries it.
      if (this.#stopped) return this.#queue.rest(item, Infinity)
      this.#failed(item, cause)
    }
  }

  #failed(item: FlushItem, cause: unknown): void {
    const { action, segment } = item
    const nowMs = this.#nowMs()
    failed(item, cause, nowMs)
    item.triedForDrain = this.#drains
    const code = item.lastError?.code ?? 'other'
    this.#totals.failures.set(code, (this.#totals.failures.get(code) ?? 0) + 1)
    const { random } = this.#options
    this.#rate.counted(nowMs)
    if (action === 'persist') this.#reachability.failed(segment, code, { nowMs, random })
    const othersGotThrough = this.#reachability.gotThroughSince(item.failingSinceMs)
    this.#queue.rest(item, nowMs + pauseMs({ attempts: item.attempts, othersGotThrough, random }))
    this.#options.onFailure({ segment, action, cause, attempt: item.attempts })
  }

  async #mend(item: FlushItem): Promise<void> {
    const bytes = await this.#options.mend(item.segment)
    this.#queue.setBytes(item, bytes)
    item.action = 'persist'
    item.attempts = 0
    item.lastError = undefined
    item.triedForDrain = 0
    item.triedMs = -Infinity
    this.#queue.ready(item)
  }

  async #carry({ item, startedMs, givingUp }: Run): Promise<void> {
    const { segment, waits } = item
    // Not what somebody waits for or what has waited long: copies begin to wait anew. Once is enough.
    const isYoung = startedMs - item.sealedMs < this.#options.ageMsMax
    const mayCompact = (): boolean => {
      const isDrained = item.sequence <= this.#drainedThrough
      const may = !item.compacted && !item.urgent && isYoung && !isDrained
      item.compacted ||= may
      return may
    }
    const outcome = await carry(segment, this.#options, { mayCompact, signal: givingUp.signal })
    switch (outcome) {
      case 'gone':
        return this.#done(item)
      case 'dead':
        return this.#restDead(item, waits)
      case 'persisted':
        return this.#persisted(item, this.#nowMs() - startedMs)
    }
  }

  /** It waits until it is reclaimed, or somebody waits for it. */
  #restDead(item: FlushItem, waits: number): void {
    item.triedForDrain = this.#drains
    // Who came meanwhile may wait for something that was published after the look.
    if (item.waits !== waits) return this.#queue.ready(item)
    this.#waiters.release(item.segment)
    this.#queue.rest(item, this.#nowMs() + DEAD_LOOK_MS)
    item.dead = true
    this.#options.onDead(item.segment)
  }

  #persisted(item: FlushItem, forMs: number): void {
    const { segment, bytes } = item
    const nowMs = this.#nowMs()
    this.#rate.carried(bytes, forMs, nowMs)
    if (this.#reachability.gotThrough(nowMs)) this.#retryAll(concernsTheStore)
    this.#totals.persistedItems++
    this.#totals.persistedBytes += bytes
    void this.handOver(segment)
    this.#done(item)
  }

  /** What is persisted gives its local copy away. Never rejects; not awaited by what is carried. */
  async handOver(segment: SegmentId): Promise<void> {
    if (this.#stopped) return
    const handing = this.#options.onPersisted(segment).catch((cause: unknown) =>
      // It is where it belongs, and only its local copy is not: the next start sees to that.
      this.#options.onFailure({ segment, action: 'persist', cause, attempt: 1 }),
    )
    this.#handedOver.add(handing)
    await handing
    this.#handedOver.delete(handing)
  }

  #done(item: FlushItem): void {
    if (item.dead) {
      this.#totals.notSentItems++
      this.#totals.notSentBytes += item.bytes
    }
    this.#queue.remove(item)
    this.#waiters.release(item.segment)
    this.#changed()
  }

  #retryAll(concerned: (code: FailureCode) => boolean): void {
    for (const item of this.#queue.resting()) {
      if (item.lastError ? concerned(item.lastError.code) : item.dead) this.#queue.ready(item)
    }
  }

  /** Resolves when nothing can be done now: every item was tried, and is gone or failing; or the time is up. */
  async drain(waitMsMax?: number): Promise<void> {
    const drain = ++this.#drains
    this.#tryEverything()
    const timeIsUp = new Deadline(this.#options.clock, waitMsMax)
    const undecided = (): boolean => {
      for (const item of this.#queue.all()) if (item.triedForDrain < drain) return true
      return false
    }
    while (!timeIsUp.passed && this.#running.size > 0 && undecided()) {
      await Promise.race([...[...this.#running.values()].map(({ ended }) => ended), timeIsUp.promise])
    }
    timeIsUp.cancel()
  }

  /**
   * Resolves when all that was in the backlog at the call is persisted, or tells what is left: when the time is up, or at once when paused.
   * Given the `through` of an earlier result it goes on waiting for the same.
   */
  async drainBacklog(options: {
    readonly waitMsMax: number
    readonly through?: number | undefined
  }): Promise<DrainResult> {
    const through = options.through ?? this.#sequence
    this.#drainedThrough = Math.max(this.#drainedThrough, Math.min(through, this.#sequence))
    if (options.through === undefined) this.#tryEverything()
    const timeIsUp = new Deadline(this.#options.clock, options.waitMsMax)
    const isLeft = ({ sequence }: FlushItem): boolean => sequence <= through
    while (!timeIsUp.passed && !this.#paused && !this.#stopped && [...this.#queue.all()].some(isLeft)) {
      await Promise.race([this.#nextChange(), timeIsUp.promise])
    }
    timeIsUp.cancel()
    const left = [...this.#queue.all()].filter(isLeft)
    return {
      through,
      paused: this.#paused,
      leftItems: left.length,
      leftBytes: left.reduce((sum, { bytes }) => sum + bytes, 0),
      left: listed(left, this.#nowMs()),
    }
  }

  /** Somebody wants it done: whatever rests is tried now. */
  #tryEverything(): void {
    this.#reachability.forgive()
    this.#retryAll(() => true)
    this.#fill()
  }

  #changed(): void {
    const observers = [...this.#observers]
    this.#observers.clear()
    for (const observer of observers) observer()
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => this.#observers.add(resolve))
  }

  status(): FlushStatus {
    const nowMs = this.#nowMs()
    const failing = [...this.#queue.all()].filter(({ lastError }) => lastError)
    const { awaySinceMs } = this.#reachability
    return {
      paused: this.#paused,
      awayMs: awaySinceMs === undefined ? undefined : nowMs - awaySinceMs,
      items: this.backlog,
      bytes: this.backlogBytes,
      oldestAgeMs: this.oldestAgeMs,
      uploads: [...this.#running.values()].map(({ item, startedMs }) => ({
        segment: item.segment,
        bytes: item.bytes,
        forMs: nowMs - startedMs,
      })),
      failingItems: failing.length,
      failing: listed(failing, nowMs),
      bytesPerSecond: this.bytesPerSecond,
      totals: this.#totals,
    }
  }

  /** Of the oldest item; undefined when there is none. */
  get oldestAgeMs(): number | undefined {
    let oldestMs: number | undefined
    for (const { sealedMs } of this.#queue.all()) {
      if (oldestMs === undefined || sealedMs < oldestMs) oldestMs = sealedMs
    }
    return oldestMs === undefined ? undefined : this.#nowMs() - oldestMs
  }

  get totals(): FlushTotals {
    return this.#totals
  }

  get uploads(): number {
    return this.#running.size
  }

  /** Begins nothing more from here on, and gives up what is on its way: the next start carries it. Resolves when nothing runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel.abort(new Error('the flusher stops'))
    for (const { givingUp } of this.#running.values()) givingUp.abort(new Error('the flusher stops'))
    await Promise.all([...this.#running.values()].map(({ ended }) => ended))
    this.#waiters.refuseAll(notPersisted('the gateway stops'))
    this.#changed()
    await Promise.all(this.#handedOver)
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }
}
