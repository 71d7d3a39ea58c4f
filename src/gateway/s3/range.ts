/** Byte ranges of GET, which may name one range, and of UploadPartCopy; part numbers. */
import { parseByteRange, type ByteRange } from '../http/byte-range.ts'
import { invalidArgument, S3Error } from './errors.ts'

/**
 * The part of `size` bytes that a Range header asks for; undefined when it is to be ignored, which AWS does with several
 * ranges, with other units and with what it cannot read.
 * @throws S3Error InvalidRange when it lies outside
 */
export function parseRange(header: string, size: number): ByteRange | undefined {
  const range = parseByteRange(header, size)
  if (range !== 'unsatisfiable') return range
  throw new S3Error('InvalidRange', undefined, { RangeRequested: header, ActualObjectSize: size })
}

/** x-amz-copy-source-range: `bytes=first-last`, nothing else. @throws S3Error InvalidArgument */
export function parseCopyRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) return undefined
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header)
  const first = Number(match?.[1])
  const last = Number(match?.[2])
  if (match === null || last < first) {
    throw invalidArgument(
      'x-amz-copy-source-range',
      header,
      'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy',
    )
  }
  return { offset: first, length: last - first + 1 }
}

/** partNumber of GET, HEAD and UploadPart. @throws S3Error InvalidArgument */
export function parsePartNumber(text: string | undefined, partsMax: number): number {
  const number = text !== undefined && /^\d{1,7}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > partsMax) {
    throw invalidArgument('partNumber', text, `Part number must be an integer between 1 and ${partsMax}, inclusive`)
  }
  return number
}
