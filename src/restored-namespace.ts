/** A namespace while it is put together from a remote store (restore.ts), and what its parts ask of it. */
import type { SegmentId } from './common/ids.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import type { RemoteFooters } from './persist/remote-footers.ts'

export interface RestoreProgress {
  readonly doing: 'reading names' | 'counting' | 'applying records' | 'reading footers' | 'verifying'
  readonly done: number
  /** Undefined while it is not known. */
  readonly total: number | undefined
}

export interface RestoredNamespace {
  readonly namespace: Namespace
  readonly footers: RemoteFooters
  /** Segments that the restored rows called persisted: all that is in them was named, or dropped, by then. */
  readonly settled: ReadonlySet<SegmentId>
  readonly contentMax: number
  /** When the state was captured; 0 without one. */
  readonly capturedMs: number
}

type RestoredRecord = Parameters<Namespace['restoring']['applyRecord']>[0]

/** Down to what the journal wrote. Undefined when some of it is not there. */
export async function runsOf(
  { namespace, footers }: RestoredNamespace,
  extents: readonly { offset: number; length: number; segment: SegmentId; segmentOffset: number }[],
): Promise<RestoredRecord['extents'] | undefined> {
  const runs: RestoredRecord['extents'][number][] = []
  for (const { offset, length, segment, segmentOffset } of extents) {
    const found = await footers.runAt(segment, segmentOffset, length)
    if (!found) return undefined
    runs.push({ offset, length, ...found })
  }
  for (const { run } of runs) await knowSegment({ namespace, footers }, run.segment)
  return runs
}

/** Makes the row that says it is persisted, if there is none yet. */
export async function knowSegment(
  { namespace, footers }: Pick<RestoredNamespace, 'namespace' | 'footers'>,
  segment: SegmentId,
): Promise<void> {
  if (await namespace.segment(segment)) return
  const footer = await footers.footer(segment)
  await namespace.segmentOpened(segment)
  await namespace.segmentChanged(segment, 'persisted', footer?.dataBytes ?? 0)
}

export async function* allSegments(namespace: Namespace): AsyncGenerator<{ segment: SegmentId; liveBytes: number }> {
  for (let after: SegmentId | undefined; ;) {
    const page = await namespace.segments(after, 1000)
    yield* page
    after = page.at(-1)?.segment
    if (after === undefined || page.length < 1000) return
  }
}

export async function countUnnamed({ namespace, footers }: RestoredNamespace): Promise<number> {
  let named = 0
  for await (const { segment } of allSegments(namespace)) if (footers.segments.has(segment)) named++
  return footers.segments.size - named
}
