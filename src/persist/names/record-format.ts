/** Records as a payload (format.ts): single objects, enough of each to put it back without the rows around it. */
import { TidegateError } from '../../common/errors.ts'
import { isSegmentId } from '../../common/ids.ts'
import type { Extent } from '../../common/model.ts'
import { PayloadReader, varintBytes, writeVarint } from './payload.ts'
import type { NameRecord } from './ports.ts'

const SEGMENT_ID_BYTES = 16
/** Revision, inode, five lengths and the number of extents. */
const VARINTS_OF_A_RECORD = 8

export function encodedRecordBytesMax(record: NameRecord): number {
  const texts = Buffer.byteLength(record.bucket) + Buffer.byteLength(record.key)
  const rows = record.bucketRow.length + record.inodeRow.length + record.entryRow.length
  const varint = varintBytes(Number.MAX_SAFE_INTEGER)
  return texts + rows + VARINTS_OF_A_RECORD * varint + record.extents.length * (3 * varint + SEGMENT_ID_BYTES)
}

export function encodeRecords(records: readonly NameRecord[]): Buffer {
  const bytes = Buffer.alloc(records.reduce((sum, record) => sum + encodedRecordBytesMax(record), 0))
  let at = 0
  const lengthAndBytes = (field: Uint8Array): void => {
    at = writeVarint(bytes, field.length, at)
    bytes.set(field, at)
    at += field.length
  }
  for (const record of records) {
    at = writeVarint(bytes, record.revision, at)
    at = writeVarint(bytes, record.inode, at)
    lengthAndBytes(Buffer.from(record.bucket))
    lengthAndBytes(Buffer.from(record.key))
    lengthAndBytes(record.bucketRow)
    lengthAndBytes(record.inodeRow)
    lengthAndBytes(record.entryRow)
    at = writeVarint(bytes, record.extents.length, at)
    for (const { offset, length, segment, segmentOffset } of record.extents) {
      at = writeVarint(bytes, length, writeVarint(bytes, offset, at))
      at += bytes.write(segment, at, 'hex')
      at = writeVarint(bytes, segmentOffset, at)
    }
  }
  return bytes.subarray(0, at)
}

/** Rows are parts of `payload`, not copies. @throws DataLost */
export function decodeRecords(payload: Buffer, count: number): NameRecord[] {
  const reader = new PayloadReader(payload)
  const records: NameRecord[] = []
  const lengthAndBytes = (): Buffer => reader.bytes(reader.varint())
  for (let left = count; left > 0; left--) {
    const revision = reader.varint()
    const inode = reader.varint()
    const bucket = lengthAndBytes().toString()
    const key = lengthAndBytes().toString()
    const rows = { bucketRow: lengthAndBytes(), inodeRow: lengthAndBytes(), entryRow: lengthAndBytes() }
    const extents: Extent[] = []
    for (let extentsLeft = reader.varint(); extentsLeft > 0; extentsLeft--) extents.push(readExtent(reader))
    records.push({ revision, bucket, key, inode, ...rows, extents })
  }
  if (!reader.done) throw new TidegateError('DataLost', 'an object under names/ holds more than its records')
  return records
}

function readExtent(reader: PayloadReader): Extent {
  const offset = reader.varint()
  const length = reader.varint()
  const segment = reader.bytes(SEGMENT_ID_BYTES).toString('hex')
  if (!isSegmentId(segment)) throw new TidegateError('DataLost', 'an object under names/ names no segment')
  return { offset, length, segment, segmentOffset: reader.varint() }
}
