/**
 * Bytes of ours on their way to an external store: from a source that can be read again from the start, as the body of one request.
 *
 * What a source gives is lent until the next is asked for, while a socket takes it when it likes: so it is copied, in chunks. A small body is
 * copied once, and sent from memory; a larger one is read twice, for its digest and for sending.
 */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { crc32 } from 'node:zlib'
import { assert } from '../../common/assert.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { Attempt } from '../remote/s3-calls.ts'
import { crc32Text, type DigestKind } from '../remote/file-sender.ts'
import type { DigestHeader } from '../remote/s3-upload.ts'
import type { PieceSource } from './ports.ts'

const CHUNK_BYTES = 256 * 1024
const SMALL_BYTES_MAX = 1024 * 1024

export interface PreparedBody {
  readonly digest: DigestHeader
  /** Sends it once. */
  send<T>(attempt: Attempt, send: (body: Readable | Buffer) => Promise<T>): Promise<T>
}

/** @throws what the source throws, with `side: 'source'` in its details */
export async function prepareBody(source: PieceSource, kind: DigestKind): Promise<PreparedBody> {
  if (source.length > SMALL_BYTES_MAX) {
    return { digest: await digestOf(source, kind), send: (attempt, send) => sendStream(source, attempt, send) }
  }
  const bytes = await drained(source)
  const digest =
    kind === 'crc32'
      ? { ChecksumCRC32: crc32Text(crc32(bytes)) }
      : { ContentMD5: createHash('md5').update(bytes).digest('base64') }
  return {
    digest,
    send: async (attempt, send) => {
      await attempt.pace?.(bytes.length)
      return await send(bytes)
    },
  }
}

async function drained(source: PieceSource): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(source.length)
  let filled = 0
  for await (const slice of told(source)) {
    bytes.set(slice, filled)
    filled += slice.length
  }
  return bytes
}

async function digestOf(source: PieceSource, kind: DigestKind): Promise<DigestHeader> {
  const md5 = kind === 'md5' ? createHash('md5') : undefined
  let crc = 0
  for await (const slice of told(source)) {
    if (md5) md5.update(slice)
    else crc = crc32(slice, crc)
  }
  return md5 ? { ContentMD5: md5.digest('base64') } : { ChecksumCRC32: crc32Text(crc) }
}

/** As many bytes as it says; its failures told apart from the store's. */
async function* told(source: PieceSource): AsyncGenerator<Uint8Array, void, void> {
  let bytes = 0
  try {
    for await (const slice of source.bytes()) {
      bytes += slice.length
      assert(bytes <= source.length, 'a source gives no more than it says')
      yield slice
    }
  } catch (error) {
    throw ofSource(error)
  }
  assert(bytes === source.length, 'a source gives all that it says')
}

/** Nothing that another attempt at the store would mend, and no word of the store about what lies there. */
export function ofSource(error: unknown): unknown {
  if (!isTidegateError(error)) return error
  const details = { ...error.details, side: 'source', retryable: false }
  return new TidegateError(error.code, error.message, { details, cause: error })
}

async function sendStream<T>(source: PieceSource, attempt: Attempt, send: (body: Readable) => Promise<T>): Promise<T> {
  const body = new PieceBody(source, async (bytes) => {
    await attempt.pace?.(bytes)
    attempt.progress()
  })
  try {
    // Whoever sends it waits for more when it breaks, and does not settle.
    return await Promise.race([send(body), body.broken])
  } finally {
    // Before the next attempt reads the source.
    await body.ended()
  }
}

class PieceBody extends Readable {
  readonly #slices: AsyncGenerator<Uint8Array, void, void>
  readonly #pace: (bytes: number) => Promise<void>
  #slice: Uint8Array = new Uint8Array(0)
  #reading: Promise<void> | undefined
  readonly #failed = Promise.withResolvers<never>()

  constructor(source: PieceSource, pace: (bytes: number) => Promise<void>) {
    super({ highWaterMark: CHUNK_BYTES })
    this.#slices = told(source)
    this.#pace = pace
    // Whoever sends it may be gone by the time that reading fails.
    this.on('error', () => undefined)
    this.#failed.promise.catch(() => undefined)
  }

  /** Rejects when the source could not be read, with why. */
  get broken(): Promise<never> {
    return this.#failed.promise
  }

  override _read(): void {
    this.#reading = this.#next().then(
      (chunk) => void this.push(chunk),
      (error: Error) => void this.destroy(error),
    )
  }

  async #next(): Promise<Buffer | null> {
    while (this.#slice.length === 0) {
      const next = await this.#nextSlice()
      if (next === undefined) return null
      this.#slice = next
    }
    const bytes = Math.min(CHUNK_BYTES, this.#slice.length)
    await this.#pace(bytes)
    const chunk = Buffer.allocUnsafeSlow(bytes)
    chunk.set(this.#slice.subarray(0, bytes))
    this.#slice = this.#slice.subarray(bytes)
    return chunk
  }

  async #nextSlice(): Promise<Uint8Array | undefined> {
    try {
      const { value, done } = await this.#slices.next()
      return done === true ? undefined : value
    } catch (error) {
      this.#failed.reject(error)
      throw error
    }
  }

  /** Gives it up, if it is not over, and resolves when the source is not read any more. */
  async ended(): Promise<void> {
    this.destroy()
    await this.#reading
    await this.#slices.return().catch(() => undefined)
  }
}
