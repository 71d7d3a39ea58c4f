/**
 * A node that is to leave hands over what lies on it alone: each of its segments that no store reaches for all is copied to another node, which inherits it once this one
 * has gone (lost-nodes.ts). Part of the composition root.
 *
 * Writing goes on meanwhile; what came after the last round is handed over by the one that `Engine.drain` runs at the stop. A segment that cannot be copied now is counted,
 * and tried again by the next round: nothing here is lost by staying.
 */
import type { Clock } from './common/clock.ts'
import type { SegmentId } from './common/ids.ts'
import type { IndexedSegment, SegmentIndex } from './persist/ports.ts'

export interface HandOverParts {
  readonly clock: Clock
  /** `segments`: this node's own. */
  readonly index: Pick<SegmentIndex, 'segments' | 'decidedSegment'>
  readonly isReachedByAll: (record: IndexedSegment) => boolean
  /** Resolves when another node has it. */
  readonly copied: (segment: SegmentId) => Promise<void>
  /** Seals what is being written. */
  readonly sealOpen: () => Promise<void>
}

export interface HandedOver {
  /** Segments that lie elsewhere too, now. */
  readonly segments: number
  readonly bytes: number
  /** Segments that no other node has taken. */
  readonly left: number
  readonly lastError: string | undefined
  /** All were tried. */
  readonly done: boolean
}

const PAGE = 256
const NOTHING: HandedOver = { segments: 0, bytes: 0, left: 0, lastError: undefined, done: false }

export class HandOver {
  readonly #parts: HandOverParts
  #running: Promise<void> | undefined
  #progress = NOTHING
  /** Somebody has asked for it: a stop finishes it. */
  #wanted = false

  constructor(parts: HandOverParts) {
    this.#parts = parts
  }

  get wanted(): boolean {
    return this.#wanted
  }

  /** Begins a round, if none is under way, and resolves with how far it is after so long at most. */
  async run(waitMsMax: number): Promise<HandedOver> {
    this.#wanted = true
    this.#running ??= this.#run().finally(() => (this.#running = undefined))
    const timer = new AbortController()
    const overdue = this.#parts.clock.sleep(waitMsMax, timer.signal).catch(() => undefined)
    try {
      await Promise.race([this.#running, overdue])
    } finally {
      timer.abort()
    }
    return this.#progress
  }

  async #run(): Promise<void> {
    const { index, isReachedByAll, copied, sealOpen } = this.#parts
    this.#progress = NOTHING
    await sealOpen()
    for (let after: SegmentId | undefined; ;) {
      const page = await index.segments(after, PAGE)
      for (const record of page) {
        if (isReachedByAll(record)) continue
        const { segments, bytes, left } = this.#progress
        try {
          if (await this.#isDead(record)) continue
          await copied(record.segment)
          this.#progress = { ...this.#progress, segments: segments + 1, bytes: bytes + record.bytes }
        } catch (error) {
          this.#progress = { ...this.#progress, left: left + 1, lastError: (error as Error).message }
        }
      }
      after = page.at(-1)?.segment
      if (page.length < PAGE) break
    }
    this.#progress = { ...this.#progress, done: true }
  }

  /** A publish of which its caller was told that nobody knows may still give it a name. */
  async #isDead({ segment, liveBytes }: IndexedSegment): Promise<boolean> {
    if (liveBytes > 0) return false
    const decided = await this.#parts.index.decidedSegment(segment)
    return decided === undefined || decided.liveBytes <= 0
  }
}
