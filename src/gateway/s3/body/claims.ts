/**
 * What the request says about its body before any byte of it is read: how long it is, and what it will be held to.
 */
import type { AnnouncedChecksum } from '../../http/types.ts'
import type { Call } from '../call.ts'
import { announcedChecksum } from '../checksums.ts'
import { S3Error } from '../errors.ts'

export interface BodyClaims {
  /** Bytes of the payload, framing not counted; undefined with a plain chunked transfer coding. */
  readonly length: number | undefined
  /** Bytes as sent. */
  readonly contentLength: number | undefined
  /** MD5 in hex, of Content-MD5. */
  readonly md5: string | undefined
  /** SHA-256 in hex, of the signature. */
  readonly sha256: string | undefined
  readonly checksum: AnnouncedChecksum | undefined
}

/**
 * @param checksums false where x-amz-checksum-* tells of something else than the body (CompleteMultipartUpload)
 * @throws S3Error MissingContentLength, InvalidDigest, InvalidRequest, BadDigest
 */
export function bodyClaims(call: Call, options: { checksums: boolean } = { checksums: true }): BodyClaims {
  const { payload } = call.authenticated
  const contentLength = sentLength(call)
  return {
    length: 'decodedLength' in payload ? payload.decodedLength : contentLength,
    contentLength,
    md5: contentMd5(call.header('content-md5')),
    sha256: payload.kind === 'signed' ? payload.sha256 : undefined,
    checksum: options.checksums ? announcedChecksum(call) : undefined,
  }
}

/**
 * HTTP's own chunked coding delimits the body as well as a length does, and is accepted; with neither, HTTP/1.1 says that
 * there is no body, and S3 that a length is missing. Both at once never arrive here: the parser refuses them.
 */
function sentLength(call: Call): number | undefined {
  const text = call.headers['content-length']
  if (text !== undefined) return Number(text)
  if (call.headers['transfer-encoding'] === undefined) throw new S3Error('MissingContentLength')
  return undefined
}

function contentMd5(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const bytes = Buffer.from(header, 'base64')
  if (bytes.length !== 16 || header.trim().length !== 24)
    throw new S3Error('InvalidDigest', undefined, { 'Content-MD5': header })
  return bytes.toString('hex')
}

export function tooLarge(size: number, bytesMax: number): S3Error {
  return new S3Error('EntityTooLarge', undefined, { ProposedSize: size, MaxSizeAllowed: bytesMax })
}
