/** Bounds of open files. They travel as a value, so that tests and the simulation can run with tiny ones. */
import { assert } from '../../common/assert.ts'

export interface FileLimits {
  /** Memory for what was written and not journaled, all files together. */
  readonly dirtyBytesMax: number
  /** The same, for one file. */
  readonly fileDirtyBytesMax: number
  /** One write: what a FUSE request carries. */
  readonly writeBytesMax: number
  /** What was written is published at the latest so long after it. Also the pause between attempts when that fails. */
  readonly publishAgeMsMax: number
  /** Pieces that one publish may change; a file that has gathered as many is published at once (C2). */
  readonly editsMax: number
  /** Largest window fetched ahead of a sequential reader. */
  readonly readAheadBytesMax: number
  /** Largest size of a file. */
  readonly fileBytesMax: number
}

const MIB = 1024 * 1024

export const DEFAULT_FILE_LIMITS: FileLimits = checkFileLimits({
  dirtyBytesMax: 64 * MIB,
  fileDirtyBytesMax: 8 * MIB,
  writeBytesMax: MIB,
  publishAgeMsMax: 5_000,
  editsMax: 512,
  readAheadBytesMax: 8 * MIB,
  fileBytesMax: 2 ** 50,
})

/** Asserts how the limits relate to each other, and returns them. */
export function checkFileLimits(limits: FileLimits): FileLimits {
  // A writer fills one half while the other is journaled, and each half holds a whole write.
  assert(limits.fileDirtyBytesMax >= 4 * limits.writeBytesMax, 'a file gathers several writes')
  assert(limits.dirtyBytesMax >= limits.fileDirtyBytesMax, 'one file fits the memory of all')
  assert(limits.editsMax >= 8, 'a publish changes several pieces')
  assert(limits.publishAgeMsMax > 0 && limits.fileBytesMax <= Number.MAX_SAFE_INTEGER, 'ages and sizes are sane')
  return limits
}
