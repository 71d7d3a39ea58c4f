/**
 * From the socket to a verified body that a store write may name.
 *
 * Small bodies (up to `hashInlineBytesMax`) are collected in one buffer and hashed here, on the event loop: a worker
 * would cost more than the hash. Larger ones, and those of unknown length, are streamed into the store, which hashes them
 * on its workers. Either way everything the client claimed (length, Content-MD5, payload hash, checksum in a header or
 * trailer, chunk signatures) has held before `receiveBody` resolves; nothing is published before that. Whatever goes
 * wrong later, the operation calls `discard`, and no byte is left behind.
 */
import { hash } from 'node:crypto'
import { computeChecksum } from '../../../common/checksums.ts'
import type { ChecksumAlgorithm, ObjectChecksum } from '../../../common/model.ts'
import type { BodyDigests, BodyId, BodySource } from '../../../store/types.ts'
import { createBodyDecoder } from '../../http/auth/body-decoder.ts'
import type { Call } from '../call.ts'
import { badChecksum, checksumHeader } from '../checksums.ts'
import { S3Error } from '../errors.ts'
import { bodyClaims, tooLarge, type BodyClaims } from './claims.ts'
import { collectBody } from './collect.ts'
import { StreamedBody } from './stream.ts'

export interface ReceivedBody {
  readonly source: BodySource
  readonly length: number
  readonly checksum: ObjectChecksum
  /** Gives a streamed body back; for a write that failed. */
  discard(): Promise<void>
}

const NO_TRAILERS: ReadonlyMap<string, string> = new Map()

export interface BodyPlan {
  readonly claims: BodyClaims
  /** Algorithm that is computed: the client's, or the one the operation wants when there is none. */
  readonly algorithm: ChecksumAlgorithm
}

/**
 * Reads the claims and refuses what can be refused before the client sends its body.
 * @param preferred algorithm to compute when the client announced none
 * @throws S3Error EntityTooLarge and what `bodyClaims` throws
 */
export function planBody(call: Call, preferred: ChecksumAlgorithm = 'CRC64NVME'): BodyPlan {
  const claims = bodyClaims(call)
  const bytesMax = call.door.limits.putBytesMax
  if (claims.length !== undefined && claims.length > bytesMax) throw tooLarge(claims.length, bytesMax)
  return { claims, algorithm: claims.checksum?.algorithm ?? preferred }
}

/** @throws what the client did wrong, or what the store refused; nothing is left behind */
export async function receiveBody(call: Call, plan: BodyPlan): Promise<ReceivedBody> {
  const { length } = plan.claims
  if (length !== undefined && length <= call.door.limits.hashInlineBytesMax) return collectSmall(call, plan, length)
  return streamLarge(call, plan)
}

async function collectSmall(call: Call, plan: BodyPlan, length: number): Promise<ReceivedBody> {
  const { bytes, trailers } = await collectBody(call, { claims: plan.claims, bytesMax: length })
  const { algorithm, claims } = plan
  const digests: BodyDigests = {
    md5: hash('md5', bytes, 'hex'),
    checksums: { [algorithm]: computeChecksum(algorithm, bytes) },
    ...(claims.sha256 === undefined ? {} : { sha256: hash('sha256', bytes, 'hex') }),
  }
  const checksum = verifyDigests(digests, plan, trailers)
  return { source: { kind: 'bytes', bytes, digests }, length: bytes.length, checksum, discard: nothing }
}

async function streamLarge(call: Call, plan: BodyPlan): Promise<ReceivedBody> {
  const { bodies } = call.store
  const { claims, algorithm } = plan
  const body = await bodies.open({
    expectedLength: claims.length,
    algorithms: [algorithm],
    sha256: claims.sha256 !== undefined,
    label: { bucket: call.bucket, key: call.key },
  })
  try {
    call.sendContinue()
    const decoder = createBodyDecoder(call.authenticated, claims.contentLength)
    const stream = new StreamedBody(call, { body, decoder, bytesMax: call.door.limits.putBytesMax })
    await stream.run()
    const { trailers } = decoder.end()
    const finished = await bodies.finish(body)
    if (claims.length !== undefined && finished.length !== claims.length) throw new S3Error('IncompleteBody')
    const checksum = verifyDigests(finished.digests, plan, trailers)
    return {
      source: { kind: 'streamed', body },
      length: finished.length,
      checksum,
      discard: () => discardBody(call, body),
    }
  } catch (error) {
    await discardBody(call, body)
    throw error
  }
}

/** The error that led here is the one to report; a failure to clean up is for the log. */
async function discardBody(call: Call, body: BodyId): Promise<void> {
  try {
    await call.store.bodies.discard(body)
  } catch (error) {
    call.door.log.warn({ err: error, requestId: call.exchange.requestId }, 'a body could not be discarded')
  }
}

/**
 * Compares what was computed with what was claimed.
 * @throws S3Error BadDigest, XAmzContentSHA256Mismatch
 */
export function verifyDigests(
  digests: BodyDigests,
  plan: BodyPlan,
  trailers: ReadonlyMap<string, string> = NO_TRAILERS,
): ObjectChecksum {
  const { claims, algorithm } = plan
  if (claims.md5 !== undefined && claims.md5 !== digests.md5) {
    throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.', {
      ExpectedDigest: claims.md5,
      CalculatedDigest: digests.md5,
    })
  }
  if (claims.sha256 !== undefined && claims.sha256 !== digests.sha256) {
    throw new S3Error('XAmzContentSHA256Mismatch', undefined, {
      ClientComputedContentSHA256: claims.sha256,
      S3ComputedContentSHA256: digests.sha256,
    })
  }
  const value = digests.checksums[algorithm]
  if (value === undefined) throw new S3Error('InternalError')
  const claimed =
    claims.checksum === undefined ? undefined : (claims.checksum.value ?? trailers.get(checksumHeader(algorithm)))
  if (claims.checksum !== undefined && claimed !== value) throw badChecksum(algorithm)
  return { algorithm, type: 'FULL_OBJECT', value }
}

function nothing(): Promise<void> {
  return Promise.resolve()
}
