/**
 * The rows of a stopped gateway's metadata, in the engine's file, read and written past the stage: nothing is logged and no revision is handed out, so the
 * file can be served afterwards as if nobody had looked.
 *
 * A file that is being filled says so in a row beside those of the engine:
 *
 *   key     'M' 0x01 'moving'
 *   value   format (1 byte), 0 while it is being filled and 1 afterwards (1 byte), name of the move (16 bytes), revision of the last commit at the source
 *           (8 bytes), key up to which its rows are here
 */
import { createHash } from 'node:crypto'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Row } from '../ports.ts'
import { byteString, uint64, uint64At } from '../raft/layout.ts'
import type { Backend } from '../stage/ports.ts'
import { decodeState, encodeState, REPLICA_KEY, reservedAfter, STATE_KEY } from '../stage/stage-state.ts'

const FILLING_KEY = 'M\x01moving' as ByteString
const FORMAT = 1
const CURSOR_AT = 26
const PAGE_ROWS = 1000
/** Behind every row. */
const END = '\xff'.repeat(16) as ByteString
/** Tables of the engine: the change log, its state, the log of keys (stage/). */
const ENGINE_TABLES = ['J\x01', 'M\x01', 'Y\x01']
const BEHIND_TABLE = '\x02'

export interface Filling {
  readonly name: ByteString
  readonly sourceRevision: Revision
  readonly cursor: ByteString
  readonly isWhole: boolean
}

/** All rows that can be moved, from that key on, a page at a time. */
export function* embeddedPages(backend: Backend, after: ByteString): Generator<readonly Row[], void> {
  let start = after === '' ? ('\0' as ByteString) : (`${after}\0` as ByteString)
  for (;;) {
    const found = backend.scan({ start, end: END }, PAGE_ROWS, false)
    const last = found.at(-1)
    const rows = found.filter(({ key }) => !ENGINE_TABLES.some((table) => key.startsWith(table)))
    if (rows.length > 0) yield rows
    if (last === undefined || found.length < PAGE_ROWS) return
    const table = ENGINE_TABLES.find((one) => last.key.startsWith(one))
    start = (table === undefined ? `${last.key}\0` : table.charAt(0) + BEHIND_TABLE) as ByteString
  }
}

/** What the file is like, 32 bytes: another one once a gateway has opened it. @throws Unavailable when it is a copy of metadata in etcd */
export function embeddedSource(backend: Backend): { source: ByteString; handedOut: Revision } {
  if (backend.get(REPLICA_KEY) !== undefined)
    throw new TidegateError('Unavailable', 'the metadata directory holds a copy of metadata in etcd')
  const state = backend.get(STATE_KEY) ?? new Uint8Array(0)
  const source = byteString(createHash('sha256').update(state).digest())
  return { source, handedOut: decodeState(backend.get(STATE_KEY)).reservedThrough }
}

export function readFilling(backend: Backend): Filling | undefined {
  const row = backend.get(FILLING_KEY)
  if (row === undefined || row.length < CURSOR_AT || row[0] !== FORMAT) return undefined
  const bytes = byteString(row)
  return {
    isWhole: row[1] === 1,
    name: bytes.slice(2, 18) as ByteString,
    sourceRevision: uint64At(row, 18),
    cursor: bytes.slice(CURSOR_AT) as ByteString,
  }
}

/** Rows, and how far they reach, in one commit. */
export async function fill(backend: Backend, rows: readonly Row[], filling: Filling): Promise<void> {
  await backend.commit([new Map(rows.map(({ key, value }) => [key, value])), fillingRow(filling)])
}

/**
 * All rows are there. The next revision is greater than `revision`, and whoever asks for changes up to there is told that they are gone.
 */
export async function fillingIsWhole(backend: Backend, filling: Filling, revision: Revision): Promise<void> {
  const reservedThrough = reservedAfter(revision)
  const state = { revision, reservedThrough, trimmedThrough: revision, loggedRevisions: 0 }
  await backend.commit([new Map([[STATE_KEY, encodeState(state)]]), fillingRow({ ...filling, isWhole: true })])
}

function fillingRow({ isWhole, name, sourceRevision, cursor }: Filling): Map<ByteString, Uint8Array> {
  const text = String.fromCharCode(FORMAT, isWhole ? 1 : 0) + name + uint64(sourceRevision) + cursor
  return new Map([[FILLING_KEY, Buffer.from(text, 'latin1')]])
}
