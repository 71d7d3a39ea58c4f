/** Which bytes of an object a GET or HEAD asks for: all, a range, or one part of a multipart object. */
import type { ObjectChecksum, ObjectVersion } from '../../common/model.ts'
import type { OpenedObject } from '../../store/types.ts'
import { ifRangeHolds } from '../http/conditional-headers.ts'
import type { Call } from './call.ts'
import { pushChecksum } from './checksums.ts'
import { S3Error } from './errors.ts'
import { wantsChecksum } from './object-headers.ts'
import { parsePartNumber, parseRange } from './range.ts'

export interface Selection {
  readonly offset: number
  readonly length: number
  /** Answered with 206 and Content-Range. */
  readonly partial: boolean
  /** Tells of exactly these bytes; undefined when none does, or none was asked for. */
  readonly checksum: ObjectChecksum | undefined
  readonly partsCount: number | undefined
}

export function wholeObject(call: Call, version: ObjectVersion): Selection {
  const checksum = wantsChecksum(call) ? version.checksum : undefined
  return { offset: 0, length: version.size, partial: false, checksum, partsCount: undefined }
}

/** @throws S3Error InvalidRange, InvalidRequest, InvalidArgument; TidegateError InvalidPart */
export async function selectBytes(call: Call, opened: OpenedObject): Promise<Selection> {
  const { version } = opened
  const partNumber = call.query('partNumber')
  const range = call.headers.range
  if (partNumber !== undefined) {
    if (range !== undefined) {
      throw new S3Error('InvalidRequest', 'Cannot specify both Range header and partNumber query parameter')
    }
    return selectPart(call, opened, parsePartNumber(partNumber, call.door.limits.partsMax))
  }
  const applies = range !== undefined && ifRangeHolds(call.header('if-range'), version)
  const asked = applies ? parseRange(range, version.size) : undefined
  if (asked === undefined) return wholeObject(call, version)
  return { ...asked, partial: true, checksum: undefined, partsCount: undefined }
}

async function selectPart(call: Call, opened: OpenedObject, partNumber: number): Promise<Selection> {
  const { version } = opened
  // What came in one PUT is its own only part; and so is what lies outside, where nobody says how long the parts were.
  if (version.partsCount === undefined || version.body.kind === 'external') {
    if (partNumber > 1) throw new S3Error('InvalidPart', undefined, { PartNumber: partNumber })
    return { ...wholeObject(call, version), partial: version.size > 0 }
  }
  const { offset, length } = await call.store.objects.partRange(opened.reader, partNumber)
  const checksum = wantsChecksum(call) ? await partChecksum(call, version, partNumber) : undefined
  return { offset, length, partial: length > 0, checksum, partsCount: version.partsCount }
}

/** AWS shows a part's own value under the type of the whole object's checksum. */
async function partChecksum(
  call: Call,
  version: ObjectVersion,
  partNumber: number,
): Promise<ObjectChecksum | undefined> {
  const { parts } = await call.store.objects.parts(call.address, partNumber - 1, 1)
  const part = parts[0]
  if (part?.partNumber !== partNumber || part.checksum === undefined) return undefined
  return { ...part.checksum, type: version.checksum?.type ?? part.checksum.type }
}

export function pushSelection(headers: string[], selection: Selection, version: ObjectVersion): void {
  headers.push('Content-Length', String(selection.length))
  if (selection.partial) {
    const last = selection.offset + selection.length - 1
    headers.push('Content-Range', `bytes ${selection.offset}-${last}/${version.size}`)
  }
  if (selection.partsCount !== undefined) headers.push('x-amz-mp-parts-count', String(selection.partsCount))
  pushChecksum(headers, selection.checksum)
}
