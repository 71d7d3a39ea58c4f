/** Small deltas take the place of smaller ones before them (chain.ts), so that there are few at any time. */
import type { Revision } from '../../common/ids.ts'
import { beginOfNext, type WholeDelta } from './chain.ts'
import { encodedRowBytesMax } from './format.ts'
import type { NamesDelta } from './ports.ts'

/** Deltas up to this are merged with those before them. */
export const MERGED_BYTES_MAX: number = (1024 * 1024) / 4

/** Where a delta should begin instead, further back, so that it takes the place of small deltas before it. */
export function mergedBegin(deltas: readonly WholeDelta[], delta: NamesDelta): Revision | undefined {
  if (deltas.at(-1)?.through !== delta.after) return undefined
  let bytes = 0
  for (const row of delta.rows) if ((bytes += encodedRowBytesMax(row)) > MERGED_BYTES_MAX) return undefined
  const begin = beginOfNext(deltas, bytes, MERGED_BYTES_MAX)
  return begin === delta.after ? undefined : begin
}
