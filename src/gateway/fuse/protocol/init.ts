/**
 * INIT, the first request of a mount: the kernel says its version and what it can do, the server answers with the version
 * and the abilities to use. A pure function decides; what both sides have is used, and nothing else.
 *
 * Versions: the smaller minor of the two counts. 7.23 (Linux 3.15) is the oldest spoken, because from there on every struct
 * that is used here has the layout that is documented here. 41 is the most that is answered: nothing later is used but
 * COPY_FILE_RANGE_64, which the kernel tries whatever the minor. A later major is answered with 7, and another INIT comes.
 *
 * Flags that are taken, of include/uapi/linux/fuse.h (why, where it is not the name alone):
 *
 *     ASYNC_READ               reads of one file need not wait for one another, so read-ahead overlaps
 *     POSIX_LOCKS, FLOCK_LOCKS both sorts of locks come here, and hold for all who use this mount; where nodes share the namespace, for all mounts of it
 *     ATOMIC_O_TRUNC           O_TRUNC comes with OPEN, instead of a SETATTR before it
 *     BIG_WRITES, MAX_PAGES    requests of 1 MiB
 *     DO_READDIRPLUS, READDIRPLUS_AUTO  listings bring attributes while the reader looks at them (`ls -l`, not `ls`)
 *     ASYNC_DIO, PARALLEL_DIROPS
 *     CACHE_SYMLINKS           targets never change
 *     HANDLE_KILLPRIV_V2       the server takes setuid and setgid off a mode when someone without CAP_FSETID writes or
 *                              truncates (`killSuidGid` of the requests) and always at chown; the kernel then need not ask
 *                              for `security.capability` before each write
 *     INIT_EXT                 bits 32..63 exist
 *     WRITEBACK_CACHE          by option only: the kernel then gathers writes and owns size and mtime, so what S3 or another
 *                              node writes to the file at the same time is overwritten or not seen
 *
 * And some that are not:
 *
 *     DONT_MASK                so the kernel applies the umask, and modes come masked: the umask beside them is not applied
 *                              again. Only default ACLs would need the unmasked mode, and POSIX_ACL is not taken either
 *     AUTO_INVAL_DATA          a GETATTR for each read once the attributes have timed out; changes are told by notification
 *     EXPORT_SUPPORT           NFS would look up `.` and `..` of forgotten nodes
 *     SPLICE_*                 the data is in the memory of the server anyway
 *     SETXATTR_EXT             a longer fuse_setxattr_in, of use to POSIX_ACL only
 *     SECURITY_CTX, CREATE_SUPP_GROUP  would add extensions to requests
 *     ABORT_ERROR              an aborted connection and an unmounted one are the same to the channel: it ends
 */
import type { InitRequest } from './requests.ts'

export const FUSE_MAJOR_VERSION = 7
export const FUSE_MINOR_VERSION_MIN = 23
export const FUSE_MINOR_VERSION_MAX = 41

/** Data of a WRITE or READ. A slot of the channel must hold it, and the headers (channel/ports.ts). */
export const FUSE_WRITE_BYTES_MAX: number = 1024 * 1024

const PAGE_BYTES = 4096
/** What a request holds for kernels without MAX_PAGES. */
const PAGES_WITHOUT_MAX_PAGES = 32
const BACKGROUND_MAX = 64
/** Times are kept in full; the kernel rounds those that it sets itself to this. */
const TIME_GRANULARITY_NS = 1

/** By bit: 0..31 are `flags`, 32..63 `flags2`. */
const INIT_FLAG_BITS = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  ATOMIC_O_TRUNC: 3,
  BIG_WRITES: 5,
  FLOCK_LOCKS: 10,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  PARALLEL_DIROPS: 18,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  HANDLE_KILLPRIV_V2: 28,
  INIT_EXT: 30,
} as const

export type InitFlag = keyof typeof INIT_FLAG_BITS

const INIT_FLAGS = Object.keys(INIT_FLAG_BITS) as InitFlag[]

export interface InitOptions {
  readonly writebackCache: boolean
  /** Of data in one WRITE or READ, at least a page. */
  readonly writeBytesMax: number
  /** How far the kernel may read ahead; it takes the smaller of this and the setting of the mount's backing device. */
  readonly readaheadBytesMax: number
}

/** The mount is as follows. */
export interface InitAccepted {
  readonly kind: 'accepted'
  readonly minorVersion: number
  readonly flags: ReadonlySet<InitFlag>
  readonly maxReadaheadBytes: number
  readonly maxWriteBytes: number
  readonly maxPages: number
  /** Requests that nobody waits for (read-ahead, writeback) at one time; from the threshold on the device counts as busy. */
  readonly maxBackground: number
  readonly congestionThreshold: number
  readonly timeGranularityNs: number
}

export type InitOutcome =
  | InitAccepted
  /** Answer with `initMajorOnly` and wait for the next INIT. */
  | { readonly kind: 'other-major' }
  /** Answer EPROTO and end; the reason is for the log. */
  | { readonly kind: 'refused'; readonly reason: string }

export function negotiateInit(request: InitRequest, options: InitOptions): InitOutcome {
  const { majorVersion, minorVersion } = request
  if (majorVersion > FUSE_MAJOR_VERSION) return { kind: 'other-major' }
  if (majorVersion < FUSE_MAJOR_VERSION || minorVersion < FUSE_MINOR_VERSION_MIN) {
    const oldest = `${FUSE_MAJOR_VERSION}.${FUSE_MINOR_VERSION_MIN}`
    return { kind: 'refused', reason: `the kernel speaks FUSE ${majorVersion}.${minorVersion}, older than ${oldest}` }
  }
  const flags = flagsInUse(request, options)
  const pagesMax = flags.has('MAX_PAGES') ? Math.ceil(options.writeBytesMax / PAGE_BYTES) : PAGES_WITHOUT_MAX_PAGES
  return {
    kind: 'accepted',
    minorVersion: Math.min(minorVersion, FUSE_MINOR_VERSION_MAX),
    flags,
    maxReadaheadBytes: Math.min(request.maxReadaheadBytes, options.readaheadBytesMax),
    maxWriteBytes: Math.min(options.writeBytesMax, pagesMax * PAGE_BYTES),
    maxPages: pagesMax,
    maxBackground: BACKGROUND_MAX,
    congestionThreshold: (BACKGROUND_MAX / 4) * 3,
    timeGranularityNs: TIME_GRANULARITY_NS,
  }
}

function flagsInUse(request: InitRequest, options: InitOptions): ReadonlySet<InitFlag> {
  const isOffered = (flag: InitFlag): boolean => {
    const bit = INIT_FLAG_BITS[flag]
    return ((bit < 32 ? request.flags >>> bit : request.flagsHigh >>> (bit - 32)) & 1) === 1
  }
  return new Set(INIT_FLAGS.filter((flag) => isOffered(flag) && (flag !== 'WRITEBACK_CACHE' || options.writebackCache)))
}

/** As INIT's two words of flags. */
export function initFlagBits(flags: ReadonlySet<InitFlag>): { flags: number; flagsHigh: number } {
  let low = 0
  let high = 0
  for (const flag of flags) {
    const bit: number = INIT_FLAG_BITS[flag]
    if (bit < 32) low |= 1 << bit
    else high |= 1 << (bit - 32)
  }
  return { flags: low >>> 0, flagsHigh: high >>> 0 }
}
