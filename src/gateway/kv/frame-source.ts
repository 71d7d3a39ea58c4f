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
  readonly #pieces: AsyncGenerator<BatchPiece, void>
  #valueBytesLeft = 0
  /** The request itself is broken or broke off: no more of it can be understood. */
  broken = false

  constructor(body: Readable, options: { exchange: Exchange; idleMsMax: number }) {
    this.#pieces = piecesOf(chunksOf(body, options))
  }

  /** The next frame; what nobody took of the value before is passed over. @throws InvalidRequest, IncompleteBody, RequestTimeout */
  async next(): Promise<BatchFrame | undefined> {
    while ((await this.#nextValue()) !== undefined) continue
    for (let piece = await this.#take(); piece !== undefined; piece = await this.#take()) {
      if (piece.kind !== 'frame') continue
      this.#valueBytesLeft = piece.frame.valueBytes
      return piece.frame
    }
    return undefined
  }

  /** The value of the present frame, of which each piece is good until the next one is taken. @throws as `next` */
  async *value(): AsyncGenerator<Uint8Array, void> {
    for (let bytes = await this.#nextValue(); bytes !== undefined; bytes = await this.#nextValue()) yield bytes
  }

  async #nextValue(): Promise<Uint8Array | undefined> {
    if (this.#valueBytesLeft === 0) return undefined
    const piece = await this.#take()
    assert(piece?.kind === 'value', 'a value follows its frame')
    this.#valueBytesLeft -= piece.bytes.length
    return piece.bytes
  }

  async #take(): Promise<BatchPiece | undefined> {
    try {
      const { value, done } = await this.#pieces.next()
      return done === true ? undefined : value
    } catch (error) {
      this.broken = true
      throw error
    }
  }
}

async function* piecesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<BatchPiece, void> {
  const reader = new BatchReader('request')
  for await (const chunk of chunks) yield* reader.read(chunk)
  reader.end()
}

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
    transfer.fail(new TidegateError('InvalidRequest', 'the rest of the body is not wanted'))
  }
}
