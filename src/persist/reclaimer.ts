/**
 * Gives space back: dismantles dropped contents in bounded steps, removes segments that nothing refers to, and compacts
 * segments that are mostly dead. Bytes go only when the commit that dropped their last reference is durable and nothing
 * that began before it still reads (C12).
 */
import { isTidegateError } from '../common/errors.ts'
import type { SegmentId, Revision } from '../common/ids.ts'
import type { StoredRun } from '../common/model.ts'
import { framedBodyBytes } from './journal/format.ts'
import type { Moves } from './flush/moves.ts'
import type { AppendedBody } from './journal/journal.ts'
import type { Names } from './names/ports.ts'
import type { IndexedSegment, SegmentBody, SegmentIndex } from './ports.ts'

export interface ReclaimerOptions {
  readonly index: SegmentIndex
  /** Revision at which the oldest reader that still reads began; the current revision when nobody reads. */
  readonly horizon: () => Revision
  /** Bodies in it are neither published nor given up. */
  readonly hasPending: (segment: SegmentId) => boolean
  readonly isUnsealed: (segment: SegmentId) => boolean
  /** Resolves when nobody carries it any more, so that its record stays as it is. */
  readonly forget: (segment: SegmentId) => Promise<void>
  /** Removes the segment's bytes, wherever they lie. Rejects when they could not all be removed; then it is tried again. */
  readonly remove: (record: IndexedSegment) => Promise<void>
  /** Names that wait for it to arrive in the remote store, and when it may go from there (names/ports.ts). */
  readonly names: Pick<Names, 'holds' | 'mayRemove'>
  readonly bodies: (segment: SegmentId) => Promise<readonly SegmentBody[]>
  /** Appends a copy of a body to the journal. @throws DataLost when its bytes fail their checksum */
  readonly copyBody: (segment: SegmentId, body: SegmentBody) => Promise<AppendedBody>
  /** Held up while somebody drains. */
  readonly moves: Moves
  /** Segments whose live share is below this are compacted. */
  readonly compactBelow: number
}

/** Segments looked at in one call of `compactSome`. */
const SWEEP_SEGMENTS_MAX = 256
const REMOVED_AT_ONCE = 8

export class Reclaimer {
  readonly #options: ReclaimerOptions
  /** Nothing refers to these since the given revision; removed when no reader is older. */
  readonly #emptied = new Map<SegmentId, Revision>()
  #sweptTo: SegmentId | undefined
  /** Live bytes of segments that were found not worth compacting (small bodies, long names): looked at again when that changes. */
  readonly #notWorthwhile = new Map<SegmentId, number>()
  removedSegments = 0
  compactedSegments = 0

  constructor(options: ReclaimerOptions) {
    this.#options = options
  }

  emptied(segments: readonly SegmentId[]): void {
    const revision = this.#options.index.revision()
    for (const segment of segments) this.#emptied.set(segment, revision)
  }

  /** One bounded round of what needs no remote store. Returns whether there is more to do at once. */
  async step(): Promise<boolean> {
    const { index } = this.#options
    const { value, revision } = await index.dismantle(this.#options.horizon())
    for (const segment of value.emptied) this.#emptied.set(segment, revision)
    await this.#removeEmptied(({ state }) => state !== 'persisted')
    return value.steps > 0
  }

  /** A background round: removes emptied segments that lie in the remote store. Apart from `step`, which must go on while the store does not answer. */
  async removePersisted(): Promise<boolean> {
    await this.#removeEmptied(({ state }) => state === 'persisted')
    return false
  }

  async #removeEmptied(concerns: (record: IndexedSegment) => boolean): Promise<void> {
    const { index, horizon, hasPending, isUnsealed } = this.#options
    const removable: { segment: SegmentId; revision: Revision }[] = []
    for (const [segment, revision] of this.#emptied) {
      if (revision > index.durableRevision() || revision > horizon()) continue
      if (hasPending(segment) || isUnsealed(segment)) continue
      const record = await index.segment(segment)
      // A body that was pending when its neighbours died has been published since: the segment lives on.
      if (!record || record.liveBytes > 0 || hasPending(segment)) this.#emptied.delete(segment)
      else if (concerns(record) && this.#mayGo(record, revision)) removable.push({ segment, revision })
    }
    if (removable.length === 0) return
    // What was just read is visible; a commit that is undone must not cost the bytes it had dropped (C12).
    await index.flush()
    for (let at = 0; at < removable.length; at += REMOVED_AT_ONCE) {
      const some = removable.slice(at, at + REMOVED_AT_ONCE)
      const outcomes = await Promise.allSettled(some.map((one) => this.#remove(one, concerns)))
      // No more than a few tries when the remote store does not answer.
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    }
  }

  /** The remote store must hold no names of it first: what it holds is a state that somebody may restore. One that names wait for goes there first. */
  #mayGo({ segment, state }: IndexedSegment, emptiedAt: Revision): boolean {
    const { names } = this.#options
    return state === 'persisted' ? names.mayRemove(segment, emptiedAt) : !names.holds(segment)
  }

  async #remove(
    { segment, revision }: { segment: SegmentId; revision: Revision },
    concerns: (record: IndexedSegment) => boolean,
  ): Promise<void> {
    const { index, forget, remove } = this.#options
    // A publish whose caller was told that nobody knows its outcome keeps no body pending: what became of it must be known before the bytes go, and
    // before nobody carries them any more. What is decided to be dead stays so: a sealed segment takes no new bodies.
    const decided = await index.decidedSegment(segment)
    if (decided && decided.liveBytes > 0) return void this.#emptied.delete(segment)
    await forget(segment)
    // An upload that was under way may have ended in between: then it lies in the remote store too, and goes under the rules of that.
    const record = await index.decidedSegment(segment)
    if (!record || !concerns(record) || !this.#mayGo(record, revision)) return
    await remove(record)
    await index.segmentRemoved(segment)
    this.#emptied.delete(segment)
    this.#notWorthwhile.delete(segment)
    this.removedSegments++
  }

  /**
   * Looks at the next segments in turn and compacts the first that is mostly dead. Returns whether it did. One that cannot be read
   * does not keep those behind it from their turn; its error is thrown when all have had theirs and nothing was compacted.
   */
  async compactSome(): Promise<boolean> {
    const page = await this.#options.index.segments(this.#sweptTo, SWEEP_SEGMENTS_MAX)
    const failures: unknown[] = []
    let isRemoteAway = false
    for (const record of page) {
      this.#sweptTo = record.segment
      if (!this.#isSparse(record) || (isRemoteAway && record.state === 'persisted')) continue
      try {
        if (await this.compact(record.segment)) return true
      } catch (error) {
        failures.push(error)
        // A damaged one stays so; of others in the remote store the next would only take as long to fail.
        if (isTidegateError(error, 'DataLost')) this.#notWorthwhile.set(record.segment, record.liveBytes)
        else isRemoteAway ||= record.state === 'persisted'
      }
    }
    if (page.length < SWEEP_SEGMENTS_MAX) this.#sweptTo = undefined
    if (failures.length > 0) throw failures[0]
    return false
  }

  /** Whether to compact it. One in which nothing is alive goes to the emptied ones. */
  #isSparse({ segment, state, bytes, liveBytes }: IndexedSegment): boolean {
    if (state === 'open' || this.#options.hasPending(segment)) return false
    // Again with the revision of now: an older entry may be from a commit that was undone since.
    if (liveBytes <= 0) this.emptied([segment])
    return (
      liveBytes > 0 && liveBytes < bytes * this.#options.compactBelow && this.#notWorthwhile.get(segment) !== liveBytes
    )
  }

  /** Compacts this one, if it is worthwhile. Returns whether anything moved. */
  async compact(segment: SegmentId): Promise<boolean> {
    const record = await this.#options.index.segment(segment)
    if (!record || record.state === 'open' || this.#options.hasPending(segment)) return false
    try {
      return await this.#options.moves.run(() => this.#compact(record))
    } catch (error) {
      // What was alive in it may have gone since it was looked at, and it with that.
      const now = await this.#options.index.segment(segment)
      if (!now || now.liveBytes <= 0) return false
      throw error
    }
  }

  /** Copies what is live in a segment to the open one and lets the contents point there. */
  async #compact(record: IndexedSegment): Promise<boolean> {
    const { index, copyBody, compactBelow, moves } = this.#options
    const live = await this.#liveBodies(record)
    const framedBytes = live.reduce((sum, { body }) => sum + framedBodyBytes(body), 0)
    if (framedBytes >= record.bytes * compactBelow) {
      // A copy would be as sparse as the original.
      this.#notWorthwhile.set(record.segment, record.liveBytes)
      return false
    }
    let moved = false
    for (const { body, from } of live) {
      if (moves.areHeld) break
      const copy = await copyBody(record.segment, body)
      try {
        await copy.sync()
        moved = (await index.contentMoved(from, copy.run)).value || moved
      } finally {
        copy.settled()
      }
    }
    const after = await index.segment(record.segment)
    if (after && after.liveBytes <= 0) this.emptied([record.segment])
    if (moved) this.compactedSegments++
    return moved
  }

  async #liveBodies(record: IndexedSegment): Promise<{ body: SegmentBody; from: StoredRun }[]> {
    const { segment } = record
    const live: { body: SegmentBody; from: StoredRun }[] = []
    for (const body of await this.#options.bodies(segment)) {
      const from = { content: body.content, segment, segmentOffset: body.offset, length: body.length }
      if (await this.#options.index.contentLiesAt(from)) live.push({ body, from })
    }
    return live
  }
}
