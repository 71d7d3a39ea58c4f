/**
 * The least that a file system behind the FUSE channel can do, and so the ceiling of the mount: a tree of names in memory whose
 * files have a size and no content. Reads are answered with zeros where they lie, what is written is not even looked at, and
 * nothing awaits anything. What the kernel is told of abilities, time-outs and read-ahead is what the gateway tells it, so that
 * both are asked the same requests.
 *
 * Requests are read and replies made by hand (Linux, include/uapi/linux/fuse.h), because decoding them well is a part of what is
 * measured. Offsets are in 32-bit words unless they are said to be bytes: a request's header has ten, a reply's four. Only INIT,
 * once a mount, goes through the gateway's own code, so that the two always agree on it.
 */
import type { FuseChannel, RequestSlot } from '../../src/gateway/fuse/channel/ports.ts'
import { READ_AHEAD_BYTES } from '../../src/gateway/fuse/operations/connection.ts'
import { RequestDecoder } from '../../src/gateway/fuse/protocol/decode.ts'
import { OPEN_REPLY, SETATTR_VALID } from '../../src/gateway/fuse/protocol/flags.ts'
import { FUSE_WRITE_BYTES_MAX, negotiateInit } from '../../src/gateway/fuse/protocol/init.ts'
import { OPCODES } from '../../src/gateway/fuse/protocol/opcodes.ts'
import { ReplyEncoder } from '../../src/gateway/fuse/protocol/replies.ts'

const { ENOENT, EEXIST, ENOTEMPTY, EOPNOTSUPP, ENOSYS, EPROTO } = {
  ENOENT: 2,
  EEXIST: 17,
  ENOTEMPTY: 39,
  EOPNOTSUPP: 95,
  ENOSYS: 38,
  EPROTO: 71,
}

const WORD = 2 ** 32
const HEADER_BYTES = 40
const HEADER = 10
const REPLY = 4
/** What the gateway lets the kernel believe, in seconds. */
const CACHED_SECONDS = 60
const OPEN_FLAGS = OPEN_REPLY.KEEP_CACHE | OPEN_REPLY.PARALLEL_DIRECT_WRITES

const DIRECTORY = 0o040000
const REGULAR = 0o100000
const PERMISSIONS = 0o7777

/** struct fuse_attr; struct fuse_entry_out with it; struct fuse_dirent without its name. In bytes. */
const ATTRIBUTE_BYTES = 88
const ENTRY_BYTES = 40 + ATTRIBUTE_BYTES
const DIRENT_BYTES = 24
const LISTING_BYTES_MAX = 128 * 1024

/** Where the name begins, in bytes from the request's start: behind the fixed struct of each operation. */
const NAME_AT = { bare: HEADER_BYTES, mkdir: HEADER_BYTES + 8, make: HEADER_BYTES + 16 } as const

interface NullNode {
  readonly id: number
  name: string
  /** With the type. */
  mode: number
  uid: number
  gid: number
  sizeBytes: number
  mtimeSeconds: number
  mtimeNanoseconds: number
  /** Of a directory. */
  readonly children: Map<string, NullNode> | undefined
}

export class NullTree {
  readonly #channel: FuseChannel
  readonly #nodes = new Map<number, NullNode>()
  readonly #listings = new Map<number, NullNode[]>()
  readonly #out = Buffer.alloc(16 + LISTING_BYTES_MAX)
  readonly #words = new Uint32Array(this.#out.buffer, this.#out.byteOffset, this.#out.length / 4)
  /** The reply's beginning by length, so that none is made anew for each. */
  readonly #heads = new Map<number, Buffer>()
  readonly #zeros = Buffer.from(new SharedArrayBuffer(FUSE_WRITE_BYTES_MAX))
  #idLast = 1
  #handleLast = 0

  constructor(channel: FuseChannel) {
    this.#channel = channel
    this.#nodes.set(1, node(1, '', DIRECTORY | 0o777))
  }

  start(): void {
    this.#channel.start((batch) => {
      for (const slot of batch) this.#handle(slot)
    })
  }

  #handle(slot: RequestSlot): void {
    switch (slot.words[1]) {
      case OPCODES.FORGET:
      case OPCODES.BATCH_FORGET:
      case OPCODES.INTERRUPT:
        return
      case OPCODES.READ:
        return this.#read(slot)
      case OPCODES.WRITE:
        return this.#write(slot)
      case OPCODES.INIT:
        return this.#initialise(slot)
      case OPCODES.READDIR:
      case OPCODES.READDIRPLUS:
        return this.#list(slot, slot.words[1] === OPCODES.READDIRPLUS)
      case OPCODES.OPEN:
        return this.#opened(slot, 0)
      case OPCODES.OPENDIR:
        return this.#openDirectory(slot)
      case OPCODES.RELEASEDIR:
        this.#listings.delete(slot.words[HEADER] ?? 0)
        return this.#send(slot, 0)
      case OPCODES.RELEASE:
      case OPCODES.FLUSH:
      case OPCODES.FSYNC:
      case OPCODES.FSYNCDIR:
      case OPCODES.ACCESS:
      case OPCODES.DESTROY:
        return this.#send(slot, 0)
      // As to what lies outside of `user.`: ls(1) then asks once, and not for each file.
      case OPCODES.GETXATTR:
        return this.#fail(slot, EOPNOTSUPP)
      case OPCODES.STATFS:
        this.#words.fill(0, REPLY, REPLY + 20)
        this.#words.set([2 ** 28, 0, 2 ** 28, 0, 2 ** 28, 0, 2 ** 28, 0, 2 ** 28, 0, 4096, 255, 4096], REPLY)
        return this.#send(slot, 80)
      default:
        return this.#name(slot)
    }
  }

  /** Operations on nodes and names. */
  #name(slot: RequestSlot): void {
    const node = this.#nodes.get(slot.words[4] ?? 0)
    if (node === undefined) return this.#fail(slot, ENOENT)
    const { words } = slot
    switch (words[1]) {
      case OPCODES.LOOKUP:
        return this.#lookUp(slot, node)
      case OPCODES.GETATTR:
        return this.#attributes(slot, node)
      case OPCODES.SETATTR:
        change(node, words)
        return this.#attributes(slot, node)
      // struct fuse_mkdir_in: mode, umask; fuse_create_in: flags, mode, umask, open_flags; fuse_mknod_in: mode, rdev, umask, padding.
      case OPCODES.MKDIR:
        return this.#make(slot, node, DIRECTORY | ((words[HEADER] ?? 0) & PERMISSIONS))
      case OPCODES.CREATE:
        return this.#make(slot, node, REGULAR | ((words[HEADER + 1] ?? 0) & PERMISSIONS))
      case OPCODES.MKNOD:
        return this.#make(slot, node, words[HEADER] ?? 0)
      case OPCODES.UNLINK:
      case OPCODES.RMDIR:
        return this.#remove(slot, node)
      // struct fuse_rename_in: newdir, 2 words; fuse_rename2_in: flags and padding beside it.
      case OPCODES.RENAME:
        return this.#rename(slot, node, NAME_AT.mkdir)
      case OPCODES.RENAME2:
        return this.#rename(slot, node, NAME_AT.make)
      default:
        return this.#fail(slot, ENOSYS)
    }
  }

  #initialise(slot: RequestSlot): void {
    const encoder = new ReplyEncoder()
    const request = new RequestDecoder(slot.bytes).decode(0, slot.length)
    if (request.operation !== 'INIT') return this.#fail(slot, EPROTO)
    const outcome = negotiateInit(request, {
      writebackCache: false,
      writeBytesMax: FUSE_WRITE_BYTES_MAX,
      readaheadBytesMax: READ_AHEAD_BYTES,
    })
    if (outcome.kind !== 'accepted') return this.#fail(slot, EPROTO)
    const length = encoder.init(request.header.unique, outcome)
    this.#channel.reply(encoder.bytes.subarray(0, length))
    void this.#channel.setReadAheadKib(READ_AHEAD_BYTES / 1024)
  }

  /** struct fuse_read_in: fh, offset, size. */
  #read(slot: RequestSlot): void {
    const { words } = slot
    const offset = (words[12] ?? 0) + (words[13] ?? 0) * WORD
    const sizeBytes = this.#nodes.get(words[4] ?? 0)?.sizeBytes ?? 0
    const length = Math.max(0, Math.min(words[14] ?? 0, sizeBytes - offset))
    this.#send(slot, 0, this.#zeros.subarray(0, length))
  }

  /** struct fuse_write_in: fh, offset, size, and more; the answer is fuse_write_out: size, padding. */
  #write(slot: RequestSlot): void {
    const { words } = slot
    const length = words[14] ?? 0
    const node = this.#nodes.get(words[4] ?? 0)
    if (node !== undefined) {
      node.sizeBytes = Math.max(node.sizeBytes, (words[12] ?? 0) + (words[13] ?? 0) * WORD + length)
    }
    this.#words[REPLY] = length
    this.#words[REPLY + 1] = 0
    this.#send(slot, 8)
  }

  #lookUp(slot: RequestSlot, parent: NullNode): void {
    const found = parent.children?.get(nameAt(slot, NAME_AT.bare))
    if (found !== undefined) return this.#entry(slot, found)
    // A negative entry, which the kernel may keep.
    this.#words.fill(0, REPLY, REPLY + ENTRY_BYTES / 4)
    this.#words[REPLY + 4] = CACHED_SECONDS
    this.#send(slot, ENTRY_BYTES)
  }

  #make(slot: RequestSlot, parent: NullNode, mode: number): void {
    const isCreate = slot.words[1] === OPCODES.CREATE
    const name = nameAt(slot, slot.words[1] === OPCODES.MKDIR ? NAME_AT.mkdir : NAME_AT.make)
    if (parent.children === undefined || parent.children.has(name)) return this.#fail(slot, EEXIST)
    const made = node((this.#idLast += 1), name, mode)
    made.uid = slot.words[6] ?? 0
    made.gid = slot.words[7] ?? 0
    parent.children.set(name, made)
    this.#nodes.set(made.id, made)
    if (!isCreate) return this.#entry(slot, made)
    this.#putEntry(REPLY, made)
    this.#opened(slot, ENTRY_BYTES)
  }

  #remove(slot: RequestSlot, parent: NullNode): void {
    const name = nameAt(slot, NAME_AT.bare)
    const removed = parent.children?.get(name)
    if (removed === undefined) return this.#fail(slot, ENOENT)
    if ((removed.children?.size ?? 0) > 0) return this.#fail(slot, ENOTEMPTY)
    parent.children?.delete(name)
    this.#nodes.delete(removed.id)
    this.#send(slot, 0)
  }

  #rename(slot: RequestSlot, parent: NullNode, namesAt: number): void {
    const name = nameAt(slot, namesAt)
    const newName = nameAt(slot, namesAt + Buffer.byteLength(name, 'latin1') + 1)
    const newParent = this.#nodes.get(slot.words[HEADER] ?? 0)
    const renamed = parent.children?.get(name)
    if (renamed === undefined || newParent?.children === undefined) return this.#fail(slot, ENOENT)
    const replaced = newParent.children.get(newName)
    if (replaced !== undefined) this.#nodes.delete(replaced.id)
    parent.children?.delete(name)
    newParent.children.set(newName, renamed)
    renamed.name = newName
    this.#send(slot, 0)
  }

  /** Listings are taken when the directory is opened, as far as anybody may expect. */
  #openDirectory(slot: RequestSlot): void {
    const children = this.#nodes.get(slot.words[4] ?? 0)?.children
    if (children === undefined) return this.#fail(slot, ENOENT)
    this.#listings.set((this.#handleLast += 1), [...children.values()])
    this.#words.set([this.#handleLast, 0, 0, 0], REPLY)
    this.#send(slot, 16)
  }

  /** struct fuse_direntplus: fuse_entry_out, then fuse_dirent: ino, off, namelen, type, and the name to a multiple of eight. */
  #list(slot: RequestSlot, isPlus: boolean): void {
    const { words } = slot
    const listing = this.#listings.get(words[HEADER] ?? 0) ?? []
    const limit = Math.min(words[14] ?? 0, LISTING_BYTES_MAX)
    let at = 16
    for (let index = words[12] ?? 0; index < listing.length; index++) {
      const child = listing[index] as NullNode
      const lengthBytes = (isPlus ? ENTRY_BYTES : 0) + Math.ceil((DIRENT_BYTES + child.name.length) / 8) * 8
      if (at + lengthBytes > 16 + limit) break
      if (isPlus) this.#putEntry(at / 4, child)
      const dirent = at + (isPlus ? ENTRY_BYTES : 0)
      this.#words.set([child.id, 0, index + 1, 0, child.name.length, child.mode >>> 12], dirent / 4)
      this.#out.fill(0, dirent + DIRENT_BYTES, at + lengthBytes)
      this.#out.write(child.name, dirent + DIRENT_BYTES, 'latin1')
      at += lengthBytes
    }
    this.#send(slot, at - 16)
  }

  /** struct fuse_open_out, behind what the reply has already. */
  #opened(slot: RequestSlot, bodyBytes: number): void {
    const at = REPLY + bodyBytes / 4
    this.#words[at] = this.#handleLast += 1
    this.#words[at + 1] = 0
    this.#words[at + 2] = OPEN_FLAGS
    this.#words[at + 3] = 0
    this.#send(slot, bodyBytes + 16)
  }

  #entry(slot: RequestSlot, found: NullNode): void {
    this.#putEntry(REPLY, found)
    this.#send(slot, ENTRY_BYTES)
  }

  /** struct fuse_attr_out: the time-out, then the attributes. */
  #attributes(slot: RequestSlot, node: NullNode): void {
    const out = this.#words
    out[REPLY] = CACHED_SECONDS
    out.fill(0, REPLY + 1, REPLY + 4)
    this.#putAttributes(REPLY + 4, node)
    this.#send(slot, 16 + ATTRIBUTE_BYTES)
  }

  #putEntry(at: number, node: NullNode): void {
    const out = this.#words
    out.fill(0, at, at + 10)
    out[at] = node.id
    out[at + 4] = CACHED_SECONDS
    out[at + 6] = CACHED_SECONDS
    this.#putAttributes(at + 10, node)
  }

  #putAttributes(at: number, node: NullNode): void {
    const out = this.#words
    out.fill(0, at, at + ATTRIBUTE_BYTES / 4)
    out[at] = node.id
    out[at + 2] = node.sizeBytes % WORD
    out[at + 3] = Math.floor(node.sizeBytes / WORD)
    out[at + 4] = Math.ceil(node.sizeBytes / 512)
    out[at + 8] = node.mtimeSeconds
    out[at + 13] = node.mtimeNanoseconds
    out[at + 15] = node.mode
    out[at + 16] = node.children === undefined ? 1 : 2
    out[at + 17] = node.uid
    out[at + 18] = node.gid
    out[at + 20] = 4096
  }

  #fail(slot: RequestSlot, errno: number): void {
    this.#words[1] = -errno >>> 0
    this.#sendHeader(slot, 0)
  }

  #send(slot: RequestSlot, bodyBytes: number, data?: Uint8Array): void {
    this.#words[1] = 0
    this.#sendHeader(slot, bodyBytes, data)
  }

  #sendHeader({ words }: RequestSlot, bodyBytes: number, data?: Uint8Array): void {
    const out = this.#words
    out[0] = 16 + bodyBytes + (data?.length ?? 0)
    out[2] = words[2] ?? 0
    out[3] = words[3] ?? 0
    const head = this.#headOf(16 + bodyBytes)
    if (data === undefined || data.length === 0) this.#channel.reply(head)
    else this.#channel.reply(head, data)
  }

  /** Replies but listings have few lengths. */
  #headOf(lengthBytes: number): Buffer {
    if (lengthBytes > 512) return this.#out.subarray(0, lengthBytes)
    let head = this.#heads.get(lengthBytes)
    if (head === undefined) this.#heads.set(lengthBytes, (head = this.#out.subarray(0, lengthBytes)))
    return head
  }
}

function node(id: number, name: string, mode: number): NullNode {
  const nowMs = Date.now()
  return {
    id,
    name,
    mode,
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    mtimeSeconds: Math.floor(nowMs / 1000),
    mtimeNanoseconds: (nowMs % 1000) * 1_000_000,
    children: (mode & DIRECTORY) === 0 ? undefined : new Map(),
  }
}

/** struct fuse_setattr_in; positions in words behind the header: valid 0, size 4, mtime 10, its nanoseconds 15, mode 17, owner 19, 20. */
function change(node: NullNode, words: Uint32Array): void {
  const at = (word: number): number => words[HEADER + word] ?? 0
  const valid = at(0)
  if ((valid & SETATTR_VALID.SIZE) !== 0) node.sizeBytes = at(4) + at(5) * WORD
  if ((valid & SETATTR_VALID.MODE) !== 0) node.mode = at(17)
  if ((valid & SETATTR_VALID.UID) !== 0) node.uid = at(19)
  if ((valid & SETATTR_VALID.GID) !== 0) node.gid = at(20)
  if ((valid & SETATTR_VALID.MTIME) === 0) return
  node.mtimeSeconds = at(10)
  node.mtimeNanoseconds = at(15)
}

/** The name that begins there, without its NUL. */
function nameAt({ bytes }: RequestSlot, at: number): string {
  return bytes.toString('latin1', at, bytes.indexOf(0, at))
}
