/**
 * How far to fetch ahead of one reader. Pure: the caller fetches, and says how far it got.
 *
 * A reader is asked for the rest of what its caller wants, and gives the first piece of it: a GET asks for the whole range at
 * first. What was asked for is wanted for certain, so blocks are fetched up to its end and not beyond, even for a reader that
 * begins in the middle. Who asks for one piece after the other, in order, is taken to go on; then it is fetched to the end. Who jumps
 * starts anew, with nothing.
 *
 * The window doubles from one block: the first request is short, so the first byte comes soon, and no request is long before the
 * reader has shown that it goes on. It is filled up when half of it is read, or a step: many steps lie in a large window, so that
 * something is on its way at any time. Were it fetched as a whole, all of it would arrive at the same time, and then the line would idle.
 */
export class StreamAhead {
  readonly #blockBytes: number
  readonly #windowBytesMax: number
  readonly #stepBytesMax: number
  /** Where the next read begins if the reader goes on in order. */
  #nextOffset = 0
  #askedTo = 0
  #asksOnInOrder = false
  #windowBytes = 0
  #fetchedTo = 0

  constructor(options: {
    readonly blockBytes: number
    readonly windowBytesMax: number
    readonly stepBytesMax: number
  }) {
    this.#blockBytes = options.blockBytes
    this.#windowBytesMax = options.windowBytesMax
    this.#stepBytesMax = options.stepBytesMax
  }

  /**
   * Takes note of a read that was asked for `[offset, askedTo)` and gives what lies before `end`. Answers what to fetch now, if
   * anything; `fetched` is to be told how far that went.
   */
  next(read: {
    readonly offset: number
    readonly end: number
    readonly askedTo: number
    readonly size: number
  }): { readonly from: number; readonly to: number } | undefined {
    const { offset, end, askedTo, size } = read
    if (offset !== this.#nextOffset) {
      this.#asksOnInOrder = false
      this.#askedTo = askedTo
      this.#windowBytes = 0
      this.#fetchedTo = end
    } else if (askedTo > this.#askedTo) {
      this.#asksOnInOrder = this.#askedTo > 0
      this.#askedTo = askedTo
    }
    this.#nextOffset = end
    const from = Math.max(this.#fetchedTo, end)
    const stepBytes = Math.min(this.#stepBytesMax, this.#windowBytes / 2)
    if (from - end > this.#windowBytes - stepBytes) return undefined
    const to = Math.min(this.#asksOnInOrder ? size : this.#askedTo, end + this.#widerBytes())
    return to > from ? { from, to } : undefined
  }

  /** To be told when anything was fetched: the window grows only while memory has room for it. */
  fetched(to: number): void {
    this.#fetchedTo = to
    this.#windowBytes = this.#widerBytes()
  }

  #widerBytes(): number {
    return Math.min(this.#windowBytesMax, Math.max(this.#blockBytes, 2 * this.#windowBytes))
  }
}
