/**
 * Attributes of a node as replies carry them. Layout from include/uapi/linux/fuse.h; numbers are positions in bytes.
 *
 *     fuse_attr       88   0 ino u64, 8 size u64, 16 blocks u64, 24 atime s64, 32 mtime s64, 40 ctime s64, 48 atimensec u32,
 *                          52 mtimensec u32, 56 ctimensec u32, 60 mode u32, 64 nlink u32, 68 uid u32, 72 gid u32,
 *                          76 rdev u32, 80 blksize u32 (7.9), 84 flags u32 (7.32; submounts and DAX: 0)
 *
 *     fuse_entry_out 128   0 nodeid u64, 8 generation u64, 16 entry_valid u64 (s), 24 attr_valid u64 (s),
 *                          32 entry_valid_nsec u32, 36 attr_valid_nsec u32, 40 fuse_attr
 *
 *     fuse_statx     256   0 mask u32, 4 blksize u32, 8 attributes u64, 16 nlink u32, 20 uid u32, 24 gid u32, 28 mode u16,
 *     (7.39)               30 spare, 32 ino u64, 40 size u64, 48 blocks u64, 56 attributes_mask u64, 64 atime, 80 btime,
 *                          96 ctime, 112 mtime (each fuse_sx_time 16: 0 tv_sec s64, 8 tv_nsec u32, 12 reserved),
 *                          128 rdev_major u32, 132 rdev_minor u32, 136 dev_major u32, 140 dev_minor u32, 144 spare
 *
 * (nodeid, generation) must be unique for the life of the file system. Inode ids are never reused, so the generation is 0.
 */
import type { InodeId } from '../../../common/ids.ts'
import type { FileTime } from '../../../common/file-model.ts'
import type { WireScratch } from './wire.ts'

export const ENTRY_OUT_BYTES = 128
export const STATX_BYTES = 256

export interface FileAttributes {
  /** What stat(2) shows as inode number. */
  readonly inode: InodeId
  readonly sizeBytes: number
  /** Allocated, in units of 512 bytes, whatever `blockBytes` is. */
  readonly blocks: number
  readonly atime: FileTime
  readonly mtime: FileTime
  readonly ctime: FileTime
  /** Of creation; undefined if that is not known. Only STATX shows it. */
  readonly btime: FileTime | undefined
  /** With the type (FILE_TYPE of flags.ts): the kernel takes a node whose type changes for broken. */
  readonly mode: number
  readonly linkCount: number
  readonly uid: number
  readonly gid: number
  /** Of device nodes, as MKNOD had it. */
  readonly device: number
  /** The unit in which I/O is best done. */
  readonly blockBytes: number
}

/** For how long the kernel may go by what it was told. */
export interface CacheTimes {
  /** That the name means this node, or, in a negative entry, nothing. */
  readonly entryMs: number
  readonly attributesMs: number
}

export function writeAttributes(scratch: WireScratch, at: number, attributes: FileAttributes): void {
  const { atime, mtime, ctime } = attributes
  scratch.u64(at, attributes.inode)
  scratch.u64(at + 8, attributes.sizeBytes)
  scratch.u64(at + 16, attributes.blocks)
  scratch.u64(at + 24, atime.seconds)
  scratch.u64(at + 32, mtime.seconds)
  scratch.u64(at + 40, ctime.seconds)
  scratch.u32(at + 48, atime.nanoseconds)
  scratch.u32(at + 52, mtime.nanoseconds)
  scratch.u32(at + 56, ctime.nanoseconds)
  scratch.u32(at + 60, attributes.mode)
  scratch.u32(at + 64, attributes.linkCount)
  scratch.u32(at + 68, attributes.uid)
  scratch.u32(at + 72, attributes.gid)
  scratch.u32(at + 76, attributes.device)
  scratch.u32(at + 80, attributes.blockBytes)
  scratch.u32(at + 84, 0)
}

/** What LOOKUP, CREATE and their like answer with. Each one sent is a reference that FORGET gives back later. */
export interface EntryReply {
  /** The kernel's name for the node from now on: the inode, but 1 for the root. */
  readonly nodeId: InodeId
  readonly attributes: FileAttributes
  readonly cacheTimes: CacheTimes
}

export function writeEntry(scratch: WireScratch, at: number, entry: EntryReply): void {
  const { entryMs, attributesMs } = entry.cacheTimes
  scratch.u64(at, entry.nodeId)
  scratch.u64(at + 8, 0)
  scratch.u64(at + 16, secondsOf(entryMs))
  scratch.u64(at + 24, secondsOf(attributesMs))
  scratch.u32(at + 32, nanosecondsOf(entryMs))
  scratch.u32(at + 36, nanosecondsOf(attributesMs))
  writeAttributes(scratch, at + 40, entry.attributes)
}

export function secondsOf(durationMs: number): number {
  return Math.floor(durationMs / 1000)
}

export function nanosecondsOf(durationMs: number): number {
  return Math.floor((durationMs % 1000) * 1e6)
}

/** include/uapi/linux/stat.h: the fields that stat(2) has, and the creation time. */
const STATX_BASIC_STATS = 0x7ff
const STATX_BTIME = 0x800

export function writeStatx(scratch: WireScratch, at: number, attributes: FileAttributes): void {
  const { btime, device } = attributes
  scratch.zero(at, at + STATX_BYTES)
  scratch.u32(at, btime === undefined ? STATX_BASIC_STATS : STATX_BASIC_STATS | STATX_BTIME)
  scratch.u32(at + 4, attributes.blockBytes)
  scratch.u32(at + 16, attributes.linkCount)
  scratch.u32(at + 20, attributes.uid)
  scratch.u32(at + 24, attributes.gid)
  scratch.u16(at + 28, attributes.mode)
  scratch.u64(at + 32, attributes.inode)
  scratch.u64(at + 40, attributes.sizeBytes)
  scratch.u64(at + 48, attributes.blocks)
  writeStatxTime(scratch, at + 64, attributes.atime)
  if (btime !== undefined) writeStatxTime(scratch, at + 80, btime)
  writeStatxTime(scratch, at + 96, attributes.ctime)
  writeStatxTime(scratch, at + 112, attributes.mtime)
  // Parts of a device number as the kernel encodes it (new_encode_dev of include/linux/kdev_t.h).
  scratch.u32(at + 128, (device >>> 8) & 0xfff)
  scratch.u32(at + 132, (device & 0xff) | ((device >>> 12) & 0xfff00))
}

function writeStatxTime(scratch: WireScratch, at: number, time: FileTime): void {
  scratch.u64(at, time.seconds)
  scratch.u32(at + 8, time.nanoseconds)
}
