/** What the neighbour level stands on beside the calls between nodes (common/node-calls.ts), and what it says of itself. */
import type { SegmentId } from '../../common/ids.ts'

/** A block, the slot of the slab that it is to fill, and how much of it there must be: one of an open segment still grows. 0: nobody waits for it, so it is tried once. */
export interface BlockWanted {
  readonly segment: SegmentId
  readonly block: number
  readonly slabOffset: number
  readonly needed: number
  /** What is here of it, in another slot: only the rest is asked for. */
  readonly held?: SlabSlice | undefined
}

/** Checksums of bytes in the slab, off the event loop (persist/hashing/ports.ts). */
export interface PageHashing {
  pageChecksums(slice: SlabSlice, pageBytes: number): Promise<Uint32Array>
  verifyPages(slice: SlabSlice, pageBytes: number, checksums: ArrayLike<number>): Promise<boolean>
}

export interface SlabSlice {
  readonly slabOffset: number
  readonly length: number
}

/** What was asked of one node, and of all since the start. */
export interface PeerAskFigures {
  readonly hits: number
  /** It did not have the block, or had no room to give it. */
  readonly misses: number
  readonly timeouts: number
  /** It could not be asked, or what it said made no sense. */
  readonly failures: number
  /** Answers whose checksums did not fit. */
  readonly badPages: number
  readonly bytesIn: number
}

export interface ServedFigures {
  readonly served: number
  /** What is not here. */
  readonly elsewhere: number
  /** A peer had enough of the memory already. */
  readonly busy: number
  readonly bytesOut: number
}
