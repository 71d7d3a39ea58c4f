/** The frames of a batch in the binary framing, pulled from a request's body at the pace of whoever does them. */
import type { Readable } from 'node:stream'
import { assert } from '../../common/assert.ts'
import { BatchReader, type BatchFrame, type BatchPiece } from '../../common/batch-framing.ts'
import { TidegateError } from '../../common/errors.ts'
import { BodyTransfer } from '../http/body/transfer.ts'
import type { Exchange } from '../http/types.ts'

const REQUEST_BYTES_MAX = 256 * 1024 * 1024
/** What may lie here before the sender is held back. */
const QUEUE_BYTES_MAX = 512 * 1024

export class FrameSource {
  readonly #reader = new BatchReader('request')
  readonly #chunks: AsyncGenerator<Uint8Array, void>
  /** What is left of the present chunk. */
  #pieces: Generator<BatchPiece, void>
  #valueBytesLeft = 0
  /** The request itself is broken or broke off: no more of it can be understood. */
  broken = false

  constructor(body: Readable, options: { exchange: Exchange; idleMsMax: number }) {
    this.#chunks = chunksOf(body, options)
    this.#pieces = this.#reader.read(NO_BYTES)
  }

  /** The next frame; what nobody took of the value before is passed over. @throws InvalidRequest, IncompleteBody, RequestTimeout */
  async next(): Promise<BatchFrame | undefined> {
    while (this.#valueBytesLeft > 0) await this.#nextValue()
    // Most frames are in a chunk that is here already: one promise a frame is all that they cost.
    for (let piece = this.#takeNow(); ; piece = this.#takeNow()) {
      piece ??= await this.#takeLater()
      if (piece === undefined) return undefined
      if (piece.kind !== 'frame') continue
      this.#valueBytesLeft = piece.frame.valueBytes
      return piece.frame
    }
  }

  /** The value of the present frame, of which each piece is good until the next one is taken. @throws as `next` */
  async *value(): AsyncGenerator<Uint8Array, void> {
    while (this.#valueBytesLeft > 0) yield await this.#nextValue()
  }

  /** No more of the request is wanted. */
  async close(): Promise<void> {
    await this.#chunks.return()
  }

  async #nextValue(): Promise<Uint8Array> {
    const piece = this.#takeNow() ?? (await this.#takeLater())
    assert(piece?.kind === 'value', 'a value follows its frame')
    this.#valueBytesLeft -= piece.bytes.length
    return piece.bytes
  }

  #takeNow(): BatchPiece | undefined {
    try {
      const { value, done } = this.#pieces.next()
      return done === true ? undefined : value
    } catch (error) {
      this.broken = true
      throw error
    }
  }

  /** Undefined at the end of the request. */
  async #takeLater(): Promise<BatchPiece | undefined> {
    try {
      for (;;) {
        const { value: chunk, done } = await this.#chunks.next()
        if (done === true) {
          this.#reader.end()
          return undefined
        }
        this.#pieces = this.#reader.read(chunk)
        const piece = this.#takeNow()
        if (piece !== undefined) return piece
      }
    } catch (error) {
      this.broken = true
      throw error
    }
  }
}

const NO_BYTES = new Uint8Array(0)

/** @throws IncompleteBody, RequestTimeout, EntityTooLarge */
async function* chunksOf(
  body: Readable,
  { exchange, idleMsMax }: { exchange: Exchange; idleMsMax: number },
): AsyncGenerator<Uint8Array, void> {
  const queue: Uint8Array[] = []
  let queuedBytes = 0
  let ended = false
  let failure: unknown
  let wake: (() => void) | undefined
  const take = (chunk: Uint8Array): boolean => {
    exchange.bytesIn += chunk.length
    if (exchange.bytesIn > REQUEST_BYTES_MAX) {
      throw new TidegateError('EntityTooLarge', `the request has more than ${REQUEST_BYTES_MAX} bytes`)
    }
    queue.push(chunk)
    queuedBytes += chunk.length
    wake?.()
    return queuedBytes < QUEUE_BYTES_MAX
  }
  const transfer = new BodyTransfer(body, { take }, idleMsMax)
  const settled = transfer.run().then(
    () => void (ended = true),
    (error: unknown) => void (failure = error),
  )
  void settled.then(() => wake?.())
  try {
    for (;;) {
      const chunk = queue.shift()
      if (chunk !== undefined) {
        queuedBytes -= chunk.length
        yield chunk
        if (queue.length === 0) transfer.resume()
      } else if (failure !== undefined) {
        throw failure
      } else if (ended) {
        return
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    // To make an error costs a stack trace.
    if (!ended) transfer.fail(new TidegateError('InvalidRequest', 'the rest of the body is not wanted'))
  }
}
