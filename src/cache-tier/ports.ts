/**
 * The seam of the cache's levels, and what the disk level stands on.
 *
 * A level holds blocks of segments, found by `(segment, block)`, and may lose any of them at any time: whoever asks gets the bytes
 * or hears that they are not here, and then goes to the next level. Bytes of a segment never change, so a level is never stale.
 * What is asked of each level alike is test/conformance/cache-level.ts.
 */
import type { SegmentId } from '../common/ids.ts'

export interface CacheLevel {
  /**
   * Brings a block to `into`, a slot of the slab, and resolves with its length. Undefined: it is not here, or its bytes did not
   * check (then it is dropped and counted), or the level has too much to do; what the slot holds is then anything. Never rejects. The slot
   * is the level's until this settles.
   */
  read(segment: SegmentId, block: number, into: Uint8Array): Promise<number | undefined>
  /**
   * Offers a block whose pages have these checksums (`zlib.crc32`; the last page may be short). The bytes are copied before this
   * returns, and may be read some time later, or never: it neither fails nor waits, and drops what it cannot take.
   */
  keep(segment: SegmentId, block: number, bytes: Uint8Array, pageCrcs: ArrayLike<number>): void
  /** The segment is gone for good: ids are never used again. */
  forget(segment: SegmentId): void
  /** How many of these bytes of a segment are here; nobody's use of them. */
  residentBytes(segment: SegmentId, offset: number, length: number): number
  /** Never over `bytesMax`. */
  readonly bytesHeld: number
  readonly bytesMax: number
  readonly stats: Readonly<CacheLevelStats>
}

export interface CacheLevelStats {
  hits: number
  misses: number
  /** Blocks that went to make room. */
  evictions: number
  /** Blocks that were dropped because a page of theirs did not check, or could not be read. */
  badPages: number
  /** Offers that were not taken: the queue was full, or the disk fails. */
  dropped: number
  /** Blocks taken. */
  writes: number
}

/** A sealed segment's data region: bytes `[0, dataBytes)` of its file, and the CRC-32 of each page. */
export interface SealedBytes {
  readonly dataBytes: number
  readonly pageBytes: number
  readonly pageCrcs: Uint32Array
}

/** The file system, as persistence has it too (src/persist/ports.ts). Errors are Node's. Nothing here needs to be durable. */
export interface CacheFileSystem {
  open(path: string, mode: 'read' | 'create'): Promise<CacheFile>
  rename(from: string, to: string): Promise<void>
  /** No error when there is no such file. */
  remove(path: string): Promise<void>
  /** Names in it, unordered; empty when there is no such directory. */
  list(directory: string): Promise<string[]>
  makeDirectory(path: string): Promise<void>
  space(path: string): Promise<{ freeBytes: number; totalBytes: number }>
}

export interface CacheFile {
  /** Bytes read; fewer than asked only at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number>
  write(bytes: Uint8Array, position: number): Promise<void>
  size(): Promise<number>
  close(): Promise<void>
}

/** A stretch of an open file, of whole pages but for the last, to be brought to the slab and checked on the way. */
export interface PageRead {
  readonly handle: number
  readonly position: number
  readonly slabOffset: number
  readonly length: number
  readonly pageBytes: number
  readonly pageCrcs: Uint32Array
}

/**
 * Reads pages into the slab and checks them. Two implementations: threads, and inline over a `CacheFileSystem` (tests).
 * `bad`: a page did not check, or the file ends too early. `failed`: the disk gave an error. `busy`: it did not get its turn in time;
 * nothing was read. The slot is free again once `read` settled, whatever it says; `read` never rejects.
 */
export interface PageReader {
  start(): Promise<void>
  stop(): Promise<void>
  open(path: string): Promise<number>
  read(want: PageRead): Promise<'good' | 'bad' | 'failed' | 'busy'>
  /** Nothing is being read from it. */
  close(handle: number): Promise<void>
}
