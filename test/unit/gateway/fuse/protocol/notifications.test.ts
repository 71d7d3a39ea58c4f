import { expect, it } from 'vitest'
import { AssertionFailed } from '../../../../../src/common/assert.ts'
import type { ByteString } from '../../../../../src/common/ids.ts'
import { NotificationEncoder } from '../../../../../src/gateway/fuse/protocol/notifications.ts'
import { hex, hexOf, zeros } from './messages.ts'

const NAME = 'a\xff' as ByteString

function message(build: (encoder: NotificationEncoder) => number): string {
  const encoder = new NotificationEncoder()
  encoder.bytes.fill(0xee)
  return hexOf(encoder.bytes, build(encoder))
}

it('encodes INVAL_INODE, 24 bytes, of attributes alone by a negative offset', () => {
  expect(message((encoder) => encoder.attributesChanged(9))).toBe(
    hex(`28000000 02000000 ${zeros(8)} 0900000000000000 ffffffffffffffff ${zeros(8)}`),
  )
  expect(message((encoder) => encoder.dataChanged(9, 4096, 0))).toBe(
    hex(`28000000 02000000 ${zeros(8)} 0900000000000000 0010000000000000 ${zeros(8)}`),
  )
  expect(() => new NotificationEncoder().dataChanged(9, -1, 0)).toThrow(AssertionFailed)
})

it('encodes INVAL_ENTRY, 16 bytes and the name', () => {
  expect(message((encoder) => encoder.entryChanged(1, NAME))).toBe(
    hex(`23000000 03000000 ${zeros(8)} 0100000000000000 02000000 00000000 61ff00`),
  )
  expect(message((encoder) => encoder.entryExpired(1, NAME))).toBe(
    hex(`23000000 03000000 ${zeros(8)} 0100000000000000 02000000 01000000 61ff00`),
  )
})

it('encodes DELETE, 24 bytes and the name', () => {
  expect(message((encoder) => encoder.entryDeleted(1, 9, NAME))).toBe(
    hex(`2b000000 06000000 ${zeros(8)} 0100000000000000 0900000000000000 02000000 00000000 61ff00`),
  )
})

it('takes the longest name the kernel takes, and no longer one', () => {
  expect(message((encoder) => encoder.entryDeleted(1, 9, 'x'.repeat(1024) as ByteString))).toHaveLength(
    2 * (16 + 24 + 1025),
  )
  expect(() => new NotificationEncoder().entryChanged(1, 'x'.repeat(1025) as ByteString)).toThrow(AssertionFailed)
})
