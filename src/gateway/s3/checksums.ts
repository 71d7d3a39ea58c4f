/**
 * Checksums written to an answer, as headers and as XML elements, and what S3 allows in a multipart upload ("Checking object
 * integrity", checksum types). Reading them from a request: ../http/body/checksum-headers.ts.
 */
import {
  CHECKSUM_ALGORITHMS,
  type ChecksumAlgorithm,
  type ChecksumType,
  type ObjectChecksum,
} from '../../common/model.ts'
import { CHECKSUM_HEADERS } from '../http/body/checksum-headers.ts'
import { invalidArgument, S3Error } from './errors.ts'
import { element } from './xml/escape.ts'
import { childText, type XmlElement } from './xml/parse.ts'

/** Types each algorithm allows; the first is its default. CRC64NVME has no composite form, the SHAs no other. */
const TYPES: Record<ChecksumAlgorithm, readonly ChecksumType[]> = {
  CRC32: ['COMPOSITE', 'FULL_OBJECT'],
  CRC32C: ['COMPOSITE', 'FULL_OBJECT'],
  CRC64NVME: ['FULL_OBJECT'],
  SHA1: ['COMPOSITE'],
  SHA256: ['COMPOSITE'],
}

/** x-amz-checksum-type. @throws S3Error InvalidArgument */
export function parseChecksumType(text: string | undefined): ChecksumType | undefined {
  if (text === undefined || text === 'FULL_OBJECT' || text === 'COMPOSITE') return text
  throw invalidArgument('x-amz-checksum-type', text, 'Value for x-amz-checksum-type header is invalid.')
}

/** @throws S3Error InvalidRequest for a combination that S3 does not have */
export function multipartChecksumType(algorithm: ChecksumAlgorithm, asked: ChecksumType | undefined): ChecksumType {
  const type = asked ?? TYPES[algorithm][0]
  if (type === undefined || !TYPES[algorithm].includes(type)) {
    throw new S3Error(
      'InvalidRequest',
      `The ${type ?? ''} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`,
    )
  }
  return type
}

/** Appends the checksum's headers. */
export function pushChecksum(headers: string[], checksum: ObjectChecksum | undefined): void {
  if (checksum === undefined) return
  headers.push(CHECKSUM_HEADERS[checksum.algorithm], checksum.value, 'x-amz-checksum-type', checksum.type)
}

/** `ChecksumSHA256` and so on, as an XML element. */
export function checksumElement(checksum: ObjectChecksum | undefined): string {
  return checksum === undefined ? '' : element(`Checksum${checksum.algorithm}`, checksum.value)
}

/** The checksum named inside a `Part` of CompleteMultipartUpload. */
export function checksumOfElement(parent: XmlElement, type: ChecksumType): ObjectChecksum | undefined {
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const value = childText(parent, `Checksum${algorithm}`)
    if (value !== undefined && value !== '') return { algorithm, type, value }
  }
  return undefined
}
