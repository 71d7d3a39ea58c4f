/**
 * Watching changes, for any number of watchers at the price of one.
 *
 *   metadata's log --> feed --> recent changes (memory) --> pending watchers
 *                 \________ log reader, for one who is behind ________/
 *
 * One feed follows the metadata's log while anybody watches. What it reads is kept for a while (`RecentChanges`) and handed to
 * those who wait (`PendingWatchers`). A watcher is no more than a place: what it watches, and the first revision it has not been
 * told of. One whose place is older than the recent changes, because it asked for the past or takes its events slowly, is
 * read to from the log (`LogReader`) until it has caught up. So a watcher that takes nothing costs nothing and holds up nobody.
 *
 * Every event is durable when it is told: the metadata's log has no others. Batches are whole revisions (C3), and `next` is behind
 * everything looked at, also at what did not concern the watcher, so that one of a quiet prefix can resume for as long as others.
 *
 * When the feed fails, whoever waits is told, and the feed begins again where it was. When it finds that the log goes no
 * longer back so far, those who wait may have missed something: `RevisionGone` (C7).
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { Watching } from '../doors.ts'
import type { WatchBatch, WatcherId, WatchRequest } from '../kv-types.ts'
import type { MetadataBuckets, MetadataChanges, MetadataService } from '../ports.ts'
import { LogReader } from './log-reader.ts'
import { PendingWatchers } from './pending.ts'
import { RecentChanges } from './recent-changes.ts'
import { Turns } from './turns.ts'

export interface WatchingOptions {
  readonly metadata: MetadataChanges & Pick<MetadataService, 'durableRevision'> & Pick<MetadataBuckets, 'bucket'>
  readonly clock: Clock
  readonly watchersMax?: number | undefined
  readonly recentEventsMax?: number | undefined
  readonly recentBytesMax?: number | undefined
}

export interface RunningWatching extends Watching {
  /** Watchers that are open. */
  readonly count: number
  /** Ends every watcher. */
  stop(): void
}

export function createWatching(options: WatchingOptions): RunningWatching {
  return new StoreWatching(options)
}

const WATCHERS_MAX = 10_000
const RECENT_EVENTS_MAX = 65_536
const RECENT_BYTES_MAX = 32 * 1024 * 1024
/** The feed goes on for so long after the last watcher: most come back. */
const LINGER_MS = 60_000
const FEED_PAUSE_MS = 100
const FEED_PAUSE_MS_MAX = 5_000
const LOG_READS_AT_ONCE_MAX = 16
/** Log readers that are kept open between two calls of their watchers; opening one again costs, but loses nothing. */
const LOG_READERS_KEPT_MAX = 64

interface Watcher {
  readonly id: WatcherId
  readonly subject: { readonly bucket: string; readonly prefix: string }
  /** First revision that it has not been told of. */
  next: Revision
  reader: LogReader | undefined
  busy: boolean
  closed: boolean
}

class StoreWatching implements RunningWatching {
  readonly #options: WatchingOptions
  readonly #recent: RecentChanges
  readonly #pending: PendingWatchers
  readonly #watchers = new Map<WatcherId, Watcher>()
  readonly #turns = new Turns(LOG_READS_AT_ONCE_MAX)
  /** Least recently used first. */
  readonly #readers = new Set<Watcher>()
  #feed: AbortController | undefined
  #lingering: AbortController | undefined
  #lastId = 0
  #stopped = false

  constructor(options: WatchingOptions) {
    this.#options = options
    this.#pending = new PendingWatchers(options.clock, () => this.#recent.through)
    this.#recent = new RecentChanges({
      eventsMax: options.recentEventsMax ?? RECENT_EVENTS_MAX,
      bytesMax: options.recentBytesMax ?? RECENT_BYTES_MAX,
    })
  }

  get count(): number {
    return this.#watchers.size
  }

  revision(): Revision {
    return this.#options.metadata.durableRevision()
  }

  async open({ bucket, prefix, from }: WatchRequest): Promise<WatcherId> {
    await this.#options.metadata.bucket(bucket)
    if (this.#stopped) throw stopped()
    const { watchersMax = WATCHERS_MAX } = this.#options
    if (this.#watchers.size >= watchersMax) {
      throw new TidegateError('SlowDown', `there are ${watchersMax} watchers already`)
    }
    const next = Math.max(1, from ?? this.revision() + 1)
    const watcher: Watcher = {
      id: ++this.#lastId,
      subject: { bucket, prefix },
      next,
      reader: undefined,
      busy: false,
      closed: false,
    }
    this.#watchers.set(watcher.id, watcher)
    this.#startFeed()
    try {
      // So that who comes too late hears it at once.
      if (next < this.#recent.from) await this.#turns.take(async () => void (await this.#readerOf(watcher).prepare()))
    } catch (error) {
      this.close(watcher.id)
      throw error
    }
    return watcher.id
  }

  async next(id: WatcherId, options: { waitMs: number; limit: number }): Promise<WatchBatch> {
    const watcher = this.#watchers.get(id)
    if (watcher === undefined && this.#stopped) throw stopped()
    assert(watcher !== undefined, 'a watcher is open')
    assert(!watcher.busy, 'a watcher is asked once at a time')
    watcher.busy = true
    try {
      return await this.#next(watcher, options)
    } finally {
      watcher.busy = false
    }
  }

  close(id: WatcherId): void {
    const watcher = this.#watchers.get(id)
    if (!watcher) return
    watcher.closed = true
    this.#watchers.delete(id)
    this.#closeReader(watcher)
    this.#pending.end(id)
    if (this.#watchers.size === 0) this.#linger()
  }

  stop(): void {
    this.#stopped = true
    this.#pending.fail(stopped())
    for (const watcher of this.#watchers.values()) this.#closeReader(watcher)
    this.#watchers.clear()
    this.#stopFeed()
  }

  async #next(watcher: Watcher, { waitMs, limit }: { waitMs: number; limit: number }): Promise<WatchBatch> {
    const deadlineMs = this.#options.clock.monotonicMs() + waitMs
    const leftMs = (): number => deadlineMs - this.#options.clock.monotonicMs()
    const { subject } = watcher
    while (watcher.next < this.#recent.from) {
      const old = await this.#readLog(watcher, limit)
      if (watcher.closed) return { events: [], next: watcher.next }
      watcher.next = old.next
      if (old.events.length > 0 || leftMs() <= 0) return old
    }
    this.#closeReader(watcher)
    const recent = this.#recent.select({ subject, from: watcher.next, limit })
    watcher.next = recent.next
    if (recent.events.length > 0 || leftMs() <= 0) return recent
    const told = await this.#pending.wait(watcher.id, { subject, from: watcher.next, limit, waitMs: leftMs() })
    watcher.next = told.next
    // A bucket that is gone has no more changes to wait for.
    if (told.events.length === 0 && !watcher.closed) await this.#options.metadata.bucket(subject.bucket)
    return told
  }

  #readLog(watcher: Watcher, limit: number): Promise<WatchBatch> {
    return this.#turns.take(async () => {
      const { subject, next } = watcher
      if (watcher.closed) return { events: [], next }
      try {
        return await this.#readerOf(watcher).read({ subject, from: next, limit })
      } catch (error) {
        this.#closeReader(watcher)
        if (watcher.closed) return { events: [], next }
        throw this.#stopped ? stopped() : error
      }
    })
  }

  #readerOf(watcher: Watcher): LogReader {
    if (this.#stopped) throw stopped()
    watcher.reader ??= new LogReader(this.#options.metadata, watcher.next)
    this.#readers.delete(watcher)
    this.#readers.add(watcher)
    for (const other of this.#readers) {
      if (this.#readers.size <= LOG_READERS_KEPT_MAX) break
      if (other !== watcher && other.reader?.reading !== true) this.#closeReader(other)
    }
    return watcher.reader
  }

  #closeReader(watcher: Watcher): void {
    watcher.reader?.close()
    watcher.reader = undefined
    this.#readers.delete(watcher)
  }

  #startFeed(): void {
    this.#lingering?.abort()
    this.#lingering = undefined
    if (this.#feed) return
    this.#feed = new AbortController()
    this.#recent.restart(this.revision())
    void this.#runFeed(this.#feed.signal)
  }

  #stopFeed(): void {
    this.#lingering?.abort()
    this.#lingering = undefined
    this.#feed?.abort()
    this.#feed = undefined
  }

  #linger(): void {
    if (this.#stopped) return
    const lingering = new AbortController()
    this.#lingering = lingering
    this.#options.clock.sleep(LINGER_MS, lingering.signal).then(
      () => this.#stopFeed(),
      () => undefined,
    )
  }

  async #runFeed(signal: AbortSignal): Promise<void> {
    const { metadata, clock } = this.#options
    for (let pauseMs = FEED_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, FEED_PAUSE_MS_MAX)) {
      try {
        for await (const batch of metadata.watch(this.#recent.through + 1, signal)) {
          if (signal.aborted) return
          pauseMs = FEED_PAUSE_MS
          this.#recent.add(batch)
          this.#pending.tell(batch)
        }
      } catch (error) {
        if (signal.aborted) return
        this.#feedFailed(error)
      }
      await clock.sleep(pauseMs, signal).catch(() => undefined)
    }
  }

  #feedFailed(error: unknown): void {
    if (isTidegateError(error, 'RevisionGone')) {
      this.#recent.restart(this.revision())
      this.#pending.fail(error)
      return
    }
    const lasting = isTidegateError(error, 'NotImplemented')
    this.#pending.fail(
      lasting ? error : new TidegateError('Unavailable', 'changes cannot be told at the moment', { cause: error }),
    )
  }
}

function stopped(): TidegateError {
  return new TidegateError('Unavailable', 'watching has stopped')
}
