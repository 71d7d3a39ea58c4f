/**
 * Bodies of the operations that name something: directory entries and extended attributes. Layouts from
 * include/uapi/linux/fuse.h; `name\0` stands for bytes and their NUL, numbers are positions in bytes.
 *
 *     LOOKUP, UNLINK, RMDIR, REMOVEXATTR   0 name\0
 *     SYMLINK                              0 name\0, target\0
 *     MKNOD    fuse_mknod_in    16         0 mode u32, 4 rdev u32, 8 umask u32 (7.12), 12 padding; name\0
 *     MKDIR    fuse_mkdir_in     8         0 mode u32, 4 umask u32 (7.12); name\0
 *     RENAME   fuse_rename_in    8         0 newdir u64; oldname\0, newname\0
 *     RENAME2  fuse_rename2_in  16 (7.23)  0 newdir u64, 8 flags u32, 12 padding; oldname\0, newname\0
 *     LINK     fuse_link_in      8         0 oldnodeid u64; name\0
 *     CREATE   fuse_create_in   16         0 flags u32, 4 mode u32, 8 umask u32 (7.12), 12 open_flags u32 (7.33); name\0
 *     TMPFILE  fuse_create_in   16 (7.37)  as CREATE. Its name is whatever the unnamed entry is called (`/`): not read
 *     SETXATTR fuse_setxattr_in  8         0 size u32, 4 flags u32; name\0, `size` bytes. The longer struct of 7.33 comes
 *                                          only to those who took SETXATTR_EXT, which init.ts does not
 *     GETXATTR fuse_getxattr_in  8         0 size u32, 4 padding; name\0
 *
 * What could follow the names (security contexts, groups: 7.36, 7.38) is asked for by flags of INIT that are not taken.
 */
import {
  OPEN_KILL_SUIDGID,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  XATTR_CREATE,
  XATTR_REPLACE,
} from './flags.ts'
import { fixed, variable, type Decoder, type Decoders } from './decoder.ts'
import type { RequestBody } from './request-body.ts'
import type { RequestHeader, RequestOf } from './requests.ts'

type NamingOperation =
  | 'LOOKUP'
  | 'UNLINK'
  | 'RMDIR'
  | 'SYMLINK'
  | 'MKNOD'
  | 'MKDIR'
  | 'RENAME'
  | 'RENAME2'
  | 'LINK'
  | 'CREATE'
  | 'TMPFILE'
  | 'SETXATTR'
  | 'GETXATTR'
  | 'REMOVEXATTR'

const RENAME_FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT

export const NAME_DECODERS: Decoders<NamingOperation> = {
  LOOKUP: variable(0, (body, header) => ({ operation: 'LOOKUP', header, name: body.name() })),
  UNLINK: variable(0, (body, header) => ({ operation: 'UNLINK', header, name: body.name() })),
  RMDIR: variable(0, (body, header) => ({ operation: 'RMDIR', header, name: body.name() })),
  REMOVEXATTR: variable(0, (body, header) => ({ operation: 'REMOVEXATTR', header, name: body.text() })),
  SYMLINK: variable(0, (body, header) => ({
    operation: 'SYMLINK',
    header,
    name: body.name(),
    target: body.text(),
  })),
  MKNOD: variable(16, (body, header) => ({
    operation: 'MKNOD',
    header,
    mode: body.u32(0),
    device: body.u32(4),
    umask: body.u32(8),
    name: body.name(),
  })),
  MKDIR: variable(8, (body, header) => ({
    operation: 'MKDIR',
    header,
    mode: body.u32(0),
    umask: body.u32(4),
    name: body.name(),
  })),
  RENAME: variable(8, (body, header) => ({ operation: 'RENAME', header, ...renaming(body, 0) })),
  RENAME2: variable(16, (body, header) => ({ operation: 'RENAME2', header, ...renaming(body, body.u32(8)) })),
  LINK: variable(8, (body, header) => ({ operation: 'LINK', header, target: body.id(0), name: body.name() })),
  CREATE: variable(16, (body, header) => ({
    operation: 'CREATE',
    header,
    flags: body.u32(0),
    mode: body.u32(4),
    umask: body.u32(8),
    killSuidGid: (body.u32(12) & OPEN_KILL_SUIDGID) !== 0,
    name: body.name(),
  })),
  TMPFILE: fixed(16, (body, header) => ({
    operation: 'TMPFILE',
    header,
    flags: body.u32(0),
    mode: body.u32(4),
    umask: body.u32(8),
    killSuidGid: (body.u32(12) & OPEN_KILL_SUIDGID) !== 0,
  })),
  SETXATTR: variable(8, setxattr),
  GETXATTR: variable(8, (body, header) => ({
    operation: 'GETXATTR',
    header,
    sizeBytes: body.u32(0),
    name: body.text(),
  })),
} satisfies { [Each in NamingOperation]: Decoder<Each> }

type Renaming = Omit<RequestOf<'RENAME'>, 'operation' | 'header'>

function renaming(body: RequestBody, flags: number): Renaming {
  if ((flags & ~RENAME_FLAGS) !== 0) body.fault ??= 'unknown flags of a rename'
  return {
    newParent: body.id(0),
    noReplace: (flags & RENAME_NOREPLACE) !== 0,
    exchange: (flags & RENAME_EXCHANGE) !== 0,
    whiteout: (flags & RENAME_WHITEOUT) !== 0,
    name: body.name(),
    newName: body.name(),
  }
}

function setxattr(body: RequestBody, header: RequestHeader): RequestOf<'SETXATTR'> {
  const flags = body.u32(4)
  return {
    operation: 'SETXATTR',
    header,
    create: (flags & XATTR_CREATE) !== 0,
    replace: (flags & XATTR_REPLACE) !== 0,
    name: body.text(),
    value: body.data(body.u32(0)),
  }
}
