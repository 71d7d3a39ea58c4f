/**
 * How integers lie in a message. The protocol uses the byte order of the machine; Tidegate runs on x86-64 and arm64, which
 * are little-endian, so the codec is fixed to that. 64-bit integers become JavaScript numbers in one of these ways:
 *
 *     ids, handles      made by us (inode ids, file handles) or counted up by the kernel (request ids): safe integers.
 *                       Anything else was not sent by a kernel that talks to us, and the request is malformed.
 *     offsets, lengths  up to 2^63 - 1 by right of any program that calls pread(2). What is over 2^53 - 1 becomes
 *                       FILE_OFFSET_MAX, which lies beyond every size limit: a read finds the end of the file, a write or
 *                       truncation is EFBIG, SEEK_DATA is ENXIO, as on ext4 beyond its own limit. So no second type for
 *                       large numbers runs through the file system. Negative offsets are such offsets too (as unsigned
 *                       numbers they are over 2^63); for the one call that lets them through, SEEK_DATA, ENXIO is right.
 *     seconds           signed; clamped to safe integers at both ends.
 *     lock owners       64 random-looking bits, a hash made by the kernel, only compared: bigint, which no hot path reads.
 */

/** Where offsets and lengths end: whatever limit the file system has, it must be below. */
export const FILE_OFFSET_MAX: number = Number.MAX_SAFE_INTEGER

const WORD = 2 ** 32
/** The high word of 2^53 - 1. */
const SAFE_HIGH_WORD = 0x1f_ff_ff

/** The u64 at `at`, or FILE_OFFSET_MAX if it is over that. */
export function readOffset(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true)
  return high > SAFE_HIGH_WORD ? FILE_OFFSET_MAX : high * WORD + view.getUint32(at, true)
}

/** The u64 at `at`, or undefined if it is no safe integer. */
export function readId(view: DataView, at: number): number | undefined {
  const high = view.getUint32(at + 4, true)
  return high > SAFE_HIGH_WORD ? undefined : high * WORD + view.getUint32(at, true)
}

/** The s64 at `at`, clamped to safe integers. */
export function readSeconds(view: DataView, at: number): number {
  const seconds = view.getInt32(at + 4, true) * WORD + view.getUint32(at, true)
  return Math.min(Math.max(seconds, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER)
}

/**
 * Memory in which replies are built, once allocated. Positions are bytes from its start; whoever writes says every byte of
 * the struct, since what an earlier reply left is still there.
 */
export class WireScratch {
  readonly bytes: Buffer
  readonly #view: DataView

  constructor(sizeBytes: number) {
    this.bytes = Buffer.alloc(sizeBytes)
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, sizeBytes)
  }

  u16(at: number, value: number): void {
    this.#view.setUint16(at, value, true)
  }

  /** Also for negative numbers, in two's complement. */
  u32(at: number, value: number): void {
    this.#view.setUint32(at, value, true)
  }

  /** A safe integer, also a negative one, in two's complement. */
  u64(at: number, value: number): void {
    this.#view.setUint32(at, value, true)
    this.#view.setUint32(at + 4, Math.floor(value / WORD), true)
  }

  /** One byte a char; returns the position behind the last. Names are short, so a loop beats a call into native code. */
  text(at: number, text: string): number {
    const { bytes } = this
    for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index)
    return at + text.length
  }

  zero(from: number, to: number): void {
    this.bytes.fill(0, from, to)
  }
}
