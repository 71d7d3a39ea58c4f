/** What cannot go on yet: reads and ends of transactions that wait for a revision, and transactions that wait for a stamp. */
import type { Revision } from '../../common/ids.ts'
import { Fifo } from '../stage/fifo.ts'
import type { RowLayer } from '../stage/row-layer.ts'
import type { Member } from './guesses.ts'
import type { Job } from './jobs.ts'
import type { RunRecord } from './tracked-view.ts'

/** A transaction that has ended without writing. */
export interface Resting {
  readonly job: Job
  readonly record: RunRecord
  /** Grows with every run; 0 if it ran before all guesses. */
  readonly number: number
  readonly tell: () => void
}

export class Waiting {
  /** By the revision that they must see. */
  readonly #reads = new Fifo<Job>()
  readonly #resting = new Set<Resting>()
  #parked: { job: Job; number: number }[] = []

  /** A read that has passed its barrier. */
  read(job: Job): void {
    this.#reads.push(job)
  }

  rest(resting: Resting): void {
    this.#resting.add(resting)
  }

  /** Runs again when all members up to that number are decided. */
  park(job: Job, number: number): void {
    this.#parked.push({ job, number })
  }

  /** Takes out what need not wait any more. `oldest`: number of the oldest member that is not decided. */
  takeReady({ revision, oldest }: { revision: Revision; oldest: number }): {
    reads: Job[]
    rested: Resting[]
    unparked: Job[]
  } {
    const sees = ({ mustSee = Infinity }: Job): boolean => mustSee <= revision
    const reads: Job[] = []
    for (let job = this.#reads.peek(); job !== undefined && sees(job); job = this.#reads.peek()) {
      this.#reads.shift()
      reads.push(job)
    }
    const rested = this.#takeResting(({ job, record, number }) => sees(job) && (!record.guessed || oldest > number))
    if (this.#parked.length === 0) return { reads, rested, unparked: [] }
    const unparked = this.#parked.filter(({ number }) => oldest > number).map(({ job }) => job)
    this.#parked = this.#parked.filter(({ number }) => oldest <= number)
    return { reads, rested, unparked }
  }

  /** Takes out who rests on rows that have changed. */
  takeTouched(changed: RowLayer): Resting[] {
    return this.#takeResting(({ record }) => record.isTouchedBy(changed))
  }

  /**
   * Takes out who has not seen one of these commits, which ran after him, and rests on what it wrote: he is told as of its revision or a later one, so he must
   * have seen it.
   */
  takeOvertaken(committed: readonly Member<unknown>[]): Resting[] {
    return this.#takeResting((resting) =>
      committed.some(({ number, written }) => number > resting.number && resting.record.isTouchedBy(written)),
    )
  }

  /** Takes it out. False if it does not rest. */
  endRest(job: Job): boolean {
    return this.#takeResting((resting) => resting.job === job).length > 0
  }

  takeAll(): Resting[] {
    return this.#takeResting(() => true)
  }

  forget(jobs: ReadonlySet<Job>): void {
    this.#takeResting(({ job }) => jobs.has(job))
    this.#parked = this.#parked.filter(({ job }) => !jobs.has(job))
  }

  #takeResting(isTaken: (resting: Resting) => boolean): Resting[] {
    const taken: Resting[] = []
    for (const resting of this.#resting) if (isTaken(resting)) taken.push(resting)
    for (const resting of taken) this.#resting.delete(resting)
    return taken
  }
}
