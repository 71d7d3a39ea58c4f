/**
 * The format of a pack: a file of the disk level that holds blocks of any segments, appended one after the other.
 *
 *   +--------+------------------+------------------+ ... +--------+---------+
 *   | header | record | block   | record | block   |     | footer | trailer |
 *   +--------+------------------+------------------+ ... +--------+---------+
 *
 * Integers are little-endian.
 *
 * Header, 64 bytes:
 *
 *   0  magic       u32  'TGC1'
 *   4  crc         u32  CRC-32 of bytes 8..64
 *   8  blockBytes  u32  a pack of a gateway with other blocks is of no use
 *  12  pageBytes   u32
 *  16  zeros
 *
 * Record, a multiple of 64 bytes, as long as a whole block needs it; the block follows at once, and the next record begins at the
 * next multiple of 64:
 *
 *   0  magic       u32  'TGR1'
 *   4  crc         u32  CRC-32 of the rest of the record
 *   8  segment     16 bytes
 *  24  block       u32
 *  28  length      u32  1..blockBytes
 *  32  page CRCs   one u32 for each page of the block, then zeros
 *
 * Footer: the records again, without magic and crc but with the position of the block (u32) before the page CRCs; each with CRCs
 * for as many pages as a whole block has. Trailer, the last 16 bytes: magic u32 'TGE1', records u32, CRC-32 u32 of the footer and
 * of the trailer's first 8 bytes, zeros u32.
 *
 * Valid: what the footer lists; in a pack that a crash left without one, each record up to the first that does not check. A block is
 * valid if its pages check, which is looked at whenever it is read: nothing here is ever synced, and a power cut may leave a footer
 * over blocks that were not written. A record never says more than that there was such a block of that segment.
 */
import { crc32 } from 'node:zlib'
import { assert } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'

export const PACK_HEADER_BYTES = 64
export const PACK_TRAILER_BYTES = 16
const ALIGNMENT_BYTES = 64
const RECORD_FIELDS_BYTES = 32
const FOOTER_FIELDS_BYTES = 28
const HEADER_MAGIC = 0x31434754
const RECORD_MAGIC = 0x31524754
const TRAILER_MAGIC = 0x31454754

export interface PackGeometry {
  readonly blockBytes: number
  readonly pageBytes: number
}

export interface PackRecord {
  readonly segment: SegmentId
  readonly block: number
  readonly length: number
  /** Of the block's first byte in the file. */
  readonly position: number
  /** One for each page of the block. */
  readonly pageCrcs: Uint32Array
}

export function recordBytes({ blockBytes, pageBytes }: PackGeometry): number {
  return aligned(RECORD_FIELDS_BYTES + 4 * (blockBytes / pageBytes))
}

export function footerRecordBytes({ blockBytes, pageBytes }: PackGeometry): number {
  return FOOTER_FIELDS_BYTES + 4 * (blockBytes / pageBytes)
}

/** What a block takes in a pack, with its record and its share of the footer. */
export function packedBytes(geometry: PackGeometry, length: number): number {
  return aligned(recordBytes(geometry) + length) + footerRecordBytes(geometry)
}

export function pagesOf(length: number, pageBytes: number): number {
  return Math.ceil(length / pageBytes)
}

/** Where the next record begins after a block that ends here. */
export function aligned(position: number): number {
  return Math.ceil(position / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}

export function encodePackHeader({ blockBytes, pageBytes }: PackGeometry): Buffer {
  const bytes = Buffer.alloc(PACK_HEADER_BYTES)
  bytes.writeUInt32LE(HEADER_MAGIC, 0)
  bytes.writeUInt32LE(blockBytes, 8)
  bytes.writeUInt32LE(pageBytes, 12)
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4)
  return bytes
}

export function isPackHeader(geometry: PackGeometry, bytes: Buffer): boolean {
  return bytes.equals(encodePackHeader(geometry))
}

/** Writes the record into the beginning of `into`. */
export function encodeRecord(geometry: PackGeometry, record: Omit<PackRecord, 'position'>, into: Buffer): void {
  const bytes = into.subarray(0, recordBytes(geometry)).fill(0)
  bytes.writeUInt32LE(RECORD_MAGIC, 0)
  bytes.write(record.segment, 8, 'hex')
  bytes.writeUInt32LE(record.block, 24)
  bytes.writeUInt32LE(record.length, 28)
  record.pageCrcs.forEach((crc, page) => bytes.writeUInt32LE(crc, RECORD_FIELDS_BYTES + 4 * page))
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4)
}

/** Undefined unless a record begins here. `start` is its place in the file. */
export function decodeRecord(geometry: PackGeometry, bytes: Buffer, start: number): PackRecord | undefined {
  const size = recordBytes(geometry)
  if (bytes.length < size || bytes.readUInt32LE(0) !== RECORD_MAGIC) return undefined
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8, size))) return undefined
  const length = bytes.readUInt32LE(28)
  if (length === 0 || length > geometry.blockBytes) return undefined
  return {
    segment: bytes.toString('hex', 8, 24) as SegmentId,
    block: bytes.readUInt32LE(24),
    length,
    position: start + size,
    pageCrcs: readCrcs(bytes, RECORD_FIELDS_BYTES, pagesOf(length, geometry.pageBytes)),
  }
}

export function encodePackFooter(geometry: PackGeometry, records: readonly PackRecord[]): Buffer {
  const size = footerRecordBytes(geometry)
  const bytes = Buffer.alloc(records.length * size + PACK_TRAILER_BYTES)
  records.forEach((record, index) => {
    const at = index * size
    assert(record.position < 2 ** 32, 'a pack is shorter than 4 GiB')
    bytes.write(record.segment, at, 'hex')
    bytes.writeUInt32LE(record.block, at + 16)
    bytes.writeUInt32LE(record.length, at + 20)
    bytes.writeUInt32LE(record.position, at + 24)
    record.pageCrcs.forEach((crc, page) => bytes.writeUInt32LE(crc, at + FOOTER_FIELDS_BYTES + 4 * page))
  })
  const trailer = bytes.subarray(bytes.length - PACK_TRAILER_BYTES)
  trailer.writeUInt32LE(TRAILER_MAGIC, 0)
  trailer.writeUInt32LE(records.length, 4)
  trailer.writeUInt32LE(crc32(bytes.subarray(0, bytes.length - 8)), 8)
  return bytes
}

/** Bytes of the footer with its trailer, as a trailer says, unchecked; undefined when it is none, or cannot be in this file. */
export function footerBytesOf(geometry: PackGeometry, trailer: Buffer, fileBytes: number): number | undefined {
  if (trailer.length !== PACK_TRAILER_BYTES || trailer.readUInt32LE(0) !== TRAILER_MAGIC) return undefined
  const bytes = trailer.readUInt32LE(4) * footerRecordBytes(geometry) + PACK_TRAILER_BYTES
  return bytes + PACK_HEADER_BYTES <= fileBytes ? bytes : undefined
}

/** Undefined when the footer does not check, or lists what cannot be in this file. */
export function decodePackFooter(geometry: PackGeometry, bytes: Buffer, fileBytes: number): PackRecord[] | undefined {
  const end = bytes.length - PACK_TRAILER_BYTES
  if (end < 0 || bytes.readUInt32LE(end + 8) !== crc32(bytes.subarray(0, end + 8))) return undefined
  const size = footerRecordBytes(geometry)
  const records: PackRecord[] = []
  for (let at = 0; at < end; at += size) {
    const length = bytes.readUInt32LE(at + 20)
    const position = bytes.readUInt32LE(at + 24)
    if (length === 0 || length > geometry.blockBytes || position + length > fileBytes) return undefined
    records.push({
      segment: bytes.toString('hex', at, at + 16) as SegmentId,
      block: bytes.readUInt32LE(at + 16),
      length,
      position,
      pageCrcs: readCrcs(bytes, at + FOOTER_FIELDS_BYTES, pagesOf(length, geometry.pageBytes)),
    })
  }
  return records
}

function readCrcs(bytes: Buffer, at: number, pages: number): Uint32Array {
  const crcs = new Uint32Array(pages)
  for (let page = 0; page < pages; page++) crcs[page] = bytes.readUInt32LE(at + 4 * page)
  return crcs
}
