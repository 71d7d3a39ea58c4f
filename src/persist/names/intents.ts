/**
 * Whether this data directory is the one that wrote what the remote store holds.
 *
 * A data directory may be put back from an older copy. It then has the same lineage as what its lost life shipped, and metadata that knows
 * nothing of it: a delta from here on top of one from there would name a past that never was, and numbers given out twice. Revisions cannot
 * tell, since each start goes on behind what the one before had reserved and so is soon ahead of any lost life. So the random of every
 * capture is noted in the data directory, durably, before anything of it is put: a delta over there whose note is not here was written by
 * another life. A base alone is no state; one without a note is removed before a delta could make it one.
 *
 *   noted, not put       superfluous; goes once a later one has arrived
 *   put, not noted       never by this life nor by one whose directory this is
 *
 * Notes are kept from that of the newest delta of the state on: any of them may be the newest whole delta that the next life finds.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { newestDelta, wholeBases, type NamesState } from './chain.ts'
import type { NamesObject } from './object-names.ts'
import type { NamesSource } from './ports.ts'

export class Intents {
  readonly #source: Pick<NamesSource, 'intents' | 'noteIntent' | 'durableRevision'>
  /** In the order in which they were noted. Undefined: not read yet. */
  #noted: string[] | undefined

  constructor(source: Pick<NamesSource, 'intents' | 'noteIntent' | 'durableRevision'>) {
    this.#source = source
  }

  load(): void {
    this.#noted = this.#source.intents().map(({ random }) => random)
  }

  /** Resolves when it is durable. `state`: where the remote store stands; `bases`: those that may become part of it yet. */
  async note(
    random: string,
    { state, bases }: { state: NamesState | undefined; bases: ReadonlySet<string | undefined> },
  ): Promise<void> {
    const noted = must(this.#noted, 'notes that were read')
    const newest = state?.deltas.at(-1)?.random
    const outlived = newest === undefined ? [] : noted.slice(0, Math.max(0, noted.indexOf(newest)))
    const forgotten = outlived.filter((one) => !bases.has(one))
    await this.#source.noteIntent({ random, revision: this.#source.durableRevision() }, forgotten)
    this.#noted = [...noted.filter((one) => !forgotten.includes(one)), random]
  }

  /** @throws InvalidRequest when the newest delta over there is of a life that this data directory knows nothing of */
  refuseOlderDirectory(own: readonly NamesObject[]): void {
    const newest = newestDelta(own)
    if (newest && !must(this.#noted, 'notes that were read').includes(newest.random)) throw olderDirectory()
    const through = own.reduce((most, object) => Math.max(most, 'through' in object ? object.through : 0), 0)
    if (through > this.#source.durableRevision()) throw olderDirectory()
  }

  /** Objects of bases of such a life: whole, and with nothing on top. `state` is what there is without them. */
  strangeBases(own: readonly NamesObject[], state: NamesState | undefined): NamesObject[] {
    const noted = new Set(this.#noted)
    const isNewer = (begin: number): boolean => state === undefined || begin > state.base.begin
    return wholeBases(own)
      .filter(({ begin, random }) => isNewer(begin) && !noted.has(random))
      .flatMap(({ parts, whole }) => [whole, ...parts])
  }
}

function olderDirectory(): TidegateError {
  return new TidegateError(
    'InvalidRequest',
    'the remote store holds what a later life of this data directory wrote, which seems to have been put back from an older copy: ' +
      'nothing is shipped to it or removed from it, nothing is acknowledged as persisted, and no backups are made; see "tidegate restore"',
  )
}
