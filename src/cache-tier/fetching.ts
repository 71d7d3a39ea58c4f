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

/** How many bytes of a block there must be: elsewhere it may still be growing. What is here of it is `held`, and stays until the fetch has settled. */
export interface BlockNeed {
  readonly needed: number
  readonly held?: { readonly slabOffset: number; readonly length: number } | undefined
}

/** Whether who joins a fetch is told when it fails. Else he deserves one of his own: nobody waited for it, or it might not look everywhere. */
export function sharesFailure(fetching: Fetching, kind: FetchKind): boolean {
  return FETCH_KINDS.indexOf(fetching.kind) >= FETCH_KINDS.indexOf(kind)
}
