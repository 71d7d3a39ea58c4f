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
import { TidegateError } from '../../../common/errors.ts'
import type { ObjectChecksum } from '../../../common/model.ts'
import type { BodyDigests, BodyId, BodySource } from '../../../store/types.ts'
import { createBodyDecoder } from '../auth/body-decoder.ts'
import { AuthError } from '../auth/errors.ts'
import type { BodyCall, BodyPlan } from './body-call.ts'
import { badChecksum, checksumHeader } from './checksum-headers.ts'
import { tooLarge } from './claims.ts'
import { collectBody } from './collect.ts'
import { StreamedBody } from './stream.ts'

export interface ReceivedBody {
  readonly source: BodySource
  readonly length: number
  /** Of the plan's algorithm. */
  readonly checksum: ObjectChecksum | undefined
  /** Gives a streamed body back; for a write that failed. */
  discard(): Promise<void>
}

const NO_TRAILERS: ReadonlyMap<string, string> = new Map()

/** Refuses what can be refused before the client sends its body. @throws EntityTooLarge */
export function refuseTooLarge(call: BodyCall, { claims }: BodyPlan): void {
  const bytesMax = call.door.limits.putBytesMax
  if (claims.length !== undefined && claims.length > bytesMax) throw tooLarge(claims.length, bytesMax)
}

/** @throws what the client did wrong, or what the store refused; nothing is left behind */
export async function receiveBody(call: BodyCall, plan: BodyPlan): Promise<ReceivedBody> {
  const { length } = plan.claims
  if (length !== undefined && length <= call.door.limits.hashInlineBytesMax) return collectSmall(call, plan, length)
  return streamLarge(call, plan)
}

async function collectSmall(call: BodyCall, plan: BodyPlan, length: number): Promise<ReceivedBody> {
  const { bytes, trailers } = await collectBody(call, { claims: plan.claims, bytesMax: length })
  const digests = digestsOf(bytes, plan)
  const checksum = verifyDigests(digests, plan, trailers)
  return { source: { kind: 'bytes', bytes, digests }, length: bytes.length, checksum, discard: nothing }
}

/** What `plan` asks for, of bytes at hand. */
export function digestsOf(bytes: Uint8Array, { claims, algorithm }: BodyPlan): BodyDigests {
  return {
    md5: hash('md5', bytes, 'hex'),
    checksums: algorithm === undefined ? {} : { [algorithm]: computeChecksum(algorithm, bytes) },
    ...(claims.sha256 === undefined ? {} : { sha256: hash('sha256', bytes, 'hex') }),
  }
}

async function streamLarge(call: BodyCall, plan: BodyPlan): Promise<ReceivedBody> {
  const { bodies } = call.door.store
  const { claims, algorithm } = plan
  const body = await bodies.open({
    expectedLength: claims.length,
    algorithms: algorithm === undefined ? [] : [algorithm],
    sha256: claims.sha256 !== undefined,
    label: { bucket: call.bucket, key: call.key },
    ack: call.ack,
  })
  try {
    call.sendContinue()
    const decoder = createBodyDecoder(call.authenticated, claims.contentLength)
    const stream = new StreamedBody(call, { body, decoder, bytesMax: call.door.limits.putBytesMax })
    await stream.run()
    const { trailers } = decoder.end()
    const finished = await bodies.finish(body)
    if (claims.length !== undefined && finished.length !== claims.length) {
      throw new TidegateError('IncompleteBody', `${finished.length} bytes came of ${claims.length}`)
    }
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
async function discardBody(call: BodyCall, body: BodyId): Promise<void> {
  try {
    await call.door.store.bodies.discard(body)
  } catch (error) {
    call.door.log.warn({ error, requestId: call.exchange.requestId }, 'a body could not be discarded')
  }
}

/**
 * Compares what was computed with what was claimed.
 * @throws TidegateError BadDigest; AuthError XAmzContentSHA256Mismatch
 */
export function verifyDigests(
  digests: BodyDigests,
  plan: BodyPlan,
  trailers: ReadonlyMap<string, string> = NO_TRAILERS,
): ObjectChecksum | undefined {
  const { claims, algorithm } = plan
  if (claims.md5 !== undefined && claims.md5 !== digests.md5) {
    throw new TidegateError('BadDigest', 'The Content-MD5 you specified did not match what we received.', {
      details: { expectedMd5: claims.md5, calculatedMd5: digests.md5 },
    })
  }
  if (claims.sha256 !== undefined && claims.sha256 !== digests.sha256) {
    throw new AuthError(
      'XAmzContentSHA256Mismatch',
      "The provided 'x-amz-content-sha256' header does not match what was computed.",
      { ClientComputedContentSHA256: claims.sha256, S3ComputedContentSHA256: digests.sha256 },
    )
  }
  if (algorithm === undefined) return undefined
  const value = digests.checksums[algorithm]
  if (value === undefined) throw new TidegateError('Internal', `no ${algorithm} was computed`)
  const claimed =
    claims.checksum === undefined ? undefined : (claims.checksum.value ?? trailers.get(checksumHeader(algorithm)))
  if (claims.checksum !== undefined && claimed !== value) throw badChecksum(algorithm)
  return { algorithm, type: 'FULL_OBJECT', value }
}

function nothing(): Promise<void> {
  return Promise.resolve()
}
