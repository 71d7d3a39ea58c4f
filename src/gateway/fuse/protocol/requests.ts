/**
 * What the kernel asks, decoded: one plain record an operation, told apart by `operation`. How each lies in memory is said
 * where it is decoded (decode-names.ts, decode-files.ts, decode-nodes.ts).
 *
 * - Names, targets and attribute names are bytes (`ByteString`, one char a byte), without their final NUL.
 * - `data` and `value` are views into the slot that held the request: valid until the slot is given back to the channel.
 * - Offsets and lengths over 2^53 - 1 are FILE_OFFSET_MAX (wire.ts says what follows from that).
 * - What the kernel marks as not set is undefined.
 */
import type { FileLock, LockType } from '../../../common/file-locks.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { OperationName } from './opcodes.ts'
import type { FileTime } from '../../../common/file-model.ts'

/** Of every request, `struct fuse_in_header`. */
export interface RequestHeader {
  readonly opcode: number
  /** Names the request: its reply repeats it, INTERRUPT refers to it. */
  readonly unique: number
  /** What the operation is about: an id that an earlier reply gave out, 1 for the root; 0 where there is none. */
  readonly nodeId: InodeId
  /** The caller's fsuid and fsgid; for what the kernel does on its own account (RELEASE, writeback) nobody's in particular. */
  readonly uid: number
  readonly gid: number
  /** 0 if the caller is in no process namespace that the mount knows. */
  readonly pid: number
}

interface Request<Name extends OperationName> {
  readonly operation: Name
  readonly header: RequestHeader
}

interface NamedRequest<Name extends OperationName> extends Request<Name> {
  readonly name: ByteString
}

export type LookupRequest = NamedRequest<'LOOKUP'>
export type UnlinkRequest = NamedRequest<'UNLINK'>
export type RmdirRequest = NamedRequest<'RMDIR'>
export type RemovexattrRequest = NamedRequest<'REMOVEXATTR'>
export type ReadlinkRequest = Request<'READLINK'>
export type StatfsRequest = Request<'STATFS'>
export type DestroyRequest = Request<'DESTROY'>
export type SyncfsRequest = Request<'SYNCFS'>

/** The kernel lets go of a node: `lookupCount` fewer of the references that entry replies gave it. */
export interface Forgotten {
  readonly nodeId: InodeId
  readonly lookupCount: number
}

export interface ForgetRequest extends Request<'FORGET'>, Forgotten {}

export interface BatchForgetRequest extends Request<'BATCH_FORGET'> {
  readonly nodes: readonly Forgotten[]
}

export interface GetattrRequest extends Request<'GETATTR'> {
  readonly handle: number | undefined
}

/** Asked when someone wants the creation time; ENOSYS makes the kernel fall back to GETATTR for good. */
export interface StatxRequest extends Request<'STATX'> {
  readonly handle: number | undefined
  /** AT_STATX_* and STATX_* of statx(2). */
  readonly flags: number
  readonly mask: number
}

/** `'now'`: the server's own clock at the time of the change. */
export type TimeChange = FileTime | 'now' | undefined

export interface SetattrRequest extends Request<'SETATTR'> {
  readonly mode: number | undefined
  readonly uid: number | undefined
  readonly gid: number | undefined
  readonly sizeBytes: number | undefined
  readonly atime: TimeChange
  readonly mtime: TimeChange
  /** Sent only with the writeback cache. */
  readonly ctime: FileTime | undefined
  /** For ftruncate(2): the handle by which the caller may write. */
  readonly handle: number | undefined
  readonly lockOwner: bigint | undefined
  /** Take setuid, and setgid if the group may execute, off the mode: the size is changed by someone without CAP_FSETID. */
  readonly killSuidGid: boolean
}

export interface SymlinkRequest extends NamedRequest<'SYMLINK'> {
  readonly target: ByteString
}

export interface MknodRequest extends NamedRequest<'MKNOD'> {
  /** With the type; the umask is already applied (init.ts says why). */
  readonly mode: number
  /** As the kernel encodes a device number: major in bits 8..19, minor in bits 0..7 and 20..31. */
  readonly device: number
  readonly umask: number
}

export interface MkdirRequest extends NamedRequest<'MKDIR'> {
  readonly mode: number
  readonly umask: number
}

/** From (header.nodeId, name) to (newParent, newName). */
interface RenameRequestOf<Name extends OperationName> extends NamedRequest<Name> {
  readonly newParent: InodeId
  readonly newName: ByteString
  readonly noReplace: boolean
  readonly exchange: boolean
  readonly whiteout: boolean
}

export type RenameRequest = RenameRequestOf<'RENAME'> | RenameRequestOf<'RENAME2'>

/** A further name, (header.nodeId, name), for `target`. */
export interface LinkRequest extends NamedRequest<'LINK'> {
  readonly target: InodeId
}

interface OpenRequestOf<Name extends OperationName> extends Request<Name> {
  /** O_* of open(2): see OPEN_FLAGS and accessModeOf in flags.ts. O_CREAT, O_EXCL and O_NOCTTY come in CREATE only. */
  readonly flags: number
  /** With O_TRUNC: as in SETATTR. */
  readonly killSuidGid: boolean
}

export type OpenRequest = OpenRequestOf<'OPEN'>
export type OpendirRequest = OpenRequestOf<'OPENDIR'>

export interface CreateRequest extends OpenRequestOf<'CREATE'> {
  readonly name: ByteString
  readonly mode: number
  readonly umask: number
}

/** A file without a name in the directory header.nodeId (O_TMPFILE). Answered like CREATE. */
export interface TmpfileRequest extends OpenRequestOf<'TMPFILE'> {
  readonly mode: number
  readonly umask: number
}

interface ReadRequestOf<Name extends OperationName> extends Request<Name> {
  readonly handle: number
  /** Bytes; for directories the cookie of the last entry that the reader has, 0 at the start. */
  readonly offset: number
  readonly sizeBytes: number
}

export interface ReadRequest extends ReadRequestOf<'READ'> {
  readonly flags: number
}
export type ReaddirRequest = ReadRequestOf<'READDIR'>
export type ReaddirplusRequest = ReadRequestOf<'READDIRPLUS'>

export interface WriteRequest extends Request<'WRITE'> {
  readonly handle: number
  readonly offset: number
  readonly flags: number
  /** Delayed, from the page cache: the handle is any that may write, and uid, gid and pid are not the writer's. */
  readonly fromPageCache: boolean
  /** As in SETATTR. */
  readonly killSuidGid: boolean
  readonly data: Uint8Array
}

interface ReleaseRequestOf<Name extends OperationName> extends Request<Name> {
  readonly handle: number
  readonly flags: number
  readonly lockOwner: bigint
  readonly flush: boolean
  /** The last close of a descriptor that holds a flock(2): give that lock up. */
  readonly flockUnlock: boolean
}

export type ReleaseRequest = ReleaseRequestOf<'RELEASE'>
export type ReleasedirRequest = ReleaseRequestOf<'RELEASEDIR'>

/** At each close(2), so perhaps several times a handle. Gives up the owner's POSIX locks on the file. */
export interface FlushRequest extends Request<'FLUSH'> {
  readonly handle: number
  readonly lockOwner: bigint
}

interface FsyncRequestOf<Name extends OperationName> extends Request<Name> {
  readonly handle: number
  /** fdatasync(2). */
  readonly dataOnly: boolean
}

export type FsyncRequest = FsyncRequestOf<'FSYNC'>
export type FsyncdirRequest = FsyncRequestOf<'FSYNCDIR'>

export interface SetxattrRequest extends NamedRequest<'SETXATTR'> {
  readonly value: Uint8Array
  /** Fail with EEXIST if it is there. */
  readonly create: boolean
  /** Fail with ENODATA if it is not. */
  readonly replace: boolean
}

/** With `sizeBytes` 0 only the length is asked for; a value that does not fit is ERANGE. */
export interface GetxattrRequest extends NamedRequest<'GETXATTR'> {
  readonly sizeBytes: number
}

export interface ListxattrRequest extends Request<'LISTXATTR'> {
  readonly sizeBytes: number
}

export interface AccessRequest extends Request<'ACCESS'> {
  /** R_OK 4, W_OK 2, X_OK 1; 0 asks whether the file is there. */
  readonly mask: number
}

export type { FileLock, LockType }

/** GETLK: what stands in the way of the lock? SETLK: take it or EAGAIN. SETLKW: wait for it, until an INTERRUPT (EINTR). */
interface LockRequestOf<Name extends OperationName> extends Request<Name> {
  readonly handle: number
  readonly owner: bigint
  readonly lock: FileLock
  /** flock(2), a lock on the whole file that POSIX locks do not see. */
  readonly flock: boolean
}

export type LockRequest = LockRequestOf<'GETLK'> | LockRequestOf<'SETLK'> | LockRequestOf<'SETLKW'>

/** The caller of the request `target` has a signal. It may be done, or (with cloned devices) not yet have been read. */
export interface InterruptRequest extends Request<'INTERRUPT'> {
  readonly target: number
}

export interface PollRequest extends Request<'POLL'> {
  readonly handle: number
}

/** Decoded so that it can be refused with ENOTTY, as a file system without ioctls of its own does, not with ENOSYS. */
export interface IoctlRequest extends Request<'IOCTL'> {
  readonly handle: number
  readonly command: number
}

export interface FallocateRequest extends Request<'FALLOCATE'> {
  readonly handle: number
  readonly offset: number
  readonly lengthBytes: number
  /** FALLOCATE_MODE bits of flags.ts. */
  readonly mode: number
}

export interface LseekRequest extends Request<'LSEEK'> {
  readonly handle: number
  readonly offset: number
  readonly whence: 'data' | 'hole'
}

/**
 * From (header.nodeId, handle, offset) to (targetNodeId, targetHandle, targetOffset). COPY_FILE_RANGE is answered with
 * `written`, whose 32 bits hold any `lengthBytes` given here; COPY_FILE_RANGE_64 with `copied`.
 */
interface CopyFileRangeRequestOf<Name extends OperationName> extends Request<Name> {
  readonly handle: number
  readonly offset: number
  readonly targetNodeId: InodeId
  readonly targetHandle: number
  readonly targetOffset: number
  readonly lengthBytes: number
  readonly flags: number
}

export type CopyFileRangeRequest =
  | CopyFileRangeRequestOf<'COPY_FILE_RANGE'>
  | CopyFileRangeRequestOf<'COPY_FILE_RANGE_64'>

/** The first request of a mount; see init.ts. */
export interface InitRequest extends Request<'INIT'> {
  readonly majorVersion: number
  readonly minorVersion: number
  readonly maxReadaheadBytes: number
  /** Bits 0..31 and 32..63 of what the kernel can do. */
  readonly flags: number
  readonly flagsHigh: number
}

export type FuseRequest =
  | AccessRequest
  | BatchForgetRequest
  | CopyFileRangeRequest
  | CreateRequest
  | DestroyRequest
  | FallocateRequest
  | FlushRequest
  | ForgetRequest
  | FsyncRequest
  | FsyncdirRequest
  | GetattrRequest
  | GetxattrRequest
  | InitRequest
  | InterruptRequest
  | IoctlRequest
  | LinkRequest
  | ListxattrRequest
  | LockRequest
  | LookupRequest
  | LseekRequest
  | MkdirRequest
  | MknodRequest
  | OpenRequest
  | OpendirRequest
  | PollRequest
  | ReadRequest
  | ReaddirRequest
  | ReaddirplusRequest
  | ReadlinkRequest
  | ReleaseRequest
  | ReleasedirRequest
  | RemovexattrRequest
  | RenameRequest
  | RmdirRequest
  | SetattrRequest
  | SetxattrRequest
  | StatfsRequest
  | StatxRequest
  | SymlinkRequest
  | SyncfsRequest
  | TmpfileRequest
  | UnlinkRequest
  | WriteRequest

/** The record of one operation. */
export type RequestOf<Name extends OperationName> = Extract<FuseRequest, { readonly operation: Name }>

/** An operation that this door does not have: answered ENOSYS. */
export interface UnknownRequest {
  readonly operation: 'UNKNOWN'
  readonly header: RequestHeader
}

/** Not what the protocol says. With a header it can be answered (EINVAL); without one there is nobody to answer. */
export interface MalformedRequest {
  readonly operation: 'MALFORMED'
  readonly header: RequestHeader | undefined
  readonly reason: string
}

export type DecodedRequest = FuseRequest | UnknownRequest | MalformedRequest
