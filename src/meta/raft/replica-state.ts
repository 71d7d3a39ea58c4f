/**
 * The row that makes a directory of the embedded engine's format a replica of rows in etcd: then every value begins with the mod revision of its row (8 bytes).
 *
 *   key     'M' 0x01 'replica'
 *   value   format (1 byte), 0 while it is being loaded and 1 afterwards (1 byte), revision of etcd that the rows stand at (8 bytes), id of the metadata
 *           in etcd (16 bytes), name of the last commit in them (20 bytes, zeros for none): so that a history which only looks like this one is told from it
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { byteString, uint64, uint64At, type GroupName } from './layout.ts'

const FORMAT = 2
const NAME_AT = 26
const NAME_BYTES = 20
const NO_NAME = '\0'.repeat(NAME_BYTES)

export interface ReplicaState {
  readonly loaded: boolean
  readonly through: Revision
  readonly clusterId: ByteString
  /** What the row `clock` held then; empty: there was none. */
  readonly lastCommit: GroupName
}

export function encodeReplicaState({ loaded, through, clusterId, lastCommit }: ReplicaState): Uint8Array {
  const head = `${String.fromCharCode(FORMAT, loaded ? 1 : 0)}${uint64(through)}${clusterId}`
  return Buffer.from(head + (lastCommit === '' ? NO_NAME : lastCommit), 'latin1')
}

/** @throws Unavailable for a format that this program does not know */
export function decodeReplicaState(row: Uint8Array | undefined): ReplicaState | undefined {
  if (row === undefined) return undefined
  if (row.length !== NAME_AT + NAME_BYTES || row[0] !== FORMAT)
    throw new TidegateError('Unavailable', `a replica of format ${row[0]} is not one that this program reads`)
  const name = byteString(row.subarray(NAME_AT))
  return {
    loaded: row[1] === 1,
    through: uint64At(row, 2),
    clusterId: byteString(row.subarray(10, NAME_AT)),
    lastCommit: (name === NO_NAME ? '' : name) as GroupName,
  }
}
