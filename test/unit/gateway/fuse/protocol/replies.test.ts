import { expect, it } from 'vitest'
import { AssertionFailed } from '../../../../../src/common/assert.ts'
import type { ByteString } from '../../../../../src/common/ids.ts'
import type { EntryReply, FileAttributes } from '../../../../../src/gateway/fuse/protocol/attributes.ts'
import { ReplyEncoder } from '../../../../../src/gateway/fuse/protocol/replies.ts'
import { FILE_OFFSET_MAX } from '../../../../../src/gateway/fuse/protocol/wire.ts'
import { hex, hexOf, zeros } from './messages.ts'

const ATTRIBUTES: FileAttributes = {
  inode: 0x1_00000002,
  sizeBytes: 4097,
  blocks: 16,
  atime: { seconds: 1, nanoseconds: 10 },
  mtime: { seconds: -2, nanoseconds: 999_999_999 },
  ctime: { seconds: 2 ** 33, nanoseconds: 30 },
  btime: { seconds: 4, nanoseconds: 40 },
  mode: 0o100644,
  linkCount: 1,
  uid: 1000,
  gid: 100,
  device: 0x00100801,
  blockBytes: 4096,
}

const ATTRIBUTES_HEX = `0200000001000000 0110000000000000 1000000000000000
  0100000000000000 feffffffffffffff 0000000002000000 0a000000 ffc99a3b 1e000000
  a4810000 01000000 e8030000 64000000 01081000 00100000 00000000`

const ENTRY: EntryReply = {
  nodeId: 9,
  attributes: ATTRIBUTES,
  cacheTimes: { entryMs: 1500, attributesMs: 60_000 },
}

const ENTRY_HEX = `0900000000000000 0000000000000000 0100000000000000 3c00000000000000 0065cd1d 00000000 ${ATTRIBUTES_HEX}`

/** The message of a fresh encoder, and of one whose memory is dirty: both must be the same. */
function message(build: (encoder: ReplyEncoder) => number): string {
  const fresh = new ReplyEncoder()
  const dirty = new ReplyEncoder()
  dirty.bytes.fill(0xee)
  const lengthBytes = build(fresh)
  expect(build(dirty)).toBe(lengthBytes)
  expect(hexOf(dirty.bytes, lengthBytes)).toBe(hexOf(fresh.bytes, lengthBytes))
  return hexOf(fresh.bytes, lengthBytes)
}

const UNIQUE = 0x3_00000004
const head = (length: string, error = '00000000'): string => `${length} ${error} 0400000003000000`

it('encodes errors as negative numbers', () => {
  expect(message((encoder) => encoder.error(UNIQUE, 2))).toBe(hex(head('10000000', 'feffffff')))
  expect(message((encoder) => encoder.errorNamed(UNIQUE, 'ENOSYS'))).toBe(hex(head('10000000', 'daffffff')))
  for (const errno of [0, -2, 512]) expect(() => new ReplyEncoder().error(2, errno)).toThrow(AssertionFailed)
})

it('encodes a bare success', () => {
  expect(message((encoder) => encoder.done(UNIQUE))).toBe(hex(head('10000000')))
})

it('encodes entry_out, 128 bytes, with the root of time before 1970', () => {
  expect(message((encoder) => encoder.entry(UNIQUE, ENTRY))).toBe(hex(`${head('90000000')} ${ENTRY_HEX}`))
})

it('encodes a negative entry: no node, but a time', () => {
  expect(message((encoder) => encoder.negativeEntry(UNIQUE, 1500))).toBe(
    hex(`${head('90000000')} ${zeros(16)} 0100000000000000 ${zeros(8)} 0065cd1d ${zeros(92)}`),
  )
})

it('encodes attr_out, 104 bytes', () => {
  expect(message((encoder) => encoder.attributes(UNIQUE, ATTRIBUTES, 1500))).toBe(
    hex(`${head('78000000')} 0100000000000000 0065cd1d 00000000 ${ATTRIBUTES_HEX}`),
  )
})

it('encodes statx_out, 288 bytes, with creation time and device in parts', () => {
  const statx = `ff0f0000 00100000 ${zeros(8)} 01000000 e8030000 64000000 a481 0000 0200000001000000 0110000000000000
    1000000000000000 ${zeros(8)} 0100000000000000 0a000000 00000000 0400000000000000 28000000 00000000
    0000000002000000 1e000000 00000000 feffffffffffffff ffc99a3b 00000000 08000000 01010000 ${zeros(120)}`
  expect(message((encoder) => encoder.statx(UNIQUE, ATTRIBUTES, 1500))).toBe(
    hex(`30010000 00000000 0400000003000000 0100000000000000 0065cd1d 00000000 ${zeros(16)} ${statx}`),
  )
  const withoutBirth = message((encoder) => encoder.statx(UNIQUE, { ...ATTRIBUTES, btime: undefined }, 0))
  expect(withoutBirth.slice(96, 104)).toBe('ff070000')
})

it('encodes open_out, 16 bytes, alone and behind an entry', () => {
  const open = { handle: 0x2_00000001, flags: 0x42 }
  const openHex = `0100000002000000 42000000 00000000`
  expect(message((encoder) => encoder.opened(UNIQUE, open))).toBe(hex(`${head('20000000')} ${openHex}`))
  expect(message((encoder) => encoder.created(UNIQUE, ENTRY, open))).toBe(
    hex(`${head('a0000000')} ${ENTRY_HEX} ${openHex}`),
  )
})

it('encodes sizes and positions', () => {
  const small = hex(`${head('18000000')} 00001000 00000000`)
  expect(message((encoder) => encoder.written(UNIQUE, 1_048_576))).toBe(small)
  expect(message((encoder) => encoder.xattrSize(UNIQUE, 1_048_576))).toBe(small)
  expect(message((encoder) => encoder.copied(UNIQUE, 2 ** 40))).toBe(hex(`${head('18000000')} 0000000000010000`))
  expect(message((encoder) => encoder.position(UNIQUE, 2 ** 40))).toBe(hex(`${head('18000000')} 0000000000010000`))
  expect(() => new ReplyEncoder().written(2, 2 ** 32)).toThrow(AssertionFailed)
})

it('encodes statfs_out, 80 bytes', () => {
  const statfs = {
    blocks: 10,
    blocksFree: 9,
    blocksAvailable: 8,
    files: 7,
    filesFree: 6,
    blockBytes: 1_048_576,
    fragmentBytes: 4096,
    nameBytesMax: 255,
  }
  expect(message((encoder) => encoder.statfs(UNIQUE, statfs))).toBe(
    hex(`${head('60000000')} 0a00000000000000 0900000000000000 0800000000000000 0700000000000000 0600000000000000
      00001000 ff000000 00100000 ${zeros(28)}`),
  )
})

it('encodes lk_out, 24 bytes, to the end of the file as the kernel has it', () => {
  const lock = { type: 'write', start: 5, end: FILE_OFFSET_MAX, pid: 7 } as const
  expect(message((encoder) => encoder.lock(UNIQUE, lock))).toBe(
    hex(`${head('28000000')} 0500000000000000 ffffffffffffff7f 01000000 07000000`),
  )
  expect(message((encoder) => encoder.lock(UNIQUE, { type: 'unlock', start: 0, end: 9, pid: 0 }))).toBe(
    hex(`${head('28000000')} 0000000000000000 0900000000000000 02000000 00000000`),
  )
})

it('encodes data: its header alone, copied, or a target of bytes', () => {
  expect(message((encoder) => encoder.dataHeader(UNIQUE, 1_048_576))).toBe(hex(head('10001000')))
  expect(message((encoder) => encoder.data(UNIQUE, Uint8Array.of(1, 0, 255)))).toBe(hex(`${head('13000000')} 0100ff`))
  expect(message((encoder) => encoder.text(UNIQUE, '/a\xff' as ByteString))).toBe(hex(`${head('13000000')} 2f61ff`))
})

it('encodes init_out, 64 bytes', () => {
  const accepted = {
    kind: 'accepted',
    minorVersion: 41,
    flags: new Set(['ASYNC_READ', 'MAX_PAGES', 'INIT_EXT'] as const),
    maxReadaheadBytes: 131_072,
    maxWriteBytes: 1_048_576,
    maxPages: 256,
    maxBackground: 64,
    congestionThreshold: 48,
    timeGranularityNs: 1,
  } as const
  expect(message((encoder) => encoder.init(UNIQUE, accepted))).toBe(
    hex(`${head('50000000')} 07000000 29000000 00000200 01004040 4000 3000 00001000 01000000 0001 0000 ${zeros(32)}`),
  )
  expect(message((encoder) => encoder.initMajorOnly(UNIQUE))).toBe(hex(`${head('50000000')} 07000000 ${zeros(60)}`))
})
