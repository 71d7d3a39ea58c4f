/**
 * The row that says where the revisions and the change log stand. It is written when a store starts and in every batch.
 *
 *   key     'M' 0x01 'revision'
 *   value   format (1 byte), then 8 bytes each, big-endian: last revision, revision up to which numbers may have been
 *           handed out, revision up to which the change log has been trimmed, revisions now in the change log
 *
 * A process that dies forgets revisions that it handed out and did not make durable, and so does one that dies before its
 * first commit. So that none is handed out twice, numbers are reserved ahead, durably, and a store that starts goes on
 * behind what the last one had reserved.
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { readUint64, writeUint64 } from './change-log.ts'

export const STATE_KEY = 'M\x01revision' as ByteString

/** Is there when the rows are a copy of those in etcd, each with its revision before its value (src/meta/raft/replica-state.ts). */
export const REPLICA_KEY = 'M\x01replica' as ByteString

const FORMAT = 1
const STATE_BYTES = 33

/** Far more than the commits that can be handed out between two durable ones. */
const RESERVED_REVISIONS = 2 ** 20

export interface StageState {
  readonly revision: Revision
  readonly reservedThrough: Revision
  readonly trimmedThrough: Revision
  readonly loggedRevisions: number
}

const EMPTY: StageState = { revision: 0, reservedThrough: 0, trimmedThrough: 0, loggedRevisions: 0 }

/** The last revision to reserve when `revision` is the last one handed out. */
export function reservedAfter(revision: Revision): Revision {
  return revision + RESERVED_REVISIONS
}

export function encodeState(state: StageState): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(STATE_BYTES)
  bytes[0] = FORMAT
  writeUint64(bytes, state.revision, 1)
  writeUint64(bytes, state.reservedThrough, 9)
  writeUint64(bytes, state.trimmedThrough, 17)
  writeUint64(bytes, state.loggedRevisions, 25)
  return bytes
}

/**
 * That of an empty store when there is no row.
 * @throws Unavailable for a format this program does not know.
 */
export function decodeState(row: Uint8Array | undefined): StageState {
  if (row === undefined) return EMPTY
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.length)
  if (bytes[0] !== FORMAT || bytes.length !== STATE_BYTES) {
    throw new TidegateError('Unavailable', `metadata format ${bytes[0]} is not the ${FORMAT} that this program reads`)
  }
  return {
    revision: readUint64(bytes, 1),
    reservedThrough: readUint64(bytes, 9),
    trimmedThrough: readUint64(bytes, 17),
    loggedRevisions: readUint64(bytes, 25),
  }
}
