/**
 * Bodies of the operations on nodes as such, and on the mount as a whole. Layouts from include/uapi/linux/fuse.h; numbers
 * are positions in bytes.
 *
 *     FORGET        fuse_forget_in        8         0 nlookup u64
 *     BATCH_FORGET  fuse_batch_forget_in  8 (7.16)  0 count u32, 4 dummy; `count` times fuse_forget_one 16: 0 nodeid u64,
 *                                                   8 nlookup u64
 *     GETATTR       fuse_getattr_in      16 (7.9)   0 getattr_flags u32, 4 dummy, 8 fh u64
 *     STATX         fuse_statx_in        24 (7.39)  0 getattr_flags u32, 4 reserved, 8 fh u64, 16 sx_flags u32, 20 sx_mask u32
 *     SETATTR       fuse_setattr_in      88         0 valid u32, 4 padding, 8 fh u64, 16 size u64, 24 lock_owner u64 (7.9),
 *                                                   32 atime s64, 40 mtime s64, 48 ctime s64 (7.23), 56 atimensec u32,
 *                                                   60 mtimensec u32, 64 ctimensec u32 (7.23), 68 mode u32, 72 unused,
 *                                                   76 uid u32, 80 gid u32, 84 unused
 *     LISTXATTR     fuse_getxattr_in      8         0 size u32, 4 padding
 *     ACCESS        fuse_access_in        8         0 mask u32, 4 padding
 *     SYNCFS        fuse_syncfs_in        8 (7.34)  0 padding u64
 *     INTERRUPT     fuse_interrupt_in     8         0 unique u64
 *     READLINK, STATFS, DESTROY           0
 *     INIT          fuse_init_in    8..64           0 major u32, 4 minor u32, 8 max_readahead u32 (7.6), 12 flags u32 (7.6),
 *                                                   16 flags2 u32 (7.36, if flags has INIT_EXT), 20..64 unused (7.36)
 */
import { GETATTR_HANDLE, SETATTR_VALID } from './flags.ts'
import { fixed, variable, type Decoders } from './decoder.ts'
import type { RequestBody } from './request-body.ts'
import type { Forgotten, RequestHeader, RequestOf, TimeChange } from './requests.ts'

type NodeOperation =
  | 'FORGET'
  | 'BATCH_FORGET'
  | 'GETATTR'
  | 'STATX'
  | 'SETATTR'
  | 'LISTXATTR'
  | 'ACCESS'
  | 'SYNCFS'
  | 'INTERRUPT'
  | 'READLINK'
  | 'STATFS'
  | 'DESTROY'
  | 'INIT'

const BATCH_FORGET_BYTES = 8
const FORGET_ONE_BYTES = 16
/** Bits of INIT's flags2 count only with this bit of its flags. */
const INIT_EXT = 2 ** 30

export const NODE_DECODERS: Decoders<NodeOperation> = {
  FORGET: fixed(8, (body, header) => ({
    operation: 'FORGET',
    header,
    nodeId: header.nodeId,
    lookupCount: body.offset(0),
  })),
  BATCH_FORGET: variable(BATCH_FORGET_BYTES, batchForget),
  GETATTR: fixed(16, (body, header) => ({ operation: 'GETATTR', header, handle: handleOf(body) })),
  STATX: fixed(24, (body, header) => ({
    operation: 'STATX',
    header,
    handle: handleOf(body),
    flags: body.u32(16),
    mask: body.u32(20),
  })),
  SETATTR: fixed(88, setattr),
  LISTXATTR: fixed(8, (body, header) => ({ operation: 'LISTXATTR', header, sizeBytes: body.u32(0) })),
  ACCESS: fixed(8, (body, header) => ({ operation: 'ACCESS', header, mask: body.u32(0) })),
  SYNCFS: fixed(8, (_body, header) => ({ operation: 'SYNCFS', header })),
  INTERRUPT: fixed(8, (body, header) => ({ operation: 'INTERRUPT', header, target: body.id(0) })),
  READLINK: fixed(0, (_body, header) => ({ operation: 'READLINK', header })),
  STATFS: fixed(0, (_body, header) => ({ operation: 'STATFS', header })),
  DESTROY: fixed(0, (_body, header) => ({ operation: 'DESTROY', header })),
  INIT: fixed(8, init),
}

function handleOf(body: RequestBody): number | undefined {
  return (body.u32(0) & GETATTR_HANDLE) === 0 ? undefined : body.id(8)
}

function batchForget(body: RequestBody, header: RequestHeader): RequestOf<'BATCH_FORGET'> {
  const count = body.u32(0)
  const nodes: Forgotten[] = []
  // Checks the count against what is there before anything is read by it.
  if (body.data(count * FORGET_ONE_BYTES).length === count * FORGET_ONE_BYTES) {
    for (let index = 0; index < count; index++) {
      const at = BATCH_FORGET_BYTES + index * FORGET_ONE_BYTES
      nodes.push({ nodeId: body.id(at), lookupCount: body.offset(at + 8) })
    }
  }
  return { operation: 'BATCH_FORGET', header, nodes }
}

function setattr(body: RequestBody, header: RequestHeader): RequestOf<'SETATTR'> {
  const valid = body.u32(0)
  const has = (bit: number): boolean => (valid & bit) !== 0
  const time = (given: number, now: number, secondsAt: number, nanosecondsAt: number): TimeChange => {
    if (has(now)) return 'now'
    return has(given) ? body.time(secondsAt, nanosecondsAt) : undefined
  }
  return {
    operation: 'SETATTR',
    header,
    mode: has(SETATTR_VALID.MODE) ? body.u32(68) : undefined,
    uid: has(SETATTR_VALID.UID) ? body.u32(76) : undefined,
    gid: has(SETATTR_VALID.GID) ? body.u32(80) : undefined,
    sizeBytes: has(SETATTR_VALID.SIZE) ? body.offset(16) : undefined,
    atime: time(SETATTR_VALID.ATIME, SETATTR_VALID.ATIME_NOW, 32, 56),
    mtime: time(SETATTR_VALID.MTIME, SETATTR_VALID.MTIME_NOW, 40, 60),
    ctime: has(SETATTR_VALID.CTIME) ? body.time(48, 64) : undefined,
    handle: has(SETATTR_VALID.HANDLE) ? body.id(8) : undefined,
    lockOwner: has(SETATTR_VALID.LOCK_OWNER) ? body.lockOwner(24) : undefined,
    killSuidGid: has(SETATTR_VALID.KILL_SUIDGID),
  }
}

function init(body: RequestBody, header: RequestHeader): RequestOf<'INIT'> {
  const flags = body.u32OrZero(12)
  return {
    operation: 'INIT',
    header,
    majorVersion: body.u32(0),
    minorVersion: body.u32(4),
    maxReadaheadBytes: body.u32OrZero(8),
    flags,
    flagsHigh: (flags & INIT_EXT) === 0 ? 0 : body.u32OrZero(16),
  }
}
