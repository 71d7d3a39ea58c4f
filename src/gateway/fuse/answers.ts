/**
 * Requests that wait for their answer, and the answering. Each is answered once: by its handler, or by the deadline with EIO, after
 * which the handler's own answer goes nowhere. A process in a FUSE call may be unkillable until then, so there is no exception but
 * lock waits, which the kernel interrupts.
 */
import type { Clock } from '../../common/clock.ts'
import type { Logger } from '../../common/logging.ts'
import type { FuseChannel } from './channel/ports.ts'
import type { DirectoryReply } from './protocol/directory-reply.ts'
import { ERRNO } from './protocol/errno.ts'
import { ReplyEncoder } from './protocol/replies.ts'
import type { RequestHeader } from './protocol/requests.ts'

export interface AnswersOptions {
  readonly channel: Pick<FuseChannel, 'reply'>
  readonly clock: Clock
  readonly log: Logger
  readonly deadlineMs: number
  /** For metrics. */
  readonly onError: (errno: number) => void
}

interface Waiting {
  readonly operation: string
  readonly sinceMs: number
  hasDeadline: boolean
}

/** Builds one message, which is sent at once; returns its length. */
export type Encode = (encoder: ReplyEncoder, unique: number) => number

export class Answers {
  readonly #options: AnswersOptions
  readonly #encoder = new ReplyEncoder()
  readonly #waiting = new Map<number, Waiting>()

  constructor(options: AnswersOptions) {
    this.#options = options
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  /** @param sinceMs of the monotonic clock: now */
  expect(header: RequestHeader, operation: string, sinceMs: number): void {
    this.#waiting.set(header.unique, { operation, sinceMs, hasDeadline: true })
  }

  isWaiting(header: RequestHeader): boolean {
    return this.#waiting.has(header.unique)
  }

  /** It waits for somebody else's lock, for as long as that takes. */
  withoutDeadline(header: RequestHeader): void {
    const waiting = this.#waiting.get(header.unique)
    if (waiting !== undefined) waiting.hasDeadline = false
  }

  /** @returns false when nobody waits any more: then what was opened for the caller is to be closed again. */
  send(header: RequestHeader, encode: Encode): boolean {
    if (!this.#waiting.delete(header.unique)) return false
    const length = encode(this.#encoder, header.unique)
    return this.#reply(header.unique, this.#encoder.bytes.subarray(0, length))
  }

  done(header: RequestHeader): boolean {
    return this.send(header, (encoder, unique) => encoder.done(unique))
  }

  error(header: RequestHeader, errno: number): boolean {
    const sent = this.send(header, (encoder, unique) => encoder.error(unique, errno))
    if (sent) this.#options.onError(errno)
    return sent
  }

  /** `pieces` go out from where they are. */
  data(header: RequestHeader, pieces: readonly Uint8Array[], length: number): boolean {
    if (!this.#waiting.delete(header.unique)) return false
    const headLength = this.#encoder.dataHeader(header.unique, length)
    return this.#reply(header.unique, this.#encoder.bytes.subarray(0, headLength), pieces)
  }

  directory(header: RequestHeader, listing: DirectoryReply): boolean {
    if (!this.#waiting.delete(header.unique)) return false
    const length = listing.finish(header.unique)
    return this.#reply(header.unique, listing.bytes.subarray(0, length))
  }

  /** Answers what has waited for too long. To be called every now and then. */
  expire(): void {
    const { clock, deadlineMs, log } = this.#options
    const before = clock.monotonicMs() - deadlineMs
    for (const [unique, { operation, sinceMs, hasDeadline }] of this.#waiting) {
      if (sinceMs > before) return
      if (!hasDeadline) continue
      log.error({ operation, unique, deadlineMs }, 'a request of the mount took too long; its caller gets EIO')
      this.#waiting.delete(unique)
      this.#options.onError(ERRNO.EIO)
      this.#reply(unique, this.#encoder.bytes.subarray(0, this.#encoder.error(unique, ERRNO.EIO)))
    }
  }

  #reply(unique: number, head: Uint8Array, pieces: readonly Uint8Array[] = []): boolean {
    const { channel, log } = this.#options
    try {
      return channel.reply(head, ...pieces)
    } catch (error) {
      // Refused as malformed: the caller still waits.
      log.error({ error, unique }, 'the kernel refused a reply of the mount; its caller gets EIO')
      channel.reply(this.#encoder.bytes.subarray(0, this.#encoder.error(unique, ERRNO.EIO)))
      return false
    }
  }
}
