/** What CompleteMultipartUpload demands of its list of parts, and what follows from it. Pure. */
import { createHash } from 'node:crypto'
import { combineFullObject, compositeChecksum } from '../common/checksums.ts'
import { TidegateError } from '../common/errors.ts'
import type { Limits } from '../common/limits.ts'
import type { ChecksumAlgorithm, ChecksumType, ObjectChecksum, UploadPart, UploadRecord } from '../common/model.ts'
import type { CompletedPart, CompleteUploadRequest } from './types.ts'

export interface Completion {
  readonly parts: readonly { partNumber: number; etag: string }[]
  /** MD5 of the parts' MD5s, `-`, and their number. */
  readonly etag: string
  readonly checksum: ObjectChecksum | undefined
}

/**
 * `upload` undefined: it is not (or no longer) there; metadata then decides whether this repeats a Complete that succeeded.
 * @throws InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest, InvalidRequest
 */
export function checkCompletion(
  request: CompleteUploadRequest,
  known: { upload: UploadRecord | undefined; parts: ReadonlyMap<number, UploadPart>; limits: Limits },
): Completion {
  checkOrder(request.parts, known.limits)
  const etag = multipartEtag(request.parts)
  const parts = request.parts.map(({ partNumber, etag }) => ({ partNumber, etag }))
  if (!known.upload) return { parts, etag, checksum: undefined }
  const stored = request.parts.map((part) => matchingPart(part, known.parts))
  checkSizes(request, stored, known.limits)
  const checksum = objectChecksum(known.upload, stored, request.checksumType)
  checkClaim(request.checksum, checksum)
  return { parts, etag, checksum }
}

function checkOrder(parts: readonly CompletedPart[], limits: Limits): void {
  if (parts.length === 0) throw new TidegateError('InvalidRequest', 'an upload is completed with at least one part')
  if (parts.length > limits.partsMax) {
    throw new TidegateError('InvalidArgument', `${parts.length} parts are more than ${limits.partsMax}`)
  }
  for (let index = 1; index < parts.length; index++) {
    const [before, part] = [parts[index - 1] as CompletedPart, parts[index] as CompletedPart]
    if (part.partNumber <= before.partNumber) {
      throw new TidegateError('InvalidPartOrder', `part ${part.partNumber} is listed after part ${before.partNumber}`)
    }
  }
}

function matchingPart(part: CompletedPart, stored: ReadonlyMap<number, UploadPart>): UploadPart {
  const found = stored.get(part.partNumber)
  const { checksum: claimed } = part
  const differs = claimed && found?.checksum?.algorithm === claimed.algorithm && found.checksum.value !== claimed.value
  if (!found || found.etag !== part.etag || differs) {
    const reason = !found ? 'was not uploaded' : differs ? 'has another checksum' : 'has another ETag'
    throw new TidegateError('InvalidPart', `part ${part.partNumber} ${reason}`, {
      details: { PartNumber: part.partNumber, ETag: part.etag },
    })
  }
  return found
}

function checkSizes(request: CompleteUploadRequest, stored: readonly UploadPart[], limits: Limits): void {
  const small = stored.slice(0, -1).find((part) => part.size < limits.partBytesMin)
  if (small) {
    throw new TidegateError('EntityTooSmall', `part ${small.partNumber} has ${small.size} bytes`, {
      details: {
        PartNumber: small.partNumber,
        ProposedSize: small.size,
        MinSizeAllowed: limits.partBytesMin,
        ETag: small.etag,
      },
    })
  }
  const size = stored.reduce((sum, part) => sum + part.size, 0)
  if (request.objectSize !== undefined && request.objectSize !== size) {
    throw new TidegateError('InvalidRequest', `the parts have ${size} bytes, not the ${request.objectSize} announced`)
  }
}

function multipartEtag(parts: readonly CompletedPart[]): string {
  const md5 = createHash('md5')
  for (const { etag } of parts) md5.update(Buffer.from(etag.slice(0, 32), 'hex'))
  return `${md5.digest('hex')}-${parts.length}`
}

/** Undefined when a part lacks the checksum it would need (one that was copied by reference, say). */
function objectChecksum(
  upload: UploadRecord,
  parts: readonly UploadPart[],
  requestedType: ChecksumType | undefined,
): ObjectChecksum | undefined {
  const algorithm: ChecksumAlgorithm = upload.checksumAlgorithm ?? 'CRC64NVME'
  const type = requestedType ?? upload.checksumType ?? (algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE')
  const values: { value: string; length: number }[] = []
  for (const { checksum, size } of parts) {
    if (checksum?.algorithm !== algorithm) return undefined
    values.push({ value: checksum.value, length: size })
  }
  if (type === 'COMPOSITE') {
    const value = compositeChecksum(
      algorithm,
      values.map((part) => part.value),
    )
    return { algorithm, type, value }
  }
  if (algorithm === 'SHA1' || algorithm === 'SHA256') {
    throw new TidegateError('InvalidRequest', `checksum type FULL_OBJECT cannot be had for ${algorithm}`)
  }
  return { algorithm, type, value: combineFullObject(algorithm, values) }
}

function checkClaim(claimed: ObjectChecksum | undefined, computed: ObjectChecksum | undefined): void {
  if (!claimed) return
  const same =
    computed?.algorithm === claimed.algorithm &&
    (computed.value === claimed.value || computed.value.replace(/-\d+$/, '') === claimed.value)
  if (same) return
  throw new TidegateError('BadDigest', `the ${claimed.algorithm} of the object is not ${claimed.value}`, {
    details: { ExpectedDigest: claimed.value, CalculatedDigest: computed?.value },
  })
}
