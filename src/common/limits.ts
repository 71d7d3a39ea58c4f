import { assert } from './assert.ts'

/**
 * Every bound of the engine, in one place. They travel as a value (not as constants), so that the simulation can run
 * with tiny blocks and segments and so meet every boundary thousands of times a minute.
 */
export interface Limits {
  /** Unit of checksum (C14). */
  readonly pageBytes: number
  /** Unit of caching: a slice of a segment. A multiple of `pageBytes`. */
  readonly blockBytes: number
  /** Bodies up to this many bytes lie in the inode record itself. */
  readonly inlineBytesMax: number
  /** Bodies above this are hashed on worker threads, off the event loop. */
  readonly hashInlineBytesMax: number
  /** Bodies up to this share segments (C22); larger ones get a segment of their own. A multiple of `blockBytes`. */
  readonly sharedBodyBytesMax: number
  /** A shared segment is sealed once it holds this many bytes. */
  readonly segmentBytesMax: number
  /** A shared segment that holds anything is sealed when it is this old. */
  readonly segmentAgeMsMax: number
  /** Blocks of one streaming body that may be on their way to the disk at once. */
  readonly streamBlocksInFlightMax: number
  /** How long a writer waits for memory or journal room before it is told SlowDown (C19). */
  readonly admissionWaitMsMax: number
  /**
   * Bytes that may wait for the remote store; from half of it on writers are slowed (C19). Undefined: 10 GiB, or a quarter of the file
   * system if that is less.
   */
  readonly backlogBytesMax: number | undefined
  /** Segments on their way to the remote store at once. */
  readonly flushConcurrency: number
  /** Segments that have waited longer for the remote store go first, whosever turn it is. */
  readonly flushAgeMsMax: number
  /**
   * How long a write with ack `persisted` waits for the remote store; longer than the flusher's longest pause, and shorter than the 60 s after
   * which AWS's clients give up on an answer.
   */
  readonly persistWaitMsMax: number
  /** Size of the largest object that one PUT or one part may hold. */
  readonly putBytesMax: number
  readonly partsMax: number
  /** Every part but the last of an upload must be at least this long. */
  readonly partBytesMin: number
  /** Bytes in UTF-8 of a key that S3 or KV may make, and of one component of any key. */
  readonly keyBytesMax: number
  /** What the mount makes may lie deeper than that; a key of up to this many bytes can be named in a request all the same. */
  readonly addressedKeyBytesMax: number
  /** The deepest that the mount makes or moves something. What lies below a directory that is moved may come to lie deeper. */
  readonly fileKeyBytesMax: number
  readonly userMetadataBytesMax: number
  readonly tagsMax: number
}

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

export const DEFAULT_LIMITS: Limits = checkLimits({
  pageBytes: 64 * KIB,
  blockBytes: MIB,
  inlineBytesMax: 4 * KIB,
  hashInlineBytesMax: 256 * KIB,
  sharedBodyBytesMax: 8 * MIB,
  segmentBytesMax: 64 * MIB,
  segmentAgeMsMax: 10_000,
  streamBlocksInFlightMax: 8,
  admissionWaitMsMax: 30_000,
  backlogBytesMax: undefined,
  flushConcurrency: 4,
  flushAgeMsMax: 300_000,
  persistWaitMsMax: 50_000,
  putBytesMax: 5 * GIB,
  partsMax: 10_000,
  partBytesMin: 5 * MIB,
  keyBytesMax: 1024,
  addressedKeyBytesMax: 8 * KIB,
  fileKeyBytesMax: 32 * KIB,
  userMetadataBytesMax: 2 * KIB,
  tagsMax: 10,
})

/** Asserts how the limits relate to each other, and returns them. */
export function checkLimits(limits: Limits): Limits {
  assert(limits.pageBytes > 0 && limits.pageBytes % 16 === 0, 'pageBytes is a positive multiple of 16')
  assert(limits.blockBytes % limits.pageBytes === 0, 'a block is made of whole pages')
  assert(limits.sharedBodyBytesMax % limits.blockBytes === 0, 'sharedBodyBytesMax is made of whole blocks')
  assert(limits.segmentBytesMax >= limits.sharedBodyBytesMax, 'a shared body fits a shared segment')
  assert(limits.inlineBytesMax <= limits.hashInlineBytesMax, 'inline bodies are hashed on the event loop')
  assert(limits.hashInlineBytesMax <= limits.sharedBodyBytesMax, 'bodies hashed on the event loop share segments')
  assert(limits.addressedKeyBytesMax >= limits.keyBytesMax, 'what a door makes it can name')
  assert(limits.streamBlocksInFlightMax >= 2, 'a stream fills one block while another is written')
  assert(limits.segmentBytesMax + limits.sharedBodyBytesMax < 2 ** 32, 'offsets in a shared segment fit 32 bits')
  return limits
}
