import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checksumByteLength,
  combineFullObject,
  compositeChecksum,
  computeChecksum,
  createChecksum,
  isChecksumValue,
  type CrcAlgorithm,
} from '../../../src/common/checksums.ts'
import { createCrcKernel } from '../../../src/common/checksums/crc-kernel.ts'
import { CHECKSUM_ALGORITHMS } from '../../../src/common/model.ts'

const CRCS: readonly CrcAlgorithm[] = ['CRC32', 'CRC32C', 'CRC64NVME']

const hex = (value: string): string => Buffer.from(value, 'base64').toString('hex')

/** A bit at a time, in BigInt: slow, and with nothing in common with the code under test but the polynomial. */
function crcByBits(algorithm: CrcAlgorithm, bytes: Uint8Array): string {
  const width = algorithm === 'CRC64NVME' ? 64n : 32n
  const polynomial = { CRC32: 0xedb88320n, CRC32C: 0x82f63b78n, CRC64NVME: 0x9a6c9329ac4bc9b5n }[algorithm]
  const ones = (1n << width) - 1n
  let register = ones
  for (const byte of bytes) {
    register ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit++) register = register & 1n ? (register >> 1n) ^ polynomial : register >> 1n
  }
  return (register ^ ones).toString(16).padStart(Number(width / 4n), '0')
}

describe('checksums', () => {
  test.each([
    ['CRC32', 'cbf43926'],
    ['CRC32C', 'e3069283'],
    ['CRC64NVME', 'ae8b14860a799888'],
    ['SHA1', 'f7c3bc1d808e04732adf679965ccc34ca7ae3441'],
    ['SHA256', '15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225'],
  ] as const)('%s of the check string', (algorithm, expected) => {
    expect(hex(computeChecksum(algorithm, Buffer.from('123456789')))).toBe(expected)
  })

  test('CRC32C of the vectors in RFC 3720 B.4', () => {
    const ascending = Uint8Array.from({ length: 32 }, (_, index) => index)
    expect(hex(computeChecksum('CRC32C', new Uint8Array(32)))).toBe('8a9136aa')
    expect(hex(computeChecksum('CRC32C', new Uint8Array(32).fill(255)))).toBe('62a8ab43')
    expect(hex(computeChecksum('CRC32C', ascending))).toBe('46dd794e')
    expect(hex(computeChecksum('CRC32C', ascending.toReversed()))).toBe('113fdb5c')
  })

  test('nothing sums to the values S3 stores for an empty object', () => {
    expect(CRCS.map((algorithm) => computeChecksum(algorithm, new Uint8Array()))).toEqual([
      'AAAAAA==',
      'AAAAAA==',
      'AAAAAAAAAAA=',
    ])
    expect(createChecksum('SHA256').digest()).toBe('47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')
  })

  test('every CRC agrees with one taken bit by bit, at any length and alignment', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), fc.constantFrom(...CRCS), (bytes, skip, algorithm) => {
        const view = bytes.subarray(Math.min(skip, bytes.length))
        expect(hex(computeChecksum(algorithm, view))).toBe(crcByBits(algorithm, view))
      }),
      { numRuns: 500 },
    )
  })

  test('the kernel agrees with zlib across its staging area', () => {
    const kernel = createCrcKernel({ widthBits: 32, low: 0xedb88320, high: 0 })
    for (const length of [65_535, 65_536, 65_537, 131_072, 300_001]) {
      const bytes = randomBytes(length)
      const register = { low: 0xffffffff, high: 0 }
      kernel(register, bytes)
      expect(~register.low >>> 0).toBe(crc32(bytes))
    }
  })

  test('pieces give what the whole gives, with other checksums under way between them', () => {
    const bytes = randomBytes(400_000)
    for (const algorithm of CHECKSUM_ALGORITHMS) {
      const one = createChecksum(algorithm)
      const other = createChecksum(algorithm)
      for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 70_001) {
        one.update(bytes.subarray(at, at + step))
        other.update(bytes.subarray(0, 33))
      }
      expect(one.digest()).toBe(computeChecksum(algorithm, bytes))
    }
  })

  test('bytes in shared memory can be summed', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(100_000)).fill(7)
    const own = new Uint8Array(100_000).fill(7)
    for (const algorithm of CHECKSUM_ALGORITHMS) {
      expect(computeChecksum(algorithm, shared)).toBe(computeChecksum(algorithm, own))
    }
  })
})

describe('checksums of parts', () => {
  test('a full-object CRC needs only the parts, empty ones included', () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(pieces, fc.constantFrom(...CRCS), (parts, algorithm) => {
        const joined = combineFullObject(
          algorithm,
          parts.map((part) => ({ value: computeChecksum(algorithm, part), length: part.length })),
        )
        expect(joined).toBe(computeChecksum(algorithm, Buffer.concat(parts)))
      }),
      { numRuns: 500 },
    )
  })

  test('lengths beyond 32 bits join alike however they are cut', () => {
    const a = { value: computeChecksum('CRC64NVME', Buffer.from('a')), length: 1 }
    const zeros = (length: number): { value: string; length: number } => ({
      value: combineFullObject('CRC64NVME', doubled(computeChecksum('CRC64NVME', new Uint8Array(1)), length)),
      length,
    })
    const long = zeros(2 ** 33)
    const half = zeros(2 ** 32)
    expect(combineFullObject('CRC64NVME', [a, long])).toBe(combineFullObject('CRC64NVME', [a, half, half]))
  })

  test('ten thousand parts join in no time: a naive join would feed it 50 GB', () => {
    const part = { value: computeChecksum('CRC64NVME', randomBytes(1000)), length: 5 * 2 ** 20 }
    const parts = Array.from({ length: 10_000 }, () => part)
    const startMs = performance.now()
    combineFullObject('CRC64NVME', parts)
    expect(performance.now() - startMs).toBeLessThan(5_000)
  })

  test('a composite is the checksum of the raw digests, and their number', () => {
    const digests = ['a', 'b'].map((text) => createHash('sha256').update(text).digest())
    const whole = createHash('sha256').update(Buffer.concat(digests)).digest('base64')
    const values = digests.map((digest) => digest.toString('base64'))
    expect(compositeChecksum('SHA256', values)).toBe(`${whole}-2`)
    const single = [computeChecksum('CRC32', Buffer.from('a'))]
    expect(compositeChecksum('CRC32', single)).toMatch(/^[A-Za-z0-9+/]{6}==-1$/)
  })
})

describe('checksum values', () => {
  test('every computed value has the right shape, for its own length only', () => {
    for (const algorithm of CHECKSUM_ALGORITHMS) {
      const value = computeChecksum(algorithm, Buffer.from('x'))
      expect(Buffer.from(value, 'base64')).toHaveLength(checksumByteLength(algorithm))
      for (const other of CHECKSUM_ALGORITHMS) {
        expect(isChecksumValue(other, value)).toBe(checksumByteLength(other) === checksumByteLength(algorithm))
      }
    }
  })

  test.each(['', 'AAAAAA', 'AAAAAA=', 'AAAAAB==', '-_AAAA==', 'AAAAAA== ', 'AAA AA==', 'AAAAAAA=', 'AAAAAA==-2'])(
    '%j is not a CRC32 value',
    (text) => {
      expect(isChecksumValue('CRC32', text)).toBe(false)
    },
  )
})

/** Parts of 2^k zero bytes each that make `length` (a power of two) from a value of one zero byte. */
function doubled(oneZero: string, length: number): { value: string; length: number }[] {
  let part = { value: oneZero, length: 1 }
  while (part.length < length) {
    part = { value: combineFullObject('CRC64NVME', [part, part]), length: part.length * 2 }
  }
  return [part]
}
