/**
 * The S3 additional checksums: computed from bytes, joined from parts, and checked for shape. A value is the base64 of
 * the big-endian digest, as in the x-amz-checksum-* headers.
 */
import { createHash, hash } from 'node:crypto'
import { assert, must } from './assert.ts'
import { createCrcAlgebra, type CrcAlgebra } from './checksums/crc-algebra.ts'
import { createCrcKernel, type CrcKernel, type CrcPolynomial, type CrcRegister } from './checksums/crc-kernel.ts'
import { crc32 } from './crc32.ts'
import type { ChecksumAlgorithm } from './model.ts'

/** A checksum under way. `bytes` may be reused once `update` returns; nothing may follow `digest`. */
export interface Checksum {
  update(bytes: Uint8Array): void
  digest(): string
}

/** Algorithms whose values of parts give that of the whole object (S3's checksum type FULL_OBJECT). */
export type CrcAlgorithm = Extract<ChecksumAlgorithm, 'CRC32' | 'CRC32C' | 'CRC64NVME'>

/** Reflected polynomials: ISO-HDLC, Castagnoli (RFC 3720) and that of the NVM Express command set. */
const POLYNOMIALS: Record<CrcAlgorithm, CrcPolynomial> = {
  CRC32: { widthBits: 32, low: 0xedb88320, high: 0 },
  CRC32C: { widthBits: 32, low: 0x82f63b78, high: 0 },
  CRC64NVME: { widthBits: 64, low: 0xac4bc9b5, high: 0x9a6c9329 },
}

const BYTES: Record<ChecksumAlgorithm, number> = { CRC32: 4, CRC32C: 4, CRC64NVME: 8, SHA1: 20, SHA256: 32 }

const NODE_HASH = { SHA1: 'sha1', SHA256: 'sha256' } as const

export function checksumByteLength(algorithm: ChecksumAlgorithm): number {
  return BYTES[algorithm]
}

/** Whether `text` is the base64 of a digest of the right length, padded as S3 demands. */
export function isChecksumValue(algorithm: ChecksumAlgorithm, text: string): boolean {
  if (text.length !== Math.ceil(BYTES[algorithm] / 3) * 4) return false
  const bytes = Buffer.from(text, 'base64')
  return bytes.length === BYTES[algorithm] && bytes.toString('base64') === text
}

export function createChecksum(algorithm: ChecksumAlgorithm): Checksum {
  if (algorithm === 'SHA1' || algorithm === 'SHA256') {
    const state = createHash(NODE_HASH[algorithm])
    return { update: (bytes) => void state.update(bytes), digest: () => state.digest('base64') }
  }
  if (algorithm === 'CRC32') {
    let value = 0
    return {
      update: (bytes) => {
        value = crc32(bytes, value)
      },
      digest: () => encode('CRC32', { low: value, high: 0 }),
    }
  }
  const kernel = kernelOf(algorithm)
  const register = emptyRegister(algorithm)
  return { update: (bytes) => kernel(register, bytes), digest: () => encode(algorithm, inverted(algorithm, register)) }
}

export function computeChecksum(algorithm: ChecksumAlgorithm, bytes: Uint8Array): string {
  if (algorithm === 'SHA1' || algorithm === 'SHA256') return hash(NODE_HASH[algorithm], bytes, 'base64')
  const checksum = createChecksum(algorithm)
  checksum.update(bytes)
  return checksum.digest()
}

/** The checksum of all parts' bytes in order, from the parts' own checksums; needs no byte. At least one part. */
export function combineFullObject(
  algorithm: CrcAlgorithm,
  parts: readonly { readonly value: string; readonly length: number }[],
): string {
  assert(parts.length > 0, 'a full-object checksum has parts')
  const algebra = algebraOf(algorithm)
  const [first, ...rest] = parts
  let register = decode(algorithm, must(first, 'part').value)
  for (const part of rest) register = algebra.join(register, decode(algorithm, part.value), part.length)
  return encode(algorithm, register)
}

/** S3's COMPOSITE: the checksum of the parts' digests, one after the other, and how many they are. */
export function compositeChecksum(algorithm: ChecksumAlgorithm, partValues: readonly string[]): string {
  const digests = Buffer.concat(partValues.map((value) => Buffer.from(value, 'base64')))
  return `${computeChecksum(algorithm, digests)}-${partValues.length}`
}

// One kernel of each polynomial serves all checksums of a thread: an update is synchronous, its register the caller's.
const kernels = new Map<CrcAlgorithm, CrcKernel>()
const algebras = new Map<CrcAlgorithm, CrcAlgebra>()

function kernelOf(algorithm: CrcAlgorithm): CrcKernel {
  let kernel = kernels.get(algorithm)
  if (kernel === undefined) kernels.set(algorithm, (kernel = createCrcKernel(POLYNOMIALS[algorithm])))
  return kernel
}

function algebraOf(algorithm: CrcAlgorithm): CrcAlgebra {
  let algebra = algebras.get(algorithm)
  if (algebra === undefined) algebras.set(algorithm, (algebra = createCrcAlgebra(POLYNOMIALS[algorithm])))
  return algebra
}

function emptyRegister(algorithm: CrcAlgorithm): CrcRegister {
  return inverted(algorithm, { low: 0, high: 0 })
}

function inverted(algorithm: CrcAlgorithm, register: CrcRegister): CrcRegister {
  return { low: ~register.low >>> 0, high: BYTES[algorithm] === 8 ? ~register.high >>> 0 : 0 }
}

function encode(algorithm: CrcAlgorithm, register: CrcRegister): string {
  const bytes = Buffer.allocUnsafe(BYTES[algorithm])
  if (bytes.length === 8) bytes.writeUInt32BE(register.high, 0)
  bytes.writeUInt32BE(register.low, bytes.length - 4)
  return bytes.toString('base64')
}

function decode(algorithm: CrcAlgorithm, value: string): CrcRegister {
  assert(isChecksumValue(algorithm, value), `${algorithm} value ${JSON.stringify(value)}`)
  const bytes = Buffer.from(value, 'base64')
  return { low: bytes.readUInt32BE(bytes.length - 4), high: bytes.length === 8 ? bytes.readUInt32BE(0) : 0 }
}
