/** Fetches of the memory level that are under way: one a block, which others join. */

/** For whom a block is fetched, the least of them first. */
const FETCH_KINDS = ['ahead', 'peer', 'reader'] as const
export type FetchKind = (typeof FETCH_KINDS)[number]

export interface Fetching {
  readonly length: Promise<number>
  readonly kind: FetchKind
  /** Bytes that it must bring. */
  readonly needed: number
}

/** Whether who joins a fetch is told when it fails. Else he deserves one of his own: nobody waited for it, or it might not look everywhere. */
export function sharesFailure(fetching: Fetching, kind: FetchKind): boolean {
  return FETCH_KINDS.indexOf(fetching.kind) >= FETCH_KINDS.indexOf(kind)
}
