/** A body that fits in memory: one buffer, taken as it came when it came in one piece. */
import { createBodyDecoder } from '../../http/auth/body-decoder.ts'
import type { Call } from '../call.ts'
import { S3Error } from '../errors.ts'
import type { BodyClaims } from './claims.ts'
import { BodyTransfer } from './transfer.ts'

export interface CollectedBody {
  readonly bytes: Uint8Array
  readonly trailers: ReadonlyMap<string, string>
}

const EMPTY: CollectedBody = { bytes: new Uint8Array(0), trailers: new Map() }

/** @throws S3Error MaxMessageLengthExceeded over `bytesMax`, IncompleteBody, RequestTimeout; AuthError of the framing */
export async function collectBody(
  call: Call,
  options: { claims: BodyClaims; bytesMax: number },
): Promise<CollectedBody> {
  const { claims, bytesMax } = options
  call.sendContinue()
  if (claims.contentLength === 0 && claims.length === 0) return EMPTY
  const chunks: Uint8Array[] = []
  let length = 0
  const keep = (bytes: Uint8Array): void => {
    length += bytes.length
    if (length > bytesMax) throw new S3Error('MaxMessageLengthExceeded', undefined, { MaxMessageLengthBytes: bytesMax })
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
