import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  BATCH_FIELD_BYTES_MAX,
  BATCH_VALUE_BYTES_MAX,
  BatchReader,
  encodeBatchFrame,
  encodeBatchHead,
  type BatchFields,
  type BatchFrame,
} from '../../../src/common/batch-framing.ts'
import { isTidegateError } from '../../../src/common/errors.ts'

interface Item {
  readonly frame: BatchFrame
  readonly value: Uint8Array
}

function encode(items: readonly Item[]): Buffer {
  const frames = items.flatMap(({ frame, value }) => [encodeBatchFrame(frame), value])
  return Buffer.concat([encodeBatchHead('request', items.length), ...frames])
}

/** All of a message, read in chunks of the lengths given, over and over. */
function decode(bytes: Uint8Array, chunkLengths: readonly number[]): Item[] {
  const reader = new BatchReader('request')
  const items: { frame: BatchFrame; value: Buffer }[] = []
  let [at, turn] = [0, 0]
  while (at < bytes.length) {
    // A copy, spoiled afterwards: what is kept must not be a view of it.
    const chunk = Uint8Array.from(bytes.subarray(at, at + (chunkLengths[turn++ % chunkLengths.length] ?? 1)))
    at += chunk.length
    for (const piece of reader.read(chunk)) {
      if (piece.kind === 'frame') items.push({ frame: piece.frame, value: Buffer.alloc(0) })
      const item = items.at(-1)
      if (piece.kind === 'value' && item) item.value = Buffer.concat([item.value, piece.bytes])
    }
    chunk.fill(0xdb)
  }
  reader.end()
  return items
}

const text = fc.string({ unit: 'grapheme', maxLength: 40 })
const number = fc.maxSafeNat()
const fields: fc.Arbitrary<BatchFields> = fc.record(
  {
    contentType: text,
    metadata: fc.dictionary(text, text, { minKeys: 1, maxKeys: 5 }),
    ifMatch: text,
    ttlMs: number,
    revision: number,
    exists: fc.boolean(),
    errorDetail: text,
  },
  { requiredKeys: [] },
)
const item: fc.Arbitrary<Item> = fc
  .record({ code: fc.nat(65_535), key: text, fields, value: fc.uint8Array({ maxLength: 300 }) })
  .map(({ value, ...frame }) => ({ frame: { ...frame, valueBytes: value.length }, value }))
const message = fc.array(item, { maxLength: 8 })
const chunkLengths = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 })

function plain(items: readonly Item[]): unknown {
  return items.map(({ frame, value }) => ({
    ...frame,
    fields: { ...frame.fields, metadata: Object.entries(frame.fields.metadata ?? {}) },
    value: Buffer.from(value).toString('hex'),
  }))
}

it('reads what was written, however it is cut into chunks', () => {
  fc.assert(
    fc.property(message, chunkLengths, (items, lengths) => {
      expect(plain(decode(encode(items), lengths))).toEqual(plain(items))
    }),
    { numRuns: 300 },
  )
})

it('refuses every message that is cut short or goes on', () => {
  fc.assert(
    fc.property(message, fc.nat(), (items, at) => {
      const bytes = encode(items)
      expect(() => decode(bytes.subarray(0, at % bytes.length), [64])).toThrow(/frames missing|within its head/)
      expect(() => decode(Buffer.concat([bytes, Buffer.from([0])]), [64])).toThrow('after the last frame')
    }),
  )
})

it('answers whatever is sent with frames or InvalidRequest, and nothing else', () => {
  let refused = 0
  const attempt = (bytes: Uint8Array, lengths: readonly number[]): void => {
    try {
      decode(bytes, lengths)
    } catch (error) {
      if (!isTidegateError(error, 'InvalidRequest')) throw error
      refused++
    }
  }
  fc.assert(
    fc.property(
      message,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      chunkLengths,
      (items, flips, lengths) => {
        const bytes = encode(items)
        for (const [at, value] of flips) bytes[at % bytes.length] = value
        attempt(bytes, lengths)
      },
    ),
    { numRuns: 1000 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), chunkLengths, attempt))
  expect(refused).toBeGreaterThan(500)
})

it('has the layout that its description gives, byte by byte', () => {
  const frame = { code: 2, key: 'a/é', fields: { ttlMs: 60_000, metadata: { n: 'v' } }, valueBytes: 3 }
  expect(encode([{ frame, value: Buffer.from('xyz') }]).toString('latin1')).toBe(
    'TGQ1\x01\0\0\0' + // one frame
      '\x02\0\x04\0\x12\0\0\0\x03\0\0\0' + // put, 4 bytes of key, 18 of fields, 3 of value
      'a/\xc3\xa9' +
      '\x05\x08\0\x60\xea\0\0\0\0\0\0' + // ttlMs
      '\x02\x04\0\x01\0nv' + // metadata
      'xyz',
  )
  expect(encodeBatchHead('answer', 1000).toString('latin1')).toBe('TGA1\xe8\x03\0\0')
})

it('believes no length before it has looked at it', () => {
  const head = (fieldBytes: number, valueBytes: number): Buffer => {
    const bytes = encode([{ frame: { code: 1, key: '', fields: {}, valueBytes: 0 }, value: Buffer.alloc(0) }])
    bytes.writeUInt32LE(fieldBytes, 12)
    bytes.writeUInt32LE(valueBytes, 16)
    return bytes
  }
  expect(() => decode(head(BATCH_FIELD_BYTES_MAX + 1, 0), [64])).toThrow('bytes of fields')
  expect(() => decode(head(0, BATCH_VALUE_BYTES_MAX + 1), [64])).toThrow('a value of 8388609 bytes')
  const many = Buffer.from('TGQ1\xe9\x03\0\0', 'latin1')
  expect(() => decode(many, [64])).toThrow('1001 frames')
})

it('refuses fields that are unknown, doubled or malformed', () => {
  const withFields = (bytes: Buffer): Buffer => {
    const frame = encodeBatchFrame({ code: 1, key: '', fields: {}, valueBytes: 0 })
    frame.writeUInt32LE(bytes.length, 4)
    return Buffer.concat([encodeBatchHead('request', 1), frame, bytes])
  }
  const refusals: [bytes: number[], message: string][] = [
    [[99, 0, 0], 'the tag 99 names no field'],
    [[1, 5, 0, 65], 'cut short'],
    [[1, 1], 'cut short'],
    [[1, 1, 0, 65, 1, 1, 0, 66], 'contentType comes twice'],
    [[1, 1, 0, 0xff], 'contentType is not UTF-8'],
    [[5, 1, 0, 1], 'ttlMs is no number'],
    [[5, 8, 0, 255, 255, 255, 255, 255, 255, 255, 255], 'ttlMs is no number'],
    [[11, 1, 0, 2], 'exists is neither 0 nor 1'],
    [[2, 3, 0, 9, 0, 65], 'metadata is cut short'],
    [[2, 3, 0, 1, 0, 65, 2, 3, 0, 1, 0, 65], 'comes twice'],
  ]
  for (const [bytes, message] of refusals) expect(() => decode(withFields(Buffer.from(bytes)), [7])).toThrow(message)
})
