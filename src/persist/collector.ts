/**
 * Removes what lies in the remote store and belongs to nothing: segments that no record knows (a crash between the end of an upload
 * and its mark, after which the bodies were given up or compacted away) and uploads in parts that nobody finishes. It also finds the
 * opposite, segments that should be there and are not, and says so: that is loss, seen before somebody reads.
 *
 * Why what it removes is garbage: a segment has a durable record before it has an object, and loses the record only after the object. So an
 * object that was listed, and then has no record, was left behind. Kept backups of a namespace that was restored since may need
 * segments that this one never knew: `mayCollect` says.
 *
 * A round is bounded: one page of the listing. Before anything is removed the store must still be ours. Uploads under way are known to the store's
 * client and left alone; of others none can be alive, since nobody else may upload here, unless nodes share it: then theirs have a day. A store whose uploads cannot be listed (a right that
 * is easily forgotten) is collected all the same, and that is told.
 */
import { isSegmentId, type SegmentId } from '../common/ids.ts'
import type { IndexedSegment, SegmentIndex } from './ports.ts'
import { segmentObjectName, type RemoteStore } from './remote/ports.ts'

export interface CollectorOptions {
  readonly remote: RemoteStore
  readonly index: SegmentIndex
  /** Rejects when the store is not known to be ours right now. */
  readonly verify: () => Promise<void>
  readonly mayCollect: (segment: SegmentId) => boolean
  /** Where other nodes upload here as well: segments of all. Without it those of the index are all that there are. */
  readonly allSegments?: ((after: SegmentId | undefined, limit: number) => Promise<IndexedSegment[]>) | undefined
  /** Persisted, with live bytes, and not there. */
  readonly onMissing: (segment: SegmentId) => void
  readonly onFailure: (doing: string, cause: unknown) => void
  readonly nowMs: () => number
}

export interface CollectorStats {
  readonly passes: number
  readonly removedObjects: number
  readonly abandonedUploads: number
  /** Found missing by the last complete pass. */
  readonly missing: number
}

const PAGE_OBJECTS = 1000
const PAGE_SEGMENTS = 1000
/** One of ours may have begun there, and its id not be here yet. */
const UPLOAD_AGE_MS = 5000
/** Of an upload that another node may have under way: no segment takes that long. */
const OTHERS_UPLOAD_AGE_MS = 86_400_000

export class Collector {
  readonly #options: CollectorOptions
  #after: string | undefined
  /** Persisted segments at the beginning of the pass that have not been met in the listing yet. */
  #expected: Set<SegmentId> | undefined
  #stats: CollectorStats = { passes: 0, removedObjects: 0, abandonedUploads: 0, missing: 0 }

  constructor(options: CollectorOptions) {
    this.#options = options
  }

  get stats(): CollectorStats {
    return this.#stats
  }

  /** One page. True while the pass goes on. */
  async step(): Promise<boolean> {
    const { remote } = this.#options
    try {
      if (!this.#expected) await this.#begin()
      const page = await remote.list('segments/', this.#after, PAGE_OBJECTS)
      await this.#look(page.map(({ name }) => name))
      if (page.length === PAGE_OBJECTS) {
        this.#after = page.at(-1)?.name
        return true
      }
      await this.#end()
      return false
    } catch (error) {
      this.#after = undefined
      this.#expected = undefined
      throw error
    }
  }

  /** A whole pass. */
  async pass(): Promise<CollectorStats> {
    while (await this.step());
    return this.#stats
  }

  async #begin(): Promise<void> {
    const { index, verify, allSegments = index.segments.bind(index) } = this.#options
    await verify()
    await this.#abandonUploads()
    const expected = new Set<SegmentId>()
    for (let after: SegmentId | undefined; ;) {
      const page = await allSegments(after, PAGE_SEGMENTS)
      for (const { segment, state, liveBytes } of page)
        if (state === 'persisted' && liveBytes > 0) expected.add(segment)
      if (page.length < PAGE_SEGMENTS) break
      after = page.at(-1)?.segment
    }
    this.#expected = expected
  }

  async #abandonUploads(): Promise<void> {
    const { remote, nowMs, onFailure, allSegments } = this.#options
    const ageMs = allSegments ? OTHERS_UPLOAD_AGE_MS : UPLOAD_AGE_MS
    try {
      const abandoned = await remote.abandonUploads(nowMs() - ageMs)
      this.#stats = { ...this.#stats, abandonedUploads: this.#stats.abandonedUploads + abandoned }
    } catch (error) {
      onFailure('give up unfinished uploads', error)
    }
  }

  async #look(names: readonly string[]): Promise<void> {
    const orphans: string[] = []
    for (const name of names) {
      const segment = segmentOf(name)
      if (!segment) continue
      this.#expected?.delete(segment)
      if (!(await this.#options.index.segment(segment)) && this.#options.mayCollect(segment)) orphans.push(name)
    }
    if (orphans.length === 0) return
    // A record that went just now went because somebody else removes the object; removing it twice does no harm.
    await this.#options.verify()
    await this.#options.remote.remove(orphans)
    this.#stats = { ...this.#stats, removedObjects: this.#stats.removedObjects + orphans.length }
  }

  async #end(): Promise<void> {
    let missing = 0
    for (const segment of this.#expected ?? []) {
      const record = await this.#options.index.segment(segment)
      // Reclaimed during the pass.
      if (!record || record.liveBytes <= 0) continue
      missing++
      this.#options.onMissing(segment)
    }
    this.#after = undefined
    this.#expected = undefined
    this.#stats = { ...this.#stats, passes: this.#stats.passes + 1, missing }
  }
}

/** Other names below `segments/` are not ours and are left alone. */
function segmentOf(name: string): SegmentId | undefined {
  const id = name.slice('segments/ab/'.length, -'.seg'.length)
  return isSegmentId(id) && name === segmentObjectName(id) ? id : undefined
}
