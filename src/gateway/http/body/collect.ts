/** A body that fits in memory: one buffer, taken as it came when it came in one piece. */
import { createBodyDecoder } from '../auth/body-decoder.ts'
import type { BodyCall, BodyClaims } from './body-call.ts'
import { tooLarge } from './claims.ts'
import { BodyTransfer } from './transfer.ts'

export interface CollectedBody {
  readonly bytes: Uint8Array
  readonly trailers: ReadonlyMap<string, string>
}

const EMPTY: CollectedBody = { bytes: new Uint8Array(0), trailers: new Map() }

export interface CollectOptions {
  readonly claims: BodyClaims
  readonly bytesMax: number
  /** What a body of more bytes is refused with; EntityTooLarge unless given. */
  readonly tooLong?: ((bytesMax: number) => Error) | undefined
}

/** @throws TidegateError EntityTooLarge over `bytesMax`, IncompleteBody, RequestTimeout; AuthError of the framing */
export async function collectBody(call: BodyCall, options: CollectOptions): Promise<CollectedBody> {
  const { claims, bytesMax, tooLong } = options
  call.sendContinue()
  if (claims.contentLength === 0 && claims.length === 0) return EMPTY
  const chunks: Uint8Array[] = []
  let length = 0
  const keep = (bytes: Uint8Array): void => {
    length += bytes.length
    if (length > bytesMax) throw tooLong?.(bytesMax) ?? tooLarge(length, bytesMax)
    chunks.push(bytes)
  }
  const decoder = createBodyDecoder(call.authenticated, claims.contentLength)
  const consumer = {
    take: (chunk: Uint8Array): boolean => {
      decoder.write(chunk, keep)
      return true
    },
  }
  await new BodyTransfer(call.request, consumer, call.door.bodyIdleMsMax).run()
  const { trailers } = decoder.end()
  call.exchange.bytesIn += length
  const only = chunks[0]
  return { bytes: chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, length), trailers }
}
