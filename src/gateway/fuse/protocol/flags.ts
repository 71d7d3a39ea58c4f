/**
 * Bits and small numbers that requests and replies of the FUSE protocol carry, from include/uapi/linux/fuse.h and, for
 * what the kernel passes through from system calls, from the headers named below. INIT's flags are in init.ts.
 */
import { constants } from 'node:fs'

/** `fuse_setattr_in.valid`: which fields count. */
export const SETATTR_VALID = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  HANDLE: 1 << 6,
  ATIME_NOW: 1 << 7, // 7.9
  MTIME_NOW: 1 << 8, // 7.9
  LOCK_OWNER: 1 << 9, // 7.9
  CTIME: 1 << 10, // 7.23
  KILL_SUIDGID: 1 << 11, // 7.33
} as const

/** `fuse_open_out.open_flags`: FOPEN_*, what the kernel may do with an open file or directory. */
export const OPEN_REPLY = {
  /** No page cache for this handle. */
  DIRECT_IO: 1 << 0,
  /** Keep what the page cache holds of the file; without it opening drops those pages. */
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2, // 7.10
  /** The kernel may cache the listing of this directory. */
  CACHE_DIR: 1 << 3, // 7.28
  STREAM: 1 << 4, // 7.31
  /** Do not send FLUSH at close (without the writeback cache). */
  NOFLUSH: 1 << 5, // 7.35
  /** Direct writes to one inode need not wait for one another. */
  PARALLEL_DIRECT_WRITES: 1 << 6, // 7.38
} as const

/** Bits of requests that the decoder turns into named fields. */
export const GETATTR_HANDLE = 1 << 0 // 7.9
export const OPEN_KILL_SUIDGID = 1 << 0 // 7.33
export const RELEASE_FLUSH = 1 << 0 // 7.8
export const RELEASE_FLOCK_UNLOCK = 1 << 1 // 7.17
export const LOCK_FLOCK = 1 << 0 // 7.9
export const WRITE_FROM_PAGE_CACHE = 1 << 0 // 7.9
export const WRITE_KILL_SUIDGID = 1 << 2 // 7.31
export const FSYNC_DATA_ONLY = 1 << 0

/** rename(2), include/uapi/linux/fs.h. */
export const RENAME_NOREPLACE = 1 << 0
export const RENAME_EXCHANGE = 1 << 1
export const RENAME_WHITEOUT = 1 << 2

/** setxattr(2), include/uapi/linux/xattr.h. */
export const XATTR_CREATE = 1 << 0
export const XATTR_REPLACE = 1 << 1

/** fcntl(2), include/uapi/asm-generic/fcntl.h, the same on x86-64 and arm64. */
export const LOCK_TYPES = { read: 0, write: 1, unlock: 2 } as const

/** lseek(2): the two that reach a FUSE server; the kernel answers the others itself. */
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

/** fallocate(2), include/uapi/linux/falloc.h. 0 allocates. The kernel passes no others on to a FUSE server. */
export const FALLOCATE_MODE = { KEEP_SIZE: 1 << 0, PUNCH_HOLE: 1 << 1, ZERO_RANGE: 1 << 4 } as const

/** File types in a mode, include/uapi/linux/stat.h. The type of a directory entry is the mode's, shifted down by 12. */
export const FILE_TYPE = {
  MASK: 0o170000,
  SOCKET: 0o140000,
  SYMLINK: 0o120000,
  REGULAR: 0o100000,
  BLOCK: 0o060000,
  DIRECTORY: 0o040000,
  CHARACTER: 0o020000,
  FIFO: 0o010000,
} as const

/**
 * open(2), as they come in OPEN, CREATE, READ and WRITE. Numbers differ between x86-64 and arm64 (O_DIRECT, O_DIRECTORY,
 * O_NOFOLLOW), so they are the platform's own.
 */
export const OPEN_FLAGS = {
  ACCESS_MODE: 3,
  APPEND: constants.O_APPEND,
  TRUNCATE: constants.O_TRUNC,
  EXCLUSIVE: constants.O_EXCL,
  DIRECT: constants.O_DIRECT,
  DSYNC: constants.O_DSYNC,
  SYNC: constants.O_SYNC,
} as const

export type AccessMode = 'read' | 'write' | 'both'

/** O_RDONLY 0, O_WRONLY 1, O_RDWR 2; Linux treats 3 as "check for both". */
export function accessModeOf(openFlags: number): AccessMode {
  const mode = openFlags & OPEN_FLAGS.ACCESS_MODE
  if (mode === 0) return 'read'
  return mode === 1 ? 'write' : 'both'
}
