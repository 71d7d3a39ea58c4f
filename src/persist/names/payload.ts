/** Primitives of payloads of names objects (format.ts): varints to 2^53, and lengths of bytes. */
import { TidegateError } from '../../common/errors.ts'

const VARINT_BYTES_MAX = 8

export function varintBytes(value: number): number {
  let bytes = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++
  return bytes
}

/** @returns where the next field begins */
export function writeVarint(bytes: Uint8Array, value: number, at: number): number {
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[at++] = (rest % 0x80) | 0x80
  bytes[at] = rest
  return at + 1
}

/** Reads what others wrote, which may be damaged: every step past the end is `DataLost`. */
export class PayloadReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  varint(): number {
    let value = 0
    let unit = 1
    for (let read = 0; read < VARINT_BYTES_MAX; read++) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw shortPayload()
      value += (byte & 0x7f) * unit
      if (byte < 0x80) return value
      unit *= 0x80
    }
    throw shortPayload()
  }

  /** A part of the payload, not a copy. */
  bytes(length: number): Buffer {
    if (length > this.#bytes.length - this.#at) throw shortPayload()
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

function shortPayload(): TidegateError {
  return new TidegateError('DataLost', 'an object under names/ cannot be used: it ends within a row')
}
