/**
 * The smallest file system that FUSE channels can be tried and measured with: a root that holds one file, `file`, without
 * permissions, caching of attributes or anything to store. What is written may be kept in memory.
 *
 * It speaks the protocol by hand-made bytes (Linux, include/uapi/linux/fuse.h), apart from the gateway's own protocol code, so
 * that a mistake there cannot hide here. Offsets are in 32-bit words: a request's header has ten, a reply's four.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FuseChannel, RequestSlot } from '../../src/gateway/fuse/channel/ports.ts'

export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
} as const

const ENOENT = 2
const ENOSYS = 38
const ROOT = 1
const FILE = 2
const MINOR = 41
/** ASYNC_READ, BIG_WRITES, ASYNC_DIO, PARALLEL_DIROPS, MAX_PAGES. */
const INIT_FLAGS = (1 << 0) | (1 << 5) | (1 << 15) | (1 << 18) | (1 << 22)
/** FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_PARALLEL_DIRECT_WRITES. */
const DIRECT_IO = 1
const KEEP_CACHE = 2
const PARALLEL_DIRECT_WRITES = 64
const ATTRIBUTE_SECONDS = 1
const BACKGROUND_MAX = 64

export interface NullOptions {
  readonly fileBytes: number
  readonly writeBytesMax: number
  /** Every open file bypasses the page cache. */
  readonly directIo?: boolean
  /** READ and WRITE are answered later, in this time; a WRITE's slot is kept meanwhile. */
  readonly delayMs?: number
}

export class NullFileSystem {
  readonly content: Buffer
  /** Requests so far, by opcode. */
  readonly counts = new Map<number, number>()
  /** Replies that nobody waited for any more. */
  unwanted = 0
  /** Requests in each batch. */
  batchMax = 0
  readonly #channel: FuseChannel
  readonly #options: NullOptions
  readonly #out = Buffer.alloc(4096)
  readonly #words = new Uint32Array(this.#out.buffer, this.#out.byteOffset, 1024)
  readonly #heads = new Map<number, Buffer>()

  constructor(channel: FuseChannel, options: NullOptions) {
    this.#channel = channel
    this.#options = options
    this.content = Buffer.from(new SharedArrayBuffer(options.fileBytes))
    for (let at = 0; at + 4 <= options.fileBytes; at += 4)
      this.content.writeUInt32LE((at * 2_654_435_761) % 2 ** 32, at)
  }

  start(): void {
    this.#channel.start((batch) => {
      if (batch.length > this.batchMax) this.batchMax = batch.length
      for (const slot of batch) this.#handle(slot)
    })
  }

  #handle(slot: RequestSlot): void {
    const words = slot.words
    const opcode = words[1] ?? 0
    this.counts.set(opcode, (this.counts.get(opcode) ?? 0) + 1)
    switch (opcode) {
      case OPCODE.FORGET:
      case OPCODE.BATCH_FORGET:
      case OPCODE.INTERRUPT:
        return
      case OPCODE.READ:
      case OPCODE.WRITE:
        return this.#transfer(slot)
      default:
        return this.#answer(opcode, slot, words[2] ?? 0, words[3] ?? 0)
    }
  }

  #transfer(slot: RequestSlot): void {
    const { delayMs } = this.#options
    const isWrite = slot.words[1] === OPCODE.WRITE
    const finish = isWrite ? this.#writeOf(slot) : this.#readOf(slot)
    if (delayMs === undefined) return finish()
    if (isWrite) this.#channel.keep(slot)
    void sleep(delayMs).then(() => {
      finish()
      if (isWrite) this.#channel.release(slot)
    })
  }

  /** struct fuse_read_in: fh, offset, size. */
  #readOf({ words }: RequestSlot): () => void {
    const [low = 0, high = 0, offset = 0, offsetHigh = 0, size = 0] = [
      words[2],
      words[3],
      words[12],
      words[13],
      words[14],
    ]
    const start = Math.min(offset + offsetHigh * 2 ** 32, this.content.length)
    const end = Math.min(start + size, this.content.length)
    return () => this.#send(low, high, 0, 0, this.content.subarray(start, end))
  }

  /** struct fuse_write_in: fh, offset, size, and five words more; then the data. */
  #writeOf(slot: RequestSlot): () => void {
    const { words, bytes } = slot
    const [low = 0, high = 0, offset = 0, offsetHigh = 0, size = 0] = [
      words[2],
      words[3],
      words[12],
      words[13],
      words[14],
    ]
    const start = offset + offsetHigh * 2 ** 32
    return () => {
      bytes.copy(this.content, start % this.content.length, 80, 80 + size)
      this.#words[4] = size
      this.#words[5] = 0
      this.#send(low, high, 8)
    }
  }

  #answer(opcode: number, slot: RequestSlot, low: number, high: number): void {
    const { words, bytes } = slot
    const out = this.#words
    const node = words[4] ?? 0
    out.fill(0, 4, 64)
    switch (opcode) {
      case OPCODE.INIT:
        return this.#initialise(slot, low, high)
      case OPCODE.LOOKUP:
        if (bytes.toString('latin1', 40, slot.length - 1) !== 'file') return this.#send(low, high, 0, ENOENT)
        out.set([FILE, 0, 0, 0, ATTRIBUTE_SECONDS, 0, ATTRIBUTE_SECONDS, 0], 4)
        this.#putAttributes(14, FILE)
        return this.#send(low, high, 128)
      case OPCODE.GETATTR:
      case OPCODE.SETATTR:
        out.set([ATTRIBUTE_SECONDS, 0], 4)
        this.#putAttributes(8, node)
        return this.#send(low, high, 104)
      case OPCODE.OPEN:
        out[6] = PARALLEL_DIRECT_WRITES | (this.#options.directIo === true ? DIRECT_IO : KEEP_CACHE)
        return this.#send(low, high, 16)
      case OPCODE.OPENDIR:
        return this.#send(low, high, 16)
      case OPCODE.READDIR:
        return this.#list(words[12] ?? 0, low, high)
      case OPCODE.STATFS:
        out.set([4096, 255, 4096], 14)
        return this.#send(low, high, 80)
      case OPCODE.RELEASE:
      case OPCODE.RELEASEDIR:
      case OPCODE.FLUSH:
      case OPCODE.FSYNC:
      case OPCODE.DESTROY:
        return this.#send(low, high, 0)
      default:
        return this.#send(low, high, 0, ENOSYS)
    }
  }

  /** struct fuse_init_out, 64 bytes. */
  #initialise({ words }: RequestSlot, low: number, high: number): void {
    const { writeBytesMax } = this.#options
    this.#words.set(
      [
        7,
        Math.min(words[11] ?? 0, MINOR),
        words[12] ?? 0,
        INIT_FLAGS & (words[13] ?? 0),
        BACKGROUND_MAX | (BACKGROUND_MAX << 16),
        writeBytesMax,
        1,
        writeBytesMax / 4096,
      ],
      4,
    )
    this.#send(low, high, 64)
  }

  /** struct fuse_attr, 88 bytes. */
  #putAttributes(at: number, node: number): void {
    const isRoot = node === ROOT
    const size = isRoot ? 4096 : this.#options.fileBytes
    const out = this.#words
    out.set([node, 0, size >>> 0, Math.floor(size / 2 ** 32), Math.ceil(size / 512)], at)
    out.set([isRoot ? 0o40755 : 0o100666, isRoot ? 2 : 1], at + 15)
    out[at + 20] = 4096
  }

  /** struct fuse_dirent: ino, off, namelen, type, name to a multiple of eight. */
  #list(offset: number, low: number, high: number): void {
    if (offset > 0) return this.#send(low, high, 0)
    this.#words.set([FILE, 0, 1, 0, 4, 8], 4)
    this.#out.fill(0, 40, 48)
    this.#out.write('file', 40)
    this.#send(low, high, 32)
  }

  #send(low: number, high: number, bodyBytes: number, errno = 0, data?: Uint8Array): void {
    const out = this.#words
    out[0] = 16 + bodyBytes + (data?.length ?? 0)
    out[1] = -errno >>> 0
    out[2] = low
    out[3] = high
    let head = this.#heads.get(bodyBytes)
    if (head === undefined) this.#heads.set(bodyBytes, (head = this.#out.subarray(0, 16 + bodyBytes)))
    const wanted = data === undefined ? this.#channel.reply(head) : this.#channel.reply(head, data)
    if (!wanted) this.unwanted += 1
  }
}
