import { expect, test } from 'vitest'
import {
  decodeHeld,
  decodeOpen,
  decodeSegments,
  decodeWrite,
  encodeHead,
  SEGMENTS_A_CALL_MAX,
} from '../../../../src/persist/copies/messages.ts'
import { segmentNumber } from '../fixtures.ts'

const segment = segmentNumber(0xabc)
const WRITE = { segment, mode: 'live', position: 5, crc: 6, sync: true }

test('what one end encodes the other decodes', () => {
  expect(decodeOpen(encodeHead({ segment, mode: 'whole' }))).toEqual({ segment, mode: 'whole' })
  expect(decodeWrite(encodeHead(WRITE))).toEqual(WRITE)
  expect(decodeSegments(encodeHead({ segments: [segment], wanted: true }))).toEqual({
    segments: [segment],
    wanted: true,
  })
  const held = [{ segment, bytes: 10, sealed: true }]
  expect(decodeHeld(encodeHead({ held }))).toEqual(held)
})

test('what a peer makes up is an InvalidRequest, and never a path or a position', () => {
  const refused = (decode: (head: Uint8Array) => unknown, head: unknown): void => {
    const bytes = typeof head === 'string' ? Buffer.from(head) : encodeHead(head as object)
    expect(() => decode(bytes), JSON.stringify(head)).toThrow(expect.objectContaining({ code: 'InvalidRequest' }))
  }
  for (const head of ['', '{', 'null', '[]', '7', '\u0000\u00ff']) refused(decodeWrite, head)
  for (const name of ['../../../etc/passwd', segment.toUpperCase(), `${segment}/`, 7, undefined])
    refused(decodeOpen, { segment: name, mode: 'live' })
  refused(decodeOpen, { segment, mode: 'dead' })
  for (const position of [-1, 0.5, '5', 2 ** 41, null, Number.NaN]) refused(decodeWrite, { ...WRITE, position })
  for (const crc of [-1, 2 ** 32, 'x']) refused(decodeWrite, { ...WRITE, crc })
  refused(decodeSegments, { segments: Array.from({ length: SEGMENTS_A_CALL_MAX + 1 }, () => segment) })
  refused(decodeSegments, { segments: segment })
  refused(decodeHeld, { held: [null] })
  refused(decodeHeld, { held: [{ segment, bytes: -1 }] })
})

test('as many segments as one call may name fit the head of a call', () => {
  const held = Array.from({ length: SEGMENTS_A_CALL_MAX }, () => ({ segment, bytes: 2 ** 39, sealed: false }))
  expect(encodeHead({ held }).length).toBeLessThan(64 * 1024)
})
