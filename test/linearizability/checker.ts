/**
 * Is a history of concurrent operations linearizable? (Herlihy and Wing 1990; the search is Wing and Gong's, with the memory of
 * visited configurations that Lowe added, "Testing for linearizability", 2017.)
 *
 * An operation has a call time and, unless its outcome never became known, a return time and an output. The history is
 * linearizable if every completed operation, and any subset of the unknown ones, can be put in one order that respects real
 * time (what returned before another was called comes first) and in which the sequential model gives each its output.
 *
 * Three things keep the search small. Outputs that say where their write stands among all others are held to it. A read that fits the present state is taken at once, without coming back to it: it changes
 * nothing, everything it had to follow has been taken, so wherever it could stand later it can stand here. And a
 * configuration (which operations are taken, and the state) that failed once is not tried again.
 */
import { hash } from 'node:crypto'

export interface HistoryEntry<Operation, Output> {
  readonly operation: Operation
  readonly calledAt: number
  /** Infinity when the outcome never became known: it may have taken effect at any time since, or never. */
  readonly returnedAt: number
  readonly output: Output | undefined
}

export interface SequentialModel<State, Operation, Output> {
  readonly initial: State
  /**
   * The state after the operation, or undefined when it cannot give this output in this state. `output` undefined: unknown, then
   * any will do. Returns the very same state object when nothing changes.
   */
  step(state: State, operation: Operation, output: Output | undefined): State | undefined
  /** Equal for equal states. */
  fingerprint(state: State): string
  /**
   * Where in the order of all writes this output says that it stands, if it does: of the operations that are left, only the one
   * with the lowest number may come next.
   */
  place?(output: Output): number | undefined
}

export type Verdict<Operation, Output> =
  | { readonly linearizable: true; readonly configurations: number }
  | {
      readonly linearizable: false
      readonly configurations: number
      /** The operations that could not be placed on the way that came furthest. */
      readonly stuck: readonly HistoryEntry<Operation, Output>[]
    }

/** @throws when more than `configurationsMax` would have to be looked at: then nothing was shown either way */
export function checkLinearizable<State, Operation, Output>(
  model: SequentialModel<State, Operation, Output>,
  history: readonly HistoryEntry<Operation, Output>[],
  configurationsMax = 200_000,
): Verdict<Operation, Output> {
  const entries = [...history].sort((left, right) => left.calledAt - right.calledAt)
  const search = new Search(model, entries, configurationsMax)
  return search.run()
}

/** A point of the search: what was taken, and what can still be tried here. */
interface Frame<State> {
  readonly state: State
  readonly taken: readonly number[]
  readonly candidates: number[]
}

class Search<State, Operation, Output> {
  readonly #model: SequentialModel<State, Operation, Output>
  readonly #entries: readonly HistoryEntry<Operation, Output>[]
  readonly #configurationsMax: number
  readonly #taken: boolean[]
  readonly #places: readonly (number | undefined)[]
  readonly #visited = new Set<string>()
  readonly #frames: Frame<State>[] = []
  /** Completed operations that are not taken yet. */
  #left: number
  #fewestLeft = Infinity
  #stuck: readonly HistoryEntry<Operation, Output>[] = []

  constructor(
    model: SequentialModel<State, Operation, Output>,
    entries: readonly HistoryEntry<Operation, Output>[],
    configurationsMax: number,
  ) {
    this.#model = model
    this.#entries = entries
    this.#configurationsMax = configurationsMax
    this.#taken = entries.map(() => false)
    this.#places = entries.map(({ output }) => (output === undefined ? undefined : model.place?.(output)))
    this.#left = entries.filter((entry) => entry.output !== undefined).length
  }

  run(): Verdict<Operation, Output> {
    this.#enter(this.#model.initial, [])
    while (this.#left > 0) {
      const frame = this.#frames.at(-1)
      if (frame === undefined) {
        return { linearizable: false, configurations: this.#visited.size, stuck: this.#stuck }
      }
      const candidate = frame.candidates.pop()
      if (candidate === undefined) this.#leave(frame)
      else this.#try(frame, candidate)
    }
    return { linearizable: true, configurations: this.#visited.size }
  }

  #try(frame: Frame<State>, candidate: number): void {
    const entry = this.#entry(candidate)
    const next = this.#model.step(frame.state, entry.operation, entry.output)
    // An operation of unknown outcome that would change nothing need not have happened.
    if (next === undefined || (next === frame.state && entry.output === undefined)) return
    this.#take(candidate)
    if (!this.#enter(next, [candidate])) this.#giveBack(candidate)
  }

  /** Takes every read that fits, then opens a frame. False when this configuration was looked at before. */
  #enter(state: State, takenBefore: readonly number[]): boolean {
    const reads: number[] = []
    for (;;) {
      const fitting = this.#candidates().filter((index) => this.#isFittingRead(state, index))
      if (fitting.length === 0) break
      for (const index of fitting) this.#take(index)
      reads.push(...fitting)
    }
    const taken = this.#taken.map((isTaken) => (isTaken ? 1 : 0)).join('')
    const configuration = hash('sha1', `${taken} ${this.#model.fingerprint(state)}`, 'base64')
    if (this.#visited.has(configuration)) {
      for (const index of reads) this.#giveBack(index)
      return false
    }
    if (this.#visited.size >= this.#configurationsMax) {
      const stuck = this.#stuck.map((entry) => JSON.stringify(entry)).join('\n')
      throw new Error(
        `undecided: ${this.#visited.size} configurations were not enough; furthest: ${this.#fewestLeft} left\n${stuck}`,
      )
    }
    this.#visited.add(configuration)
    this.#noteProgress()
    this.#frames.push({ state, taken: [...takenBefore, ...reads], candidates: this.#inOrderOfTrial() })
    return true
  }

  #isFittingRead(state: State, index: number): boolean {
    const { operation, output } = this.#entry(index)
    return output !== undefined && this.#model.step(state, operation, output) === state
  }

  #leave(frame: Frame<State>): void {
    this.#frames.pop()
    for (const index of frame.taken) this.#giveBack(index)
  }

  /** Operations that may come next: called before the first of those that are left has returned, and not out of place. */
  #candidates(): number[] {
    let firstReturn = Infinity
    let firstPlace = Infinity
    for (const [index, entry] of this.#entries.entries()) {
      if (this.#taken[index]) continue
      if (entry.returnedAt < firstReturn) firstReturn = entry.returnedAt
      firstPlace = Math.min(firstPlace, this.#places[index] ?? Infinity)
    }
    const candidates: number[] = []
    for (const [index, entry] of this.#entries.entries()) {
      if (entry.calledAt > firstReturn) break
      if (!this.#taken[index] && (this.#places[index] ?? 0) <= firstPlace) candidates.push(index)
    }
    return candidates
  }

  /** Popped from the end: those that return first are tried first, unknown ones last. */
  #inOrderOfTrial(): number[] {
    return this.#candidates().sort((left, right) => this.#entry(right).returnedAt - this.#entry(left).returnedAt)
  }

  #entry(index: number): HistoryEntry<Operation, Output> {
    return this.#entries[index] as HistoryEntry<Operation, Output>
  }

  #take(index: number): void {
    this.#taken[index] = true
    if (this.#entry(index).output !== undefined) this.#left--
  }

  #giveBack(index: number): void {
    this.#taken[index] = false
    if (this.#entry(index).output !== undefined) this.#left++
  }

  #noteProgress(): void {
    if (this.#left >= this.#fewestLeft) return
    this.#fewestLeft = this.#left
    this.#stuck = this.#candidates().map((index) => this.#entry(index))
  }
}
