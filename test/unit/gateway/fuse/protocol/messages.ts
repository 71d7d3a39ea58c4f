/** Messages written out by hand: hexadecimal digits in the order of the bytes, spaces where fields end. */
import { RequestDecoder } from '../../../../../src/gateway/fuse/protocol/decode.ts'
import type { DecodedRequest } from '../../../../../src/gateway/fuse/protocol/requests.ts'

export function fromHex(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
}

/** Text and its NUL, as hexadecimal digits. */
export function nul(text: string): string {
  return `${Buffer.from(text, 'latin1').toString('hex')}00`
}

export function zeros(count: number): string {
  return '00'.repeat(count)
}

/** Unique 2, node 5, uid 1000, gid 100, pid 7; opcode and body as given, `len` what it must be. */
export function request(opcode: number, bodyHex: string): Buffer {
  const body = fromHex(bodyHex)
  const header = fromHex(`00000000 00000000 0200000000000000 0500000000000000 e8030000 64000000 07000000 0000 0000`)
  header.writeUInt32LE(40 + body.length, 0)
  header.writeUInt32LE(opcode, 4)
  return Buffer.concat([header, body])
}

/** Decodes it in the middle of a memory full of other bytes, at an odd place. */
export function decode(message: Uint8Array): DecodedRequest {
  const memory = Buffer.alloc(message.length + 31, 0xee)
  memory.set(message, 13)
  return new RequestDecoder(memory).decode(13, message.length)
}

/** The message in groups of digits, for comparing with one written by hand. */
export function hexOf(bytes: Uint8Array, lengthBytes: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, lengthBytes).toString('hex')
}

export function hex(text: string): string {
  return text.replaceAll(/\s/g, '')
}
