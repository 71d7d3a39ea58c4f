/**
 * The format of the change log that feeds `watch` (C7).
 *
 * The log has one row for a group of commits, written in the batch that makes the group durable, so that it costs little:
 *
 *   key     'J' 0x01, last revision of the group (8 bytes), number of revisions in the row (4 bytes)
 *   value   for each revision, ascending: revision (8 bytes), number of keys (varint), and for each key
 *           its length (varint), the key, and a varint: 0 deleted, 1 written but the value is not kept here,
 *           2 + n written and n bytes of value follow
 *
 * Integers of fixed width are big-endian; varints have 7 bits a byte, lowest first, the high bit set on all but the last.
 * Because the key ends a group, a scan that starts at revision r begins with the row that holds r, if one does. A revision
 * that changed nothing watched is not in the log, and a group of only such revisions has no row.
 */
import { assert } from '../../common/assert.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Change, ChangedRow, KeyRange } from '../ports.ts'
import type { RowChanges } from './ports.ts'

const LOG_PREFIX = 'J\x01' as ByteString

const TAG_DELETED = 0
const TAG_NOT_KEPT = 1
const TAG_VALUE = 2

export function isLogKey(key: ByteString): boolean {
  return key.startsWith(LOG_PREFIX)
}

/** The rows of the log whose last revision is in [from, through]. */
export function logRange(from: Revision, through: Revision): KeyRange {
  return {
    start: `${LOG_PREFIX}${uint64Key(from)}` as ByteString,
    end: `${LOG_PREFIX}${uint64Key(through + 1)}` as ByteString,
  }
}

export function logKey(lastRevision: Revision, revisions: number): ByteString {
  const count = Buffer.allocUnsafe(4)
  count.writeUInt32BE(revisions)
  return `${LOG_PREFIX}${uint64Key(lastRevision)}${count.toString('latin1')}` as ByteString
}

export function parseLogKey(key: ByteString): { lastRevision: Revision; revisions: number } {
  const bytes = Buffer.from(key, 'latin1')
  assert(bytes.length === LOG_PREFIX.length + 12, 'a key of the change log')
  return { lastRevision: readUint64(bytes, LOG_PREFIX.length), revisions: bytes.readUInt32BE(LOG_PREFIX.length + 8) }
}

/** What one revision changed, on its way into the log. */
export interface LoggedCommit {
  readonly revision: Revision
  readonly changes: RowChanges
}

export function encodeLog(commits: readonly LoggedCommit[], valueBytesMax: number): Uint8Array {
  let size = 0
  for (const { changes } of commits) {
    size += 8 + VARINT_BYTES_MAX
    for (const [key, value] of changes) size += 2 * VARINT_BYTES_MAX + key.length + (value?.length ?? 0)
  }
  const bytes = Buffer.allocUnsafeSlow(size)
  let at = 0
  for (const { revision, changes } of commits) {
    at = writeVarint(bytes, changes.size, writeUint64(bytes, revision, at))
    for (const [key, value] of changes) {
      at = writeVarint(bytes, key.length, at)
      at += bytes.write(key, at, 'latin1')
      if (value === null) at = writeVarint(bytes, TAG_DELETED, at)
      else if (value.length > valueBytesMax) at = writeVarint(bytes, TAG_NOT_KEPT, at)
      else {
        at = writeVarint(bytes, TAG_VALUE + value.length, at)
        bytes.set(value, at)
        at += value.length
      }
    }
  }
  return bytes.subarray(0, at)
}

/** Changes of keys under `prefix`, from revision `from` on; revisions without any are left out. */
export function decodeLog(row: Uint8Array, prefix: ByteString, from: Revision): Change[] {
  const reader = new LogReader(row)
  const changes: Change[] = []
  while (!reader.done) {
    const revision = reader.uint64()
    const rows: ChangedRow[] = []
    for (let left = reader.varint(); left > 0; left--) {
      const key = reader.text(reader.varint())
      const tag = reader.varint()
      const value = tag < TAG_VALUE ? undefined : reader.bytes(tag - TAG_VALUE)
      if (key.startsWith(prefix)) rows.push({ key, value, deleted: tag === TAG_DELETED })
    }
    if (revision >= from && rows.length > 0) changes.push({ revision, rows })
  }
  return changes
}

class LogReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(row: Uint8Array) {
    this.#bytes = Buffer.from(row.buffer, row.byteOffset, row.length)
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  uint64(): number {
    this.#at += 8
    return readUint64(this.#bytes, this.#at - 8)
  }

  varint(): number {
    let value = 0
    let unit = 1
    for (;;) {
      const byte = this.#bytes[this.#at++]
      assert(byte !== undefined, 'a whole row of the change log')
      value += (byte & 0x7f) * unit
      if (byte < 0x80) return value
      unit *= 128
    }
  }

  text(length: number): ByteString {
    this.#at += length
    return this.#bytes.toString('latin1', this.#at - length, this.#at) as ByteString
  }

  bytes(length: number): Uint8Array {
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

const VARINT_BYTES_MAX = 5

function writeVarint(bytes: Buffer, value: number, at: number): number {
  while (value >= 0x80) {
    bytes[at++] = (value & 0x7f) | 0x80
    value >>>= 7
  }
  bytes[at] = value
  return at + 1
}

export function writeUint64(bytes: Buffer, value: number, at: number): number {
  bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at)
  return bytes.writeUInt32BE(value % 2 ** 32, at + 4)
}

export function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
}

function uint64Key(value: number): string {
  const bytes = Buffer.allocUnsafe(8)
  writeUint64(bytes, value, 0)
  return bytes.toString('latin1')
}
