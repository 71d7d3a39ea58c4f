/**
 * Which objects under `names/` make a state of the namespace. Pure: from names alone, as a listing gives them (object-names.ts).
 *
 * A base was read page by page while writers went on, from revision `begin` to `end`; no such state ever was. A delta (after, through]
 * holds every row that changed, as it was at `through`, and was captured at one revision. So a base and a chain of deltas, the first
 * of which begins at or before `begin`, each at or before the end of the one before, up to one that ends at or after `end`, make exactly the
 * rows at the end of the last: what the base has wrong has changed since `begin`, and is in a delta. Deltas may overlap: two lives of a
 * gateway that both went on from the same delta, the first having died before it heard that its own had arrived. Rows are named as they were at
 * the end, so applying both, in the order of their ends, is as good as one.
 *
 * A base alone is never a state, even one that was read at a single revision: only a capture waits for the bytes of what it names.
 */
import type { Revision } from '../../common/ids.ts'
import type { NamesObject } from './object-names.ts'

type ObjectOf<Kind extends NamesObject['kind']> = Extract<NamesObject, { kind: Kind }>

export interface WholeBase {
  readonly begin: Revision
  readonly end: Revision
  readonly random: string
  readonly whole: ObjectOf<'base-whole'>
  /** In order. */
  readonly parts: readonly ObjectOf<'base-part'>[]
  readonly bytes: number
}

export interface WholeDelta {
  readonly after: Revision
  readonly through: Revision
  readonly random: string
  /** In order. */
  readonly parts: readonly ObjectOf<'delta'>[]
  readonly bytes: number
}

export interface NamesState {
  readonly base: WholeBase
  /** To be applied in this order. */
  readonly deltas: readonly WholeDelta[]
  /** Of the last delta: the state is that of this revision. */
  readonly revision: Revision
  /** Of objects published after it. */
  readonly records: readonly ObjectOf<'records'>[]
}

/** The newest state that the objects of one lineage make, or the newest up to a revision; undefined when they make none. */
export function newestState(objects: readonly NamesObject[], upTo: Revision = Infinity): NamesState | undefined {
  const deltas = wholeDeltas(objects).filter(({ through }) => through <= upTo)
  let newest: NamesState | undefined
  for (const base of wholeBases(objects)) {
    const chain = chainFrom(base.begin, deltas)
    const revision = chain.at(-1)?.through
    if (revision === undefined || revision < base.end) continue
    // Of two that come as far, the later base needs fewer deltas.
    if (newest && (newest.revision > revision || (newest.revision === revision && newest.base.begin > base.begin)))
      continue
    const records = objects.filter((object) => object.kind === 'records')
    newest = {
      base,
      deltas: chain,
      revision,
      records: records.filter(({ through }) => through > revision && through <= upTo),
    }
  }
  return newest
}

/** The fewest deltas that reach from `start` as far as they go: at each step the one that ends last. */
function chainFrom(start: Revision, deltas: readonly WholeDelta[]): WholeDelta[] {
  const chain: WholeDelta[] = []
  let position = start
  let furthest: WholeDelta | undefined
  for (let at = 0; ;) {
    for (let next = deltas[at]; next && next.after <= position; next = deltas[++at]) {
      if (!furthest || next.through >= furthest.through) furthest = next
    }
    // The first may end where it begins: nothing had changed, and all that the base names had arrived.
    if (!furthest || furthest.through < position || (chain.length > 0 && furthest.through === position)) return chain
    chain.push(furthest)
    position = furthest.through
  }
}

/**
 * Where a delta should begin that is about as large as `bytes`: where the last one ended, or further back, so that it takes the place of
 * small ones before it. As a counter carries: each is written again only together with as much as itself, so of thousands of small
 * ones there are few at any time, and each row is written a few times. Large ones are left alone.
 */
export function beginOfNext(
  deltas: readonly WholeDelta[],
  bytes: number,
  mergedBytesMax: number,
): Revision | undefined {
  let begin = deltas.at(-1)?.through
  let merged = bytes
  for (let last = deltas.length - 1; last >= 0; last--) {
    const delta = deltas[last]
    if (!delta || delta.bytes > merged || delta.bytes + merged > mergedBytesMax) break
    begin = delta.after
    merged += delta.bytes
  }
  return begin
}

/** How far back `beginOfNext` may reach. */
export function mergedFrom(deltas: readonly WholeDelta[], mergedBytesMax: number): Revision | undefined {
  let from = deltas.at(-1)?.through
  let bytes = 0
  for (let last = deltas.length - 1; last >= 0; last--) {
    const delta = deltas[last]
    if (!delta || (bytes += delta.bytes) > mergedBytesMax) break
    from = delta.after
  }
  return from
}

/** The state once a delta has arrived that goes on from it, or takes the place of its last ones. */
export function stateWith(state: NamesState, delta: WholeDelta): NamesState {
  const kept = state.deltas.filter(({ after }) => after < delta.after)
  const records = state.records.filter(({ through }) => through > delta.through)
  return { base: state.base, deltas: [...kept, delta], revision: delta.through, records }
}

/** Of those that are whole, the one that ends last. */
export function newestDelta(objects: readonly NamesObject[]): WholeDelta | undefined {
  return wholeDeltas(objects).reduce<WholeDelta | undefined>(
    (newest, delta) => (newest && newest.through >= delta.through ? newest : delta),
    undefined,
  )
}

export function wholeBases(objects: readonly NamesObject[]): WholeBase[] {
  const parts = byRandom(objects.filter((object) => object.kind === 'base-part'))
  const bases: WholeBase[] = []
  for (const whole of objects) {
    if (whole.kind !== 'base-whole') continue
    const own = inOrder(parts.get(whole.random) ?? [], whole.parts)
    if (!own) continue
    const { begin, end, random } = whole
    bases.push({ begin, end, random, whole, parts: own, bytes: whole.bytes + bytesOf(own) })
  }
  return bases
}

function wholeDeltas(objects: readonly NamesObject[]): WholeDelta[] {
  const deltas: WholeDelta[] = []
  for (const parts of byRandom(objects.filter((object) => object.kind === 'delta')).values()) {
    const [first] = parts
    const own = first && inOrder(parts, first.parts)
    if (!own) continue
    const { after, through, random } = first
    deltas.push({ after, through, random, parts: own, bytes: bytesOf(own) })
  }
  return deltas.sort((one, other) => one.after - other.after)
}

function byRandom<Part extends { readonly random: string }>(parts: readonly Part[]): Map<string, Part[]> {
  return Map.groupBy(parts, ({ random }) => random)
}

/** Undefined unless they are exactly the parts from 0 to `count`. */
function inOrder<Part extends { readonly part: number }>(parts: readonly Part[], count: number): Part[] | undefined {
  if (parts.length !== count) return undefined
  const ordered = parts.toSorted((one, other) => one.part - other.part)
  return ordered.every(({ part }, index) => part === index) ? ordered : undefined
}

function bytesOf(objects: readonly NamesObject[]): number {
  return objects.reduce((sum, { bytes }) => sum + bytes, 0)
}

export function objectsOfState({ base, deltas, records }: NamesState): NamesObject[] {
  return [...base.parts, base.whole, ...deltas.flatMap(({ parts }) => parts), ...records]
}
