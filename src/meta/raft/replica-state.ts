/**
 * The row that makes a directory of the embedded engine's format a replica of rows in etcd: then every value begins with the mod revision of its row (8 bytes).
 *
 *   key     'M' 0x01 'replica'
 *   value   format (1 byte), 0 while it is being loaded and 1 afterwards (1 byte), revision of etcd that the rows stand at (8 bytes), id of the metadata
 *           in etcd (16 bytes)
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { byteString, uint64, uint64At } from './layout.ts'

const FORMAT = 1
const STATE_BYTES = 26

export interface ReplicaState {
  readonly loaded: boolean
  readonly through: Revision
  readonly clusterId: ByteString
}

export function encodeReplicaState({ loaded, through, clusterId }: ReplicaState): Uint8Array {
  return Buffer.from(`${String.fromCharCode(FORMAT, loaded ? 1 : 0)}${uint64(through)}${clusterId}`, 'latin1')
}

/** @throws Unavailable for a format that this program does not know */
export function decodeReplicaState(row: Uint8Array | undefined): ReplicaState | undefined {
  if (row === undefined) return undefined
  if (row.length !== STATE_BYTES || row[0] !== FORMAT)
    throw new TidegateError('Unavailable', `a replica of format ${row[0]} is not one that this program reads`)
  return { loaded: row[1] === 1, through: uint64At(row, 2), clusterId: byteString(row.subarray(10)) }
}
