/**
 * Runs tasks of one request, a bounded number at a time, those of the same key one after the other in the order in which they
 * were started.
 */
const CONCURRENT_MAX = 64

export class KeyedLanes {
  readonly #last = new Map<string, Promise<unknown>>()
  #inFlight = 0
  #wake: (() => void) | undefined

  get full(): boolean {
    return this.#inFlight >= CONCURRENT_MAX
  }

  /** Call when there is room. A rejection is handled here already, so the promise may be looked at later. */
  start<T>(key: string, task: () => Promise<T>): Promise<T> {
    this.#inFlight++
    const before = this.#last.get(key)
    const running = before === undefined ? task() : before.then(task, task)
    this.#last.set(key, running)
    running.then(this.#ended, this.#ended)
    return running
  }

  /** Resolves when another task may be started. One caller at a time. */
  async room(): Promise<void> {
    while (this.full) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  readonly #ended = (): void => {
    this.#inFlight--
    this.#wake?.()
    this.#wake = undefined
  }
}
