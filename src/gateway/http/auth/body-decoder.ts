import { createHash, hash } from 'node:crypto'
import { unreachable } from '../../../common/assert.ts'
import { createTrailerReader } from './chunk-trailer.ts'
import { AuthError, signatureMismatch } from './errors.ts'
import { isSignature, SigningKey } from './signing-key.ts'
import type { Hash } from 'node:crypto'
import type { Authenticated, ChunkSeed, PayloadForm } from '../types.ts'
import type { TrailerReader } from './chunk-trailer.ts'

/**
 * Takes the framing off a request body: aws-chunked (S3 API, "Transferring Payload in Multiple Chunks" and "Including
 * Trailing Headers"), or nothing at all for the other payload forms.
 *
 *     chunked-signed            size(hex) ";chunk-signature=" 64 hex CRLF  data CRLF   ...  0;chunk-signature=... CRLF
 *     chunked-unsigned-trailer  size(hex) CRLF                             data CRLF   ...  0 CRLF
 *
 * and then the trailers (chunk-trailer.ts) and an empty line. Each chunk's signature covers the one before it, the first
 * the request's own, so chunks can be neither dropped nor moved; the final, empty chunk proves that none is missing.
 * Lines of the framing end in CRLF and nothing else. As in AWS a chunk holds at least 8 KiB, but for the last one with
 * data: that bounds what a byte can cost. There is no upper bound, since nothing is buffered: the Rust SDK sends a whole
 * object as one chunk. No chunk may reach past the decoded length, so a size cannot overflow either.
 *
 * Known gap: none of the lengths is checked against Content-Length before the body has ended, since HTTP does that.
 */
export interface BodyDecoder {
  /**
   * Takes the next bytes of the body and hands its payload bytes to `sink`, in order, as views of `chunk`: valid as long
   * as `chunk` is, never copied. Synchronous.
   *
   * The bytes of a signed chunk are handed on BEFORE its signature is verified, because the signature covers the whole
   * chunk. So whoever takes them must not publish, nor act on them in any way that cannot be undone, until `end` has
   * returned (SECURITY-LESSONS 5.1.7).
   *
   * @throws AuthError; from then on every call throws that error
   */
  write(chunk: Uint8Array, sink: (bytes: Uint8Array) => void): void
  /**
   * The body has ended. Returns once: every signature held, every declared trailer came and no other, and the lengths
   * are those announced. A payload hash ('signed') and checksum trailers are for the caller to compare.
   * @throws AuthError
   */
  end(): { readonly trailers: ReadonlyMap<string, string> }
}

const NO_TRAILERS: ReadonlyMap<string, string> = new Map()

/** `contentLength`: of the body as sent, framing included; undefined when the request did not say. */
export function createBodyDecoder(authenticated: Authenticated, contentLength?: number): BodyDecoder {
  const { payload, trailers } = authenticated
  switch (payload.kind) {
    case 'unsigned':
    case 'signed':
      return new PlainBody(contentLength)
    case 'chunked-signed':
      return new ChunkedBody(payload, trailers, contentLength)
    case 'chunked-unsigned-trailer':
      return new ChunkedBody(payload, trailers, contentLength)
    default:
      return unreachable(payload, 'payload form')
  }
}

class PlainBody implements BodyDecoder {
  readonly #contentLength: number | undefined
  #received = 0

  constructor(contentLength: number | undefined) {
    this.#contentLength = contentLength
  }

  write(chunk: Uint8Array, sink: (bytes: Uint8Array) => void): void {
    this.#received += chunk.length
    if (this.#contentLength !== undefined && this.#received > this.#contentLength) throw incomplete('Content-Length')
    if (chunk.length > 0) sink(chunk)
  }

  end(): { readonly trailers: ReadonlyMap<string, string> } {
    if (this.#contentLength !== undefined && this.#received !== this.#contentLength) throw incomplete('Content-Length')
    return { trailers: NO_TRAILERS }
  }
}

type ChunkedPayload = Extract<PayloadForm, { kind: 'chunked-signed' | 'chunked-unsigned-trailer' }>

const CHUNK_BYTES_MIN = 8192
/** 16 digits, the signature extension, CRLF: the longest header that is valid has 99 bytes. */
const CHUNK_HEADER_BYTES_MAX = 99
const SIGNED_HEADER = /^([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})\r$/
const UNSIGNED_HEADER = /^([0-9a-fA-F]{1,16})\r$/
const EMPTY_SHA256 = hash('sha256', '')
const LF = 10
const CR = 13

class ChunkedBody implements BodyDecoder {
  readonly #contentLength: number | undefined
  readonly #signatures: ChunkSignatures | undefined
  readonly #trailer: TrailerReader
  #state: 'header' | 'data' | 'data-cr' | 'data-lf' | 'trailer' = 'header'
  /** Bytes of a chunk header that came so far, as text. */
  #header = ''
  /** Bytes still to come in this chunk. */
  #chunkLeft = 0
  /** Payload bytes still to come in all. */
  #bodyLeft: number
  #received = 0
  #failure: AuthError | undefined

  constructor(payload: ChunkedPayload, declaredTrailers: readonly string[], contentLength: number | undefined) {
    this.#contentLength = contentLength
    this.#bodyLeft = payload.decodedLength
    const signatures = payload.kind === 'chunked-signed' ? new ChunkSignatures(payload.seed) : undefined
    this.#signatures = signatures
    this.#trailer = createTrailerReader(
      declaredTrailers,
      signatures !== undefined && payload.kind === 'chunked-signed' && payload.trailer
        ? (text, signature) => signatures.verifyTrailer(text, signature)
        : undefined,
    )
  }

  write(chunk: Uint8Array, sink: (bytes: Uint8Array) => void): void {
    if (this.#failure !== undefined) throw this.#failure
    this.#received += chunk.length
    try {
      if (this.#contentLength !== undefined && this.#received > this.#contentLength) throw incomplete('Content-Length')
      let at = 0
      while (at < chunk.length) at = this.#step(chunk, at, sink)
    } catch (error) {
      if (error instanceof AuthError) this.#failure = error
      throw error
    }
  }

  end(): { readonly trailers: ReadonlyMap<string, string> } {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#state !== 'trailer') throw incomplete('x-amz-decoded-content-length')
    if (this.#contentLength !== undefined && this.#received !== this.#contentLength) throw incomplete('Content-Length')
    return { trailers: this.#trailer.end() }
  }

  /** Consumes what one state can of `chunk` from `at`; returns where the next one goes on. */
  #step(chunk: Uint8Array, at: number, sink: (bytes: Uint8Array) => void): number {
    switch (this.#state) {
      case 'header':
        return this.#readHeader(chunk, at)
      case 'data':
        return this.#readData(chunk, at, sink)
      case 'data-cr':
        if (chunk[at] !== CR) throw badFraming()
        this.#state = 'data-lf'
        return at + 1
      case 'data-lf':
        if (chunk[at] !== LF) throw badFraming()
        this.#state = 'header'
        return at + 1
      case 'trailer':
        this.#trailer.write(chunk.subarray(at))
        return chunk.length
      default:
        return unreachable(this.#state, 'decoder state')
    }
  }

  #readHeader(chunk: Uint8Array, at: number): number {
    const lineEnd = chunk.indexOf(LF, at)
    const until = lineEnd === -1 ? chunk.length : lineEnd
    if (this.#header.length + until - at >= CHUNK_HEADER_BYTES_MAX) throw badFraming()
    this.#header += latin1(chunk, at, until)
    if (lineEnd === -1) return until
    const line = this.#header
    this.#header = ''
    this.#beginChunk(line)
    return lineEnd + 1
  }

  #beginChunk(line: string): void {
    const match = (this.#signatures === undefined ? UNSIGNED_HEADER : SIGNED_HEADER).exec(line)
    if (match === null) throw badFraming()
    const size = Number.parseInt(match[1] ?? '', 16)
    if (size > this.#bodyLeft) throw incomplete('x-amz-decoded-content-length')
    if (size > 0 && size < CHUNK_BYTES_MIN && size !== this.#bodyLeft) {
      throw new AuthError(
        'InvalidChunkSizeError',
        `Only the last chunk is allowed to have a size less than ${CHUNK_BYTES_MIN} bytes`,
        { BadChunkSize: size },
      )
    }
    this.#signatures?.begin(match[2] ?? '')
    if (size > 0) {
      this.#chunkLeft = size
      this.#state = 'data'
      return
    }
    if (this.#bodyLeft > 0) throw incomplete('x-amz-decoded-content-length')
    this.#signatures?.finish()
    this.#state = 'trailer'
  }

  #readData(chunk: Uint8Array, at: number, sink: (bytes: Uint8Array) => void): number {
    const length = Math.min(this.#chunkLeft, chunk.length - at)
    const bytes = at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length)
    this.#chunkLeft -= length
    this.#bodyLeft -= length
    this.#signatures?.update(bytes)
    sink(bytes)
    if (this.#chunkLeft === 0) {
      this.#signatures?.finish()
      this.#state = 'data-cr'
    }
    return at + length
  }
}

/** The chain of signatures through the chunks of one body. */
class ChunkSignatures {
  readonly #seed: ChunkSeed
  readonly #key: SigningKey
  #previous: string
  #claimed = ''
  #sha256: Hash | undefined

  constructor(seed: ChunkSeed) {
    this.#seed = seed
    this.#key = new SigningKey(seed.signingKey)
    this.#previous = seed.signature
  }

  begin(claimed: string): void {
    this.#claimed = claimed
    this.#sha256 = undefined
  }

  update(bytes: Uint8Array): void {
    this.#sha256 ??= createHash('sha256')
    this.#sha256.update(bytes)
  }

  /** The chunk has come whole. */
  finish(): void {
    const digest = this.#sha256 === undefined ? EMPTY_SHA256 : this.#sha256.digest('hex')
    this.#verify('AWS4-HMAC-SHA256-PAYLOAD', `${EMPTY_SHA256}\n${digest}`, this.#claimed)
  }

  verifyTrailer(text: string, signature: string): void {
    this.#verify('AWS4-HMAC-SHA256-TRAILER', hash('sha256', Buffer.from(text, 'latin1')), signature)
  }

  #verify(algorithm: string, digests: string, claimed: string): void {
    const { amzDate, scope } = this.#seed
    const expected = this.#key.sign(`${algorithm}\n${amzDate}\n${scope}\n${this.#previous}\n${digests}`)
    if (!isSignature(expected, claimed)) {
      throw signatureMismatch()
    }
    this.#previous = expected
  }
}

function incomplete(header: 'Content-Length' | 'x-amz-decoded-content-length'): AuthError {
  return new AuthError(
    'IncompleteBody',
    `You did not provide the number of bytes specified by the ${header} HTTP header`,
  )
}

function badFraming(): AuthError {
  return new AuthError('InvalidRequest', 'The body is not framed as aws-chunked says it must be.')
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1')
}
