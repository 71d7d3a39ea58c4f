/**
 * Which bytes of a value an answer holds, and in what form: all of them, one range, or several as multipart/byteranges
 * (RFC 9110, 14.6):
 *
 *     CRLF? "--" boundary CRLF  Content-Type CRLF  Content-Range CRLF  CRLF  bytes
 *     ...
 *     CRLF "--" boundary "--" CRLF
 *
 * All lengths are known before the first byte, so the answer has a Content-Length.
 */
import { randomUUID } from 'node:crypto'
import { TidegateError } from '../../common/errors.ts'
import type { ObjectVersion } from '../../common/model.ts'
import { parseByteRanges, type ByteRange } from '../http/byte-range.ts'
import { ifRangeHolds } from '../http/conditional-headers.ts'
import type { ValueCall } from './value-call.ts'
import { contentTypeOf } from './value-headers.ts'

const RANGES_MAX = 16

export interface AnswerPart extends ByteRange {
  /** Goes before the bytes: the part's headers. Empty where there is but one part. */
  readonly before: string
}

export interface ValueAnswer {
  readonly status: 200 | 206
  readonly contentType: string
  readonly contentRange: string | undefined
  readonly contentLength: number
  readonly parts: readonly AnswerPart[]
  /** Goes behind the last part. */
  readonly after: string
}

/** @throws InvalidRange */
export function answerOf(call: ValueCall, version: ObjectVersion): ValueAnswer {
  const ranges = rangesOf(call, version)
  const contentType = contentTypeOf(version)
  const { size } = version
  if (ranges === undefined) return singlePart({ offset: 0, length: size }, { status: 200, contentType })
  const [only] = ranges
  if (only !== undefined && ranges.length === 1) {
    return singlePart(only, { status: 206, contentType, contentRange: contentRange(only, size) })
  }
  return multipart(ranges, { size, contentType })
}

function rangesOf(call: ValueCall, version: ObjectVersion): readonly ByteRange[] | undefined {
  const { range } = call.headers
  if (range === undefined || !ifRangeHolds(call.header('if-range'), version)) return undefined
  const ranges = parseByteRanges(range, { size: version.size, rangesMax: RANGES_MAX })
  switch (ranges) {
    case 'unsatisfiable':
      throw refused(`the value has ${version.size} bytes, none of them in ${range}`, version.size)
    case 'too-many':
      throw refused(`more than ${RANGES_MAX} ranges are asked for at once`, version.size)
    default:
      return ranges
  }
}

function refused(message: string, size: number): TidegateError {
  return new TidegateError('InvalidRange', message, { details: { size } })
}

function singlePart(
  range: ByteRange,
  told: { status: 200 | 206; contentType: string; contentRange?: string },
): ValueAnswer {
  return {
    status: told.status,
    contentType: told.contentType,
    contentRange: told.contentRange,
    contentLength: range.length,
    parts: [{ offset: range.offset, length: range.length, before: '' }],
    after: '',
  }
}

function multipart(ranges: readonly ByteRange[], told: { size: number; contentType: string }): ValueAnswer {
  const boundary = randomUUID()
  const after = `\r\n--${boundary}--\r\n`
  const typed = `--${boundary}\r\nContent-Type: ${told.contentType}\r\nContent-Range: `
  const parts = ranges.map((range, index) => ({
    ...range,
    before: `${index === 0 ? '' : '\r\n'}${typed}${contentRange(range, told.size)}\r\n\r\n`,
  }))
  return {
    status: 206,
    contentType: `multipart/byteranges; boundary=${boundary}`,
    contentRange: undefined,
    // Header text is ISO-8859-1: a character is a byte.
    contentLength: parts.reduce((sum, { before, length }) => sum + before.length + length, after.length),
    parts,
    after,
  }
}

function contentRange({ offset, length }: ByteRange, size: number): string {
  return `bytes ${offset}-${offset + length - 1}/${size}`
}
