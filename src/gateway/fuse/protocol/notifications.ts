/**
 * What the server tells the kernel unasked: what it has cached is no longer so. A notification is written to the device like
 * a reply, with `unique` 0 and its code where a reply has its error. Layouts from include/uapi/linux/fuse.h; numbers are
 * positions in bytes behind fuse_out_header.
 *
 *     2 INVAL_INODE  fuse_notify_inval_inode_out  24 (7.12)  0 ino u64, 8 off s64, 16 len s64
 *     3 INVAL_ENTRY  fuse_notify_inval_entry_out  16 (7.12)  0 parent u64, 8 namelen u32, 12 flags u32 (7.38); name\0
 *     6 DELETE       fuse_notify_delete_out       24 (7.18)  0 parent u64, 8 child u64, 16 namelen u32, 20 padding; name\0
 *
 * write(2) fails with ENOENT if the kernel knows nothing of the node: then there was nothing to forget, and all is well.
 * INVAL_ENTRY and DELETE take the lock of the parent directory and INVAL_INODE waits for pages under I/O, so whoever handles
 * a request of that directory or file must not send one for it before its reply: both sides would wait for ever.
 */
import { assert } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { OUT_HEADER_BYTES, writeOutHeader } from './replies.ts'
import { WireScratch } from './wire.ts'

const CODES = { INVAL_INODE: 2, INVAL_ENTRY: 3, DELETE: 6 } as const
const EXPIRE_ONLY = 1 << 0
/** FUSE_NAME_MAX of fs/fuse/fuse_i.h. */
const NAME_BYTES_MAX = 1024
const BODY = OUT_HEADER_BYTES

export class NotificationEncoder {
  readonly #scratch = new WireScratch(OUT_HEADER_BYTES + 24 + NAME_BYTES_MAX + 1)

  /** Where the messages are built: up to the length returned, valid until the next call. */
  get bytes(): Uint8Array {
    return this.#scratch.bytes
  }

  /** The attributes are not what they were; the data is. */
  attributesChanged(nodeId: InodeId): number {
    return this.#invalidateInode(nodeId, -1, 0)
  }

  /** Attributes and data from `offset` on are not what they were; `lengthBytes` 0 is up to the end of the file. */
  dataChanged(nodeId: InodeId, offset: number, lengthBytes: number): number {
    assert(offset >= 0 && lengthBytes >= 0, 'a range of a file')
    return this.#invalidateInode(nodeId, offset, lengthBytes)
  }

  #invalidateInode(nodeId: InodeId, offset: number, lengthBytes: number): number {
    this.#scratch.u64(BODY, nodeId)
    this.#scratch.u64(BODY + 8, offset)
    this.#scratch.u64(BODY + 16, lengthBytes)
    return this.#header(CODES.INVAL_INODE, 24)
  }

  /** The name means something else, or nothing, or something now. Also makes the parent's attributes be asked for again. */
  entryChanged(parent: InodeId, name: ByteString): number {
    return this.#entry(parent, name, 0)
  }

  /** The name is to be looked up again; unlike `entryChanged` this leaves mounts and working directories below it alone. */
  entryExpired(parent: InodeId, name: ByteString): number {
    return this.#entry(parent, name, EXPIRE_ONLY)
  }

  #entry(parent: InodeId, name: ByteString, flags: number): number {
    this.#scratch.u64(BODY, parent)
    this.#scratch.u32(BODY + 8, name.length)
    this.#scratch.u32(BODY + 12, flags)
    return this.#header(CODES.INVAL_ENTRY, 16 + this.#name(BODY + 16, name))
  }

  /** The name that meant `child` is gone: those who watch it by inotify(7) are told. */
  entryDeleted(parent: InodeId, child: InodeId, name: ByteString): number {
    this.#scratch.u64(BODY, parent)
    this.#scratch.u64(BODY + 8, child)
    this.#scratch.u32(BODY + 16, name.length)
    this.#scratch.u32(BODY + 20, 0)
    return this.#header(CODES.DELETE, 24 + this.#name(BODY + 24, name))
  }

  #name(at: number, name: ByteString): number {
    assert(name.length > 0 && name.length <= NAME_BYTES_MAX, `a notification for a name of ${name.length} bytes`)
    this.#scratch.bytes[this.#scratch.text(at, name)] = 0
    return name.length + 1
  }

  #header(code: number, bodyBytes: number): number {
    const lengthBytes = writeOutHeader(this.#scratch, 0, bodyBytes)
    this.#scratch.u32(4, code)
    return lengthBytes
  }
}
