/**
 * How far to fetch ahead of one handle: a window that doubles while reads go on in order, and none for a reader that jumps.
 * The next window is fetched when half of the last one is left, so that it is fetched in long runs. Pure: the caller fetches. The kernel sends the parts of its own read-ahead at once and out of order, so a read that
 * begins a little before or behind where the last one ended still counts as in order, once a window is open.
 */
const WINDOW_BYTES_MIN = 256 * 1024
const SLACK_BYTES = 2 * 1024 * 1024

export class ReadAhead {
  #nextOffset = 0
  #windowBytes = 0
  #fetchedTo = 0

  /** Takes note of a read and answers what to fetch, if anything. */
  next(offset: number, length: number, windowBytesMax: number): { from: number; to: number } | undefined {
    const end = offset + length
    const slack = this.#windowBytes > 0 ? SLACK_BYTES : 0
    if (Math.abs(offset - this.#nextOffset) > slack) {
      this.#windowBytes = 0
      this.#nextOffset = end
      this.#fetchedTo = end
      return undefined
    }
    this.#nextOffset = Math.max(this.#nextOffset, end)
    const from = Math.max(this.#fetchedTo, end)
    if (from - this.#nextOffset > this.#windowBytes / 2) return undefined
    this.#windowBytes = Math.min(windowBytesMax, Math.max(WINDOW_BYTES_MIN, 2 * length, this.#windowBytes * 2))
    const to = this.#nextOffset + this.#windowBytes
    if (to <= from) return undefined
    this.#fetchedTo = to
    return { from, to }
  }
}
