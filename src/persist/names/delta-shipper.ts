/**
 * Captures deltas and ships them, one at a time:
 *
 *   idle -> captured: waits for the bytes -> all there: goes out -> still ours: shipped -> idle
 *               \-> a segment is gone, or all that hold it up are dead: captured anew
 *
 * Bytes before names: a delta says what was at one revision, so it leaves only when every segment with live bytes at that revision is
 * in the remote store. Until then it is held, encoded, in memory, and nothing it waits for may be dropped or reclaimed (`holds`), even if
 * nobody refers to it any more: only thus does a capture ever end while writers go on replacing what they wrote.
 *
 * It counts as shipped once a look at the marker of the remote store, begun after its last part had arrived, has found the store ours.
 *
 * A segment that can never arrive, since the remote store or the disk fails it, holds up the capture for as long as somebody refers
 * to it. When nobody does, a new capture need not wait for it. That is tried rarely, and after each attempt in vain more rarely: a new capture
 * waits for newer segments, and captures that are thrown away before they get out ship nothing.
 */
import type { Clock } from '../../common/clock.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import type { WholeDelta } from './chain.ts'
import { encodeDelta, type Capture, type EncodedObject } from './encode-parts.ts'
import type { NamesDelta, NamesSource } from './ports.ts'
import type { RemoteNames } from './remote-names.ts'

export interface DeltaShipperParts {
  readonly source: NamesSource
  readonly remote: RemoteNames
  readonly clock: Clock
  /** Resolves when a look at the remote store that began after the call has found it ours: then who looks for names later finds these. */
  readonly held: () => Promise<void>
}

/** A capture on its way. */
interface Held {
  readonly delta: Pick<NamesDelta, 'after' | 'through'>
  readonly unpersisted: ReadonlySet<SegmentId>
  /** The first of them may have arrived. */
  readonly awaited: SegmentId[]
  readonly objects: EncodedObject[]
  readonly sent: WholeDelta['parts'][number][]
  readonly random: string
  readonly capturedMs: number
  readonly capturedAtMs: number
}

export interface Shipped {
  readonly delta: WholeDelta
  readonly capturedMs: number
  readonly capturedAtMs: number
}

const RECAPTURE_MS_MIN = 60_000

export class DeltaShipper {
  readonly #parts: DeltaShipperParts
  #held: Held | undefined
  /** What captures wait for that are not held yet: they are being sorted. */
  readonly #captured = new Set<SegmentId>()
  /** Captures given up since one was shipped. */
  #givenUp = 0

  constructor(parts: DeltaShipperParts) {
    this.#parts = parts
  }

  get holding(): boolean {
    return this.#held !== undefined
  }

  get heldBytes(): number {
    return this.#held?.objects.reduce((sum, { bytes }) => sum + bytes.length, 0) ?? 0
  }

  get heldThrough(): Revision | undefined {
    return this.#held?.delta.through
  }

  holds(segment: SegmentId): boolean {
    return this.#captured.has(segment) || (this.#held?.unpersisted.has(segment) ?? false)
  }

  /** In the turn of a capture that will be held, or of one in its place. `forget` follows if neither comes. */
  protect(unpersisted: readonly SegmentId[]): void {
    for (const segment of unpersisted) this.#captured.add(segment)
  }

  forget(): void {
    this.#captured.clear()
  }

  /** Segments that the capture still waits for; the first is not there yet, of the others some may be. */
  heldUpBy(): readonly SegmentId[] {
    return this.#held?.awaited ?? []
  }

  /** Takes over a capture, to be shipped by `ship`. */
  async hold(delta: NamesDelta, capture: Capture): Promise<void> {
    const { clock } = this.#parts
    const objects: EncodedObject[] = []
    // Before anything is awaited: what it waits for must not be reclaimed meanwhile.
    this.#held = {
      delta: { after: delta.after, through: delta.through },
      unpersisted: new Set(delta.unpersisted),
      awaited: [...delta.unpersisted].sort(),
      objects,
      sent: [],
      random: capture.random,
      capturedMs: capture.capturedMs,
      capturedAtMs: clock.monotonicMs(),
    }
    this.forget()
    try {
      objects.push(...(await encodeDelta(delta, capture, clock)))
    } catch (error) {
      this.#held = undefined
      throw error
    }
  }

  /** Sends what is held if it may leave by now. @throws what the remote store does; it is held on */
  async ship(): Promise<Shipped | undefined> {
    const held = this.#held
    if (!held || !(await this.#mayLeave(held))) return undefined
    for (let next = held.objects[held.sent.length]; next; next = held.objects[held.sent.length]) {
      const stored = await this.#parts.remote.put(next)
      if (stored?.kind === 'delta') held.sent.push(stored)
    }
    await this.#parts.held()
    this.#held = undefined
    this.#givenUp = 0
    const { delta, random, sent, capturedMs, capturedAtMs } = held
    const bytes = sent.reduce((sum, part) => sum + part.bytes, 0)
    return { delta: { ...delta, random, parts: sent, bytes }, capturedMs, capturedAtMs }
  }

  async #mayLeave(held: Held): Promise<boolean> {
    const { source, clock } = this.#parts
    for (let segment = held.awaited[0]; segment !== undefined; segment = held.awaited[0]) {
      const record = await source.segment(segment)
      // Removed before it arrived: what this capture names of it will never be there.
      if (!record) return this.#giveUp()
      if (record.state !== 'persisted') break
      held.awaited.shift()
    }
    if (held.awaited.length === 0) return true
    const patienceMs = RECAPTURE_MS_MIN * 2 ** Math.min(this.#givenUp, 16)
    if (clock.monotonicMs() - held.capturedAtMs < patienceMs) return false
    for (const segment of held.awaited) {
      const record = await source.segment(segment)
      if (record && record.state !== 'persisted' && record.liveBytes > 0) return false
    }
    return this.#giveUp()
  }

  #giveUp(): false {
    this.#held = undefined
    this.#givenUp++
    return false
  }
}
