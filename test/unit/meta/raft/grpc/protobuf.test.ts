import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AssertionFailed } from '../../../../../src/common/assert.ts'
import type { ByteString } from '../../../../../src/common/ids.ts'
import { decode, encode } from '../../../../../src/meta/raft/grpc/protobuf.ts'
import type { Schema } from '../../../../../src/meta/raft/grpc/protobuf.ts'

interface Inner {
  readonly key: ByteString
  readonly inner: Inner | undefined
}
interface Message {
  readonly key: ByteString
  readonly value: Uint8Array
  readonly text: string
  readonly number: number
  readonly id: string
  readonly bool: boolean
  readonly inner: Inner | undefined
  readonly many: readonly Inner[]
  readonly texts: readonly string[]
  readonly numbers: readonly number[]
}
const inner: Schema<Inner> = { key: [1, 'key'], inner: [2, () => inner] }
const schema: Schema<Message> = {
  key: [1, 'key'],
  value: [2, 'value'],
  text: [3, 'text'],
  number: [4, 'number'],
  id: [5, 'id'],
  bool: [6, 'bool'],
  inner: [7, () => inner],
  many: [8, () => inner, true],
  texts: [9, 'text', true],
  numbers: [1000, 'number', true],
}
const ZEROS: Message = {
  key: '' as ByteString,
  value: new Uint8Array(0),
  text: '',
  number: 0,
  id: '0',
  bool: false,
  inner: undefined,
  many: [],
  texts: [],
  numbers: [],
}
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

describe('the wire format', () => {
  it.each<[string, Partial<Message>, string]>([
    ['nothing', {}, ''],
    ['zeros, which are not sent', ZEROS, ''],
    ['a varint of two bytes (150)', { number: 150 }, '20 96 01'],
    ['the largest safe integer', { number: Number.MAX_SAFE_INTEGER }, '20 ff ff ff ff ff ff ff 0f'],
    ['64 bits', { id: '18446744073709551615' }, '28 ff ff ff ff ff ff ff ff ff 01'],
    ['bytes as they are', { key: '\u0000\u00FF' as ByteString }, '0a 02 00 ff'],
    ['text as UTF-8', { text: 'é' }, '1a 02 c3 a9'],
    ['an empty message that is given', { inner: {} as Inner }, '3a 00'],
    ['a field of a high number', { numbers: [1, 0] }, 'c0 3e 01 c0 3e 00'],
    ['repeated ones, empty too, in order', { texts: ['a', '', 'b'] }, '4a 01 61 4a 00 4a 01 62'],
    [
      'messages in messages',
      { inner: { key: 'a' as ByteString, inner: { key: 'b' as ByteString, inner: undefined } } },
      '3a 08 0a 01 61 12 03 0a 01 62',
    ],
  ])('holds %s', (_, message, bytes) => {
    expect(encode(schema, message).toString('hex')).toBe(bytes.replaceAll(' ', ''))
  })

  it('gives back what was put in, of any length', () => {
    const key = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes).toString('latin1') as ByteString)
    const innerOnes = fc.record({ key, inner: fc.constant(undefined) })
    const nested = fc.record({ key, inner: fc.option(innerOnes, { nil: undefined }) })
    const message = fc.record({
      key,
      value: fc.uint8Array({ maxLength: 3_000 }),
      text: fc.string({ unit: 'grapheme' }),
      number: fc.maxSafeNat(),
      id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
      bool: fc.boolean(),
      inner: fc.option(nested, { nil: undefined }),
      many: fc.array(nested),
      texts: fc.array(fc.string({ unit: 'grapheme' })),
      numbers: fc.array(fc.nat()),
    })
    fc.assert(
      fc.property(message, (sent) => {
        const { value, ...rest } = decode(schema, encode(schema, sent))
        expect({ ...rest, value: Uint8Array.from(value) }).toEqual(sent)
      }),
    )
  })

  it('passes over fields that it does not know, of every wire type', () => {
    const unknown = '58 96 01  59 0102030405060708  5a 02 ffff  5d 01020304'
    expect(decode(schema, hex(`${unknown} 20 07 ${unknown}`))).toEqual({ ...ZEROS, number: 7 })
  })

  it('takes numbers that come packed', () => {
    expect(decode(schema, hex('c2 3e 03 01 96 01'))).toEqual({ ...ZEROS, numbers: [1, 150] })
  })

  it('gives values memory of their own', () => {
    const bytes = encode(schema, { value: Uint8Array.of(1, 2, 3) })
    const { value } = decode(schema, bytes)
    bytes.fill(0)
    expect([...value]).toEqual([1, 2, 3])
  })

  it.each<[string, string]>([
    ['a varint without an end', '20 ff'],
    ['a varint too long', '28 ff ff ff ff ff ff ff ff ff ff 01'],
    ['a number that is no safe integer', '20 ff ff ff ff ff ff ff 7f'],
    ['bytes that are not there', '0a 05 61'],
    ['an inner message that ends outside', '3a 02 0a 05 61 61 61 61 61'],
    ['another wire type than the field has', '08 01'],
    ['a wire type that is none', '5f'],
  ])('does not take %s', (_, bytes) => {
    expect(() => decode(schema, hex(bytes))).toThrow(RangeError)
  })

  it('does not send what is no number of a message', () => {
    for (const number of [-1, 0.5, Number.NaN, 2 ** 53])
      expect(() => encode(schema, { number })).toThrow(AssertionFailed)
  })
})
