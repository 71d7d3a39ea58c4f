/**
 * Compaction moves bodies into the open segment, which no drain waits for. So while somebody drains nothing may be moved: else what
 * was published long before would lie where nobody carries it, and the segment that held it, dead now, would count as done.
 */
export class Moves {
  readonly #underWay = new Set<Promise<unknown>>()
  #holds = 0

  /** Whoever moves much asks again before each body. */
  get areHeld(): boolean {
    return this.#holds > 0
  }

  /** Moves something, unless moving is held up. False: it was, or there was nothing to move. */
  async run(move: () => Promise<boolean>): Promise<boolean> {
    if (this.areHeld) return false
    const moving = move()
    this.#underWay.add(moving)
    try {
      return await moving
    } finally {
      this.#underWay.delete(moving)
    }
  }

  /** Resolves when nothing is being moved; nothing will be until the hold is released, once. */
  async hold(): Promise<() => void> {
    this.#holds++
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay)
    return () => void this.#holds--
  }
}
