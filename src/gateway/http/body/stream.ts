/**
 * A body on its way into the store. Chunks that arrive while an `append` is under way wait in a short queue; when the
 * queue holds `QUEUE_BYTES_MAX` the socket is paused, and TCP holds the client back. So the store never sees two calls at
 * once for one body, and memory per upload is bounded whatever the client does.
 */
import type { BodyId } from '../../../store/types.ts'
import type { BodyDecoder } from '../auth/body-decoder.ts'
import type { BodyCall } from './body-call.ts'
import { tooLarge } from './claims.ts'
import { BodyTransfer } from './transfer.ts'

const QUEUE_BYTES_MAX = 512 * 1024

export class StreamedBody {
  readonly #call: BodyCall
  readonly #body: BodyId
  readonly #decoder: BodyDecoder
  readonly #bytesMax: number
  readonly #transfer: BodyTransfer
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  #receivedBytes = 0
  #pump: Promise<void> | undefined
  #storeError: Error | undefined

  constructor(call: BodyCall, options: { body: BodyId; decoder: BodyDecoder; bytesMax: number }) {
    this.#call = call
    this.#body = options.body
    this.#decoder = options.decoder
    this.#bytesMax = options.bytesMax
    this.#transfer = new BodyTransfer(call.request, this, call.door.bodyIdleMsMax)
  }

  /** Resolves when the whole body is with the store. */
  async run(): Promise<void> {
    try {
      await this.#transfer.run()
    } finally {
      // The body must not be discarded while an append is under way.
      await this.#pump
      this.#call.exchange.bytesIn += this.#receivedBytes
    }
    // The socket may have ended before the store failed.
    if (this.#storeError !== undefined) throw this.#storeError
  }

  take(chunk: Uint8Array): boolean {
    this.#decoder.write(chunk, this.#enqueue)
    if (this.#queue.length > 0) this.#pump ??= this.#drain()
    return this.#queuedBytes < QUEUE_BYTES_MAX
  }

  readonly #enqueue = (bytes: Uint8Array): void => {
    this.#receivedBytes += bytes.length
    if (this.#receivedBytes > this.#bytesMax) throw tooLarge(this.#receivedBytes, this.#bytesMax)
    this.#queue.push(bytes)
    this.#queuedBytes += bytes.length
  }

  async #drain(): Promise<void> {
    const { bodies } = this.#call.door.store
    try {
      while (this.#queue.length > 0) {
        const batch = this.#queue
        this.#queue = []
        for (const bytes of batch) {
          await bodies.append(this.#body, bytes)
          this.#queuedBytes -= bytes.length
        }
        this.#transfer.resume()
      }
    } catch (error) {
      this.#queue = []
      this.#storeError = error as Error
      this.#transfer.fail(this.#storeError)
    } finally {
      this.#pump = undefined
    }
  }
}
