import type { Clock } from '../../common/clock.ts'

/** The end of a wait for several things in turn. Without a time it never comes. */
export class Deadline {
  readonly #waiting = new AbortController()
  /** Resolves at the end, or when the wait is over. */
  readonly promise: Promise<void>
  #passed = false

  constructor(clock: Clock, waitMsMax: number | undefined) {
    this.promise =
      waitMsMax === undefined
        ? new Promise(() => undefined)
        : clock.sleep(waitMsMax, this.#waiting.signal).then(
            () => void (this.#passed = true),
            () => undefined,
          )
  }

  get passed(): boolean {
    return this.#passed
  }

  cancel(): void {
    this.#waiting.abort(new Error('the wait is over'))
  }
}
