/** XML bodies: bounded, verified like any other body, and UTF-8. */
import { isUtf8 } from 'node:buffer'
import { saysHowLong } from '../../http/body/claims.ts'
import { collectBody } from '../../http/body/collect.ts'
import { digestsOf, verifyDigests } from '../../http/body/receive.ts'
import type { Call } from '../call.ts'
import { S3Error } from '../errors.ts'
import { readClaims } from './claims.ts'

const MIB = 1024 * 1024

/** AWS's bound for most documents. */
export const DOCUMENT_BYTES_MAX = MIB
/** 1,000 keys of 1,024 bytes, each byte perhaps a character reference. */
export const DELETE_BYTES_MAX = 2 * MIB
/** 10,000 parts with ETag and checksum, indented: about 260 bytes each. */
export const COMPLETE_BYTES_MAX = 4 * MIB

export interface DocumentOptions {
  readonly bytesMax: number
  /** Whether Content-MD5 or a checksum must be there (DeleteObjects). */
  readonly digestRequired?: boolean
  /** Whether x-amz-checksum-* is about this body; in CompleteMultipartUpload it is about the object. */
  readonly checksums?: boolean
}

/**
 * The document's text, empty when there is no body.
 * @throws S3Error MaxMessageLengthExceeded, BadDigest, XAmzContentSHA256Mismatch, MalformedXML, ...
 */
export async function receiveDocument(call: Call, options: DocumentOptions): Promise<string> {
  if (!saysHowLong(call.headers)) return ''
  const { bytesMax } = options
  const claims = readClaims(call, { checksums: options.checksums ?? true })
  if (options.digestRequired === true && claims.md5 === undefined && claims.checksum === undefined) {
    throw new S3Error('InvalidRequest', 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*')
  }
  if ((claims.length ?? 0) > bytesMax) throw tooLong(bytesMax)
  const { bytes, trailers } = await collectBody(call, { claims, bytesMax, tooLong })
  const plan = { claims, algorithm: claims.checksum?.algorithm }
  verifyDigests(digestsOf(bytes, plan), plan, trailers)
  if (!isUtf8(bytes)) throw new S3Error('MalformedXML')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

function tooLong(bytesMax: number): S3Error {
  return new S3Error('MaxMessageLengthExceeded', undefined, { MaxMessageLengthBytes: bytesMax })
}
