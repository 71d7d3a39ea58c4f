/**
 * Notifications on their way to the kernel. They are written from another thread, one group at a time: the kernel may make
 * a group wait for a lock that one of our own requests holds, and then no more than one thread of the pool waits with it.
 */
import { TidegateError } from '../../../common/errors.ts'

/** Waiting messages, beside the group under way. */
export const NOTIFICATIONS_MAX = 65_536

/** Writes messages that lie one after another, each beginning with its length. */
export type WriteMessages = (messages: Uint8Array) => Promise<void>

interface Waiting {
  readonly message: Uint8Array
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class NotificationQueue {
  readonly #write: WriteMessages
  #waiting: Waiting[] = []
  #isWriting = false

  constructor(write: WriteMessages) {
    this.#write = write
  }

  send(message: Uint8Array): Promise<void> {
    if (this.#waiting.length >= NOTIFICATIONS_MAX) {
      return Promise.reject(new TidegateError('SlowDown', `${NOTIFICATIONS_MAX} notifications wait for the kernel`))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message: Uint8Array.from(message), resolve, reject })
      if (!this.#isWriting) void this.#writeGroups()
    })
  }

  async #writeGroups(): Promise<void> {
    this.#isWriting = true
    // What one turn of the event loop sends goes together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      try {
        await this.#write(Buffer.concat(group.map(({ message }) => message)))
        for (const { resolve } of group) resolve()
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    this.#isWriting = false
  }
}
