import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodePackFooter,
  decodeRecord,
  encodePackFooter,
  encodeRecord,
  footerBytesOf,
  recordBytes,
  type PackRecord,
} from '../../../../src/cache-tier/disk/pack-format.ts'
import { segment } from '../../../conformance/cache-level.ts'

const GEOMETRY = { blockBytes: 4096, pageBytes: 1024 }
const FILE_BYTES = 1_000_000
const record = (block: number, length: number): PackRecord => ({
  segment: segment('c'),
  block,
  length,
  position: 1000 * block + recordBytes(GEOMETRY),
  pageCrcs: Uint32Array.from({ length: Math.ceil(length / 1024) }, (_, page) => 0xfffffff0 + page),
})

test('records and footers come back as they were', () => {
  const records = [record(0, 4096), record(1, 1), record(900, 1025)]
  const footer = encodePackFooter(GEOMETRY, records)
  expect(footerBytesOf(GEOMETRY, footer.subarray(-16), FILE_BYTES)).toBe(footer.length)
  expect(decodePackFooter(GEOMETRY, footer, FILE_BYTES)).toEqual(records)
  const bytes = Buffer.alloc(recordBytes(GEOMETRY), 0xee)
  for (const one of records) {
    encodeRecord(GEOMETRY, one, bytes)
    expect(decodeRecord(GEOMETRY, bytes, 1000 * one.block)).toEqual(one)
  }
})

test('no flipped bit and no cut goes unnoticed, and none throws', () => {
  const footer = encodePackFooter(GEOMETRY, [record(0, 4096), record(1, 1)])
  const head = Buffer.alloc(recordBytes(GEOMETRY))
  encodeRecord(GEOMETRY, record(3, 3000), head)
  fc.assert(
    fc.property(fc.nat(), fc.nat({ max: 7 }), fc.nat(), (at, bit, cut) => {
      const bad = Buffer.from(footer)
      const place = at % (bad.length - 4) // the last four bytes are unused
      bad[place] = (bad[place] ?? 0) ^ (1 << bit)
      const size = footerBytesOf(GEOMETRY, bad.subarray(-16), FILE_BYTES)
      if (size === bad.length) expect(decodePackFooter(GEOMETRY, bad, FILE_BYTES)).toBeUndefined()
      expect(decodePackFooter(GEOMETRY, footer.subarray(1 + (cut % (footer.length - 1))), FILE_BYTES)).toBeUndefined()
      const torn = Buffer.from(head)
      torn[at % torn.length] = (torn[at % torn.length] ?? 0) ^ (1 << bit)
      expect(decodeRecord(GEOMETRY, torn, 0)).toBeUndefined()
    }),
  )
})
