/**
 * Replies, built in one scratch memory. Every method writes a whole message and returns its length; the message is
 * `encoder.bytes` up to there, valid until the next method is called, so it is handed to the channel at once. Nothing is
 * allocated. Layouts from include/uapi/linux/fuse.h; numbers are positions in bytes, `entry` and `attr` are in attributes.ts.
 *
 *     fuse_out_header   16        0 len u32: of the whole message, 4 error s32: 0 or a negative errno, 8 unique u64
 *
 *     fuse_entry_out   128        LOOKUP, SYMLINK, MKNOD, MKDIR, LINK; CREATE and TMPFILE with fuse_open_out behind it
 *     fuse_attr_out    104        0 attr_valid u64 (s), 8 attr_valid_nsec u32, 12 dummy, 16 fuse_attr
 *     fuse_statx_out   288 (7.39) 0 attr_valid u64 (s), 8 attr_valid_nsec u32, 12 flags u32, 16 spare, 32 fuse_statx
 *     fuse_open_out     16        0 fh u64, 8 open_flags u32, 12 backing_id s32 (7.40, passthrough: 0)
 *     fuse_write_out     8        0 size u32, 4 padding. WRITE, COPY_FILE_RANGE
 *     fuse_copy_file_    8 (7.45) 0 bytes_copied u64. COPY_FILE_RANGE_64
 *      range_out
 *     fuse_statfs_out   80        0 blocks u64, 8 bfree u64, 16 bavail u64, 24 files u64, 32 ffree u64, 40 bsize u32,
 *                                 44 namelen u32, 48 frsize u32 (7.4), 52 padding, 56 spare
 *     fuse_getxattr_out  8        0 size u32, 4 padding. GETXATTR and LISTXATTR that asked with size 0
 *     fuse_lk_out       24 (7.7)  0 start u64, 8 end u64, 16 type u32, 20 pid u32
 *     fuse_lseek_out     8 (7.24) 0 offset u64
 *     fuse_init_out     64        0 major u32, 4 minor u32, 8 max_readahead u32 (7.6), 12 flags u32 (7.5),
 *                                 16 max_background u16 (7.13), 18 congestion_threshold u16 (7.13), 20 max_write u32 (7.5),
 *                                 24 time_gran u32 (7.23), 28 max_pages u16 (7.28), 30 map_alignment u16 (7.31),
 *                                 32 flags2 u32 (7.36), 36 max_stack_depth u32 (7.40), 40 request_timeout u16 (7.43), unused
 *     bytes                       READ, READLINK, GETXATTR and LISTXATTR with a size; READDIR*: directory-reply.ts
 *
 * The kernel drops a reply whose error is positive or below -511, or whose length is not that of the struct.
 */
import { assert } from '../../../common/assert.ts'
import type { ByteString } from '../../../common/ids.ts'
import {
  ENTRY_OUT_BYTES,
  STATX_BYTES,
  nanosecondsOf,
  secondsOf,
  writeAttributes,
  writeEntry,
  writeStatx,
  type EntryReply,
  type FileAttributes,
} from './attributes.ts'
import { ERRNO, type ErrnoName } from './errno.ts'
import { LOCK_TYPES } from './flags.ts'
import { FUSE_MAJOR_VERSION, initFlagBits, type InitAccepted } from './init.ts'
import type { FileLock } from './requests.ts'
import { FILE_OFFSET_MAX, WireScratch } from './wire.ts'

export const OUT_HEADER_BYTES = 16
const BODY = OUT_HEADER_BYTES

/** Enough for any reply but data: the longest texts are the target of a symbolic link (4,095) and a list of names (64 KiB). */
const SCRATCH_BYTES: number = OUT_HEADER_BYTES + 64 * 1024

const ERROR_MAX = 511

/** Writes `fuse_out_header`; returns the length of the message. */
export function writeOutHeader(scratch: WireScratch, unique: number, bodyBytes: number): number {
  const lengthBytes = OUT_HEADER_BYTES + bodyBytes
  scratch.u32(0, lengthBytes)
  scratch.u32(4, 0)
  scratch.u64(8, unique)
  return lengthBytes
}

/** What an open file or directory is called, and OPEN_REPLY bits of flags.ts. */
export interface OpenReply {
  readonly handle: number
  readonly flags: number
}

/** In units of `fragmentBytes`, but for the counts of files. */
export interface StatfsReply {
  readonly blocks: number
  readonly blocksFree: number
  readonly blocksAvailable: number
  readonly files: number
  readonly filesFree: number
  readonly blockBytes: number
  readonly fragmentBytes: number
  readonly nameBytesMax: number
}

export class ReplyEncoder {
  readonly #scratch: WireScratch

  constructor(sizeBytes: number = SCRATCH_BYTES) {
    this.#scratch = new WireScratch(sizeBytes)
  }

  /** Where the messages are built. */
  get bytes(): Uint8Array {
    return this.#scratch.bytes
  }

  /** `errno` is a positive number (errno.ts). */
  error(unique: number, errno: number): number {
    assert(errno > 0 && errno <= ERROR_MAX, `errno ${errno}`)
    const lengthBytes = writeOutHeader(this.#scratch, unique, 0)
    this.#scratch.u32(4, -errno)
    return lengthBytes
  }

  errorNamed(unique: number, errno: ErrnoName): number {
    return this.error(unique, ERRNO[errno])
  }

  /** Done, with nothing to say. */
  done(unique: number): number {
    return writeOutHeader(this.#scratch, unique, 0)
  }

  /** The header of a message whose `dataBytes` the channel sends from where they are, behind it in one writev(2). */
  dataHeader(unique: number, dataBytes: number): number {
    writeOutHeader(this.#scratch, unique, dataBytes)
    return OUT_HEADER_BYTES
  }

  /** Data that is worth copying: the value or the list of extended attributes. */
  data(unique: number, data: Uint8Array): number {
    assert(BODY + data.length <= this.#scratch.bytes.length, `${data.length} bytes of data in a small reply`)
    this.#scratch.bytes.set(data, BODY)
    return writeOutHeader(this.#scratch, unique, data.length)
  }

  /** The target of a symbolic link, without a NUL. */
  text(unique: number, text: ByteString): number {
    assert(BODY + text.length <= this.#scratch.bytes.length, `${text.length} bytes of text in a reply`)
    this.#scratch.text(BODY, text)
    return writeOutHeader(this.#scratch, unique, text.length)
  }

  entry(unique: number, entry: EntryReply): number {
    writeEntry(this.#scratch, BODY, entry)
    return writeOutHeader(this.#scratch, unique, ENTRY_OUT_BYTES)
  }

  /** To LOOKUP: the name means nothing, and the kernel may remember that (ENOENT it would not remember). */
  negativeEntry(unique: number, entryMs: number): number {
    this.#scratch.zero(BODY, BODY + ENTRY_OUT_BYTES)
    this.#scratch.u64(BODY + 16, secondsOf(entryMs))
    this.#scratch.u32(BODY + 32, nanosecondsOf(entryMs))
    return writeOutHeader(this.#scratch, unique, ENTRY_OUT_BYTES)
  }

  attributes(unique: number, attributes: FileAttributes, attributesMs: number): number {
    this.#validity(attributesMs)
    writeAttributes(this.#scratch, BODY + 16, attributes)
    return writeOutHeader(this.#scratch, unique, 104)
  }

  statx(unique: number, attributes: FileAttributes, attributesMs: number): number {
    this.#validity(attributesMs)
    this.#scratch.zero(BODY + 16, BODY + 32)
    writeStatx(this.#scratch, BODY + 32, attributes)
    return writeOutHeader(this.#scratch, unique, 32 + STATX_BYTES)
  }

  #validity(attributesMs: number): void {
    this.#scratch.u64(BODY, secondsOf(attributesMs))
    this.#scratch.u32(BODY + 8, nanosecondsOf(attributesMs))
    this.#scratch.u32(BODY + 12, 0)
  }

  opened(unique: number, open: OpenReply): number {
    this.#open(BODY, open)
    return writeOutHeader(this.#scratch, unique, 16)
  }

  created(unique: number, entry: EntryReply, open: OpenReply): number {
    writeEntry(this.#scratch, BODY, entry)
    this.#open(BODY + ENTRY_OUT_BYTES, open)
    return writeOutHeader(this.#scratch, unique, ENTRY_OUT_BYTES + 16)
  }

  #open(at: number, open: OpenReply): void {
    this.#scratch.u64(at, open.handle)
    this.#scratch.u32(at + 8, open.flags)
    this.#scratch.u32(at + 12, 0)
  }

  /** To WRITE and COPY_FILE_RANGE. */
  written(unique: number, sizeBytes: number): number {
    return this.#sizeReply(unique, sizeBytes)
  }

  /** To GETXATTR and LISTXATTR that asked with size 0. */
  xattrSize(unique: number, sizeBytes: number): number {
    return this.#sizeReply(unique, sizeBytes)
  }

  #sizeReply(unique: number, sizeBytes: number): number {
    assert(sizeBytes >= 0 && sizeBytes < 2 ** 32, `${sizeBytes} bytes in 32 bits`)
    this.#scratch.u32(BODY, sizeBytes)
    this.#scratch.u32(BODY + 4, 0)
    return writeOutHeader(this.#scratch, unique, 8)
  }

  /** To COPY_FILE_RANGE_64. */
  copied(unique: number, sizeBytes: number): number {
    this.#scratch.u64(BODY, sizeBytes)
    return writeOutHeader(this.#scratch, unique, 8)
  }

  /** To LSEEK. */
  position(unique: number, offset: number): number {
    this.#scratch.u64(BODY, offset)
    return writeOutHeader(this.#scratch, unique, 8)
  }

  statfs(unique: number, statfs: StatfsReply): number {
    const scratch = this.#scratch
    scratch.zero(BODY, BODY + 80)
    scratch.u64(BODY, statfs.blocks)
    scratch.u64(BODY + 8, statfs.blocksFree)
    scratch.u64(BODY + 16, statfs.blocksAvailable)
    scratch.u64(BODY + 24, statfs.files)
    scratch.u64(BODY + 32, statfs.filesFree)
    scratch.u32(BODY + 40, statfs.blockBytes)
    scratch.u32(BODY + 44, statfs.nameBytesMax)
    scratch.u32(BODY + 48, statfs.fragmentBytes)
    return writeOutHeader(scratch, unique, 80)
  }

  /** To GETLK: what stands in the way, or a lock of type `unlock` if nothing does. */
  lock(unique: number, lock: FileLock): number {
    this.#scratch.u64(BODY, lock.start)
    this.#scratch.u64(BODY + 8, lock.end)
    // "To the end of the file" is 2^63 - 1 for the kernel.
    if (lock.end === FILE_OFFSET_MAX) this.#scratch.u32(BODY + 12, 0x7f_ff_ff_ff)
    this.#scratch.u32(BODY + 16, LOCK_TYPES[lock.type])
    this.#scratch.u32(BODY + 20, lock.pid)
    return writeOutHeader(this.#scratch, unique, 24)
  }

  init(unique: number, accepted: InitAccepted): number {
    const scratch = this.#scratch
    const { flags, flagsHigh } = initFlagBits(accepted.flags)
    scratch.zero(BODY, BODY + 64)
    scratch.u32(BODY, FUSE_MAJOR_VERSION)
    scratch.u32(BODY + 4, accepted.minorVersion)
    scratch.u32(BODY + 8, accepted.maxReadaheadBytes)
    scratch.u32(BODY + 12, flags)
    scratch.u16(BODY + 16, accepted.maxBackground)
    scratch.u16(BODY + 18, accepted.congestionThreshold)
    scratch.u32(BODY + 20, accepted.maxWriteBytes)
    scratch.u32(BODY + 24, accepted.timeGranularityNs)
    scratch.u16(BODY + 28, accepted.maxPages)
    scratch.u32(BODY + 32, flagsHigh)
    return writeOutHeader(scratch, unique, 64)
  }

  /** To an INIT of a later major version: "speak 7", upon which the kernel sends another INIT. */
  initMajorOnly(unique: number): number {
    this.#scratch.zero(BODY, BODY + 64)
    this.#scratch.u32(BODY, FUSE_MAJOR_VERSION)
    return writeOutHeader(this.#scratch, unique, 64)
  }
}
