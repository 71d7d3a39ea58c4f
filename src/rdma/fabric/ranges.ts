/** Ranges of a stretch of bytes that are taken and given back; first fit, neighbours joined. Few are out at once. Pure. */
import { assert } from '../../common/assert.ts'

/** So that what is copied to a range begins on a line of the processor's cache. */
const ALIGNED_BYTES = 64

interface Free {
  from: number
  to: number
}

export class Ranges {
  readonly #free: Free[]
  readonly #taken = new Map<number, number>()

  constructor(bytes: number) {
    this.#free = [{ from: 0, to: bytes }]
  }

  get rangesOut(): number {
    return this.#taken.size
  }

  /** Where it begins; undefined: there is no such stretch now. */
  take(bytes: number): number | undefined {
    const needed = Math.ceil(bytes / ALIGNED_BYTES) * ALIGNED_BYTES
    const at = this.#free.findIndex(({ from, to }) => to - from >= needed)
    const free = this.#free[at]
    if (free === undefined) return undefined
    const { from } = free
    free.from += needed
    if (free.from === free.to) this.#free.splice(at, 1)
    this.#taken.set(from, needed)
    return from
  }

  give(from: number): void {
    const bytes = this.#taken.get(from)
    assert(bytes !== undefined, `the range at ${from} is given back once`)
    this.#taken.delete(from)
    const to = from + bytes
    const next = this.#free.findIndex((free) => free.from >= to)
    const at = next < 0 ? this.#free.length : next
    const [before, after] = [this.#free[at - 1], this.#free[at]]
    const joinsBefore = before?.to === from
    const joinsAfter = after?.from === to
    if (joinsBefore && joinsAfter) {
      before.to = after.to
      this.#free.splice(at, 1)
    } else if (joinsBefore) before.to = to
    else if (joinsAfter) after.from = from
    else this.#free.splice(at, 0, { from, to })
  }
}
