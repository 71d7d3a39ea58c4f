import { assert } from '../../../common/assert.ts'
import { AuthError } from './errors.ts'
import type { ChunkSeed, PayloadForm } from '../types.ts'
import type { HeaderView } from './header-view.ts'

/**
 * What x-amz-content-sha256 says of the body. The literal is also the last line of the canonical request, so it is read
 * before the signature is verified and turned into a `PayloadForm` after.
 */
export type PayloadLiteral =
  | 'UNSIGNED-PAYLOAD'
  | 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD'
  | 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER'
  | 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'

export type PayloadClaim =
  | { readonly kind: 'sha256'; readonly text: string }
  | { readonly kind: 'literal'; readonly text: PayloadLiteral }

const LITERALS: Readonly<Record<PayloadLiteral, true>> = {
  'UNSIGNED-PAYLOAD': true,
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD': true,
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER': true,
  'STREAMING-UNSIGNED-PAYLOAD-TRAILER': true,
}
/** Signed with an asymmetric key (SigV4A), as multi-region access points want; there are none here. */
const ASYMMETRIC = /^STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD(-TRAILER)?$/
const SHA256_HEX = /^[0-9a-fA-F]{64}$/

/** @throws InvalidArgument for an unknown literal, NotImplemented for SigV4A's */
export function readPayloadClaim(text: string): PayloadClaim {
  if (SHA256_HEX.test(text)) return { kind: 'sha256', text }
  if (Object.hasOwn(LITERALS, text)) return { kind: 'literal', text: text as PayloadLiteral }
  if (ASYMMETRIC.test(text)) {
    throw new AuthError('NotImplemented', 'Chunks signed with AWS4-ECDSA-P256-SHA256 are not implemented.')
  }
  throw new AuthError(
    'InvalidArgument',
    'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, ' +
      'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a valid sha256 value.',
    { ArgumentName: 'x-amz-content-sha256', ArgumentValue: text },
  )
}

/** `seed` is what the request's own signature yields; undefined for an anonymous request, which cannot sign chunks. */
export function payloadForm(claim: PayloadClaim, headers: HeaderView, seed: ChunkSeed | undefined): PayloadForm {
  if (claim.kind === 'sha256') return { kind: 'signed', sha256: claim.text.toLowerCase() }
  switch (claim.text) {
    case 'UNSIGNED-PAYLOAD':
      return { kind: 'unsigned' }
    case 'STREAMING-UNSIGNED-PAYLOAD-TRAILER':
      return { kind: 'chunked-unsigned-trailer', decodedLength: readDecodedLength(headers) }
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD':
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER': {
      if (seed === undefined) {
        throw new AuthError('AccessDenied', 'A request without a signature cannot carry signed chunks.')
      }
      const trailer = claim.text === 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER'
      return { kind: 'chunked-signed', seed, trailer, decodedLength: readDecodedLength(headers) }
    }
  }
}

const UNSIGNED: PayloadClaim = { kind: 'literal', text: 'UNSIGNED-PAYLOAD' }

/**
 * The claim of a request that is not signed. botocore without credentials still frames the body as aws-chunked with a
 * checksum trailer, but has no signer to write x-amz-content-sha256: Content-Encoding tells.
 */
export function anonymousPayloadClaim(headers: HeaderView): PayloadClaim {
  const text = headers.get('x-amz-content-sha256')
  if (text !== undefined) return readPayloadClaim(text)
  const encodings = headers.get('content-encoding')
  if (encodings === undefined) return UNSIGNED
  const chunked = encodings.split(',').some((encoding) => encoding.trim().toLowerCase() === 'aws-chunked')
  return { kind: 'literal', text: chunked ? 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' : 'UNSIGNED-PAYLOAD' }
}

/** Trailers that S3 knows. Others are refused when announced: nothing here would verify them. */
const TRAILER_NAMES = new Set(
  ['crc32', 'crc32c', 'crc64nvme', 'sha1', 'sha256'].map((algorithm) => `x-amz-checksum-${algorithm}`),
)
const NO_TRAILERS: readonly string[] = []

export function declaredTrailers(headers: HeaderView, payload: PayloadForm): readonly string[] {
  const text = headers.get('x-amz-trailer')
  if (text === undefined) return NO_TRAILERS
  const names = text.split(',').map((name) => name.trim().toLowerCase())
  if (names.some((name) => !TRAILER_NAMES.has(name)) || new Set(names).size !== names.length) {
    throw new AuthError('InvalidRequest', 'The value specified in the x-amz-trailer header is not supported.')
  }
  const carries = payload.kind === 'chunked-unsigned-trailer' || (payload.kind === 'chunked-signed' && payload.trailer)
  if (!carries) {
    throw new AuthError('InvalidRequest', 'x-amz-trailer is set, but x-amz-content-sha256 announces no trailer.')
  }
  return names
}

function readDecodedLength(headers: HeaderView): number {
  const text = headers.get('x-amz-decoded-content-length')
  if (text === undefined || text === '') {
    throw new AuthError('MissingContentLength', 'You must provide the Content-Length HTTP header.', {
      MissingHeader: 'x-amz-decoded-content-length',
    })
  }
  const length = DECIMAL.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(length)) {
    throw new AuthError('InvalidArgument', 'x-amz-decoded-content-length must be a number of bytes.', {
      ArgumentName: 'x-amz-decoded-content-length',
      ArgumentValue: text,
    })
  }
  assert(length >= 0, 'digits make no negative number')
  return length
}

const DECIMAL = /^\d{1,16}$/
