/**
 * A row of counters: each a signed 64-bit integer, big-endian, one after the other. The width of a row never changes.
 * Sums stay within the safe integers.
 */
import { assert } from '../../common/assert.ts'

const COUNTER_BYTES = 8

const HIGH_UNIT = 2 ** 32

/** The counters of a row, all 0 where there is none. */
export function decodeCounters(row: Uint8Array | undefined, width: number): number[] {
  const counters = Array.from<number>({ length: width }).fill(0)
  if (row === undefined) return counters
  assert(row.length === width * COUNTER_BYTES, `a row of ${width} counters, not of ${row.length} bytes`)
  const view = new DataView(row.buffer, row.byteOffset, row.length)
  for (let i = 0; i < width; i++) {
    counters[i] = view.getInt32(i * COUNTER_BYTES) * HIGH_UNIT + view.getUint32(i * COUNTER_BYTES + 4)
  }
  return counters
}

/** The row with the deltas added to it. */
export function addCounters(row: Uint8Array | undefined, deltas: readonly number[]): Uint8Array {
  const sums = decodeCounters(row, deltas.length)
  const bytes = new Uint8Array(deltas.length * COUNTER_BYTES)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < deltas.length; i++) {
    const sum = sums[i]! + deltas[i]!
    assert(Number.isSafeInteger(sum), `counter ${sums[i]} + ${deltas[i]} is a safe integer`)
    view.setInt32(i * COUNTER_BYTES, Math.floor(sum / HIGH_UNIT))
    view.setUint32(i * COUNTER_BYTES + 4, sum - Math.floor(sum / HIGH_UNIT) * HIGH_UNIT)
  }
  return bytes
}
