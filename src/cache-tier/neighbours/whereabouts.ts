/**
 * Where segments lie, as their rows say, remembered for a while: bytes never change, only their places do, and a source that fails is a reason to look again. What all nodes reach stays
 * so for as long as the segment exists.
 */
import type { Clock } from '../../common/clock.ts'
import type { SegmentId } from '../../common/ids.ts'

/** A segment's row, as far as it says where the bytes are. Provided by meta's namespace. */
export interface SegmentPlace {
  readonly state: 'open' | 'sealed' | 'persisted'
  /** Undefined: node 0, of before the metadata were shared. */
  readonly node?: number
  readonly copies?: readonly number[]
}

export type Whereabouts =
  /** No row: the segment is gone. */
  | 'nowhere'
  /** In a remote store that every node reaches. */
  | 'shared'
  /** With these nodes alone; the first is the one that it belongs to. */
  | readonly number[]

export interface WhereaboutsOptions {
  readonly segment: (segment: SegmentId) => Promise<SegmentPlace | undefined>
  /** Whether what is persisted is where every node reaches it. */
  readonly isRemoteShared: boolean
  readonly clock: Clock
}

interface Known {
  readonly finding: Promise<Whereabouts>
  /** Of the monotonic clock, when it was looked for; infinite where it does not get old. */
  atMs: number
}

const SEGMENTS_MAX = 65_536
const AGE_MS_MAX = 5000

export class WhereaboutsMap {
  readonly #options: WhereaboutsOptions
  /** Least recently looked up first. */
  readonly #known = new Map<SegmentId, Known>()

  constructor(options: WhereaboutsOptions) {
    this.#options = options
  }

  /** @throws what metadata do */
  find(segment: SegmentId): Promise<Whereabouts> {
    const known = this.#known.get(segment)
    const isFresh = known !== undefined && this.#options.clock.monotonicMs() - known.atMs <= AGE_MS_MAX
    const found = isFresh ? known : this.#look(segment)
    this.#known.delete(segment)
    this.#known.set(segment, found)
    if (this.#known.size > SEGMENTS_MAX) this.#known.delete(this.#known.keys().next().value as SegmentId)
    return found.finding
  }

  /** It was not where it was said to be. */
  forget(segment: SegmentId): void {
    this.#known.delete(segment)
  }

  #look(segment: SegmentId): Known {
    const { clock, isRemoteShared } = this.#options
    const finding = this.#options.segment(segment).then((place) => whereaboutsOf(place, isRemoteShared))
    const known: Known = { finding, atMs: clock.monotonicMs() }
    const drop = (): void => {
      if (this.#known.get(segment) === known) this.#known.delete(segment)
    }
    finding.then((found) => {
      if (found === 'shared') known.atMs = Infinity
      if (found === 'nowhere') drop()
    }, drop)
    return known
  }
}

function whereaboutsOf(place: SegmentPlace | undefined, isRemoteShared: boolean): Whereabouts {
  if (!place) return 'nowhere'
  if (place.state === 'persisted' && isRemoteShared) return 'shared'
  return [place.node ?? 0, ...(place.copies ?? [])]
}
