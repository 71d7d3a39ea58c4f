/**
 * What may go from `names/`: what neither the state nor a backup needs, nor a base or delta that is being written.
 *
 * What a former holder left stays for a day after the takeover, its bytes with it, for whoever finds that the restore was a mistake: he may
 * have restored an old backup, and everything newer lies there alone. Until then no segment is removed that is not known here, and none that
 * is as old as the takeover, since the former holder's state may need it. Old is told by the time in a segment's id, which is by the clock
 * of the node that made it, so there is a margin.
 */
import type { Revision, SegmentId } from '../../common/ids.ts'
import { segmentCreatedMs } from '../../common/ids.ts'
import { objectsOfState, wholeBases, type NamesState, type WholeBase } from './chain.ts'
import type { Strays } from './loading.ts'
import type { NamesObject } from './object-names.ts'
import type { RemoteNames } from './remote-names.ts'

const ANCESTRAL_KEPT_MS = 86_400_000
/** By how much the clock of a former holder may have been ahead. */
export const CLOCKS_DIFFER_MS = 3_600_000

export class FormerHolders {
  readonly #remote: RemoteNames
  readonly #nowMs: () => number
  readonly #sinceMs: () => number | undefined

  /** `sinceMs`: since when the remote store is ours; undefined as long as that is not known. */
  constructor(parts: { remote: RemoteNames; nowMs: () => number; sinceMs: () => number | undefined }) {
    this.#remote = parts.remote
    this.#nowMs = parts.nowMs
    this.#sinceMs = parts.sinceMs
  }

  /** Whether what they left is kept, whatever it is. */
  get kept(): boolean {
    const sinceMs = this.#sinceMs()
    if (sinceMs !== undefined && this.#nowMs() >= sinceMs + ANCESTRAL_KEPT_MS) return false
    return this.#remote.anyAncestral
  }

  /** Whether one of their states may need a segment that is known here. */
  mayNeed(segment: SegmentId): boolean {
    return this.kept && segmentCreatedMs(segment) <= (this.#sinceMs() ?? Infinity) + CLOCKS_DIFFER_MS
  }
}

export interface Standing {
  readonly state: NamesState
  /** At or after the state's revision: what the state names is what there was then too. */
  readonly covered: Revision
  /** Of the base that is being written. */
  readonly writing: string | undefined
  readonly formerHolders: FormerHolders
  /** loading.ts */
  readonly strays: Strays
}

/** Names that nobody needs any more. */
export function superfluousNames(remote: RemoteNames, standing: Standing): NamesObject[] {
  const { state, covered, writing, formerHolders, strays } = standing
  const needed = remote.pinned()
  for (const { name } of objectsOfState(state)) needed.add(name)
  // Who restores may need strays until the state has come further than they.
  const own = strays.through > state.revision ? strays.without(remote.own()) : remote.own()
  const bases = new Set([writing, ...waitingBases(strays.without(own), state.base).map(({ random }) => random)])
  const past = own.filter((object) => isPast(object, { revision: state.revision, covered, bases }))
  const left = formerHolders.kept ? [] : remote.ancestral()
  return [...past, ...left].filter(({ name }) => !needed.has(name))
}

/** Complete, newer than that of the state, and not covered by a delta yet. */
export function waitingBases(own: readonly NamesObject[], base: WholeBase | undefined): WholeBase[] {
  return wholeBases(own).filter(({ begin }) => base === undefined || begin > base.begin)
}

function isPast(
  object: NamesObject,
  { revision, covered, bases }: { revision: Revision; covered: Revision; bases: ReadonlySet<string | undefined> },
): boolean {
  switch (object.kind) {
    case 'records':
      return object.through <= covered
    case 'base-part':
    case 'base-whole':
      return !bases.has(object.random)
    case 'delta':
      return object.through <= revision
  }
}
