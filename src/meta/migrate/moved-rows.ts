/**
 * How rows of the namespace look on either side. In a data directory and in etcd they are the same, byte for byte, but for
 *
 * - **counters**, which etcd holds as parts by node (raft/counter-parts.ts): a moved one is one part, of the node that has moved;
 * - **stamps**, which whoever reads a row of etcd fills with its revision: in a data directory they are filled;
 * - **the node's name**. What one gateway alone has written is of node 0, named `local`, in segments, orphans, times of directories and contents that are being
 *   built. Such metadata are node 0's in etcd as well, so nothing changes on the way there. On the way back rows of another number become those of node 0;
 * - **horizons** and **locks** (tables N, H), which are of no use to one gateway alone, and times of directories that were written by nodes which have been forgotten
 *   since (raft/node-number.ts): such a directory then shows when it was last changed by the node that is left.
 *
 * The logs and the state of the engine (tables J, Y, M) belong to one side and are not moved: whoever watches, or copies names, is told that what came before is gone.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString } from '../../common/ids.ts'
import { nodeName, THIS_NODE } from '../namespace/context.ts'
import {
  DIRECTORY_TIMES,
  HORIZONS,
  LOCKS,
  ORPHANS,
  RECLAIM,
  SEGMENT_LIVE_ROWS,
  SEGMENT_STATE_ROWS,
  TOKEN_COUNT_KEY,
  USAGE,
  reclaimKindOf,
} from '../namespace/keys.ts'
import { decodeDropped, decodeSegment, encodeDropped, encodeSegment } from '../namespace/records-contents.ts'
import type { Row } from '../ports.ts'

/** Table letter, record version, and the inode: before the node's name in rows of O and W. */
const NODE_NAME_AT = 10

/** Rows of counters, by the tables that have them. */
export function isCounterRow(key: ByteString): boolean {
  return key.startsWith(USAGE) || key.startsWith(SEGMENT_LIVE_ROWS) || key === TOKEN_COUNT_KEY
}

/** Into the data directory of that node. */
export function isMovedBack(key: ByteString, nodeNumber: number): boolean {
  if (key.startsWith(DIRECTORY_TIMES)) return key.slice(NODE_NAME_AT) === nodeName(nodeNumber)
  return isMoved(key)
}

export function isMoved(key: ByteString): boolean {
  return !key.startsWith(HORIZONS) && !key.startsWith(LOCKS)
}

/** The row as node 0 has it. @throws InvalidRequest when it is another node's than that one */
export function rowOfNodeZero(row: Row, nodeNumber: number): Row {
  const { key, value } = row
  if (key.startsWith(SEGMENT_STATE_ROWS)) return segmentOfNodeZero(row, nodeNumber)
  if (key.startsWith(ORPHANS) || key.startsWith(DIRECTORY_TIMES)) {
    checkName(key.slice(NODE_NAME_AT), nodeNumber)
    return { key: (key.slice(0, NODE_NAME_AT) + THIS_NODE) as ByteString, value }
  }
  if (key.startsWith(RECLAIM) && reclaimKindOf(key) === 'content') {
    const dropped = decodeDropped(value)
    if (dropped.builder === undefined) return row
    checkName(dropped.builder, nodeNumber)
    return { key, value: encodeDropped({ ...dropped, builder: THIS_NODE }) }
  }
  return row
}

function segmentOfNodeZero({ key, value }: Row, nodeNumber: number): Row {
  const { node = 0, state, bytes, copies } = decodeSegment(value)
  if (node !== nodeNumber) throw elsewhere(`a segment that lies on node ${node}`)
  return { key, value: node === 0 && !copies ? value : encodeSegment({ state, bytes }) }
}

function checkName(name: string, nodeNumber: number): void {
  assert(name.length > 0, 'a node has a name')
  if (name !== nodeName(nodeNumber))
    throw elsewhere(`something that ${name === THIS_NODE ? 'node 0' : name} has in use`)
}

function elsewhere(what: string): TidegateError {
  return new TidegateError(
    'InvalidRequest',
    `the metadata name ${what}: only those of one node, all of whose segments are here, can be moved into its data directory`,
  )
}
