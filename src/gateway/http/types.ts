/**
 * What the HTTP doors share about a request before they dispatch it: who sent it and how its body is framed. Identity and
 * verification come from one parsed value (SECURITY-LESSONS 5.2, 1 and 2): there is no way to learn the principal of a
 * request without having verified its signature.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Principal } from '../../store/access.ts'
import type { ChecksumAlgorithm } from '../../common/model.ts'

/** How the body is signed and framed, read from x-amz-content-sha256; decides what must be verified while it streams. */
export type PayloadForm =
  /** No body was signed: presigned without a hash, or UNSIGNED-PAYLOAD. */
  | { readonly kind: 'unsigned' }
  /** The body's SHA-256 must equal this before anything is committed (hex). */
  | { readonly kind: 'signed'; readonly sha256: string }
  /** aws-chunked: chunk signatures chained from the seed, optionally a signed trailer. */
  | {
      readonly kind: 'chunked-signed'
      readonly seed: ChunkSeed
      readonly trailer: boolean
      readonly decodedLength: number
    }
  /** aws-chunked without signatures, ending in trailers. */
  | { readonly kind: 'chunked-unsigned-trailer'; readonly decodedLength: number }

/** All that is needed to verify the next chunk signature. Never logged. */
export interface ChunkSeed {
  readonly signature: string
  readonly signingKey: Uint8Array
  readonly amzDate: string
  readonly scope: string
}

export type AuthenticationForm = 'anonymous' | 'header' | 'presigned' | 'presigned-v2' | 'basic' | 'bearer'

/**
 * Where a request came from, as far as it may be believed: X-Forwarded-* counts only from a configured proxy
 * (SECURITY-LESSONS 5.1.9 and 5.2.17). Read it here, never from the headers.
 */
export interface RequestOrigin {
  /** The host the client addressed; of a signed request the very one that its signature covers. With the port, if it was sent. */
  readonly host: string
  /** IP address of the client, without an IPv4-in-IPv6 prefix; empty when the socket is gone already. */
  readonly address: string
  /** The client spoke TLS, to us or to the proxy. */
  readonly secure: boolean
}

export interface Authenticated {
  readonly principal: Principal
  readonly origin: RequestOrigin
  readonly form: AuthenticationForm
  readonly payload: PayloadForm
  /** Trailer header names declared in x-amz-trailer, lower case. */
  readonly trailers: readonly string[]
}

/** A checksum announced for the body: in a header with its value, or to come in the trailer. */
export interface AnnouncedChecksum {
  readonly algorithm: ChecksumAlgorithm
  /** Base64; undefined while it is still to come in the trailer. */
  readonly value: string | undefined
}

/** One request on its way through a door; the door fills in what the access log, metrics and trace should say of it. */
export interface Exchange {
  /** 16 upper-case hex digits, sent as x-amz-request-id. */
  readonly requestId: string
  /** Name of the operation (`PutObject`, `KvGet`, ...); `Unknown` until it was routed. */
  operation: string
  principalId: string
  errorCode: string | undefined
  /** Body bytes, counted by the door. */
  bytesIn: number
  bytesOut: number
  /** The client sent `Expect: 100-continue` and waits: call once it is authenticated and authorised (lesson 14). A no-op otherwise. */
  sendContinue(): void
}

/** Answers one request. Never rejects for what a client did; a rejection is a bug, logged and answered with 500. */
export type HttpHandler = (request: IncomingMessage, response: ServerResponse, exchange: Exchange) => Promise<void>
