/**
 * A large object whose every byte is known without being kept: any range can be made and compared at the speed of memory. Each page of 4 KiB is a slice of one random pool at a place of its
 * own, and begins with its number, so no two are alike and a page that stands where another belongs says which one it is.
 */
import { Random } from '../../model/random.ts'

export const PAGE_BYTES = 4096
const POOL_BYTES = 8 * 1024 * 1024
/** Prime, so that starts do not come again before as many pages as the pool has bytes. */
const STRIDE = 7919
const HEADER_WORDS = 4

export interface Mismatch {
  /** In the object, of the first wrong byte. */
  readonly offset: number
  readonly wrongBytes: number
  /** What stands in the page instead, for people. */
  readonly found: string
}

export class KnownContent {
  readonly bytes: number
  readonly #seed: number
  readonly #pool = Buffer.alloc(POOL_BYTES)
  #expected = Buffer.alloc(0)

  constructor(bytes: number, seed: number) {
    this.bytes = bytes
    this.#seed = seed >>> 0
    const random = new Random(seed)
    for (let at = 0; at < POOL_BYTES; at += 4) this.#pool.writeUInt32LE(Math.floor(random.next() * 2 ** 32), at)
  }

  fill(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const page = Math.floor((offset + done) / PAGE_BYTES)
      const within = offset + done - page * PAGE_BYTES
      const length = Math.min(PAGE_BYTES - within, into.length - done)
      const start = (page * STRIDE) % (POOL_BYTES - PAGE_BYTES)
      into.set(this.#pool.subarray(start + within, start + within + length), done)
      const header = this.#header(page)
      if (within < header.length) into.set(header.subarray(within, Math.min(header.length, within + length)), done)
      done += length
    }
  }

  slice(offset: number, length: number): Buffer {
    const slice = Buffer.allocUnsafe(length)
    this.fill(offset, slice)
    return slice
  }

  /** Undefined when these are the object's bytes at that offset. */
  compare(offset: number, found: Buffer): Mismatch | undefined {
    if (this.#expected.length < found.length) this.#expected = Buffer.alloc(found.length)
    const expected = this.#expected.subarray(0, found.length)
    this.fill(offset, expected)
    if (expected.equals(found)) return undefined
    let first = -1
    let wrongBytes = 0
    for (let at = 0; at < found.length; at++) {
      if (found[at] === expected[at]) continue
      if (first < 0) first = at
      wrongBytes++
    }
    return { offset: offset + first, wrongBytes, found: this.#describe(offset + first, offset, found) }
  }

  #header(page: number): Buffer {
    const header = Buffer.alloc(HEADER_WORDS * 4)
    const words = [this.#seed, page, ~page >>> 0, (this.#seed ^ page) >>> 0]
    for (const [index, word] of words.entries()) header.writeUInt32LE(word, index * 4)
    return header
  }

  #describe(wrongAt: number, offset: number, found: Buffer): string {
    const first = Math.floor(wrongAt / PAGE_BYTES)
    // Of a page that began in the chunk before only the rest is here.
    const page = first * PAGE_BYTES < offset ? first + 1 : first
    const start = page * PAGE_BYTES - offset
    const bytes = found.subarray(start, start + PAGE_BYTES)
    const where = `page ${page} of the object`
    if (bytes.length > 0 && bytes.every((byte) => byte === bytes[0]))
      return `${where} is all 0x${(bytes[0] ?? 0).toString(16)}`
    if (bytes.length < HEADER_WORDS * 4) return `${where} is not all here`
    const [seed, number, inverse] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8)]
    if (seed !== this.#seed || inverse !== ~number >>> 0) return `${where} begins with ${bytes.toString('hex', 0, 16)}`
    return number === page ? `${where} begins as it should` : `${where} holds page ${number}`
  }
}
