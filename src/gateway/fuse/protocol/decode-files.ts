/**
 * Bodies of the operations on open files and directories. Layouts from include/uapi/linux/fuse.h; numbers are positions in
 * bytes, `fh` is the handle that OPEN, OPENDIR or CREATE was answered with.
 *
 *     OPEN, OPENDIR     fuse_open_in      8        0 flags u32, 4 open_flags u32 (7.33)
 *     READ, READDIR,    fuse_read_in     40        0 fh u64, 8 offset u64, 16 size u32, 20 read_flags u32, 24 lock_owner u64,
 *     READDIRPLUS                                  32 flags u32, 36 padding (20..40: 7.9)
 *     WRITE             fuse_write_in    40        as fuse_read_in, 20 write_flags u32; `size` bytes
 *     RELEASE,          fuse_release_in  24        0 fh u64, 8 flags u32, 12 release_flags u32, 16 lock_owner u64 (7.8)
 *     RELEASEDIR
 *     FLUSH             fuse_flush_in    24        0 fh u64, 8 unused u32, 12 padding, 16 lock_owner u64
 *     FSYNC, FSYNCDIR   fuse_fsync_in    16        0 fh u64, 8 fsync_flags u32, 12 padding
 *     GETLK, SETLK,     fuse_lk_in       48 (7.7)  0 fh u64, 8 owner u64, 16 start u64, 24 end u64, 32 type u32, 36 pid u32,
 *     SETLKW                                       40 lk_flags u32 (7.9), 44 padding
 *     FALLOCATE         fuse_fallocate_in 32 (7.19) 0 fh u64, 8 offset u64, 16 length u64, 24 mode u32, 28 padding
 *     LSEEK             fuse_lseek_in    24 (7.24) 0 fh u64, 8 offset u64, 16 whence u32, 20 padding
 *     COPY_FILE_RANGE,  fuse_copy_file_  56 (7.28) 0 fh_in u64, 8 off_in u64, 16 nodeid_out u64, 24 fh_out u64,
 *     COPY_FILE_RANGE_64 range_in                  32 off_out u64, 40 len u64, 48 flags u64
 *     POLL              fuse_poll_in     24 (7.11) 0 fh u64, 8 kh u64, 16 flags u32, 20 events u32 (7.21)
 *     IOCTL             fuse_ioctl_in    32 (7.11) 0 fh u64, 8 flags u32, 12 cmd u32, 16 arg u64, 24 in_size, 28 out_size
 *
 * The lock owner of READ and WRITE is not decoded: it serves mandatory locks, which Linux no longer has.
 */
import {
  FSYNC_DATA_ONLY,
  LOCK_FLOCK,
  LOCK_TYPES,
  OPEN_KILL_SUIDGID,
  RELEASE_FLOCK_UNLOCK,
  RELEASE_FLUSH,
  SEEK_DATA,
  SEEK_HOLE,
  WRITE_FROM_PAGE_CACHE,
  WRITE_KILL_SUIDGID,
} from './flags.ts'
import { fixed, variable, type Decoders } from './decoder.ts'
import type { RequestBody } from './request-body.ts'
import type { FileLock, LockType, RequestHeader, RequestOf } from './requests.ts'

type FileOperation =
  | 'OPEN'
  | 'OPENDIR'
  | 'READ'
  | 'READDIR'
  | 'READDIRPLUS'
  | 'WRITE'
  | 'RELEASE'
  | 'RELEASEDIR'
  | 'FLUSH'
  | 'FSYNC'
  | 'FSYNCDIR'
  | 'GETLK'
  | 'SETLK'
  | 'SETLKW'
  | 'FALLOCATE'
  | 'LSEEK'
  | 'COPY_FILE_RANGE'
  | 'COPY_FILE_RANGE_64'
  | 'POLL'
  | 'IOCTL'

/** The answer to COPY_FILE_RANGE has 32 bits for the length, so what is copied ends at the last whole page below. */
const COPY_32_BYTES_MAX = 0xff_ff_f0_00

export const FILE_DECODERS: Decoders<FileOperation> = {
  OPEN: fixed(8, (body, header) => ({ operation: 'OPEN', header, ...opening(body) })),
  OPENDIR: fixed(8, (body, header) => ({ operation: 'OPENDIR', header, ...opening(body) })),
  READ: fixed(40, (body, header) => ({
    operation: 'READ',
    header,
    handle: body.id(0),
    offset: body.offset(8),
    sizeBytes: body.u32(16),
    flags: body.u32(32),
  })),
  READDIR: fixed(40, (body, header) => ({ operation: 'READDIR', header, ...listing(body) })),
  READDIRPLUS: fixed(40, (body, header) => ({ operation: 'READDIRPLUS', header, ...listing(body) })),
  WRITE: variable(40, write),
  RELEASE: fixed(24, (body, header) => ({ operation: 'RELEASE', header, ...releasing(body) })),
  RELEASEDIR: fixed(24, (body, header) => ({ operation: 'RELEASEDIR', header, ...releasing(body) })),
  FLUSH: fixed(24, (body, header) => ({
    operation: 'FLUSH',
    header,
    handle: body.id(0),
    lockOwner: body.lockOwner(16),
  })),
  FSYNC: fixed(16, (body, header) => ({ operation: 'FSYNC', header, ...syncing(body) })),
  FSYNCDIR: fixed(16, (body, header) => ({ operation: 'FSYNCDIR', header, ...syncing(body) })),
  GETLK: fixed(48, (body, header) => ({ operation: 'GETLK', header, ...locking(body) })),
  SETLK: fixed(48, (body, header) => ({ operation: 'SETLK', header, ...locking(body) })),
  SETLKW: fixed(48, (body, header) => ({ operation: 'SETLKW', header, ...locking(body) })),
  FALLOCATE: fixed(32, (body, header) => ({
    operation: 'FALLOCATE',
    header,
    handle: body.id(0),
    offset: body.offset(8),
    lengthBytes: body.offset(16),
    mode: body.u32(24),
  })),
  LSEEK: fixed(24, (body, header) => ({
    operation: 'LSEEK',
    header,
    handle: body.id(0),
    offset: body.offset(8),
    whence: whenceOf(body),
  })),
  COPY_FILE_RANGE: fixed(56, (body, header) => ({
    operation: 'COPY_FILE_RANGE',
    header,
    ...copying(body),
    lengthBytes: Math.min(body.offset(40), COPY_32_BYTES_MAX),
  })),
  COPY_FILE_RANGE_64: fixed(56, (body, header) => ({
    operation: 'COPY_FILE_RANGE_64',
    header,
    ...copying(body),
    lengthBytes: body.offset(40),
  })),
  POLL: fixed(24, (body, header) => ({ operation: 'POLL', header, handle: body.id(0) })),
  // What the ioctl brings along follows the struct, and is not looked at.
  IOCTL: fixed(32, (body, header) => ({
    operation: 'IOCTL',
    header,
    handle: body.id(0),
    command: body.u32(12),
  })),
}

type Fields<Name extends FileOperation> = Omit<RequestOf<Name>, 'operation' | 'header'>

function opening(body: RequestBody): Fields<'OPEN'> {
  return { flags: body.u32(0), killSuidGid: (body.u32(4) & OPEN_KILL_SUIDGID) !== 0 }
}

function listing(body: RequestBody): Fields<'READDIR'> {
  return { handle: body.id(0), offset: body.offset(8), sizeBytes: body.u32(16) }
}

function write(body: RequestBody, header: RequestHeader): RequestOf<'WRITE'> {
  const writeFlags = body.u32(20)
  return {
    operation: 'WRITE',
    header,
    handle: body.id(0),
    offset: body.offset(8),
    flags: body.u32(32),
    fromPageCache: (writeFlags & WRITE_FROM_PAGE_CACHE) !== 0,
    killSuidGid: (writeFlags & WRITE_KILL_SUIDGID) !== 0,
    data: body.data(body.u32(16)),
  }
}

function releasing(body: RequestBody): Fields<'RELEASE'> {
  const releaseFlags = body.u32(12)
  return {
    handle: body.id(0),
    flags: body.u32(8),
    lockOwner: body.lockOwner(16),
    flush: (releaseFlags & RELEASE_FLUSH) !== 0,
    flockUnlock: (releaseFlags & RELEASE_FLOCK_UNLOCK) !== 0,
  }
}

function syncing(body: RequestBody): Fields<'FSYNC'> {
  return { handle: body.id(0), dataOnly: (body.u32(8) & FSYNC_DATA_ONLY) !== 0 }
}

function locking(body: RequestBody): Fields<'SETLK'> {
  const lock: FileLock = { type: lockTypeOf(body), start: body.offset(16), end: body.offset(24), pid: body.u32(36) }
  if (lock.end < lock.start) body.fault ??= 'a lock that ends before it starts'
  return { handle: body.id(0), owner: body.lockOwner(8), lock, flock: (body.u32(40) & LOCK_FLOCK) !== 0 }
}

const LOCK_TYPE_NAMES = new Map<number, LockType>([
  [LOCK_TYPES.read, 'read'],
  [LOCK_TYPES.write, 'write'],
  [LOCK_TYPES.unlock, 'unlock'],
])

function lockTypeOf(body: RequestBody): LockType {
  const type = LOCK_TYPE_NAMES.get(body.u32(32))
  if (type === undefined) body.fault ??= 'an unknown type of lock'
  return type ?? 'unlock'
}

function whenceOf(body: RequestBody): 'data' | 'hole' {
  const whence = body.u32(16)
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) body.fault ??= 'a seek for neither data nor hole'
  return whence === SEEK_HOLE ? 'hole' : 'data'
}

function copying(body: RequestBody): Omit<Fields<'COPY_FILE_RANGE'>, 'lengthBytes'> {
  return {
    handle: body.id(0),
    offset: body.offset(8),
    targetNodeId: body.id(16),
    targetHandle: body.id(24),
    targetOffset: body.offset(32),
    flags: body.u32(48),
  }
}
