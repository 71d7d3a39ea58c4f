/**
 * Counters of many writers (C8). A counter is the sum of its parts, and every part has one writer: a process of a node, and in it one component of
 * the group on its way. So whoever adds meets nobody who adds, neither another node nor another component; it compares its own part, which only a removal changes besides.
 *
 *   key of a part    01, length of the counter's key (2 bytes), the counter's key, node (4 bytes), slot (1 byte)
 *
 * The components of one group that add to the same counter take slots 0, 1, 2 and so on, so there are as many parts as ever met. What a transaction that is not
 * committed has added lies among its written rows under the key without node and slot, as a *delta*: whether the counter was removed before (1 byte), then
 * a row of counters to add.
 *
 * A counter is removed whole, by deleting the range of its parts, whoever wrote them and whether they are known here or not. Keys that begin with 01 are in no table, so no scan shows parts.
 */
import { must } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { addCounters, decodeCounters } from '../stage/counters.ts'
import { afterPrefix, uint32 } from './layout.ts'

const PARTS = '\x01'
const COUNTER_BYTES = 8
/** A part's key is longer than its counter's by so much. */
export const PART_KEY_BYTES = 8

export function isCounterKey(key: ByteString): boolean {
  return key.startsWith(PARTS)
}

/** Where the delta of a counter lies, and what the keys of all its parts begin with. */
export function deltaKey(counter: ByteString): ByteString {
  return `${PARTS}${uint32(counter.length).slice(2)}${counter}` as ByteString
}

export function partsRange(delta: ByteString): KeyRange {
  return { start: delta, end: afterPrefix(delta) }
}

export function partKey(delta: ByteString, node: number, slot: number): ByteString {
  return `${delta}${uint32(node)}${String.fromCharCode(slot)}` as ByteString
}

/** The counter that a part, or a delta, belongs to. */
export function counterOf(key: ByteString): ByteString {
  const length = key.charCodeAt(1) * 256 + key.charCodeAt(2)
  return key.slice(3, 3 + length) as ByteString
}

export interface CounterDelta {
  /** Nothing that was added before counts. */
  readonly removed: boolean
  /** Empty when nothing was added. */
  readonly deltas: readonly number[]
}

export function encodeDelta({ removed, deltas }: CounterDelta): Uint8Array {
  const row = addCounters(undefined, deltas)
  const bytes = new Uint8Array(1 + row.length)
  bytes[0] = removed ? 1 : 0
  bytes.set(row, 1)
  return bytes
}

export function decodeDelta(row: Uint8Array): CounterDelta {
  return { removed: row[0] === 1, deltas: decodeCounters(row.subarray(1), (row.length - 1) / COUNTER_BYTES) }
}

/** One delta after another. */
export function addDelta(earlier: Uint8Array | null | undefined, later: Uint8Array): Uint8Array {
  if (later[0] === 1 || earlier === undefined || earlier === null) return later
  const first = decodeDelta(earlier)
  const second = decodeDelta(later)
  return encodeDelta({ removed: first.removed, deltas: sumOf(first.deltas, second.deltas) })
}

export function sumOf(left: readonly number[], right: readonly number[]): number[] {
  const [long, short] = left.length >= right.length ? [left, right] : [right, left]
  return long.map((value, index) => value + (short[index] ?? 0))
}

/** What the rows of the parts add up to, as a row of counters; undefined when there is none. */
export function sumOfParts(parts: readonly Uint8Array[]): Uint8Array | undefined {
  if (parts.length === 0) return undefined
  const width = must(parts[0], 'a part').length / COUNTER_BYTES
  return parts.reduce<Uint8Array | undefined>((sum, part) => addCounters(sum, decodeCounters(part, width)), undefined)
}
