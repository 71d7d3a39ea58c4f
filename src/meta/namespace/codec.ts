/**
 * The primitives that records are written with (their fields: records-*.ts).
 *
 *   integer    LEB128, least significant group first, up to 2^53 - 1: 1 to 8 bytes
 *   text       integer length in bytes, then UTF-8
 *   hex        the bytes that the lower-case hex digits stand for; the length is known from the field
 *   bytes      integer length, then the bytes
 *   rest       everything to the end of the record
 *
 * There are no field tags: records have a fixed field order, and what may be absent is announced by a bit mask before it.
 * The record version in the key says which order that is.
 */
import { assert } from '../../common/assert.ts'

const SCRATCH_BYTES = 16 * 1024
const SHORT_TEXT = 24

export class RecordWriter {
  #buffer = Buffer.allocUnsafe(SCRATCH_BYTES)
  #at = 0

  /** Starts a new record. One record at a time: encoding never awaits. */
  begin(): this {
    this.#at = 0
    return this
  }

  byte(value: number): void {
    this.#reserve(1)
    this.#buffer[this.#at++] = value
  }

  integer(value: number): void {
    // The message is made only where it is needed: there are very many integers.
    if (!Number.isSafeInteger(value) || value < 0) assert(false, `integer of a record: ${value}`)
    this.#reserve(8)
    let rest = value
    while (rest > 0x7fffffff) {
      this.#buffer[this.#at++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    while (rest > 127) {
      this.#buffer[this.#at++] = (rest & 127) | 128
      rest >>>= 7
    }
    this.#buffer[this.#at++] = rest
  }

  text(value: string): void {
    if (value.length <= SHORT_TEXT && this.#shortAscii(value)) return
    const bytes = Buffer.byteLength(value)
    this.integer(bytes)
    this.#reserve(bytes)
    this.#at += this.#buffer.write(value, this.#at, 'utf8')
  }

  /** A ByteString, kept byte by byte. */
  byteString(value: string): void {
    this.integer(value.length)
    this.#reserve(value.length)
    this.#at += this.#buffer.write(value, this.#at, 'latin1')
  }

  hex(digits: string): void {
    this.#reserve(digits.length / 2)
    const written = this.#buffer.write(digits, this.#at, 'hex')
    assert(written * 2 === digits.length, 'hex digits')
    this.#at += written
  }

  rest(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /** The record, as bytes of its own. */
  finish(): Uint8Array {
    const record = Buffer.allocUnsafe(this.#at)
    this.#buffer.copy(record, 0, 0, this.#at)
    return record
  }

  #shortAscii(value: string): boolean {
    this.#reserve(SHORT_TEXT + 1)
    const start = this.#at
    for (let i = 0; i < value.length; i++) {
      const char = value.charCodeAt(i)
      if (char > 127) return false
      this.#buffer[start + 1 + i] = char
    }
    this.#buffer[start] = value.length
    this.#at = start + 1 + value.length
    return true
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes))
    this.#buffer.copy(larger, 0, 0, this.#at)
    this.#buffer = larger
  }
}

export class RecordReader {
  readonly #buffer: Buffer
  #at = 0

  constructor(record: Uint8Array) {
    this.#buffer = record instanceof Buffer ? record : Buffer.from(record.buffer, record.byteOffset, record.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#buffer.length
  }

  byte(): number {
    const value = this.#buffer[this.#at++]
    assert(value !== undefined, 'a record is whole')
    return value
  }

  integer(): number {
    let byte = this.byte()
    if (byte < 128) return byte
    let value = byte & 127
    let scale = 128
    do {
      byte = this.byte()
      value += (byte & 127) * scale
      scale *= 128
    } while (byte >= 128)
    return value
  }

  /** 8 bytes, big-endian. */
  uint64(): number {
    const start = this.#advance(8)
    return this.#buffer.readUInt32BE(start) * 2 ** 32 + this.#buffer.readUInt32BE(start + 4)
  }

  text(): string {
    const length = this.integer()
    const start = this.#advance(length)
    return length === 0 ? '' : this.#buffer.toString('utf8', start, this.#at)
  }

  byteString(): string {
    const start = this.#advance(this.integer())
    return this.#buffer.toString('latin1', start, this.#at)
  }

  hex(bytes: number): string {
    const start = this.#advance(bytes)
    return this.#buffer.toString('hex', start, this.#at)
  }

  /** A view, not a copy: records are never changed. */
  rest(): Uint8Array {
    return this.#buffer.subarray(this.#advance(this.#buffer.length - this.#at))
  }

  #advance(bytes: number): number {
    const start = this.#at
    this.#at += bytes
    assert(this.#at <= this.#buffer.length, 'a record is whole')
    return start
  }
}

/** Encoding is synchronous, so one scratch buffer serves all. */
export const recordWriter: RecordWriter = new RecordWriter()
