/** Reads what a request claims of its body. */
import type { IncomingHttpHeaders } from 'node:http'
import { TidegateError } from '../../../common/errors.ts'
import type { Authenticated } from '../types.ts'
import type { AnnouncedChecksum } from '../types.ts'
import type { BodyClaims } from './body-call.ts'

/**
 * @param sent what the door has read itself, since its errors are its own: the length of the body as it is sent, undefined with
 * a chunked transfer coding; the MD5 in hex, if there is one; the checksum announced
 */
export function bodyClaims(
  authenticated: Authenticated,
  sent: {
    contentLength: number | undefined
    md5: string | undefined
    checksum: AnnouncedChecksum | undefined
  },
): BodyClaims {
  const { payload } = authenticated
  return {
    length: 'decodedLength' in payload ? payload.decodedLength : sent.contentLength,
    contentLength: sent.contentLength,
    md5: sent.md5,
    sha256: payload.kind === 'signed' ? payload.sha256 : undefined,
    checksum: sent.checksum,
  }
}

/** Whether a body follows at all: without a length or a transfer coding, HTTP/1.1 says that there is none. */
export function saysHowLong(headers: IncomingHttpHeaders): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
}

/** Undefined with HTTP's own chunked coding, which delimits the body as well as a length does. */
export function sentLength(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['content-length']
  return text === undefined ? undefined : Number(text)
}

/** Content-MD5 in hex; undefined for what is no MD5 in base64. */
export function md5OfHeader(header: string): string | undefined {
  const bytes = Buffer.from(header, 'base64')
  return bytes.length === 16 && header.trim().length === 24 ? bytes.toString('hex') : undefined
}

export function tooLarge(proposedBytes: number, bytesMax: number): TidegateError {
  return new TidegateError('EntityTooLarge', `${proposedBytes} bytes are more than the ${bytesMax} that are taken`, {
    details: { proposedBytes, bytesMax },
  })
}
