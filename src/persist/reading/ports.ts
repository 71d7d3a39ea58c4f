/**
 * What reading blocks back stands on, beside files and the remote store. Bytes are read into slots of the slab, one block each; who
 * asks owns the slot, and leaves it alone until the call has settled.
 */
import type { SegmentId } from '../../common/ids.ts'

export interface PageVerifier {
  /** Whether the CRC-32 of every page of the slice is the given one; the last page may be short. */
  verifyPages(
    slice: { slabOffset: number; length: number },
    pageBytes: number,
    crcs: ArrayLike<number>,
  ): Promise<boolean>
}

/** The disk level of the cache. Provided by cache-tier. */
export interface DiskBlocks {
  /** Fills the slot with the block, checked, and resolves with its length; undefined when it is not there, or is not good any more. */
  read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined>
  /**
   * Offers a checked block that came from the remote store, with a checksum for each page of `Limits.pageBytes`. Neither waits nor
   * fails: what cannot be kept is not. The bytes are lent for the duration of the call only.
   */
  keep(segment: SegmentId, block: number, bytes: Uint8Array, pageCrcs: Uint32Array): void
}

/** The checksums of a segment's pages, and what they were made for. */
export interface PageTable {
  readonly dataBytes: number
  readonly pageBytes: number
  readonly pageCrcs: Uint32Array
}
