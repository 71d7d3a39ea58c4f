import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { AssertionFailed } from '../../../../../src/common/assert.ts'
import { RequestDecoder } from '../../../../../src/gateway/fuse/protocol/decode.ts'
import { OPCODES } from '../../../../../src/gateway/fuse/protocol/opcodes.ts'
import { decode, nul, request, zeros } from './messages.ts'

/** Structs in bytes, as FACTS of the protocol: what comes before names and data. */
const STRUCT_BYTES = {
  FORGET: 8,
  BATCH_FORGET: 8,
  GETATTR: 16,
  SETATTR: 88,
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  RENAME2: 16,
  LINK: 8,
  OPEN: 8,
  OPENDIR: 8,
  READ: 40,
  WRITE: 40,
  READDIR: 40,
  READDIRPLUS: 40,
  RELEASE: 24,
  RELEASEDIR: 24,
  FSYNC: 16,
  FSYNCDIR: 16,
  SETXATTR: 8,
  GETXATTR: 8,
  LISTXATTR: 8,
  FLUSH: 24,
  GETLK: 48,
  SETLK: 48,
  SETLKW: 48,
  ACCESS: 8,
  CREATE: 16,
  INTERRUPT: 8,
  INIT: 8,
  IOCTL: 32,
  POLL: 24,
  FALLOCATE: 32,
  LSEEK: 24,
  COPY_FILE_RANGE: 56,
  COPY_FILE_RANGE_64: 56,
  SYNCFS: 8,
  TMPFILE: 16,
  STATX: 24,
} as const satisfies Partial<Record<keyof typeof OPCODES, number>>

it.each(Object.entries(STRUCT_BYTES))('refuses a %s whose struct is a byte short', (name, bytes) => {
  const opcode = OPCODES[name as keyof typeof OPCODES]
  expect(decode(request(opcode, zeros(bytes - 1)))).toMatchObject({
    operation: 'MALFORMED',
    reason: 'a struct cut short',
    header: { opcode, unique: 2 },
  })
})

const LIES: readonly (readonly [what: string, opcode: number, body: string, reason: string])[] = [
  ['a name without a NUL', OPCODES.LOOKUP, '616263', 'a text without its NUL'],
  ['no name', OPCODES.LOOKUP, '', 'a text without its NUL'],
  ['an empty name', OPCODES.LOOKUP, '00', 'not a name of a directory entry'],
  ['the name .', OPCODES.LOOKUP, nul('.'), 'not a name of a directory entry'],
  ['the name ..', OPCODES.UNLINK, nul('..'), 'not a name of a directory entry'],
  ['a path as a name', OPCODES.MKDIR, zeros(8) + nul('a/b'), 'a slash in a name'],
  ['bytes behind the name', OPCODES.RMDIR, `${nul('a')} 00`, 'more data than it says'],
  ['one name instead of two', OPCODES.RENAME, zeros(8) + nul('a'), 'a text without its NUL'],
  ['a third name', OPCODES.RENAME, zeros(8) + nul('a') + nul('b') + nul('c'), 'more data than it says'],
  [
    'unknown flags of a rename',
    OPCODES.RENAME2,
    `${zeros(8)} 08000000 00000000 ${nul('a')} ${nul('b')}`,
    'unknown flags of a rename',
  ],
  ['a link without a target', OPCODES.SYMLINK, nul('a'), 'a text without its NUL'],
  ['a write of more than there is', OPCODES.WRITE, `${zeros(16)} 02000000 ${zeros(20)} 41`, 'less data than it says'],
  ['a write of 4 GiB', OPCODES.WRITE, `${zeros(16)} ffffffff ${zeros(20)} 41`, 'less data than it says'],
  ['a write of less than there is', OPCODES.WRITE, `${zeros(16)} 01000000 ${zeros(20)} 4142`, 'more data than it says'],
  [
    'an attribute longer than there is',
    OPCODES.SETXATTR,
    `02000000 00000000 ${nul('user.a')} 41`,
    'less data than it says',
  ],
  [
    'more forgotten nodes than there are',
    OPCODES.BATCH_FORGET,
    `02000000 00000000 ${zeros(16)}`,
    'less data than it says',
  ],
  ['4 billion forgotten nodes', OPCODES.BATCH_FORGET, `ffffffff 00000000 ${zeros(16)}`, 'less data than it says'],
  [
    'fewer forgotten nodes than there are',
    OPCODES.BATCH_FORGET,
    `00000000 00000000 ${zeros(16)}`,
    'more data than it says',
  ],
  ['a handle nobody gave out', OPCODES.READ, `0000000000002000 ${zeros(32)}`, 'an id that was never given out'],
  [
    'a second of nanoseconds',
    OPCODES.SETATTR,
    `10000000 ${zeros(52)} 00ca9a3b ${zeros(28)}`,
    'nanoseconds of a second or more',
  ],
  ['a fourth type of lock', OPCODES.SETLK, `${zeros(32)} 03000000 ${zeros(12)}`, 'an unknown type of lock'],
  [
    'a lock that ends before it starts',
    OPCODES.SETLK,
    `${zeros(16)} 02${zeros(7)} 01${zeros(7)} ${zeros(16)}`,
    'a lock that ends before it starts',
  ],
  ['a seek from the end', OPCODES.LSEEK, `${zeros(16)} 02000000 00000000`, 'a seek for neither data nor hole'],
]

it.each(LIES)('refuses %s', (_what, opcode, body, reason) => {
  expect(decode(request(opcode, body))).toMatchObject({ operation: 'MALFORMED', reason, header: { opcode, unique: 2 } })
})

it('refuses a length that is not what was read, longer or shorter', () => {
  for (const lie of [0, 39, 43, 45, 0xffffffff]) {
    const message = request(OPCODES.LOOKUP, nul('abc'))
    message.writeUInt32LE(lie, 0)
    expect(decode(message)).toMatchObject({ operation: 'MALFORMED', reason: 'not as long as it says' })
  }
})

it('refuses extensions longer than the request', () => {
  const message = request(OPCODES.LOOKUP, nul('abc'))
  message.writeUInt16LE(1, 36)
  expect(decode(message)).toMatchObject({ operation: 'MALFORMED', reason: 'longer extensions than request' })
})

it('has nobody to answer when the header is cut short or its ids are not ids', () => {
  for (let length = 0; length < 40; length++) {
    expect(decode(Buffer.alloc(length))).toMatchObject({ operation: 'MALFORMED', header: undefined })
  }
  for (const at of [8, 16]) {
    const message = request(OPCODES.STATFS, '')
    message.fill(0xff, at, at + 8)
    expect(decode(message)).toMatchObject({ operation: 'MALFORMED', header: undefined })
  }
})

it('does not read the next request of the memory as the end of this one', () => {
  const memory = Buffer.concat([request(OPCODES.LOOKUP, '616263'), request(OPCODES.LOOKUP, nul('next'))])
  expect(new RequestDecoder(memory).decode(0, 43)).toMatchObject({ operation: 'MALFORMED' })
  expect(new RequestDecoder(memory).decode(43, 45)).toMatchObject({ operation: 'LOOKUP', name: 'next' })
})

it('asserts that the caller stays within its own memory', () => {
  expect(() => new RequestDecoder(Buffer.alloc(40)).decode(1, 40)).toThrow(AssertionFailed)
})

it('decodes whatever bytes there are to a request, unknown or malformed, and throws for none', () => {
  const opcodes = fc.oneof(fc.constantFrom(...Object.values(OPCODES)), fc.nat(0xffffffff))
  const bodies = fc.oneof(
    fc.uint8Array({ maxLength: 200, size: 'max' }),
    // Mostly zeros and small numbers: these get further.
    fc
      .array(fc.constantFrom(0, 0, 0, 0, 1, 2, 0x41, 0xff), { maxLength: 120, size: 'max' })
      .map((bytes) => Uint8Array.from(bytes)),
  )
  const seen = new Set<string>()
  fc.assert(
    fc.property(opcodes, bodies, fc.boolean(), (opcode, body, isLying) => {
      const message = request(opcode, Buffer.from(body).toString('hex'))
      if (isLying) message.writeUInt16LE(opcode & 7, 36)
      const decoded = decode(message)
      seen.add(decoded.operation)
      if (decoded.operation === 'WRITE') expect(decoded.data.length).toBeLessThanOrEqual(body.length - 40)
      if ('name' in decoded) expect(decoded.name).not.toContain('\0')
    }),
    { numRuns: 5000 },
  )
  expect(seen.size).toBeGreaterThan(25)
  expect(seen).toContain('MALFORMED')
})

it('decodes whatever bytes there are in place of the header too', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 160 }), (bytes) => {
      if (bytes.length >= 4) new DataView(bytes.buffer).setUint32(0, bytes.length, true)
      expect(typeof decode(bytes).operation).toBe('string')
    }),
    { numRuns: 2000 },
  )
})
