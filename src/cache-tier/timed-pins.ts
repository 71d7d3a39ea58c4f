/**
 * Which blocks are to stay in memory, for whom, and until when. A block may hold bytes of many objects, so each holder has
 * a pin of its own, and the block stays until the last of them has ended.
 *
 * Pure state: no clock. Ends are found by a sweep over all pins, at most once in `SWEEP_PAUSE_MS`; so a pin may last that
 * much longer, and looking for ended ones is one comparison as a rule.
 */
const SWEEP_PAUSE_MS = 100

export class TimedPins<K> {
  readonly #ends = new Map<K, Map<number, number>>()
  #sweepAtMs = Infinity
  #sweepNotBeforeMs = -Infinity

  /** Blocks that are held by anybody. */
  get size(): number {
    return this.#ends.size
  }

  has(key: K): boolean {
    return this.#ends.has(key)
  }

  /** The holder's end of a block, or undefined. */
  end(key: K, holder: number): number | undefined {
    return this.#ends.get(key)?.get(holder)
  }

  set(key: K, holder: number, endMs: number): void {
    const ends = this.#ends.get(key)
    if (ends) ends.set(holder, endMs)
    else this.#ends.set(key, new Map([[holder, endMs]]))
    this.#sweepAtMs = Math.min(this.#sweepAtMs, Math.max(endMs, this.#sweepNotBeforeMs))
  }

  /** Ends one holder's pin; true when it was the last of its block. */
  unset(key: K, holder: number): boolean {
    const ends = this.#ends.get(key)
    if (!ends?.delete(holder) || ends.size > 0) return false
    this.#ends.delete(key)
    return true
  }

  /** The block is gone. */
  forget(key: K): void {
    this.#ends.delete(key)
  }

  /** Removes pins that have ended and returns the blocks that nobody holds any more. `now` sweeps whatever the pause. */
  takeEnded(nowMs: number, sweep: 'when due' | 'now'): readonly K[] {
    if (sweep === 'when due' && nowMs < this.#sweepAtMs) return []
    let nextEndMs = Infinity
    const released: K[] = []
    for (const [key, ends] of this.#ends) {
      for (const [holder, endMs] of ends) {
        if (endMs <= nowMs) ends.delete(holder)
        else nextEndMs = Math.min(nextEndMs, endMs)
      }
      if (ends.size > 0) continue
      this.#ends.delete(key)
      released.push(key)
    }
    this.#sweepNotBeforeMs = nowMs + SWEEP_PAUSE_MS
    this.#sweepAtMs = Math.max(nextEndMs, this.#sweepNotBeforeMs)
    return released
  }
}
