/**
 * Moves a request body from the socket to a consumer. One set of listeners and one timer per body, no promise per chunk.
 *
 * The consumer is called for every chunk and says when it has had enough; the socket is then paused until `resume`. A
 * body that brings nothing for `idleMsMax` while we are ready for more is given up with RequestTimeout; a time in which
 * we held the client back does not count. A connection that closes before the end of the body is IncompleteBody.
 */
import type { Readable } from 'node:stream'
import { isTidegateError, TidegateError } from '../../../common/errors.ts'
import { isAuthError } from '../auth/errors.ts'

export interface BodyConsumer {
  /** Takes a chunk; false asks for a pause until `resume` is called on the transfer. May throw. */
  take(chunk: Uint8Array): boolean
}

export class BodyTransfer {
  readonly #request: Readable
  readonly #consumer: BodyConsumer
  readonly #timer: NodeJS.Timeout
  readonly #ended: Promise<void>
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined
  #paused = false

  constructor(request: Readable, consumer: BodyConsumer, idleMsMax: number) {
    this.#request = request
    this.#consumer = consumer
    this.#timer = setTimeout(() => this.#onIdle(), idleMsMax)
    this.#timer.unref()
    this.#ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    // A failure may come before anyone waits for the end.
    this.#ended.catch(ignore)
  }

  /** Begins to read. Settles at the end of the body, or with what went wrong; nothing is taken after that. */
  run(): Promise<void> {
    const request = this.#request
    if (request.destroyed && !request.readableEnded) this.fail(interrupted())
    else {
      request.on('data', this.#onData)
      request.on('end', this.#onEnd)
      request.on('close', this.#onClose)
      request.on('error', this.#onError)
    }
    return this.#ended
  }

  resume(): void {
    if (!this.#paused || this.#settle === undefined) return
    this.#paused = false
    this.#timer.refresh()
    this.#request.resume()
  }

  fail(error: Error): void {
    const settle = this.#finish()
    this.#request.pause()
    settle?.reject(error)
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#timer.refresh()
    try {
      if (this.#consumer.take(chunk)) return
    } catch (error) {
      this.fail(error as Error)
      return
    }
    this.#paused = true
    this.#request.pause()
  }

  readonly #onEnd = (): void => {
    this.#finish()?.resolve()
  }

  readonly #onClose = (): void => {
    this.fail(interrupted())
  }

  /** A body that is verified on its way says what is wrong with it; a socket only that it has gone. */
  readonly #onError = (error: Error): void => {
    this.fail(isTidegateError(error) || isAuthError(error) ? error : interrupted())
  }

  #onIdle(): void {
    if (this.#paused) this.#timer.refresh()
    else this.fail(new TidegateError('RequestTimeout', 'the request body stopped coming'))
  }

  #finish(): { resolve: () => void; reject: (error: Error) => void } | undefined {
    const settle = this.#settle
    this.#settle = undefined
    clearTimeout(this.#timer)
    this.#request.off('data', this.#onData)
    this.#request.off('end', this.#onEnd)
    this.#request.off('close', this.#onClose)
    // The error listener stays: the socket may yet fail while the answer is on its way (lesson 5.1.16).
    return settle
  }
}

function interrupted(): TidegateError {
  return new TidegateError('IncompleteBody', 'the connection closed before the end of the request body')
}

function ignore(): void {}
