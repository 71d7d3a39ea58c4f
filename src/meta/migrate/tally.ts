/**
 * What rows come to: how many, how many bytes, and a checksum that does not depend on their order, since counters lie elsewhere in etcd than in a data directory.
 * It is the sum, modulo 2^256, of the SHA-256 of each row (length of the key in 4 bytes, key, value).
 */
import { createHash } from 'node:crypto'
import type { Row } from '../ports.ts'

const WORDS = 8
const WORD_BYTES = 4
const TWO_32 = 2 ** 32

export interface TallyText {
  readonly rows: number
  readonly bytes: number
  /** 64 hex digits. */
  readonly checksum: string
}

export class Tally {
  #rows = 0
  #bytes = 0
  /** Most significant last. */
  readonly #sum = new Float64Array(WORDS)
  readonly #head = Buffer.alloc(WORD_BYTES)

  add({ key, value }: Row): void {
    this.#rows++
    this.#bytes += key.length + value.length
    this.#head.writeUInt32BE(key.length)
    const digest = createHash('sha256').update(this.#head).update(key, 'latin1').update(value).digest()
    let carry = 0
    for (let word = 0; word < WORDS; word++) {
      const sum = this.#sum[word]! + digest.readUInt32LE(word * WORD_BYTES) + carry
      carry = sum >= TWO_32 ? 1 : 0
      this.#sum[word] = sum - carry * TWO_32
    }
  }

  get rows(): number {
    return this.#rows
  }

  result(): TallyText {
    const bytes = Buffer.alloc(WORDS * WORD_BYTES)
    for (let word = 0; word < WORDS; word++) bytes.writeUInt32LE(this.#sum[word]!, word * WORD_BYTES)
    return { rows: this.#rows, bytes: this.#bytes, checksum: bytes.toString('hex') }
  }
}

export function isSameTally(left: TallyText, right: TallyText): boolean {
  return left.rows === right.rows && left.bytes === right.bytes && left.checksum === right.checksum
}
