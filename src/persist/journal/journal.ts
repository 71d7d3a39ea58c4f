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
import type { OutgoingCopy, StartsCopies } from '../copies/ports.ts'
import type { BlockMemory, SegmentIndex } from '../ports.ts'
import type { SegmentFiles } from '../segment-files.ts'
import { BodyStream } from './body-stream.ts'
import type { JournalDevice } from './device.ts'
import { deviceError } from './device-error.ts'
import { Lane } from './lane.ts'
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
  /** Undefined: there are no other nodes, and nothing is appended to the copied lane. */
  readonly copies?: StartsCopies | undefined
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
  readonly #plain: Lane<AppendedBody>
  readonly #copied: Lane<AppendedBody>
  readonly #lanes: readonly Lane<AppendedBody>[]
  /** Shared segments whose memory and page checksums are still needed here: the open one, those being sealed, broken ones. */
  readonly #unsealed = new Map<SegmentId, SharedSegment>()
  /** Bodies appended and neither published nor given up, by segment; sealed segments may have some for a moment. */
  readonly #pending = new Map<SegmentId, number>()
  readonly #unsyncedNamed = new Set<SharedSegment>()
  /** Cut by the mender while bodies in them were pending: what they named after the cut must never become durable. */
  readonly #cutWithPending = new Map<SegmentId, SharedSegment>()
  /** Never written to, and not taken back yet, for metadata could not be reached. */
  readonly #left = new Set<SegmentId>()
  #isTakingBack = false
  /** Being sealed. */
  readonly #seals = new Map<SegmentId, Promise<void>>()
  /** Bodies on their way into segments of their own, until they are published or given up. */
  readonly #streams = new Map<SegmentId, OpenStream>()

  constructor(options: JournalOptions) {
    this.#options = options
    this.#plain = this.#lane(() => this.#make())
    this.#copied = this.#lane(() => this.#makeCopied())
    this.#lanes = options.copies ? [this.#plain, this.#copied] : [this.#plain]
  }

  /**
   * Appends a body of at most `sharedBodyBytesMax` bytes to the open segment. Settles when it is readable from memory. `copied`: in the lane whose segments another
   * node holds too. @throws Unavailable when there is no such node
   */
  append(request: AppendRequest, options?: { readonly copied: boolean }): Promise<AppendedBody> {
    return (options?.copied === true ? this.#copied : this.#plain).append(request)
  }

  #lane(make: () => Promise<SharedSegment>): Lane<AppendedBody> {
    const { limits, clock } = this.#options
    return new Lane({
      limits,
      clock,
      make,
      unmake: (segment) => this.#unmake(segment),
      seal: (segment, openedMs) => this.#seal(segment, openedMs),
      appended: (segment, run) => this.#appended(segment, run),
    })
  }

  #appended(segment: SharedSegment, run: StoredRun): AppendedBody {
    this.#pending.set(run.segment, (this.#pending.get(run.segment) ?? 0) + 1)
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

  async #make(): Promise<SharedSegment> {
    const { clock, fillRandom } = this.#options
    const id = newSegmentId(clock.nowMs(), fillRandom)
    await this.#create(id)
    return this.#opened(id)
  }

  /** One whose partner has opened it too. What fails at one partner is tried at the others. @throws Unavailable when there is none */
  async #makeCopied(): Promise<SharedSegment> {
    const { clock, fillRandom, copies } = this.#options
    if (!copies) throw new TidegateError('InvalidArgument', 'there is no other node to copy a segment to')
    const id = newSegmentId(clock.nowMs(), fillRandom)
    const tried = new Set<number>()
    let partner = copies.partner()
    await this.#create(id, [partner])
    try {
      for (;;) {
        const copy = await copies.open(id, partner).catch(() => undefined)
        if (copy) return this.#opened(id, copy)
        tried.add(partner)
        partner = copies.partner(tried)
        await copies.named(id, partner)
      }
    } catch (error) {
      await this.#unmake(id).catch(() => undefined)
      throw error
    }
  }

  #opened(id: SegmentId, copy?: OutgoingCopy): SharedSegment {
    const { sharedDevice, memory, limits, slabView } = this.#options
    const segment = new SharedSegment({ device: sharedDevice, memory, limits, slabView, copy }, id)
    this.#unsealed.set(id, segment)
    return segment
  }

  /** What fails of it is tried again later. */
  async #unmake(segment: SegmentId): Promise<void> {
    await this.#unsealed.get(segment)?.abandonCopy()
    this.#unsealed.delete(segment)
    await this.#options.sharedDevice.submit([{ kind: 'close', segment }])
    this.#left.add(segment)
    await this.#takeBack(segment)
  }

  async #takeBack(segment: SegmentId): Promise<void> {
    const { index, files } = this.#options
    // In this order: a file without a record is an orphan, a record without a file would be a loss.
    await (
      await index.segmentRemoved(segment)
    ).durable
    await files.remove(segment)
    this.#left.delete(segment)
  }

  /** One fails as the others do: then they wait for the next time. Never rejects. */
  async #takeBackLeft(): Promise<void> {
    if (this.#isTakingBack) return
    this.#isTakingBack = true
    try {
      for (const segment of this.#left) await this.#takeBack(segment)
    } catch {
      // They are still there.
    } finally {
      this.#isTakingBack = false
    }
  }

  /**
   * The file and its record. The record is durable before a body goes in: were it undone with the group that it happened to
   * be in, later commits would name a segment that recovery takes for an orphan.
   */
  async #create(segment: SegmentId, copies?: readonly number[]): Promise<void> {
    const { index, sharedDevice, files } = this.#options
    const [created] = await sharedDevice.submit([
      { kind: 'create', segment, path: files.journalPath(segment), directory: files.places.journal },
    ])
    if (created?.error) throw deviceError(segment, created.error)
    try {
      await (
        await index.segmentOpened(segment, copies)
      ).durable
    } catch (error) {
      await sharedDevice.submit([{ kind: 'close', segment }])
      await files.remove(segment).catch(() => undefined)
      // Whether there is a record is not known.
      this.#left.add(segment)
      throw error
    }
  }

  #seal(segment: SharedSegment, openedMs: number): Promise<void> {
    const sealing = this.#sealNow(segment, openedMs).finally(() => this.#seals.delete(segment.segment))
    this.#seals.set(segment.segment, sealing)
    return sealing
  }

  async #sealNow(segment: SharedSegment, openedMs: number): Promise<void> {
    try {
      const bytes = await segment.seal()
      const { index } = this.#options
      await (
        await index.segmentChanged(segment.segment, 'sealed', bytes)
      ).durable
      if (segment.isCopied) await segment.copyEnded()
      segment.settleAll()
      this.#unsealed.delete(segment.segment)
      this.#unsyncedNamed.delete(segment)
      this.#options.onSealed({ segment: segment.segment, bytes, bucket: undefined, ageMs: this.#sinceMs(openedMs) })
    } catch (error) {
      this.#options.onBroken(segment.segment, error)
    }
  }

  /** Seals what has been open longer than `segmentAgeMsMax`, and takes back what was not needed; called on a timer. */
  sealAged(): void {
    for (const lane of this.#lanes) lane.sealAged()
    void this.#takeBackLeft()
  }

  /** Seals the open segment if it is this one (for `ack=persisted`). */
  sealSoon(segment: SegmentId): void {
    for (const lane of this.#lanes) void lane.sealSoon(segment)
  }

  /** Seals the open segments now, whatever they hold. Resolves when all that was being sealed is sealed, or broken. */
  async sealOpen(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.sealOpen()))
  }

  /** Resolves when this segment is sealed; at once if it is not one of ours that is open. @throws Unavailable when its seal failed: it is mended, later */
  async sealed(segment: SegmentId): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.sealSoon(segment)))
    await this.#seals.get(segment)
    if (!this.#unsealed.has(segment) && !this.#streams.has(segment)) return
    throw new TidegateError('Unavailable', `segment ${segment} is not sealed yet`)
  }

  /** Begins a segment of its own for a body larger than `sharedBodyBytesMax`, or of unknown length. */
  stream(body: { content: ContentId; bucket?: string; copied?: boolean }): BodyStream {
    const { clock, files, limits, slabView, streamDevice, fillRandom, copies } = this.#options
    const id = newSegmentId(clock.nowMs(), fillRandom)
    this.#pending.set(id, 1)
    const row = { isOpened: false }
    const path = files.journalPath(id)
    const parts = {
      device: streamDevice,
      limits,
      slabView,
      path,
      directory: files.places.journal,
      record: (segment: SegmentId, dataBytes: number) => this.#recordStream(segment, dataBytes, row),
      copy: body.copied && copies ? () => this.#copyStream(copies, id, row) : undefined,
    }
    const stream = new BodyStream(parts, id, body)
    this.#streams.set(id, { stream, bucket: body.bucket, openedMs: clock.monotonicMs() })
    return stream
  }

  /** Undefined when no partner takes it: then it is copied once it is whole. */
  async #copyStream(
    copies: StartsCopies,
    segment: SegmentId,
    row: { isOpened: boolean },
  ): Promise<OutgoingCopy | undefined> {
    try {
      const node = copies.partner()
      await (
        await this.#options.index.segmentOpened(segment, [node])
      ).durable
      row.isOpened = true
      return await copies.open(segment, node)
    } catch {
      return undefined
    }
  }

  async #recordStream(segment: SegmentId, dataBytes: number, row: { readonly isOpened: boolean }): Promise<void> {
    const { index } = this.#options
    const opened = row.isOpened ? undefined : await index.segmentOpened(segment)
    try {
      // Durable before the publish, for the reason given at `#create`.
      await (
        await index.segmentChanged(segment, 'sealed', dataBytes)
      ).durable
    } catch (error) {
      // If the first commit was undone, its reason is the one to tell.
      await opened?.durable
      throw error
    }
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

  /** The stream's body was given up: its file goes, and its row now or, while metadata is away, later. */
  async discardStream(stream: BodyStream): Promise<void> {
    const { files, memory } = this.#options
    const { segment } = stream
    try {
      await stream.abandon()
      if (stream.recorded) this.#left.add(segment)
      // Before its record, unlike `#takeBack`: nothing names it, and its room is wanted while metadata is away too.
      await files.remove(segment)
      // Whoever gave up the body can do nothing about it. An open row would stay, since only an open segment's own process takes it back.
      if (stream.recorded) await this.#takeBack(segment).catch(() => undefined)
    } finally {
      memory.forget(segment)
      this.#streams.delete(segment)
      this.#settled(segment)
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
    // Its copy ended when it was found broken, or ends now; the slots are read from until then.
    if (cut?.isCopied) void cut.abandonCopy().then(() => cut.settleAll())
    else cut?.settleAll()
    if (cut && this.#pending.has(segment)) this.#cutWithPending.set(segment, cut)
    this.#unsealed.delete(segment)
    this.#options.memory.forget(segment)
  }

  /** Seals the open segments and waits for all that is under way. */
  async drain(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.drain()))
  }
}
