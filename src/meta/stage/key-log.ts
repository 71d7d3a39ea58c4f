/**
 * The key log: which rows each group of commits changed, by key alone. For whoever copies the rows elsewhere and must learn, also after a
 * restart, what has changed since (docs/decisions/0013). The change log (change-log.ts) does not tell: it holds values, for watchers, and so
 * only of a few tables and for not many revisions.
 *
 *   key     'Y' 0x01, last revision of the group (8 bytes), bytes of the value (4 bytes)
 *   value   for each key its length (varint) and the key, each key once
 *
 *   key     'M' 0x01 'keys'
 *   value   format (1 byte), revision after which the log is complete (8 bytes)
 *
 * Integers are big-endian. A row is written in the batch that makes its group durable, so the log is complete up to whatever revision
 * the rows beside it are at. Old rows go with later groups: those that nobody needs any more, and from the oldest on when there are too
 * many bytes; who needed them must copy everything. A store that is opened without the log forgets that there was one, so that it is never
 * taken for complete after a time in which nothing was logged.
 */
import { assert, must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { readUint64, writeUint64 } from './change-log.ts'
import type { Backend, RowChanges, RowReader } from './ports.ts'

export interface KeyLogSettings {
  /** Whether a row's key is logged. */
  readonly includes: (key: ByteString) => boolean
  /** Rows of the log may take this much before the oldest go. */
  readonly bytesMax: number
}

export interface LoggedKeys {
  readonly keys: readonly ByteString[]
  /** Every change up to and including this revision has been told. */
  readonly through: Revision
}

const PREFIX = 'Y\x01' as ByteString
const STATE_KEY = 'M\x01keys' as ByteString
const FORMAT = 1
const STATE_BYTES = 9
const KEY_BYTES = 14
/** Rows of the log that one group deletes at most; it adds one. */
const TRIMMED_ROWS_MAX = 64
const LOGGED_KEY_BYTES_MAX = 4096
const SCANNED_KEYS = 4096

export function isKeyLogKey(key: ByteString): boolean {
  return key === STATE_KEY || key.startsWith(PREFIX)
}

export class KeyLog {
  readonly #backend: Backend
  readonly #settings: KeyLogSettings | undefined
  /** Of what is durable, as all that follows. */
  #completeAfter: Revision = Infinity
  #bytes = 0
  /** Nobody needs what was logged up to here. */
  #neededAfter: Revision = 0

  constructor(backend: Backend, settings: KeyLogSettings | undefined) {
    this.#backend = backend
    this.#settings = settings
  }

  /** What must be written with the first batch of a store that stands at this revision. */
  open(revision: Revision): RowChanges {
    const found = decodeState(this.#backend.get(STATE_KEY))
    if (this.#settings === undefined) return new Map(found === undefined ? [] : [[STATE_KEY, null]])
    this.#completeAfter = found ?? revision
    // Of an earlier time there may be rows that the log does not vouch for; they are trimmed like others.
    this.#bytes = this.#bytesLogged()
    return new Map(found === undefined ? [[STATE_KEY, encodeState(revision)]] : [])
  }

  /** Adds to a batch what logs it; `committed` is to be called once that is durable. */
  prepare(revision: Revision, group: RowChanges, batch: Map<ByteString, Uint8Array | null>): { committed: () => void } {
    if (this.#settings === undefined) return NOTHING_LOGGED
    const { includes } = this.#settings
    const value = encodeKeys(group, includes)
    let bytes = this.#bytes
    if (value.length > 0) {
      batch.set(rowKey(revision, value.length), value)
      bytes += KEY_BYTES + value.length
    }
    const trimmed = this.#trim(bytes, revision, batch)
    if (trimmed.completeAfter !== this.#completeAfter) batch.set(STATE_KEY, encodeState(trimmed.completeAfter))
    return {
      committed: () => {
        this.#bytes = trimmed.bytes
        this.#completeAfter = trimmed.completeAfter
      },
    }
  }

  /** What must be written when all rows were replaced by those of a revision, and the rows of this log are gone. */
  restart(revision: Revision): { rows: RowChanges; committed: () => void } {
    if (this.#settings === undefined) return { rows: new Map(), committed: () => {} }
    return {
      rows: new Map([[STATE_KEY, encodeState(revision)]]),
      committed: () => {
        this.#completeAfter = revision
        this.#bytes = 0
      },
    }
  }

  /** Rows of the log up to this revision may go. */
  neededAfter(revision: Revision): void {
    this.#neededAfter = Math.max(this.#neededAfter, revision)
  }

  /**
   * Keys that changed after a revision, of at most `groups` groups, from the rows that `reader` sees at `through`. Undefined when the log
   * does not reach back so far.
   */
  changed(
    reader: RowReader,
    after: Revision,
    { through, groups }: { through: Revision; groups: number },
  ): LoggedKeys | undefined {
    const completeAfter = decodeState(reader.get(STATE_KEY))
    if (this.#settings === undefined || completeAfter === undefined || after < completeAfter) return undefined
    const rows = after >= through ? [] : reader.scan(range(after + 1, through), groups, false)
    const keys: ByteString[] = []
    for (const row of rows) decodeKeys(row.value, keys)
    const last = rows.at(-1)
    return { keys, through: last && rows.length === groups ? parseRowKey(last.key).revision : Math.max(after, through) }
  }

  #trim(
    logged: number,
    revision: Revision,
    batch: Map<ByteString, Uint8Array | null>,
  ): { bytes: number; completeAfter: Revision } {
    const { bytesMax } = must(this.#settings, 'settings of the key log')
    const neededAfter = Math.min(this.#neededAfter, revision)
    let bytes = logged
    let completeAfter = this.#completeAfter
    if (bytes <= bytesMax && neededAfter <= completeAfter) return { bytes, completeAfter }
    for (const key of this.#backend.keys(range(0, revision), TRIMMED_ROWS_MAX)) {
      const row = parseRowKey(key)
      if (row.revision > neededAfter && bytes <= bytesMax)
        return { bytes, completeAfter: Math.max(completeAfter, neededAfter) }
      batch.set(key, null)
      bytes -= KEY_BYTES + row.bytes
      completeAfter = Math.max(completeAfter, row.revision)
    }
    return { bytes, completeAfter }
  }

  #bytesLogged(): number {
    let bytes = 0
    let { start, end } = range(0, Number.MAX_SAFE_INTEGER - 1)
    for (;;) {
      const keys = this.#backend.keys({ start, end }, SCANNED_KEYS)
      for (const key of keys) bytes += KEY_BYTES + parseRowKey(key).bytes
      const last = keys.at(-1)
      if (last === undefined || keys.length < SCANNED_KEYS) return bytes
      start = `${last}\0` as ByteString
    }
  }
}

const NOTHING_LOGGED = { committed: (): void => undefined }

function encodeKeys(group: RowChanges, includes: (key: ByteString) => boolean): Uint8Array {
  let size = 0
  const logged: ByteString[] = []
  for (const key of group.keys()) {
    if (!includes(key)) continue
    assert(key.length <= LOGGED_KEY_BYTES_MAX, 'a key that the log can tell')
    logged.push(key)
    size += key.length + 2
  }
  const bytes = Buffer.allocUnsafeSlow(size)
  let at = 0
  for (const key of logged) {
    if (key.length < 0x80) bytes[at++] = key.length
    else {
      bytes[at++] = (key.length & 0x7f) | 0x80
      bytes[at++] = key.length >>> 7
    }
    at += bytes.write(key, at, 'latin1')
  }
  return bytes.subarray(0, at)
}

function decodeKeys(row: Uint8Array, into: ByteString[]): void {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.length)
  for (let at = 0; at < bytes.length;) {
    let length = bytes[at++]!
    if (length >= 0x80) length = (length & 0x7f) | (bytes[at++]! << 7)
    assert(at + length <= bytes.length, 'a whole row of the key log')
    into.push(bytes.toString('latin1', at, at + length) as ByteString)
    at += length
  }
}

function range(from: Revision, through: Revision): { start: ByteString; end: ByteString } {
  return { start: (PREFIX + uint64(from)) as ByteString, end: (PREFIX + uint64(through + 1)) as ByteString }
}

function rowKey(revision: Revision, bytes: number): ByteString {
  const length = Buffer.allocUnsafe(4)
  length.writeUInt32BE(bytes)
  return (PREFIX + uint64(revision) + length.toString('latin1')) as ByteString
}

function parseRowKey(key: ByteString): { revision: Revision; bytes: number } {
  const bytes = Buffer.from(key, 'latin1')
  assert(bytes.length === KEY_BYTES, 'a key of the key log')
  return { revision: readUint64(bytes, PREFIX.length), bytes: bytes.readUInt32BE(PREFIX.length + 8) }
}

function uint64(value: number): string {
  const bytes = Buffer.allocUnsafe(8)
  writeUint64(bytes, value, 0)
  return bytes.toString('latin1')
}

function encodeState(completeAfter: Revision): Uint8Array {
  const bytes = Buffer.alloc(STATE_BYTES)
  bytes[0] = FORMAT
  writeUint64(bytes, completeAfter, 1)
  return bytes
}

function decodeState(row: Uint8Array | undefined): Revision | undefined {
  if (row === undefined) return undefined
  if (row.length !== STATE_BYTES || row[0] !== FORMAT) {
    throw new TidegateError('Unavailable', 'the key log was written by a version that is not this one')
  }
  return readUint64(Buffer.from(row.buffer, row.byteOffset, row.length), 1)
}
