/**
 * What a stream of names finds in the remote store when it begins, and which of it makes the state that it goes on from: the newest; where several nodes take turns (shared/), what
 * the one before has told. Anything else under this lineage is then a *stray*: put by one who was paused, or died before it could tell.
 *
 * Strays never become part of the state here. Whoever put them may remove, however late, what it held to be superfluous: that is never anything of a state that it had told,
 * but may be of one that is made up otherwise from the same objects. For who restores they are as good as any: each tells truly what was at its revision. So they go when the state
 * has come further than all of them.
 */
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import { newestState, type NamesState } from './chain.ts'
import type { NamesObject } from './object-names.ts'
import type { NamesSource } from './ports.ts'

/** The randoms of what makes a state. */
export interface ToldObjects {
  readonly base: string
  readonly deltas: readonly string[]
}

export class Strays {
  readonly #names: ReadonlySet<string>
  /** The last revision that one of them tells of. */
  readonly through: Revision

  constructor(objects: readonly NamesObject[]) {
    this.#names = new Set(objects.map(({ name }) => name))
    this.through = throughOf(objects)
  }

  isOne({ name }: NamesObject): boolean {
    return this.#names.has(name)
  }

  without(objects: NamesObject[]): NamesObject[] {
    return this.#names.size === 0 ? objects : objects.filter((object) => !this.isOne(object))
  }
}

export const NO_STRAYS: Strays = new Strays([])

/** Where a stream goes on that was told what to go on from. */
export function toldState(
  own: readonly NamesObject[],
  told: ToldObjects | undefined,
): { readonly state: NamesState | undefined; readonly strays: Strays } {
  const randoms = new Set(told ? [told.base, ...told.deltas] : [])
  const strays = new Strays(own.filter(({ kind, random }) => kind !== 'records' && !randoms.has(random)))
  const state = newestState(strays.without([...own]))
  // Somebody has removed part of it. What there is, is then the best that there is.
  if (told && !state) return { state: newestState(own), strays: NO_STRAYS }
  return { state, strays }
}

/** Where another node has shipped what this one has not seen yet. @throws Unavailable */
export function checkCaughtUp(own: readonly NamesObject[], source: Pick<NamesSource, 'durableRevision'>): void {
  const through = throughOf(own)
  const seen = source.durableRevision()
  if (through <= seen) return
  throw new TidegateError(
    'Unavailable',
    `the remote store holds names of revision ${through}, and ${seen} is known here`,
  )
}

function throughOf(objects: readonly NamesObject[]): Revision {
  return objects.reduce((most, object) => Math.max(most, 'through' in object ? object.through : 0), 0)
}
