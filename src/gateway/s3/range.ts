/** Byte ranges of GET (RFC 9110, 14) and of UploadPartCopy. */
import { invalidArgument, S3Error } from './errors.ts'

export interface ByteRange {
  readonly offset: number
  readonly length: number
}

const SINGLE = /^bytes\s*=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*$/i

/**
 * The part of `size` bytes that a Range header asks for; undefined when it is to be ignored, which AWS does with several
 * ranges, with other units and with what it cannot read.
 * @throws S3Error InvalidRange when it lies outside
 */
export function parseRange(header: string, size: number): ByteRange | undefined {
  const match = SINGLE.exec(header)
  const first = match?.[1] ?? ''
  const last = match?.[2] ?? ''
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Math.min(Number(last), size)
    if (length === 0) throw unsatisfiable(header, size)
    return { offset: size - length, length }
  }
  const offset = Number(first)
  if (last !== '' && Number(last) < offset) return undefined
  if (offset >= size) throw unsatisfiable(header, size)
  return { offset, length: Math.min(last === '' ? size - 1 : Number(last), size - 1) - offset + 1 }
}

function unsatisfiable(header: string, size: number): S3Error {
  return new S3Error('InvalidRange', undefined, { RangeRequested: header, ActualObjectSize: size })
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
