/**
 * The segment format: what the journal appends, what the local disk adopts and what a packed remote object is (C21).
 *
 *   +--------------------------- data region ----------------------------+--------+---------+
 *   | frame | label | body | frame | label | body | ...   (shared)        | footer | trailer |
 *   | body                                              (one large body) |        |         |
 *   +--------------------------------------------------------------------+--------+---------+
 *   0                                                                dataBytes
 *
 * Integers are little-endian. Offsets count from the start of the file, so block `i` of a segment is file bytes
 * `[i * blockBytes, (i + 1) * blockBytes)` of the data region.
 *
 * Frame, 48 bytes, before each body of a shared segment:
 *
 *   0  magic        u32  'TGF1'
 *   4  headerCrc    u32  CRC-32 of bytes 8..48, then of the segment id's 16 bytes: a frame copied from another segment,
 *                        or forged inside an object's body, is not valid here
 *   8  labelBytes   u32
 *  12  bodyBytes    u32
 *  16  labelCrc     u32
 *  20  bodyCrc      u32
 *  24  content      u64
 *  32  reserved     16 bytes of zero
 *
 * The body follows the label at once; the next frame begins at the next multiple of 16.
 *
 * Trailer, the last 48 bytes of a sealed file:
 *
 *   0  magic        u32  'TGT2'
 *   4  crc          u32  CRC-32 of the footer, then of bytes 8..48 of the trailer
 *   8  dataBytes    u64
 *  16  footerBytes  u64
 *  24  pageBytes    u32
 *  28  bodies       u32
 *  32  segment id   16 bytes
 *
 * Footer, from `dataBytes` on:
 *
 *   page table   u32 each    CRC-32 of each page of the data region (C14; the last page may be short)
 *   tableCrc     u32         CRC-32 of the segment id, dataBytes u64, pageBytes u32, and of the table
 *   bodies                   for each: `content u64, offset u64, length u64, labelBytes u32, label`
 *
 * The table has a checksum of its own so that who needs a few blocks of a remote object fetches it alone, by one range, and
 * can trust it: the bodies' labels may be megabytes. The place of the table and its length follow from dataBytes, which
 * metadata knows; a table that was cut for another length, page size or segment does not check. Trailers that begin with
 * 'TGT1' were written before there was a tableCrc: the same without it, and readable for ever. A reader of their table alone
 * finds that it does not check and takes the whole footer.
 *
 * Valid: a sealed file whose trailer and footer check. An unsealed shared segment is valid up to the first frame that
 * does not check; that is where recovery cuts it. An unsealed segment of one large body is worthless: its body is
 * published only after the footer was synced.
 *
 * Durable: a body once the file was synced after it was written, and, for the first one, the directory too.
 *
 * Known gaps: labels name bucket and key as they were when the bytes came; a later rename shows only in metadata.
 */
import { crc32 } from '../../common/crc32.ts'
import { assert } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { SegmentBody } from '../ports.ts'

export const FRAME_BYTES = 48
export const TRAILER_BYTES = 48
const FRAME_ALIGNMENT_BYTES = 16
const FRAME_MAGIC = 0x31464754
const TRAILER_MAGIC = 0x32544754
/** The footer has no checksum of its table. */
const TRAILER_MAGIC_1 = 0x31544754
const FOOTER_BODY_BYTES = 28
const TABLE_CRC_BYTES = 4

export interface Frame {
  readonly labelBytes: number
  readonly bodyBytes: number
  readonly labelCrc: number
  readonly bodyCrc: number
  readonly content: number
}

export interface Footer {
  readonly segment: SegmentId
  readonly dataBytes: number
  readonly pageBytes: number
  readonly pageCrcs: Uint32Array
  readonly bodies: readonly SegmentBody[]
}

/** Bytes that a body takes in a shared segment, with its frame and label. */
export function framedBodyBytes(body: SegmentBody): number {
  return FRAME_BYTES + Buffer.byteLength(body.label) + body.length
}

/** Where the next frame may begin. */
export function alignFrame(offset: number): number {
  return Math.ceil(offset / FRAME_ALIGNMENT_BYTES) * FRAME_ALIGNMENT_BYTES
}

function headerCrc(header: Uint8Array, segment: SegmentId): number {
  return crc32(Buffer.from(segment, 'hex'), crc32(header.subarray(8, FRAME_BYTES)))
}

export function encodeFrame(segment: SegmentId, frame: Frame): Buffer {
  const header = Buffer.alloc(FRAME_BYTES)
  header.writeUInt32LE(FRAME_MAGIC, 0)
  header.writeUInt32LE(frame.labelBytes, 8)
  header.writeUInt32LE(frame.bodyBytes, 12)
  header.writeUInt32LE(frame.labelCrc, 16)
  header.writeUInt32LE(frame.bodyCrc, 20)
  header.writeBigUInt64LE(BigInt(frame.content), 24)
  header.writeUInt32LE(headerCrc(header, segment), 4)
  return header
}

/** Undefined unless these 48 bytes are a frame of this segment. */
export function decodeFrame(segment: SegmentId, header: Buffer): Frame | undefined {
  if (header.length < FRAME_BYTES || header.readUInt32LE(0) !== FRAME_MAGIC) return undefined
  if (header.readUInt32LE(4) !== headerCrc(header, segment)) return undefined
  const content = header.readBigUInt64LE(24)
  if (content > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return {
    labelBytes: header.readUInt32LE(8),
    bodyBytes: header.readUInt32LE(12),
    labelCrc: header.readUInt32LE(16),
    bodyCrc: header.readUInt32LE(20),
    content: Number(content),
  }
}

/** Footer and trailer, to be written at `dataBytes`. */
export function encodeFooter(footer: Footer): Buffer {
  const pages = Math.ceil(footer.dataBytes / footer.pageBytes)
  assert(footer.pageCrcs.length === pages, `${footer.pageCrcs.length} checksums for ${pages} pages`)
  const labels = footer.bodies.map((body) => Buffer.from(body.label, 'utf8'))
  const tableBytes = pageTableBytes(footer)
  const footerBytes = tableBytes + labels.reduce((sum, label) => sum + FOOTER_BODY_BYTES + label.length, 0)
  const bytes = Buffer.alloc(footerBytes + TRAILER_BYTES)
  let at = 0
  for (const crc of footer.pageCrcs) at = bytes.writeUInt32LE(crc, at)
  at = bytes.writeUInt32LE(tableCrc(footer, bytes.subarray(0, at)), at)
  footer.bodies.forEach((body, index) => {
    const label = labels[index] as Buffer
    at = bytes.writeBigUInt64LE(BigInt(body.content), at)
    at = bytes.writeBigUInt64LE(BigInt(body.offset), at)
    at = bytes.writeBigUInt64LE(BigInt(body.length), at)
    at = bytes.writeUInt32LE(label.length, at)
    at += label.copy(bytes, at)
  })
  const trailer = bytes.subarray(footerBytes)
  trailer.writeUInt32LE(TRAILER_MAGIC, 0)
  trailer.writeBigUInt64LE(BigInt(footer.dataBytes), 8)
  trailer.writeBigUInt64LE(BigInt(footerBytes), 16)
  trailer.writeUInt32LE(footer.pageBytes, 24)
  trailer.writeUInt32LE(footer.bodies.length, 28)
  trailer.write(footer.segment, 32, 'hex')
  trailer.writeUInt32LE(crc32(trailer.subarray(8), crc32(bytes.subarray(0, footerBytes))), 4)
  return bytes
}

/** What a table of page checksums was made for. */
export interface PageTableShape {
  readonly segment: SegmentId
  readonly dataBytes: number
  readonly pageBytes: number
}

/** Bytes at `dataBytes` that hold the page table and its checksum. */
export function pageTableBytes({ dataBytes, pageBytes }: Omit<PageTableShape, 'segment'>): number {
  return Math.ceil(dataBytes / pageBytes) * 4 + TABLE_CRC_BYTES
}

function tableCrc({ segment, dataBytes, pageBytes }: PageTableShape, table: Uint8Array): number {
  const shape = Buffer.alloc(28)
  shape.write(segment, 0, 'hex')
  shape.writeBigUInt64LE(BigInt(dataBytes), 16)
  shape.writeUInt32LE(pageBytes, 24)
  return crc32(table, crc32(shape))
}

/** The checksums of a segment's pages from the `pageTableBytes` at its `dataBytes`; undefined when they do not check, as in 'TGT1'. */
export function decodePageTable(shape: PageTableShape, bytes: Buffer): Uint32Array | undefined {
  const end = bytes.length - TABLE_CRC_BYTES
  if (bytes.length !== pageTableBytes(shape)) return undefined
  if (bytes.readUInt32LE(end) !== tableCrc(shape, bytes.subarray(0, end))) return undefined
  return Uint32Array.from({ length: end / 4 }, (_, page) => bytes.readUInt32LE(page * 4))
}

/** What the trailer says, unchecked but plausible for a file of `fileBytes`; undefined when it is no trailer of this segment. */
export function readTrailer(
  segment: SegmentId,
  trailer: Buffer,
  fileBytes: number,
): { dataBytes: number; footerBytes: number } | undefined {
  if (trailer.length !== TRAILER_BYTES) return undefined
  const magic = trailer.readUInt32LE(0)
  if (magic !== TRAILER_MAGIC && magic !== TRAILER_MAGIC_1) return undefined
  if (trailer.toString('hex', 32, 48) !== segment) return undefined
  const dataBytes = Number(trailer.readBigUInt64LE(8))
  const footerBytes = Number(trailer.readBigUInt64LE(16))
  return dataBytes + footerBytes + TRAILER_BYTES === fileBytes ? { dataBytes, footerBytes } : undefined
}

/** Decodes footer and trailer (as `encodeFooter` made them); undefined when the checksum does not fit. */
export function decodeFooter(segment: SegmentId, bytes: Buffer): Footer | undefined {
  const footerBytes = bytes.length - TRAILER_BYTES
  if (footerBytes < 0) return undefined
  const trailer = bytes.subarray(footerBytes)
  if (trailer.readUInt32LE(4) !== crc32(trailer.subarray(8), crc32(bytes.subarray(0, footerBytes)))) return undefined
  const shape = { segment, dataBytes: Number(trailer.readBigUInt64LE(8)), pageBytes: trailer.readUInt32LE(24) }
  const { dataBytes, pageBytes } = shape
  const pageCrcs = new Uint32Array(Math.ceil(dataBytes / pageBytes))
  let at = 0
  for (let page = 0; page < pageCrcs.length; page++, at += 4) pageCrcs[page] = bytes.readUInt32LE(at)
  if (trailer.readUInt32LE(0) === TRAILER_MAGIC) {
    if (bytes.readUInt32LE(at) !== tableCrc(shape, bytes.subarray(0, at))) return undefined
    at += TABLE_CRC_BYTES
  }
  const bodies: SegmentBody[] = []
  for (let left = trailer.readUInt32LE(28); left > 0; left--) {
    const labelBytes = bytes.readUInt32LE(at + 24)
    bodies.push({
      content: Number(bytes.readBigUInt64LE(at)),
      offset: Number(bytes.readBigUInt64LE(at + 8)),
      length: Number(bytes.readBigUInt64LE(at + 16)),
      label: bytes.toString('utf8', at + FOOTER_BODY_BYTES, at + FOOTER_BODY_BYTES + labelBytes),
    })
    at += FOOTER_BODY_BYTES + labelBytes
  }
  return { segment, dataBytes, pageBytes, pageCrcs, bodies }
}
