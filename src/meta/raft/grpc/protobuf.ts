/**
 * The protobuf wire format (protobuf.dev/programming-guides/encoding), as much of it as etcd's messages need: a message is a sequence of
 * `tag value`, where a tag is `field number << 3 | wire type` as a varint. Wire type 0 is a varint, 2 a length and so many bytes; 1 and 5 are 8 and 4
 * bytes, which no field here has, and which are skipped like every field that is not known.
 *
 * A message is described by a table, name to `[field number, kind]`; the kinds say as what a field is held here. Numbers of enumerations are `number`s:
 * their names differ between protocol files in circulation, their numbers cannot. Fields that are absent, or hold their type's zero, are not sent,
 * and come back as zero; a message inside a message is sent when it is given, even if it is empty.
 */
import { AssertionFailed, assert } from '../../../common/assert.ts'
import type { ByteString } from '../../../common/ids.ts'

export type Kind =
  /** bytes, as a ByteString */
  | 'key'
  /** bytes; decoded into memory of its own */
  | 'value'
  /** string */
  | 'text'
  /** int64, int32 or an enumeration, as a safe integer that is not negative */
  | 'number'
  /** int64 or uint64 that may need all 64 bits, as decimal text */
  | 'id'
  | 'bool'

interface Held {
  readonly key: ByteString
  readonly value: Uint8Array
  readonly text: string
  readonly number: number
  readonly id: string
  readonly bool: boolean
}

type Scalar = { readonly [K in Kind]: readonly [number: number, kind: K] }[Kind]
type Field =
  | Scalar
  | readonly [number: number, of: () => Schema<never>, repeated?: true]
  | readonly [number, Kind, true]

type FieldOf<T> = [T] extends [readonly (infer E)[]]
  ? readonly [number, KindOf<E> | (() => Schema<E>), true]
  : readonly [number, KindOf<T> | (() => Schema<T>)]
type KindOf<T> = { [K in Kind]: [T, Held[K]] extends [Held[K], T] ? K : never }[Kind]

/** Field numbers and kinds of a message, held to its type. */
export type Schema<T> = { readonly [F in keyof T]-?: FieldOf<NonNullable<T[F]>> }

interface Entry {
  readonly name: string
  readonly number: number
  readonly kind: Kind | 'message'
  readonly of: (() => Schema<never>) | undefined
  readonly repeated: boolean
}

interface Table {
  readonly entries: readonly Entry[]
  readonly byNumber: ReadonlyMap<number, Entry>
}

/** What a decoder sees of its schema; made once for each. */
const tables = new WeakMap<object, Table>()

function tableOf(schema: object): Table {
  const known = tables.get(schema)
  if (known !== undefined) return known
  const entries = Object.entries(schema as Record<string, Field>).map(([name, [number, of, repeated]]): Entry => {
    const kind = typeof of === 'function' ? 'message' : of
    return { name, number, kind, of: typeof of === 'function' ? of : undefined, repeated: repeated === true }
  })
  const table = { entries, byNumber: new Map(entries.map((entry) => [entry.number, entry])) }
  tables.set(schema, table)
  return table
}

const VARINT = 0
const FIXED_64 = 1
const BYTES = 2
const FIXED_32 = 5
const FIRST_BUFFER_BYTES = 512

export function encode<T>(schema: Schema<T>, message: Partial<T>): Buffer {
  const writer = new BackwardWriter()
  encodeInto(writer, schema, message)
  return writer.written()
}

/** @throws an AssertionFailed for nothing that a peer sends: what is no message is a RangeError */
export function decode<T>(schema: Schema<T>, bytes: Buffer): T {
  return decodeFrom(new Reader(bytes, 0, bytes.length), schema) as T
}

/** Written from the end to the start, so that the length of what lies inside is known when its place comes. */
class BackwardWriter {
  #buffer = Buffer.allocUnsafe(FIRST_BUFFER_BYTES)
  #start = FIRST_BUFFER_BYTES

  written(): Buffer {
    return this.#buffer.subarray(this.#start)
  }

  get bytes(): number {
    return this.#buffer.length - this.#start
  }

  #room(bytes: number): number {
    if (bytes > this.#start) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.bytes + bytes))
      const start = larger.length - this.bytes
      this.#buffer.copy(larger, start, this.#start)
      this.#buffer = larger
      this.#start = start
    }
    this.#start -= bytes
    return this.#start
  }

  varint(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, `a number of a message is ${value}`)
    let length = 1
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++
    let at = this.#room(length)
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#buffer[at++] = (rest % 0x80) | 0x80
    this.#buffer[at] = rest
  }

  bigVarint(value: bigint): void {
    const bytes: number[] = []
    let rest = BigInt.asUintN(64, value)
    for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
    bytes.push(Number(rest))
    this.#buffer.set(bytes, this.#room(bytes.length))
  }

  latin1(text: string): void {
    const at = this.#room(text.length)
    this.#buffer.write(text, at, text.length, 'latin1')
  }

  copy(bytes: Uint8Array): void {
    const at = this.#room(bytes.length)
    this.#buffer.set(bytes, at)
  }
}

function encodeInto(writer: BackwardWriter, schema: object, message: Record<string, unknown>): void {
  const { entries } = tableOf(schema)
  for (let index = entries.length - 1; index >= 0; index--) {
    const entry = entries[index] as Entry
    const held = message[entry.name]
    if (held === undefined) continue
    if (!entry.repeated) encodeField(writer, entry, held)
    else for (const one of (held as readonly unknown[]).toReversed()) encodeField(writer, entry, one)
  }
}

function encodeField(writer: BackwardWriter, entry: Entry, held: unknown): void {
  const before = writer.bytes
  switch (entry.kind) {
    case 'number':
    case 'bool':
      if (!entry.repeated && (held === 0 || held === false)) return
      writer.varint(Number(held))
      return writer.varint((entry.number << 3) | VARINT)
    case 'id':
      if (!entry.repeated && held === '0') return
      writer.bigVarint(BigInt(held as string))
      return writer.varint((entry.number << 3) | VARINT)
    case 'key':
      writer.latin1(held as ByteString)
      break
    case 'text':
      writer.copy(Buffer.from(held as string, 'utf8'))
      break
    case 'value':
      writer.copy(held as Uint8Array)
      break
    case 'message':
      encodeInto(writer, (entry.of as () => object)(), held as Record<string, unknown>)
      break
  }
  const length = writer.bytes - before
  if (length === 0 && entry.kind !== 'message' && !entry.repeated) return
  writer.varint(length)
  writer.varint((entry.number << 3) | BYTES)
}

class Reader {
  readonly bytes: Buffer
  at: number
  readonly end: number

  constructor(bytes: Buffer, at: number, end: number) {
    if (end > bytes.length) throw new RangeError('a message is cut short')
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) break
    }
    if (!Number.isSafeInteger(value)) throw new RangeError('a number of a message is larger than a safe integer')
    return value
  }

  bigVarint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new RangeError('a varint of a message is too long')
  }

  /** The next so many bytes, as told by their length before them. */
  within(): Reader {
    const length = this.varint()
    const start = this.at
    this.#skip(length)
    return new Reader(this.bytes, start, start + length)
  }

  skip(wireType: number): void {
    if (wireType === VARINT) this.bigVarint()
    else if (wireType === BYTES) this.within()
    else if (wireType === FIXED_64) this.#skip(8)
    else if (wireType === FIXED_32) this.#skip(4)
    else throw new RangeError(`a field of a message has wire type ${wireType}`)
  }

  #byte(): number {
    if (this.at >= this.end) throw new RangeError('a message is cut short')
    return this.bytes[this.at++] as number
  }

  #skip(bytes: number): void {
    if (bytes > this.end - this.at) throw new RangeError('a message is cut short')
    this.at += bytes
  }
}

const NO_BYTES = new Uint8Array(0)
const ZERO_BY_KIND: Readonly<Record<Kind | 'message', unknown>> = {
  key: '',
  value: NO_BYTES,
  text: '',
  number: 0,
  id: '0',
  bool: false,
  message: undefined,
}

function decodeFrom(reader: Reader, schema: object): unknown {
  const table = tableOf(schema)
  const message: Record<string, unknown> = {}
  for (const entry of table.entries) message[entry.name] = entry.repeated ? [] : ZERO_BY_KIND[entry.kind]
  while (reader.at < reader.end) {
    const tag = reader.varint()
    const entry = table.byNumber.get(tag >>> 3)
    if (entry === undefined) reader.skip(tag & 7)
    else decodeField(reader, entry, { wireType: tag & 7, message })
  }
  return message
}

function decodeField(
  reader: Reader,
  entry: Entry,
  { wireType, message }: { wireType: number; message: Record<string, unknown> },
): void {
  const isVarint = entry.kind === 'number' || entry.kind === 'id' || entry.kind === 'bool'
  // Repeated numbers come packed from a proto3 peer: many in one field of bytes.
  if (isVarint && entry.repeated && wireType === BYTES) {
    for (const inner = reader.within(); inner.at < inner.end;)
      (message[entry.name] as unknown[]).push(decodeOne(inner, entry))
    return
  }
  if (wireType !== (isVarint ? VARINT : BYTES)) throw new RangeError(`${entry.name} has wire type ${wireType}`)
  const held = decodeOne(reader, entry)
  if (entry.repeated) (message[entry.name] as unknown[]).push(held)
  else message[entry.name] = held
}

function decodeOne(reader: Reader, entry: Entry): unknown {
  switch (entry.kind) {
    case 'number':
      return reader.varint()
    case 'bool':
      return reader.bigVarint() !== 0n
    case 'id':
      return reader.bigVarint().toString()
    case 'key': {
      const { bytes, at, end } = reader.within()
      return bytes.toString('latin1', at, end)
    }
    case 'text': {
      const { bytes, at, end } = reader.within()
      return bytes.toString('utf8', at, end)
    }
    case 'value': {
      const { bytes, at, end } = reader.within()
      return Uint8Array.prototype.slice.call(bytes, at, end)
    }
    case 'message':
      return decodeFrom(reader.within(), (entry.of as () => object)())
    default:
      throw new AssertionFailed(`unhandled kind of ${entry.name}`)
  }
}
