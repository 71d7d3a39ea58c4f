import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { SegmentId } from '../../../../src/common/ids.ts'
import {
  alignFrame,
  decodeFooter,
  decodeFrame,
  decodePageTable,
  encodeFooter,
  encodeFrame,
  framedBodyBytes,
  FRAME_BYTES,
  pageTableBytes,
  readTrailer,
  TRAILER_BYTES,
} from '../../../../src/persist/journal/format.ts'
import { segmentImage, segmentNumber, withoutTableCrc } from '../fixtures.ts'

const u32 = fc.nat({ max: 2 ** 32 - 1 })
const segmentIds = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex') as SegmentId)
const frames = fc.record({
  labelBytes: u32,
  bodyBytes: u32,
  labelCrc: u32,
  bodyCrc: u32,
  content: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
})
const bodies = fc.array(
  fc.record({
    content: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    offset: fc.nat(),
    length: fc.nat(),
    label: fc.string({ unit: 'grapheme', maxLength: 20 }),
  }),
  { maxLength: 5 },
)

test('a frame is read back as it was written, and only in its own segment', () => {
  fc.assert(
    fc.property(segmentIds, segmentIds, frames, (segment, other, frame) => {
      const header = encodeFrame(segment, frame)
      expect(header.length).toBe(FRAME_BYTES)
      expect(decodeFrame(segment, header)).toEqual(frame)
      if (other !== segment) expect(decodeFrame(other, header)).toBeUndefined()
    }),
  )
})

test('no changed bit of a frame goes unnoticed', () => {
  const segment = segmentNumber(7)
  const header = encodeFrame(segment, { labelBytes: 3, bodyBytes: 9, labelCrc: 1, bodyCrc: 2, content: 5 })
  for (let bit = 0; bit < FRAME_BYTES * 8; bit++) {
    const changed = Buffer.from(header)
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    expect(decodeFrame(segment, changed), `bit ${bit}`).toBeUndefined()
  }
  expect(decodeFrame(segment, header.subarray(0, FRAME_BYTES - 1))).toBeUndefined()
})

test('a footer is read back as it was written', () => {
  fc.assert(
    fc.property(segmentIds, fc.uint8Array({ maxLength: 700 }), bodies, (segment, data, listed) => {
      const pageCrcs = Uint32Array.from({ length: Math.ceil(data.length / 64) }, (_, page) => page * 77)
      const footer = { segment, dataBytes: data.length, pageBytes: 64, pageCrcs, bodies: listed }
      const bytes = encodeFooter(footer)
      const trailer = bytes.subarray(bytes.length - TRAILER_BYTES)
      const footerBytes = bytes.length - TRAILER_BYTES
      expect(readTrailer(segment, trailer, data.length + bytes.length)).toEqual({ dataBytes: data.length, footerBytes })
      expect(decodeFooter(segment, bytes)).toEqual(footer)
    }),
  )
})

test('no changed byte of a footer or trailer goes unnoticed', () => {
  const segment = segmentNumber(9)
  const { data, sealed } = segmentImage(segment, [Buffer.from('one'), Buffer.alloc(200, 2)])
  const valid = (bytes: Buffer): boolean => {
    const described = readTrailer(segment, bytes.subarray(bytes.length - TRAILER_BYTES), bytes.length)
    return described !== undefined && decodeFooter(segment, bytes.subarray(described.dataBytes)) !== undefined
  }
  expect(valid(sealed)).toBe(true)
  for (let at = data.length; at < sealed.length; at++) {
    const changed = Buffer.from(sealed)
    changed.writeUInt8(changed.readUInt8(at) ^ 0x11, at)
    expect(valid(changed), `byte ${at}`).toBe(false)
  }
  for (let length = data.length; length < sealed.length; length++) expect(valid(sealed.subarray(0, length))).toBe(false)
})

test('C14: the page table can be taken by itself from where the data ends, and only for what it was made for', () => {
  const segment = segmentNumber(9)
  const { data, sealed } = segmentImage(segment, [Buffer.from('one'), Buffer.alloc(200, 2)])
  const shape = { segment, dataBytes: data.length, pageBytes: 64 }
  const table = Buffer.from(sealed.subarray(data.length, data.length + pageTableBytes(shape)))
  expect(decodePageTable(shape, table)).toEqual(decodeFooter(segment, sealed.subarray(data.length))?.pageCrcs)
  expect(decodePageTable({ ...shape, segment: segmentNumber(8) }, table)).toBeUndefined()
  expect(decodePageTable({ ...shape, dataBytes: data.length - 1 }, table)).toBeUndefined()
  expect(decodePageTable(shape, table.subarray(0, table.length - 4))).toBeUndefined()
  for (let at = 0; at < table.length; at++) {
    const changed = Buffer.from(table)
    changed.writeUInt8(changed.readUInt8(at) ^ 0x40, at)
    expect(decodePageTable(shape, changed), `byte ${at}`).toBeUndefined()
  }
})

test('footers from before the table had a checksum stay readable, and their table alone does not check', () => {
  const segment = segmentNumber(9)
  const { data, sealed } = segmentImage(segment, [Buffer.from('one'), Buffer.alloc(200, 2)])
  const old = withoutTableCrc(sealed, data.length)
  expect(old.toString('latin1', old.length - TRAILER_BYTES).slice(0, 4)).toBe('TGT1')
  const described = readTrailer(segment, old.subarray(-TRAILER_BYTES), old.length)
  expect(described).toEqual({ dataBytes: data.length, footerBytes: old.length - data.length - TRAILER_BYTES })
  expect(decodeFooter(segment, old.subarray(data.length))).toEqual(decodeFooter(segment, sealed.subarray(data.length)))
  const shape = { segment, dataBytes: data.length, pageBytes: 64 }
  const table = old.subarray(data.length, data.length + pageTableBytes(shape))
  expect(decodePageTable(shape, table)).toBeUndefined()
})

test('frames begin at multiples of 16, and a body takes its frame and label too', () => {
  expect([0, 1, 15, 16, 17].map(alignFrame)).toEqual([0, 16, 16, 16, 32])
  expect(framedBodyBytes({ content: 1, offset: 0, length: 10, label: 'é' })).toBe(48 + 2 + 10)
})
