/**
 * Hashing of bytes that lie in the slab, off the event loop: bodies while they stream in, and pages when they are
 * brought into memory. Two implementations, worker threads and inline, held to one suite.
 *
 * Ownership: the caller owns the slab. It leaves the bytes of a slice alone until the call that was given it settles;
 * once it settled, in either way, they may be reused, even if a worker still reads them for a result that nobody gets.
 *
 * Errors: `Unavailable` when a worker died with the work in hand, or the pool has stopped. A stream fails as a whole, and
 * stays failed. Nothing is retried.
 *
 * Bounds: at most `HASH_UPDATES_UNANSWERED_MAX` updates of one stream wait at a time (a bug if passed); who opens streams
 * and checks pages is bounded by the memory that the bytes lie in.
 */
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { ChecksumAlgorithm } from '../../common/model.ts'

export const HASH_UPDATES_UNANSWERED_MAX = 64

/** Bytes in the slab, offsets in bytes from its start. */
export interface HashSlice {
  readonly slabOffset: number
  readonly length: number
}

export interface HashRequest {
  readonly md5: boolean
  /** The payload hash of SigV4, in hex; computed once also if the checksum SHA256 is asked for. */
  readonly sha256: boolean
  readonly algorithms: readonly ChecksumAlgorithm[]
}

export interface BodyHashes {
  /** 32 hex digits; empty if it was not asked for. */
  readonly md5: string
  /** 64 hex digits. */
  readonly sha256?: string
  /** Base64 of the big-endian digest, for each algorithm asked for. */
  readonly checksums: Partial<Record<ChecksumAlgorithm, string>>
}

/** One body. Slices are hashed in the order of the calls, which need not wait for each other. */
export interface HashStream {
  /** Resolves when hashing needs these bytes no longer. */
  update(slice: HashSlice): Promise<void>
  /** The hashes of all slices; call it once, after the last `update`, without having to wait for that one. */
  finish(): Promise<BodyHashes>
  /** Gives the stream up, in any state. Updates that wait resolve at once; a `finish` that waits rejects. */
  abandon(): void
}

export interface Hashing extends Lifecycle {
  /** @throws Unavailable */
  open(request: HashRequest): HashStream
  /** `zlib.crc32` of each page of the slice (C14); the last page may be short. */
  pageChecksums(slice: HashSlice, pageBytes: number): Promise<Uint32Array>
  /** Whether every page has the checksum given for it; false also when their number differs. */
  verifyPages(slice: HashSlice, pageBytes: number, checksums: ArrayLike<number>): Promise<boolean>
}
