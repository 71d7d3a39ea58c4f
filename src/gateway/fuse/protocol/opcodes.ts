/**
 * The operations of the FUSE kernel protocol, by their numbers (`enum fuse_opcode` of include/uapi/linux/fuse.h). The
 * number in a comment is the minor version of protocol 7 that brought the operation, where that was after 7.1.
 *
 * What is not here is decoded as `UNKNOWN` and answered ENOSYS, upon which the kernel stops asking. Among the known
 * numbers these are absent on purpose: BMAP (37, block devices only), NOTIFY_REPLY (41, answers a RETRIEVE that is never
 * sent), SETUPMAPPING and REMOVEMAPPING (48 and 49, DAX windows of virtio), CUSE_INIT (4096), and the two byte-swapped
 * INITs by which a kernel of the other byte order would show itself (436207616 and 1048576).
 */
export const OPCODES = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30, // 7.2
  GETLK: 31, // 7.7
  SETLK: 32, // 7.7
  SETLKW: 33, // 7.7
  ACCESS: 34, // 7.3
  CREATE: 35, // 7.3
  INTERRUPT: 36, // 7.7
  DESTROY: 38, // 7.8
  IOCTL: 39, // 7.11
  POLL: 40, // 7.11
  BATCH_FORGET: 42, // 7.16
  FALLOCATE: 43, // 7.19
  READDIRPLUS: 44, // 7.21
  RENAME2: 45, // 7.23
  LSEEK: 46, // 7.24
  COPY_FILE_RANGE: 47, // 7.28
  SYNCFS: 50, // 7.34
  TMPFILE: 51, // 7.37
  STATX: 52, // 7.39
  COPY_FILE_RANGE_64: 53, // 7.45
} as const satisfies Readonly<Record<string, number>>

export type OperationName = keyof typeof OPCODES

/**
 * The kernel waits for no answer to these, and refuses one. INTERRUPT may be answered, but only with EAGAIN (send it
 * again) or ENOSYS (never send it again), so silence is right.
 */
const UNANSWERED: ReadonlySet<number> = new Set([OPCODES.FORGET, OPCODES.BATCH_FORGET, OPCODES.INTERRUPT])

export function expectsReply(opcode: number): boolean {
  return !UNANSWERED.has(opcode)
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(OPCODES).map(([name, opcode]) => [opcode, name]))

/** For logs and metrics: the name, or `UNKNOWN` (never the number, so that the set of names is closed). */
export function operationNameOf(opcode: number): string {
  return NAMES.get(opcode) ?? 'UNKNOWN'
}
