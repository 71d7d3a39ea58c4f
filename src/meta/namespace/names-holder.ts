/**
 * Where several nodes share the namespace and one remote store, one of them at a time ships the names (persist/names/shared). Which one, and how far it has come, is a row
 * that is changed by compare-and-swap; what the others wait for are rows of their own. None of them is a name.
 *
 *   R  h           opaque here: persist/names/shared/holder-row.ts
 *   R  w node      integer revision that the node wants shipped through
 */
import type { ByteString, Revision, SegmentId } from '../../common/ids.ts'
import type { NamespaceContext } from './context.ts'
import {
  NAMES_HOLDING,
  SEGMENT_STATE_ROWS,
  bytesHex,
  integerBytes,
  prefixEnd,
  prefixRange,
  segmentStateKey,
} from './keys.ts'
import { decodeInteger, encodeInteger } from './records-contents.ts'
import { readSegment, type SegmentRecord } from './segments.ts'

export interface NamesHolding {
  /** Of this node. */
  readonly node: number
  /** As it is now, of all nodes. */
  readonly look: () => Promise<HoldingLook>
  /**
   * Compare-and-swap: `change` is given the row as it is and says what it is to be; what it throws is thrown, and nothing is written.
   * @returns the revision of the commit
   */
  readonly change: (change: (row: Uint8Array | undefined) => Uint8Array) => Promise<Revision>
  /** This node waits for names of everything up to there. */
  readonly want: (revision: Revision) => Promise<void>
  /** Whosever they are, ascending. */
  readonly allSegments: (after: SegmentId | undefined, limit: number) => Promise<SegmentRecord[]>
}

export interface HoldingLook {
  readonly row: Uint8Array | undefined
  /** The greatest that a node wants. */
  readonly wanted: Revision
}

const HOLDER_KEY = `${NAMES_HOLDING}h` as ByteString
const WANTED = `${NAMES_HOLDING}w`
const NODES_MAX = 1024

export function createNamesHolding(context: NamespaceContext): NamesHolding {
  const { store, nodeNumber } = context
  return {
    node: nodeNumber,
    look: () =>
      store.read(async (view) => {
        const row = await view.get(HOLDER_KEY)
        const wanted = await view.scan(prefixRange(WANTED), NODES_MAX)
        return { row, wanted: Math.max(0, ...wanted.map(({ value }) => decodeInteger(value))) }
      }),
    async change(change) {
      const committed = await store.transact(async (tx) => {
        tx.put(HOLDER_KEY, change(await tx.get(HOLDER_KEY)))
      })
      await committed.durable
      return committed.revision
    },
    async want(revision) {
      const key = (WANTED + integerBytes(nodeNumber)) as ByteString
      const committed = await store.transact((tx) => {
        tx.put(key, encodeInteger(revision))
        return Promise.resolve()
      })
      await committed.durable
    },
    allSegments: (after, limit) =>
      store.read(async (view) => {
        const start = (after === undefined ? SEGMENT_STATE_ROWS : `${segmentStateKey(after)}\0`) as ByteString
        const rows = await view.scan({ start, end: prefixEnd(SEGMENT_STATE_ROWS) }, limit)
        const found: SegmentRecord[] = []
        for (const { key } of rows) {
          const record = await readSegment(view, bytesHex(key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId)
          if (record) found.push(record)
        }
        return found
      }),
  }
}
