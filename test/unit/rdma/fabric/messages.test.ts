/** What two fabric layers say to each other comes back as it went; whatever else comes is refused. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import { NODE_BODY_BYTES_MAX } from '../../../../src/common/node-calls.ts'
import {
  decodeAgree,
  decodeAgreement,
  decodeAgreementNumber,
  decodeCall,
  decodeGrant,
  decodeLease,
  decodeLeases,
  decodeProbe,
  decodeWrapped,
  encodeAgree,
  encodeAgreement,
  encodeAgreementNumber,
  encodeCall,
  encodeGrant,
  encodeLease,
  encodeLeases,
  encodeProbe,
  encodeWrapped,
  PIECES_MAX,
  WRAPPING_BYTES_MAX,
} from '../../../../src/rdma/fabric/messages.ts'

const bits64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const number32 = fc.nat({ max: 0xffff_ffff })
const bytes = (max: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: max }).map((each) => Buffer.from(each))
const piece = fc.record({ key: bits64, address: bits64, bytes: number32 })
const lease = fc.record({
  id: number32,
  leaseMs: number32,
  pieces: fc.array(piece, { minLength: 1, maxLength: PIECES_MAX }),
})

function comesBack<T>(each: fc.Arbitrary<T>, encode: (value: T) => Uint8Array, decode: (head: Uint8Array) => T): void {
  fc.assert(
    fc.property(each, (value) => {
      // At an odd place of a larger buffer, as it lies in what a socket reads into.
      const head = encode(value)
      const room = Buffer.alloc(head.length + 8, 0xff)
      room.set(head, 3)
      expect(decode(room.subarray(3, 3 + head.length))).toEqual(value)
    }),
  )
}

describe("the fabric's messages", () => {
  it('come back as they went', () => {
    const name = fc.uint8Array({ minLength: 1, maxLength: 1024 }).map((each) => Buffer.from(each))
    comesBack(
      fc.record({ provider: fc.constantFrom('verbs' as const, 'tcp' as const), name }),
      (said) => encodeAgree(said.provider, said.name),
      (head) => decodeAgree(head) as never,
    )
    comesBack(fc.record({ agreement: bits64, name }), encodeAgreement, (head) => decodeAgreement(head) as never)
    comesBack(bits64, encodeAgreementNumber, decodeAgreementNumber)
    const how = fc.constantFrom('in the reply' as const, 'lent' as const, 'in the call' as const, 'written' as const)
    comesBack(fc.record({ agreement: bits64, bytes: number32, how, offset: number32 }), encodeProbe, decodeProbe)
    const grant = fc.record({ key: bits64, address: bits64, bytes: fc.integer({ min: 1, max: 0xffff_ffff }) })
    comesBack(grant, encodeGrant, decodeGrant)
    expect(() => decodeGrant(encodeGrant({ key: 1n, address: 1n, bytes: 0 }))).toThrow('cannot be read')
    comesBack(lease, encodeLease, decodeLease)
    comesBack(fc.array(number32), encodeLeases, (head) => [...decodeLeases(head)])
    const granted = fc.option(
      fc.record({ offset: number32, bytes: fc.integer({ min: 1, max: NODE_BODY_BYTES_MAX }) }),
      { nil: undefined },
    )
    const lendFrom = fc.oneof(fc.nat({ max: 0xffff_fffe }), fc.constant(Number.POSITIVE_INFINITY))
    const method = fc.nat({ max: 0xffff })
    comesBack(
      fc.record({ agreement: bits64, method, lendFrom, granted, head: bytes(300) }),
      encodeCall,
      decodeCall as never,
    )
    comesBack(
      fc.record({ outcome: fc.constant('lent' as const), lease, head: bytes(300) }),
      encodeWrapped,
      decodeWrapped as never,
    )
    comesBack(
      fc.record({ outcome: fc.constant('brought' as const), head: bytes(300) }),
      encodeWrapped,
      decodeWrapped as never,
    )
    comesBack(fc.constant({ outcome: 'unknown' as const }), encodeWrapped, decodeWrapped as never)
  })

  it('are refused, whatever else comes', () => {
    const decoders = [
      decodeAgree,
      decodeAgreement,
      decodeAgreementNumber,
      decodeProbe,
      decodeGrant,
      decodeLease,
      decodeLeases,
      decodeCall,
      decodeWrapped,
    ]
    fc.assert(
      fc.property(fc.constantFrom(...decoders), fc.uint8Array({ maxLength: 100 }), (decode, head) => {
        try {
          decode(head)
        } catch (error) {
          expect(isTidegateError(error, 'InvalidRequest') || isTidegateError(error, 'NotImplemented')).toBe(true)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('are refused when a byte is missing', () => {
    const one = { key: 1n, address: 2n, bytes: 3 }
    const heads: [Uint8Array, (head: Uint8Array) => unknown][] = [
      [encodeAgree('tcp', Buffer.from('name')), decodeAgree],
      [encodeAgreement({ agreement: 1n, name: Buffer.from('name') }), decodeAgreement],
      [encodeProbe({ agreement: 1n, bytes: 4096, how: 'lent', offset: 0 }), decodeProbe],
      [encodeGrant(one), decodeGrant],
      [encodeLease({ id: 1, leaseMs: 2, pieces: [one, one] }), decodeLease],
      [encodeLeases([1, 2]), decodeLeases],
      [encodeCall({ agreement: 1n, method: 1, lendFrom: 1, granted: undefined, head: new Uint8Array(0) }), decodeCall],
    ]
    for (const [head, decode] of heads) {
      decode(head)
      expect(() => decode(head.subarray(0, -1)), decode.name).toThrow('cannot be read')
    }
  })

  it('grow what they wrap by no more than is said', () => {
    const pieces = Array.from({ length: PIECES_MAX }, () => ({ key: 0n, address: 0n, bytes: 1 }))
    const head = new Uint8Array(100)
    expect(encodeWrapped({ outcome: 'lent', lease: { id: 1, leaseMs: 1, pieces }, head }).length).toBe(
      100 + WRAPPING_BYTES_MAX,
    )
    expect(encodeCall({ agreement: 0n, method: 1, lendFrom: 1, granted: undefined, head }).length).toBeLessThan(
      100 + WRAPPING_BYTES_MAX,
    )
  })
})
