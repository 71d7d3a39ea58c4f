/**
 * What the exchanges of a port may hold in memory together: bodies that are parsed as a whole, and answers that are made as a whole.
 * Each is bounded by its route, but there can be thousands of them, and a client may send or read as slowly as it likes
 * (SECURITY-LESSONS 5.2, 7). What streams is not counted: that waits for the client.
 */
import type { ServerResponse } from 'node:http'

export class ByteBudget {
  #leftBytes: number
  readonly #held = new WeakMap<ServerResponse, number>()

  constructor(bytes: number) {
    this.#leftBytes = bytes
  }

  get leftBytes(): number {
    return this.#leftBytes
  }

  /** Given back when the answer is done or cut off. False: there is no room, or nobody to answer any more. */
  take(response: ServerResponse, bytes: number): boolean {
    if (bytes > this.#leftBytes || response.closed) return false
    const held = this.#held.get(response)
    if (held === undefined) response.once('close', () => this.#giveBack(response))
    this.#held.set(response, (held ?? 0) + bytes)
    this.#leftBytes -= bytes
    return true
  }

  #giveBack(response: ServerResponse): void {
    this.#leftBytes += this.#held.get(response) ?? 0
    this.#held.delete(response)
  }
}
