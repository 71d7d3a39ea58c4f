/**
 * The binary framing of a batch (`application/vnd.tidegate.batch`), which client and KV door share. A request and its answer
 * have the same layout; integers are little-endian.
 *
 *     message    magic   4 bytes: `TGQ1` asks, `TGA1` answers
 *                count   u32: frames that follow, at most 1,000
 *                frame * count
 *
 *     frame      code    u16: of an operation 1 get, 2 put, 3 delete, 4 exists; of a result its HTTP status
 *                key     u16: bytes of the key; 0 in a result
 *                fields  u32: bytes of the fields, at most 16 KiB
 *                value   u32: bytes of the value, at most 8 MiB; 0 for all but a put and the result of a get
 *                the key in UTF-8, the fields, the value
 *
 *     field      tag     u8
 *                length  u16
 *                bytes: of a text UTF-8, of a number a u64, of a truth one byte 0 or 1, of `metadata` a u16 length of the name, the
 *                name, and the value to the end
 *
 *     tag   field         kind      in
 *     1     contentType   text      put, result of get
 *     2     metadata      pair      put, result of get; as often as there are names
 *     3     ifMatch       text      put, delete; as the header of that name
 *     4     ifNoneMatch   text      put, delete
 *     5     ttlMs         number    put
 *     6     etag          text      results of get and put; without quotes
 *     7     revision      number    results of get, put and delete
 *     8     modifiedMs    number    result of get
 *     9     expiresMs     number    results of get and put, if it expires
 *     10    existed       truth     result of delete
 *     11    exists        truth     result of exists
 *     12    errorCode     text      a result that failed
 *     13    errorDetail   text      a result that failed
 *
 * A message is valid if it has exactly `count` frames and ends there; every tag is known and, but for `metadata`, given once;
 * texts are UTF-8; numbers are below 2^53. Everything else is InvalidRequest, and the reader stops at that place. What a field
 * means is for whoever reads it: here a get may well carry a `ttlMs`, and the door refuses it.
 *
 * The reader takes chunks as they come and hands on bytes of values as views of them, so it holds no more than one head (key and
 * fields) in memory, whatever lengths a sender claims.
 */
import { isUtf8 } from 'node:buffer'
import { assert } from './assert.ts'
import { TidegateError } from './errors.ts'

export const BATCH_CONTENT_TYPE = 'application/vnd.tidegate.batch'
export const BATCH_FRAMES_MAX = 1000
export const BATCH_FIELD_BYTES_MAX: number = 16 * 1024
export const BATCH_VALUE_BYTES_MAX: number = 8 * 1024 * 1024

export const BATCH_CODES = { get: 1, put: 2, delete: 3, exists: 4 } as const

export type BatchMessage = 'request' | 'answer'

export interface BatchFields {
  contentType?: string
  metadata?: Record<string, string>
  ifMatch?: string
  ifNoneMatch?: string
  ttlMs?: number
  etag?: string
  revision?: number
  modifiedMs?: number
  expiresMs?: number
  existed?: boolean
  exists?: boolean
  errorCode?: string
  errorDetail?: string
}

/** What stands before a value. */
export interface BatchFrame {
  /** One of `BATCH_CODES`, or a status. */
  readonly code: number
  /** Empty in a result. */
  readonly key: string
  readonly fields: BatchFields
  readonly valueBytes: number
}

export type BatchPiece =
  | { readonly kind: 'count'; readonly count: number }
  /** Its value follows, in one piece or more, unless `valueBytes` is 0. */
  | { readonly kind: 'frame'; readonly frame: BatchFrame }
  /** A view of the chunk that was written. */
  | { readonly kind: 'value'; readonly bytes: Uint8Array; readonly last: boolean }

type FieldName = keyof BatchFields
type FieldKind = 'text' | 'number' | 'truth' | 'pair'

const FIELDS = {
  contentType: { tag: 1, kind: 'text' },
  metadata: { tag: 2, kind: 'pair' },
  ifMatch: { tag: 3, kind: 'text' },
  ifNoneMatch: { tag: 4, kind: 'text' },
  ttlMs: { tag: 5, kind: 'number' },
  etag: { tag: 6, kind: 'text' },
  revision: { tag: 7, kind: 'number' },
  modifiedMs: { tag: 8, kind: 'number' },
  expiresMs: { tag: 9, kind: 'number' },
  existed: { tag: 10, kind: 'truth' },
  exists: { tag: 11, kind: 'truth' },
  errorCode: { tag: 12, kind: 'text' },
  errorDetail: { tag: 13, kind: 'text' },
} as const satisfies Record<FieldName, { tag: number; kind: FieldKind }>

const FIELD_BY_TAG = new Map<number, { name: FieldName; kind: FieldKind }>(
  Object.entries(FIELDS).map(([name, { tag, kind }]) => [tag, { name: name as FieldName, kind }]),
)

const MAGIC: Readonly<Record<BatchMessage, string>> = { request: 'TGQ1', answer: 'TGA1' }
const MESSAGE_HEAD_BYTES = 8
const FRAME_HEAD_BYTES = 12
const FIELD_HEAD_BYTES = 3
/** A u64 is written as two of these. */
const WORD = 2 ** 32

/** What a message begins with. */
export function encodeBatchHead(message: BatchMessage, count: number): Buffer {
  assert(count >= 0 && count <= BATCH_FRAMES_MAX, `${count} frames in a batch`)
  const bytes = Buffer.allocUnsafe(MESSAGE_HEAD_BYTES)
  bytes.write(MAGIC[message], 'latin1')
  bytes.writeUInt32LE(count, 4)
  return bytes
}

/** A frame up to its value, whose bytes are to follow. */
export function encodeBatchFrame({ code, key, fields, valueBytes }: BatchFrame): Buffer {
  assert(valueBytes <= BATCH_VALUE_BYTES_MAX, `a value of ${valueBytes} bytes in a batch`)
  const keyBytes = Buffer.byteLength(key)
  const fieldBytes = lengthOfFields(fields)
  assert(fieldBytes <= BATCH_FIELD_BYTES_MAX, `${fieldBytes} bytes of fields in a batch`)
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + keyBytes + fieldBytes)
  bytes.writeUInt16LE(code, 0)
  bytes.writeUInt16LE(keyBytes, 2)
  bytes.writeUInt32LE(fieldBytes, 4)
  bytes.writeUInt32LE(valueBytes, 8)
  let at = FRAME_HEAD_BYTES + bytes.write(key, FRAME_HEAD_BYTES)
  for (const name in fields) at = writeField(bytes, at, name as FieldName, fields[name as FieldName])
  return bytes
}

/** How many bytes `encodeBatchFrame` makes of them; it takes BATCH_FIELD_BYTES_MAX. */
export function lengthOfFields(fields: BatchFields): number {
  let length = 0
  for (const name in fields) {
    const value = fields[name as FieldName]
    if (typeof value === 'object') {
      for (const metaName in value) length += FIELD_HEAD_BYTES + lengthOfPair(metaName, value[metaName] ?? '')
    } else if (value !== undefined) {
      length += FIELD_HEAD_BYTES + lengthOfScalar(value)
    }
  }
  return length
}

function lengthOfScalar(value: string | number | boolean): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : typeof value === 'number' ? 8 : 1
}

function lengthOfPair(name: string, value: string): number {
  return 2 + Buffer.byteLength(name) + Buffer.byteLength(value)
}

/** Returns where the next one goes. */
function writeField(bytes: Buffer, start: number, name: FieldName, value: BatchFields[FieldName]): number {
  if (value === undefined) return start
  const { tag } = FIELDS[name]
  if (typeof value !== 'object') {
    const at = writeFieldHead(bytes, start, { tag, length: lengthOfScalar(value) })
    if (typeof value === 'string') return at + bytes.write(value, at)
    if (typeof value === 'boolean') return bytes.writeUInt8(value ? 1 : 0, at)
    bytes.writeUInt32LE(value % WORD, at)
    return bytes.writeUInt32LE(Math.floor(value / WORD), at + 4)
  }
  let at = start
  for (const metaName in value) {
    const metaValue = value[metaName] ?? ''
    at = writeFieldHead(bytes, at, { tag, length: lengthOfPair(metaName, metaValue) })
    at = bytes.writeUInt16LE(Buffer.byteLength(metaName), at)
    at += bytes.write(metaName, at)
    at += bytes.write(metaValue, at)
  }
  return at
}

function writeFieldHead(bytes: Buffer, at: number, { tag, length }: { tag: number; length: number }): number {
  return bytes.writeUInt16LE(length, bytes.writeUInt8(tag, at))
}

/** Takes a message apart while it comes. */
export class BatchReader {
  readonly #message: BatchMessage
  #state: 'message' | 'frame' | 'names' | 'value' | 'ended' = 'message'
  /** Bytes that the present state waits for; of a value, those still to come. */
  #wanted = MESSAGE_HEAD_BYTES
  /** Bytes of a head that came in earlier chunks. */
  #kept: Buffer = EMPTY
  #framesLeft = 0
  #head = { code: 0, keyBytes: 0, valueBytes: 0 }

  constructor(message: BatchMessage) {
    this.#message = message
  }

  /**
   * What the next chunk completes, in order. All pieces must be taken before the next chunk is read.
   * @throws InvalidRequest
   */
  *read(chunk: Uint8Array): Generator<BatchPiece, void> {
    let rest = asBuffer(chunk)
    while (rest.length > 0) {
      if (this.#state === 'ended') throw invalid('there are bytes after the last frame')
      if (this.#state === 'value') {
        const bytes = rest.subarray(0, this.#wanted)
        rest = rest.subarray(bytes.length)
        this.#wanted -= bytes.length
        const last = this.#wanted === 0
        if (last) this.#nextFrame()
        yield { kind: 'value', bytes, last }
        continue
      }
      const missing = this.#wanted - this.#kept.length
      const taken = rest.subarray(0, missing)
      const bytes = this.#kept.length === 0 ? taken : Buffer.concat([this.#kept, taken])
      rest = rest.subarray(taken.length)
      if (bytes.length < this.#wanted) {
        // A copy: the chunk may be used again.
        this.#kept = Buffer.from(bytes)
        return
      }
      this.#kept = EMPTY
      const piece = this.#complete(bytes)
      if (piece !== undefined) yield piece
    }
  }

  /** There is no more. @throws InvalidRequest when there should be */
  end(): void {
    if (this.#state === 'message') throw invalid('it ends within its head')
    if (this.#state !== 'ended') throw invalid(`it ends with ${this.#framesLeft} frames missing`)
  }

  #complete(bytes: Buffer): BatchPiece | undefined {
    if (this.#state === 'message') return { kind: 'count', count: this.#begin(bytes) }
    if (this.#state === 'names') return { kind: 'frame', frame: this.#names(bytes) }
    const [code, keyBytes] = [bytes.readUInt16LE(0), bytes.readUInt16LE(2)]
    const [fieldBytes, valueBytes] = [bytes.readUInt32LE(4), bytes.readUInt32LE(8)]
    if (fieldBytes > BATCH_FIELD_BYTES_MAX) throw invalid(`a frame claims ${fieldBytes} bytes of fields`)
    if (valueBytes > BATCH_VALUE_BYTES_MAX) throw invalid(`a frame claims a value of ${valueBytes} bytes`)
    this.#head = { code, keyBytes, valueBytes }
    this.#state = 'names'
    this.#wanted = keyBytes + fieldBytes
    return this.#wanted > 0 ? undefined : { kind: 'frame', frame: this.#names(EMPTY) }
  }

  #begin(bytes: Buffer): number {
    const magic = bytes.toString('latin1', 0, 4)
    if (magic !== MAGIC[this.#message]) throw invalid(`it begins with ${JSON.stringify(magic)}`)
    const count = bytes.readUInt32LE(4)
    if (count > BATCH_FRAMES_MAX) throw invalid(`${count} frames are more than ${BATCH_FRAMES_MAX}`)
    this.#framesLeft = count + 1
    this.#nextFrame()
    return count
  }

  #names(bytes: Buffer): BatchFrame {
    const { code, keyBytes, valueBytes } = this.#head
    const key = text(bytes.subarray(0, keyBytes), 'a key')
    const fields = decodeFields(bytes.subarray(keyBytes))
    this.#state = 'value'
    this.#wanted = valueBytes
    if (valueBytes === 0) this.#nextFrame()
    return { code, key, fields, valueBytes }
  }

  #nextFrame(): void {
    this.#framesLeft--
    this.#state = this.#framesLeft > 0 ? 'frame' : 'ended'
    this.#wanted = FRAME_HEAD_BYTES
  }
}

function decodeFields(bytes: Buffer): BatchFields {
  const fields: BatchFields = {}
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < FIELD_HEAD_BYTES) throw invalid('a field is cut short')
    const [tag, length] = [bytes.readUInt8(at), bytes.readUInt16LE(at + 1)]
    const value = bytes.subarray(at + FIELD_HEAD_BYTES, at + FIELD_HEAD_BYTES + length)
    if (value.length < length) throw invalid('a field is cut short')
    const field = FIELD_BY_TAG.get(tag)
    if (field === undefined) throw invalid(`the tag ${tag} names no field`)
    decodeField(fields, field, value)
    at += FIELD_HEAD_BYTES + length
  }
  return fields
}

function decodeField(fields: BatchFields, field: { name: FieldName; kind: FieldKind }, value: Buffer): void {
  const { name, kind } = field
  if (kind === 'pair') {
    const [metaName, metaValue] = decodePair(value)
    const metadata = (fields.metadata ??= {})
    if (Object.hasOwn(metadata, metaName)) throw invalid(`the metadata ${JSON.stringify(metaName)} comes twice`)
    // Not by assignment: a name may be `__proto__`.
    Object.defineProperty(metadata, metaName, {
      value: metaValue,
      enumerable: true,
      writable: true,
      configurable: true,
    })
    return
  }
  if (Object.hasOwn(fields, name)) throw invalid(`the field ${name} comes twice`)
  const decoded = kind === 'text' ? text(value, name) : kind === 'number' ? number(value, name) : truth(value, name)
  Object.assign(fields, { [name]: decoded })
}

function decodePair(value: Buffer): [name: string, value: string] {
  const nameEnd = value.length < 2 ? Infinity : 2 + value.readUInt16LE(0)
  if (nameEnd > value.length) throw invalid('a field metadata is cut short')
  return [text(value.subarray(2, nameEnd), 'a name of metadata'), text(value.subarray(nameEnd), 'metadata')]
}

function text(value: Buffer, what: string): string {
  if (!isUtf8(value)) throw invalid(`${what} is not UTF-8`)
  return value.toString('utf8')
}

function number(value: Buffer, name: string): number {
  const decoded = value.length === 8 ? Number(value.readBigUInt64LE()) : Number.NaN
  if (!Number.isSafeInteger(decoded)) throw invalid(`the field ${name} is no number`)
  return decoded
}

function truth(value: Buffer, name: string): boolean {
  if (value.length !== 1 || (value[0] !== 0 && value[0] !== 1)) throw invalid(`the field ${name} is neither 0 nor 1`)
  return value[0] === 1
}

const EMPTY = Buffer.alloc(0)

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function invalid(what: string): TidegateError {
  return new TidegateError('InvalidRequest', `not a batch in the binary framing: ${what}`)
}
