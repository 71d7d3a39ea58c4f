/**
 * The journal: where bytes become durable before they are acknowledged. It owns the one open shared segment, the streams
 * of large bodies, and the decision when a segment is sealed. Sealed segments are handed to `onSealed` (the flusher).
 *
 * What is durable when: a run of `append` once its `sync()` resolved; a run of a stream once `finish()` resolved; all that
 * was given to `nameUnsynced` once `barrier()` resolved (C15: awaited before every metadata sync).
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { newSegmentId, type ContentId, type SegmentId } from '../../common/ids.ts'
import type { Clock } from '../../common/clock.ts'
import type { Limits } from '../../common/limits.ts'
import type { StoredRun } from '../../common/model.ts'
import type { BlockMemory, SegmentIndex } from '../ports.ts'
import type { SegmentFiles } from '../segment-files.ts'
import { BodyStream } from './body-stream.ts'
import type { JournalDevice } from './device.ts'
import { deviceError } from './device-error.ts'
import { SharedSegment, type AppendRequest } from './shared-segment.ts'

export interface JournalOptions {
  readonly files: SegmentFiles
  readonly index: SegmentIndex
  readonly memory: BlockMemory
  readonly sharedDevice: JournalDevice
  readonly streamDevice: JournalDevice
  readonly limits: Limits
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  /** A segment is sealed and durable, and metadata says so. */
  readonly onSealed: (sealed: SealedRun) => void
  /** A segment could not be sealed; it keeps its durable bytes and is mended later (`Journal.broken`). */
  readonly onBroken: (segment: SegmentId, cause: unknown) => void
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
}

/** A segment as it was sealed. */
interface SealedRun {
  readonly segment: SegmentId
  /** Of its data region. */
  readonly bytes: number
  /** Whose body it holds, when it holds one alone. */
  readonly bucket: string | undefined
  /** How long ago it was opened. */
  readonly ageMs: number
}

interface OpenStream {
  readonly stream: BodyStream
  readonly bucket: string | undefined
  readonly openedMs: number
}

export interface AppendedBody {
  readonly run: StoredRun
  /** Resolves when the body is durable; shared by all who wait. @throws StorageFull, Unavailable */
  sync(): Promise<void>
  /** Whether its segment has failed before it was durable. */
  isLost(): boolean
  /** The body was published or given up: the segment no longer has to wait for it. Call exactly once. */
  settled(): void
}

export class Journal {
  readonly #options: JournalOptions
  #current: SharedSegment | undefined
  #openedMs = 0
  /** The one after it, made ahead of time; undefined if that failed. */
  #next: Promise<SharedSegment | undefined> | undefined
  /** Shared segments whose memory and page checksums are still needed here: the open one, those being sealed, broken ones. */
  readonly #unsealed = new Map<SegmentId, SharedSegment>()
  /** Bodies appended and neither published nor given up, by segment; sealed segments may have some for a moment. */
  readonly #pending = new Map<SegmentId, number>()
  readonly #unsyncedNamed = new Set<SharedSegment>()
  /** Cut by the mender while bodies in them were pending: what they named after the cut must never become durable. */
  readonly #cutWithPending = new Map<SegmentId, SharedSegment>()
  readonly #sealing = new Set<Promise<void>>()
  /** Bodies on their way into segments of their own, until they are published or given up. */
  readonly #streams = new Map<SegmentId, OpenStream>()
  #appending: Promise<unknown> = Promise.resolve()

  constructor(options: JournalOptions) {
    this.#options = options
  }

  /** Appends a body of at most `sharedBodyBytesMax` bytes to the open segment. Settles when it is readable from memory. */
  append(request: AppendRequest): Promise<AppendedBody> {
    const { clock, limits } = this.#options
    const deadlineMs = clock.monotonicMs() + limits.admissionWaitMsMax
    const appended = this.#appending.then(() => {
      // Each append before it may have waited for memory; together they may not keep this one longer than allowed (C19).
      if (clock.monotonicMs() <= deadlineMs) return this.#append(request)
      throw new TidegateError('SlowDown', `the journal was busy for ${limits.admissionWaitMsMax} ms`)
    })
    this.#appending = appended.catch(() => undefined)
    return appended
  }

  async #append(request: AppendRequest): Promise<AppendedBody> {
    const segment = await this.#open()
    const run = await segment.append(request)
    this.#pending.set(run.segment, (this.#pending.get(run.segment) ?? 0) + 1)
    const { segmentBytesMax } = this.#options.limits
    if (segment.bytes >= segmentBytesMax) this.#rotate()
    // Making a segment takes two syncs, for which appends need not wait if it is begun early enough.
    else if (segment.bytes >= segmentBytesMax / 2) this.#next ??= this.#make().catch(() => undefined)
    let pending = true
    return {
      run,
      sync: () => segment.sync(),
      isLost: () => segment.failed && run.segmentOffset + run.length > segment.durableBytes,
      settled: () => {
        if (pending) this.#settled(run.segment)
        pending = false
      },
    }
  }

  /** The open segment; a new one when there is none, or the last one failed or is full. */
  async #open(): Promise<SharedSegment> {
    if (this.#current?.failed || this.#current?.sealing) this.#rotate()
    if (this.#current) return this.#current
    const next = this.#next
    this.#next = undefined
    this.#current = (await next) ?? (await this.#make())
    this.#openedMs = this.#options.clock.monotonicMs()
    return this.#current
  }

  async #make(): Promise<SharedSegment> {
    const { clock, sharedDevice, fillRandom, memory, limits, slabView } = this.#options
    const id = newSegmentId(clock.nowMs(), fillRandom)
    await this.#create(id)
    const segment = new SharedSegment({ device: sharedDevice, memory, limits, slabView }, id)
    this.#unsealed.set(id, segment)
    return segment
  }

  /** What was made ahead and is not needed. */
  async #unmakeNext(): Promise<void> {
    const next = this.#next
    this.#next = undefined
    const segment = await next
    if (!segment) return
    const { index, sharedDevice, files } = this.#options
    this.#unsealed.delete(segment.segment)
    await sharedDevice.submit([{ kind: 'close', segment: segment.segment }])
    // In this order: a file without a record is an orphan, a record without a file would be a loss.
    await (
      await index.segmentRemoved(segment.segment)
    ).durable
    await files.remove(segment.segment)
  }

  /**
   * The file and its record. The record is durable before a body goes in: were it undone with the group that it happened to
   * be in, later commits would name a segment that recovery takes for an orphan.
   */
  async #create(segment: SegmentId): Promise<void> {
    const { index, sharedDevice, files } = this.#options
    const [created] = await sharedDevice.submit([
      { kind: 'create', segment, path: files.journalPath(segment), directory: files.places.journal },
    ])
    if (created?.error) throw deviceError(segment, created.error)
    try {
      await (
        await index.segmentOpened(segment)
      ).durable
    } catch (error) {
      await sharedDevice.submit([{ kind: 'close', segment }])
      await files.remove(segment).catch(() => undefined)
      throw error
    }
  }

  /** Begins sealing the open segment; the next append opens another. */
  #rotate(): void {
    const segment = this.#current
    if (!segment) return
    this.#current = undefined
    const sealing = this.#seal(segment, this.#openedMs)
    this.#sealing.add(sealing)
    void sealing.finally(() => this.#sealing.delete(sealing))
  }

  async #seal(segment: SharedSegment, openedMs: number): Promise<void> {
    try {
      const bytes = await segment.seal()
      const { index } = this.#options
      await (
        await index.segmentChanged(segment.segment, 'sealed', bytes)
      ).durable
      segment.settleAll()
      this.#unsealed.delete(segment.segment)
      this.#unsyncedNamed.delete(segment)
      this.#options.onSealed({ segment: segment.segment, bytes, bucket: undefined, ageMs: this.#sinceMs(openedMs) })
    } catch (error) {
      this.#options.onBroken(segment.segment, error)
    }
  }

  /** Seals what has been open longer than `segmentAgeMsMax`; called on a timer. */
  sealAged(): void {
    const ageMs = this.#options.clock.monotonicMs() - this.#openedMs
    if (ageMs >= this.#options.limits.segmentAgeMsMax && this.#current && this.#current.bytes > 0) {
      this.#appending = this.#appending.then(() => this.#rotate())
    }
  }

  /** Seals the open segment if it is this one (for `ack=persisted`). */
  sealSoon(segment: SegmentId): void {
    this.#appending = this.#appending.then(() => {
      if (this.#current?.segment === segment) this.#rotate()
    })
  }

  /** Seals the open segment now, whatever it holds. Resolves when all that was being sealed is sealed, or broken. */
  async sealOpen(): Promise<void> {
    this.#appending = this.#appending.then(() => {
      if (this.#current && this.#current.bytes > 0) this.#rotate()
    })
    await this.#appending
    await Promise.all(this.#sealing)
  }

  /** Begins a segment of its own for a body larger than `sharedBodyBytesMax`, or of unknown length. */
  stream(body: { content: ContentId; bucket?: string }): BodyStream {
    const { clock, files, limits, slabView, streamDevice, fillRandom } = this.#options
    const id = newSegmentId(clock.nowMs(), fillRandom)
    this.#pending.set(id, 1)
    const { index } = this.#options
    const record = async (segment: SegmentId, dataBytes: number): Promise<void> => {
      const opened = await index.segmentOpened(segment)
      try {
        // Durable before the publish, for the reason given at `#create`.
        await (
          await index.segmentChanged(segment, 'sealed', dataBytes)
        ).durable
      } catch (error) {
        // If the first commit was undone, its reason is the one to tell.
        await opened.durable
        throw error
      }
    }
    const path = files.journalPath(id)
    const parts = { device: streamDevice, limits, slabView, path, directory: files.places.journal, record }
    const stream = new BodyStream(parts, id, body)
    this.#streams.set(id, { stream, bucket: body.bucket, openedMs: clock.monotonicMs() })
    return stream
  }

  /** The stream's body was published: `onSealed` follows. */
  streamPublished(segment: SegmentId): void {
    this.#settled(segment)
    const { stream, bucket, openedMs } = must(this.#streams.get(segment), `stream into segment ${segment}`)
    this.#streams.delete(segment)
    this.#options.onSealed({ segment, bytes: stream.length, bucket, ageMs: this.#sinceMs(openedMs) })
  }

  #sinceMs(startedMs: number): number {
    return this.#options.clock.monotonicMs() - startedMs
  }

  #settled(segment: SegmentId): void {
    const left = (this.#pending.get(segment) ?? 0) - 1
    if (left > 0) this.#pending.set(segment, left)
    else {
      this.#pending.delete(segment)
      this.#cutWithPending.delete(segment)
    }
  }

  /** The stream's body was given up: its file goes. */
  async discardStream(stream: BodyStream): Promise<void> {
    const { files, memory, index } = this.#options
    try {
      await stream.abandon()
      await files.remove(stream.segment)
      if (stream.recorded) await index.segmentRemoved(stream.segment)
    } finally {
      memory.forget(stream.segment)
      this.#streams.delete(stream.segment)
      this.#settled(stream.segment)
    }
  }

  /** A commit that does not wait for these bytes is about to name them (ack `memory`). */
  nameUnsynced(run: StoredRun): void {
    const segment = this.#unsealed.get(run.segment) ?? this.#cutWithPending.get(run.segment)
    if (segment && !segment.durable) this.#unsyncedNamed.add(segment)
  }

  /** Resolves when every byte that was named is durable (C15). @throws StorageFull, Unavailable */
  async barrier(): Promise<void> {
    if (this.#unsyncedNamed.size === 0) return
    const segments = [...this.#unsyncedNamed]
    this.#unsyncedNamed.clear()
    const outcomes = await Promise.allSettled(segments.map((segment) => segment.sync()))
    let failure: unknown
    outcomes.forEach((outcome, index) => {
      if (outcome.status === 'fulfilled') return
      failure ??= outcome.reason
      // A body that was named before and is published only after this barrier must be stopped by the next one.
      const segment = segments[index] as SharedSegment
      if (this.#pending.has(segment.segment)) this.#unsyncedNamed.add(segment)
    })
    if (failure !== undefined) throw failure
  }

  /** Whether bodies in it are neither published nor given up yet: then it must not be reclaimed. */
  hasPending(segment: SegmentId): boolean {
    return this.#pending.has(segment)
  }

  isUnsealed(segment: SegmentId): boolean {
    return this.#unsealed.has(segment)
  }

  unsealed(segment: SegmentId): SharedSegment | undefined {
    return this.#unsealed.get(segment)
  }

  /** In shared segments that are not sealed: the open one, those being sealed, broken ones. */
  get unsealedBytes(): number {
    let bytes = 0
    for (const segment of this.#unsealed.values()) bytes += segment.bytes
    return bytes
  }

  /** In bodies on their way into segments of their own. */
  get streamingBytes(): number {
    let bytes = 0
    for (const { stream } of this.#streams.values()) bytes += stream.length
    return bytes
  }

  /** The mender sealed a broken segment on disk. */
  mended(segment: SegmentId): void {
    const cut = this.#unsealed.get(segment)
    cut?.settleAll()
    if (cut && this.#pending.has(segment)) this.#cutWithPending.set(segment, cut)
    this.#unsealed.delete(segment)
    this.#options.memory.forget(segment)
  }

  /** Seals the open segment and waits for all that is under way. */
  async drain(): Promise<void> {
    await this.#appending
    this.#rotate()
    while (this.#sealing.size > 0) await Promise.all(this.#sealing)
    // If it fails, the next start forgets the segment.
    await this.#unmakeNext().catch(() => undefined)
  }
}
