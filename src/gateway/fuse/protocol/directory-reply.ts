/**
 * Replies to READDIR and READDIRPLUS: as many entries as fit into the size that was asked for. Layout from
 * include/uapi/linux/fuse.h; numbers are positions in bytes.
 *
 *     fuse_dirent      24   0 ino u64, 8 off u64: cookie of the entry behind this one, 16 namelen u32, 20 type u32; the name
 *                           without a NUL; zeros up to a multiple of 8 bytes
 *     fuse_direntplus 152   0 fuse_entry_out 128 (attributes.ts), 128 fuse_dirent (7.21)
 *
 * An empty reply is the end of the directory; so at least one entry must fit into what is asked for, and does: the kernel
 * asks for a page or more. In READDIRPLUS an entry with attributes counts as a LOOKUP: the kernel will FORGET it. Without
 * them (`.`, `..`, and where they would cost too much) its nodeid is 0, and it is but a name.
 *
 * A reply is built over a while (the listing comes in pages), so each needs an encoder of its own until it is sent; encoders
 * are used again.
 */
import { assert } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { ENTRY_OUT_BYTES, writeEntry, type EntryReply } from './attributes.ts'
import { FILE_TYPE } from './flags.ts'
import { OUT_HEADER_BYTES, writeOutHeader } from './replies.ts'
import { WireScratch } from './wire.ts'

const DIRENT_BYTES = 24
const ALIGNMENT_BYTES = 8
/** FUSE_NAME_MAX of fs/fuse/fuse_i.h: a longer or empty name makes the kernel fail the whole listing with EIO. */
const NAME_BYTES_MAX = 1024
/** Recent kernels ask for as much as a caller's buffer holds; more than this at once gains nothing. */
const LISTING_BYTES_MAX: number = 128 * 1024

export interface DirectoryEntry {
  readonly name: ByteString
  readonly inode: InodeId
  /** Of the file; only the type counts. */
  readonly mode: number
  /** Where to go on: the `offset` of the request that continues behind this entry. Never 0, which is the start. */
  readonly nextOffset: number
}

export class DirectoryReply {
  readonly #scratch: WireScratch
  #limit: number = OUT_HEADER_BYTES
  #at: number = OUT_HEADER_BYTES

  constructor(listingBytesMax: number = LISTING_BYTES_MAX) {
    this.#scratch = new WireScratch(OUT_HEADER_BYTES + listingBytesMax)
  }

  /** Where the message is built. */
  get bytes(): Uint8Array {
    return this.#scratch.bytes
  }

  /** Starts a reply of at most `sizeBytes` of entries, the size of the request. */
  begin(sizeBytes: number): void {
    this.#at = OUT_HEADER_BYTES
    this.#limit = Math.min(OUT_HEADER_BYTES + sizeBytes, this.#scratch.bytes.length)
  }

  /** To READDIR. False if it does not fit: the reply is full. */
  add(entry: DirectoryEntry): boolean {
    const next = this.#at + aligned(DIRENT_BYTES + entry.name.length)
    if (next > this.#limit) return false
    this.#entry(this.#at, next, entry)
    return true
  }

  /** To READDIRPLUS, with `found` undefined if it is but a name. False if it does not fit: then it is no LOOKUP either. */
  addPlus(entry: DirectoryEntry, found: EntryReply | undefined): boolean {
    const start = this.#at
    const next = start + aligned(ENTRY_OUT_BYTES + DIRENT_BYTES + entry.name.length)
    if (next > this.#limit) return false
    if (found === undefined) this.#scratch.zero(start, start + ENTRY_OUT_BYTES)
    else writeEntry(this.#scratch, start, found)
    this.#entry(start + ENTRY_OUT_BYTES, next, entry)
    return true
  }

  #entry(at: number, next: number, { name, inode, mode, nextOffset }: DirectoryEntry): void {
    assert(name.length > 0 && name.length <= NAME_BYTES_MAX, `a directory entry of ${name.length} bytes`)
    const scratch = this.#scratch
    scratch.u64(at, inode)
    scratch.u64(at + 8, nextOffset)
    scratch.u32(at + 16, name.length)
    scratch.u32(at + 20, (mode & FILE_TYPE.MASK) >>> 12)
    const end = scratch.text(at + DIRENT_BYTES, name)
    for (let padding = end; padding < next; padding++) scratch.bytes[padding] = 0
    this.#at = next
  }

  get isEmpty(): boolean {
    return this.#at === OUT_HEADER_BYTES
  }

  /** Ends the reply; returns the length of the message. */
  finish(unique: number): number {
    return writeOutHeader(this.#scratch, unique, this.#at - OUT_HEADER_BYTES)
  }
}

function aligned(sizeBytes: number): number {
  return Math.ceil(sizeBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}
