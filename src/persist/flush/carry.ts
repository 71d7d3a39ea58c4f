/**
 * What is done with one sealed segment when its turn comes. Safe at every line: until metadata says `persisted` its file stays in the
 * journal, and all of this may be done again.
 */
import type { SegmentId } from '../../common/ids.ts'
import type { IndexedSegment, SegmentIndex } from '../ports.ts'

export interface CarryOptions {
  readonly index: Pick<SegmentIndex, 'segment' | 'segmentChanged' | 'flush'>
  /** Makes the segment durable in the remote store. Safe to repeat; `signal` gives up. */
  readonly persist: (segment: SegmentId, signal: AbortSignal) => Promise<void>
  /** Names that were captured wait for it: it is carried, however dead it is by now. */
  readonly holds: (segment: SegmentId) => boolean
  /** Moves what is alive in a mostly dead segment elsewhere, before it is sent. Returns whether it moved anything. */
  readonly compact?: { readonly below: number; readonly run: (segment: SegmentId) => Promise<boolean> }
}

/** `gone`: it was reclaimed, before or while it was carried. `dead`: nothing in it is alive, so it was not sent. */
export type Carried = 'persisted' | 'dead' | 'gone'

export async function carry(
  segment: SegmentId,
  options: CarryOptions,
  { mayCompact, signal }: { readonly mayCompact: () => boolean; readonly signal: AbortSignal },
): Promise<Carried> {
  const { index, persist, holds, compact } = options
  const found = await index.segment(segment)
  if (!found) return 'gone'
  const isSparse = compact && found.liveBytes > 0 && found.liveBytes < found.bytes * compact.below
  const moved = isSparse && !holds(segment) && mayCompact() && (await compact.run(segment))
  const record = moved ? await index.segment(segment) : found
  if (!record) return 'gone'
  if (await isDead(record, options)) return 'dead'
  try {
    await persist(segment, signal)
    await (
      await index.segmentChanged(segment, 'persisted', record.bytes)
    ).durable
  } catch (cause) {
    if (await index.segment(segment)) throw cause
    return 'gone'
  }
  return 'persisted'
}

/** Who waits for a dead one is told that there is nothing to wait for, so what killed it must not be undone by a crash. */
async function isDead(record: IndexedSegment, { index, holds }: CarryOptions): Promise<boolean> {
  if (record.liveBytes > 0 || holds(record.segment)) return false
  await index.flush()
  const again = await index.segment(record.segment)
  return again !== undefined && again.liveBytes <= 0 && !holds(record.segment)
}
