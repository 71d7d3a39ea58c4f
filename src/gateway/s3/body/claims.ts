/** A body's claims as S3 reads them: it wants a length, and has words of its own for a bad Content-MD5. */
import type { BodyClaims } from '../../http/body/body-call.ts'
import { announcedChecksum } from '../../http/body/checksum-headers.ts'
import { bodyClaims, md5OfHeader, saysHowLong, sentLength } from '../../http/body/claims.ts'
import type { Call } from '../call.ts'
import { S3Error } from '../errors.ts'

/**
 * @param checksums false where x-amz-checksum-* tells of something else than the body (CompleteMultipartUpload)
 * @throws S3Error MissingContentLength, InvalidDigest; TidegateError InvalidRequest, BadDigest
 */
export function readClaims(call: Call, options: { checksums: boolean } = { checksums: true }): BodyClaims {
  // HTTP/1.1 says that there is no body then, and S3 that a length is missing.
  if (!saysHowLong(call.headers)) throw new S3Error('MissingContentLength')
  return bodyClaims(call.authenticated, {
    contentLength: sentLength(call.headers),
    md5: contentMd5(call.header('content-md5')),
    checksum: options.checksums ? announcedChecksum(call.headers, call.authenticated.trailers) : undefined,
  })
}

function contentMd5(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const md5 = md5OfHeader(header)
  if (md5 === undefined) throw new S3Error('InvalidDigest', undefined, { 'Content-MD5': header })
  return md5
}
