/**
 * What receiving a body needs of a request on its way through a door. Errors are of the core's table, or the gate's; each door
 * shows them in its own words. Those that name values at fault name them in `details`:
 *
 *     EntityTooLarge   proposedBytes, bytesMax
 *     BadDigest        expectedMd5, calculatedMd5, when it was Content-MD5 that did not hold
 */
import type { IncomingMessage } from 'node:http'
import type { Limits } from '../../../common/limits.ts'
import type { AckLevel, ChecksumAlgorithm } from '../../../common/model.ts'
import type { Store } from '../../../store/doors.ts'
import type { AnnouncedChecksum, Authenticated, Exchange } from '../types.ts'

export interface BodyCall {
  readonly request: IncomingMessage
  readonly authenticated: Authenticated
  readonly exchange: Exchange
  readonly bucket: string
  readonly key: string
  /** The durability that the request asks for; undefined leaves it to the bucket. */
  readonly ack?: AckLevel | undefined
  readonly door: {
    readonly store: Pick<Store, 'bodies'>
    readonly limits: Limits
    /** A body that brings no byte for this long is given up with RequestTimeout. */
    readonly bodyIdleMsMax: number
    readonly log: { warn(details: Readonly<Record<string, unknown>>, message: string): void }
  }
  /** Lets a client that waits for `100 Continue` send its body. */
  sendContinue(): void
}

/** What the request says about its body before any byte of it is read: how long it is, and what it will be held to. */
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

export interface BodyPlan {
  readonly claims: BodyClaims
  /** What is computed beside MD5: the client's algorithm, or the one the door wants; undefined: none. */
  readonly algorithm: ChecksumAlgorithm | undefined
}
