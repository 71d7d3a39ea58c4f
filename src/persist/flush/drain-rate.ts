/**
 * How many bytes a second the flusher carries, measured while it has something to carry: idle time says nothing of what it could do; time
 * in which the remote store was away, or nothing was let out, counts as time without bytes. Older figures fade with a half-life, so
 * that what it says follows the network within half a minute.
 *
 * Bytes are known to have arrived only when a whole segment has, which may take minutes. So time is counted when an upload ends, and
 * its bytes are spread over the time that it took. Both are integrals of what fades:
 *
 *   bytes of an upload at a constant pace b/d that has just ended:  b/d * H/ln 2 * (1 - 2^(-d/H))
 */
const HALF_LIFE_MS = 15_000
/** Below this it is a guess and no measurement. */
const MEASURED_MS_MIN = 20
/** Nothing at all arrived in this long: that is a measurement too. */
const NOTHING_MS_MIN = 5_000

export class DrainRate {
  #bytes = 0
  #ms = 0
  #sinceMs: number | undefined

  /** Whether there is something to carry, from now on. */
  wanting(is: boolean, nowMs: number): void {
    if (!is) {
      this.counted(nowMs)
      this.#sinceMs = undefined
    } else this.#sinceMs ??= nowMs
  }

  carried(bytes: number, forMs: number, nowMs: number): void {
    this.counted(nowMs)
    this.#bytes += forMs > 0 ? (bytes / forMs) * fadedMs(forMs) : bytes
  }

  /** An upload has failed, or none is under way: what has passed counts. */
  counted(nowMs: number): void {
    const ms = nowMs - (this.#sinceMs ?? nowMs)
    if (ms <= 0) return
    this.#sinceMs = nowMs
    const kept = 0.5 ** (ms / HALF_LIFE_MS)
    this.#bytes *= kept
    this.#ms = this.#ms * kept + fadedMs(ms)
  }

  /** Undefined while it is not known. */
  get bytesPerSecond(): number | undefined {
    const isKnown = this.#bytes > 0 ? this.#ms >= MEASURED_MS_MIN : this.#ms >= NOTHING_MS_MIN
    return isKnown ? (this.#bytes / this.#ms) * 1000 : undefined
  }
}

function fadedMs(ms: number): number {
  return (HALF_LIFE_MS / Math.LN2) * (1 - 0.5 ** (ms / HALF_LIFE_MS))
}
