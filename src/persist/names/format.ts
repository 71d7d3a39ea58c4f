/**
 * The format of objects under `names/` (docs/decisions/0013): the rows of metadata, on their way to the remote store and back. What they
 * are called: object-names.ts; which of them make a state: chain.ts. Whoever reads must go on reading what is written here for ever.
 *
 * Every object, whatever its kind: a head of 80 bytes, then the payload. Integers are little-endian.
 *
 *    0  u32  magic, `TGN1`
 *    4  u32  CRC-32 of bytes 8 to the end
 *    8  u8   version of this format: 1
 *    9  u8   kind: 1 part of a base, 2 end of a base, 3 part of a delta, 4 records
 *   10  u8   how the payload is stored: 0 as it is, 1 in one zstd frame
 *   11  u8   0
 *   12  u32  rows or records in this part
 *   16       lineage, 16 bytes
 *   32  u64  of a base the revision at which reading it began; of a delta the one after which it begins; of records the lowest
 *   40  u64  of the end of a base the revision at which reading it ended, of its parts that of the part; of a delta the one at which
 *            its rows were read; of records the highest
 *   48  u64  when it was captured, ms since 1970
 *   56  u32  part, from 0 on
 *   60  u32  parts of a delta; of the end of a base the number of its parts; else 0
 *   64  u64  bytes of the payload as it is
 *   72       random of the capture, 8 bytes: parts of two captures do not mix
 *
 * Payload of a base or a delta, ascending by key: for each row a varint and as many bytes of key, then a varint, 0: the row is gone (in
 * deltas only), 1 + n: n bytes of value. Payload of the end of a base: for each part the CRC-32 at its byte 4 (u32) and its length (u32).
 *
 * Payload of records, each: varints revision and inode; varint and bytes of bucket name, key, rows `B`, `I`, `D` as they are stored; a
 * varint, the number of extents, and for each varints offset and length, segment (16 bytes), varint offset in the segment.
 *
 * Varints have 7 bits a byte, lowest first, the high bit set on all but the last.
 *
 * Valid: the CRC is right, the payload has exactly the rows it says, and the head says what the name says. The CRC covers what is stored,
 * so that a damaged object is found out before anything is decompressed. Rows hold whatever metadata holds, hashes of tokens among it:
 * who can read the remote store can read names, as he can read the bytes.
 */
import { promisify } from 'node:util'
import { constants, crc32, zstdCompress, zstdDecompress } from 'node:zlib'
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { PARTS_MAX, type Lineage, type NamesObjectName } from './object-names.ts'
import type { NameRow } from './ports.ts'
import { PayloadReader, varintBytes, writeVarint } from './payload.ts'

export interface NamesHead {
  readonly kind: NamesObjectName['kind']
  readonly lineage: Lineage
  readonly from: Revision
  readonly through: Revision
  readonly capturedMs: number
  readonly part: number
  readonly parts: number
  readonly rows: number
  /** 16 hex digits. */
  readonly random: string
}

/** What the end of a base says of each of its parts. */
export interface BasePart {
  readonly crc: number
  readonly bytes: number
}

export const NAMES_HEAD_BYTES = 80
/** Payloads are cut into parts at about this; the last row of a part may pass it. */
export const PART_BYTES_MAX: number = 4 * 1024 * 1024
/** No object under `names/` is larger: one part, the largest row, and what incompressible bytes grow by. */
export const NAMES_OBJECT_BYTES_MAX: number = 64 * 1024 * 1024

const MAGIC = 0x314e4754
const VERSION = 1
const KINDS = { 'base-part': 1, 'base-whole': 2, delta: 3, records: 4 } as const satisfies Record<
  NamesObjectName['kind'],
  number
>
const STORED_PLAIN = 0
const STORED_ZSTD = 1
const COMPRESSED_BYTES_MIN = 512
const RANDOM_AT = 72
const BASE_PART_BYTES = 8

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)

/** The whole object. Compression runs on a thread of the pool. */
export async function encodeNamesObject(head: NamesHead, payload: Uint8Array): Promise<Buffer> {
  assert(head.part <= PARTS_MAX && head.parts <= PARTS_MAX, 'parts that a name can count')
  assert(payload.length <= NAMES_OBJECT_BYTES_MAX - NAMES_HEAD_BYTES, 'an object that will be read again')
  let stored = payload
  if (payload.length >= COMPRESSED_BYTES_MIN) {
    const packed = await compress(payload, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
    if (packed.length < payload.length) stored = packed
  }
  const bytes = Buffer.alloc(NAMES_HEAD_BYTES + stored.length)
  bytes.writeUInt32LE(MAGIC, 0)
  bytes[8] = VERSION
  bytes[9] = KINDS[head.kind]
  bytes[10] = stored === payload ? STORED_PLAIN : STORED_ZSTD
  bytes.writeUInt32LE(head.rows, 12)
  bytes.write(head.lineage, 16, 'hex')
  bytes.writeBigUInt64LE(BigInt(head.from), 32)
  bytes.writeBigUInt64LE(BigInt(head.through), 40)
  bytes.writeBigUInt64LE(BigInt(head.capturedMs), 48)
  bytes.writeUInt32LE(head.part, 56)
  bytes.writeUInt32LE(head.parts, 60)
  bytes.writeBigUInt64LE(BigInt(payload.length), 64)
  bytes.write(head.random, RANDOM_AT, 'hex')
  bytes.set(stored, NAMES_HEAD_BYTES)
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4)
  return bytes
}

/** @throws DataLost when it is damaged, or of a version that this program does not know */
export async function decodeNamesObject(bytes: Buffer): Promise<{ head: NamesHead; payload: Buffer }> {
  if (bytes.length < NAMES_HEAD_BYTES || bytes.readUInt32LE(0) !== MAGIC) throw damaged('it is none')
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8))) throw damaged('its checksum is wrong')
  if (bytes[8] !== VERSION) throw damaged(`it is of version ${bytes[8]}, and this program knows ${VERSION}`)
  const kind = (Object.keys(KINDS) as NamesHead['kind'][]).find((name) => KINDS[name] === bytes[9])
  if (kind === undefined) throw damaged(`it is of a kind ${bytes[9]} that this program does not know`)
  const payloadBytes = Number(bytes.readBigUInt64LE(64))
  if (payloadBytes > NAMES_OBJECT_BYTES_MAX) throw damaged(`it holds ${payloadBytes} bytes`)
  const head: NamesHead = {
    kind,
    lineage: bytes.toString('hex', 16, 32),
    from: Number(bytes.readBigUInt64LE(32)),
    through: Number(bytes.readBigUInt64LE(40)),
    capturedMs: Number(bytes.readBigUInt64LE(48)),
    part: bytes.readUInt32LE(56),
    parts: bytes.readUInt32LE(60),
    rows: bytes.readUInt32LE(12),
    random: bytes.toString('hex', RANDOM_AT, NAMES_HEAD_BYTES),
  }
  const payload = await payloadOf(bytes, payloadBytes)
  if (payload.length !== payloadBytes) throw damaged(`it holds ${payload.length} bytes and not ${payloadBytes}`)
  return { head, payload }
}

async function payloadOf(bytes: Buffer, payloadBytes: number): Promise<Buffer> {
  const stored = bytes.subarray(NAMES_HEAD_BYTES)
  if (bytes[10] === STORED_PLAIN) return stored
  if (bytes[10] !== STORED_ZSTD) throw damaged('it is stored in a way that this program does not know')
  try {
    return await decompress(stored, { maxOutputLength: Math.max(payloadBytes, 1) })
  } catch (cause) {
    throw damaged((cause as Error).message)
  }
}

/** The CRC-32 of an encoded object, which the end of a base repeats. */
export function namesObjectCrc(encoded: Buffer): number {
  return encoded.readUInt32LE(4)
}

/** Whether an object is the one that its name promises: one may have been copied over another. */
export function headMatchesName(head: NamesHead, lineage: Lineage, name: NamesObjectName): boolean {
  if (head.kind !== name.kind || head.lineage !== lineage || head.random !== name.random) return false
  switch (name.kind) {
    case 'delta':
      return (
        head.from === name.after &&
        head.through === name.through &&
        head.part === name.part &&
        head.parts === name.parts
      )
    case 'base-part':
      return head.from === name.begin && head.part === name.part
    case 'base-whole':
      return head.from === name.begin && head.through === name.end && head.parts === name.parts
    case 'records':
      return head.from === name.from && head.through === name.through
  }
}

export function encodedRowBytesMax({ key, value }: NameRow): number {
  return key.length + (value?.length ?? 0) + 2 * varintBytes(2 ** 32)
}

/** Ascending by key. */
export function encodeRows(rows: readonly NameRow[]): Buffer {
  const bytes = Buffer.allocUnsafeSlow(rows.reduce((sum, row) => sum + encodedRowBytesMax(row), 0))
  let at = 0
  for (const { key, value } of rows) {
    at = writeVarint(bytes, key.length, at)
    at += bytes.write(key, at, 'latin1')
    at = writeVarint(bytes, value === undefined ? 0 : value.length + 1, at)
    if (value === undefined) continue
    bytes.set(value, at)
    at += value.length
  }
  return bytes.subarray(0, at)
}

/** Values are parts of `payload`, not copies. @throws DataLost */
export function decodeRows(payload: Buffer, rows: number): NameRow[] {
  const reader = new PayloadReader(payload)
  const decoded: NameRow[] = []
  for (let left = rows; left > 0; left--) {
    const key = reader.bytes(reader.varint()).toString('latin1') as ByteString
    const valueBytes = reader.varint() - 1
    decoded.push({ key, value: valueBytes < 0 ? undefined : reader.bytes(valueBytes) })
    const before = decoded.at(-2)
    if (before && before.key >= key) throw damaged('its rows are not in order')
  }
  if (!reader.done) throw damaged('it holds more than its rows')
  return decoded
}

export function encodeBaseEnd(parts: readonly BasePart[]): Buffer {
  const bytes = Buffer.alloc(parts.length * BASE_PART_BYTES)
  for (const [index, { crc, bytes: partBytes }] of parts.entries()) {
    bytes.writeUInt32LE(crc, index * BASE_PART_BYTES)
    bytes.writeUInt32LE(partBytes, index * BASE_PART_BYTES + 4)
  }
  return bytes
}

/** @throws DataLost */
export function decodeBaseEnd(payload: Buffer, parts: number): BasePart[] {
  if (payload.length !== parts * BASE_PART_BYTES) throw damaged('the end of a base does not tell of all its parts')
  return Array.from({ length: parts }, (_, index) => ({
    crc: payload.readUInt32LE(index * BASE_PART_BYTES),
    bytes: payload.readUInt32LE(index * BASE_PART_BYTES + 4),
  }))
}

function damaged(what: string): TidegateError {
  return new TidegateError('DataLost', `an object under names/ cannot be used: ${what}`)
}
