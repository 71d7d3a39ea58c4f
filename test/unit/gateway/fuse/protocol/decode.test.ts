import { expect, it } from 'vitest'
import { RequestDecoder } from '../../../../../src/gateway/fuse/protocol/decode.ts'
import { OPCODES, expectsReply, operationNameOf } from '../../../../../src/gateway/fuse/protocol/opcodes.ts'
import { FILE_OFFSET_MAX } from '../../../../../src/gateway/fuse/protocol/wire.ts'
import { decode, nul, request, zeros } from './messages.ts'

const header = (opcode: number): object => ({ opcode, unique: 2, nodeId: 5, uid: 1000, gid: 100, pid: 7 })

/** Body by hand, and the record it must become (without `header`, which is the same for all). */
const BODIES: readonly (readonly [opcode: number, body: string, record: Readonly<Record<string, unknown>>])[] = [
  [1, nul('name'), { operation: 'LOOKUP', name: 'name' }],
  [1, nul('\xc3\xa9\xff'), { operation: 'LOOKUP', name: '\xc3\xa9\xff' }],
  [2, '0300000000000000', { operation: 'FORGET', nodeId: 5, lookupCount: 3 }],
  [3, `00000000 00000000 0900000000000000`, { operation: 'GETATTR', handle: undefined }],
  [3, `01000000 00000000 0900000000000000`, { operation: 'GETATTR', handle: 9 }],
  [5, '', { operation: 'READLINK' }],
  [6, nul('link') + nul('../a/b'), { operation: 'SYMLINK', name: 'link', target: '../a/b' }],
  [
    8,
    `a4210000 01080000 12000000 00000000 ${nul('tty')}`,
    { operation: 'MKNOD', mode: 0o20644, device: 0x801, umask: 0o22, name: 'tty' },
  ],
  [9, `ed010000 12000000 ${nul('d')}`, { operation: 'MKDIR', mode: 0o755, umask: 0o22, name: 'd' }],
  [10, nul('f'), { operation: 'UNLINK', name: 'f' }],
  [11, nul('d'), { operation: 'RMDIR', name: 'd' }],
  [
    12,
    `0600000000000000 ${nul('a')} ${nul('bc')}`,
    {
      operation: 'RENAME',
      newParent: 6,
      name: 'a',
      newName: 'bc',
      noReplace: false,
      exchange: false,
      whiteout: false,
    },
  ],
  [
    45,
    `0600000000000000 01000000 00000000 ${nul('a')} ${nul('bc')}`,
    {
      operation: 'RENAME2',
      newParent: 6,
      name: 'a',
      newName: 'bc',
      noReplace: true,
      exchange: false,
      whiteout: false,
    },
  ],
  [
    45,
    `0600000000000000 06000000 00000000 ${nul('a')} ${nul('b')}`,
    { operation: 'RENAME2', newParent: 6, name: 'a', newName: 'b', noReplace: false, exchange: true, whiteout: true },
  ],
  [13, `0800000000000000 ${nul('l')}`, { operation: 'LINK', target: 8, name: 'l' }],
  [14, `02800000 01000000`, { operation: 'OPEN', flags: 0x8002, killSuidGid: true }],
  [
    15,
    `0900000000000000 0000000001000000 00001000 00000000 ${zeros(8)} 02800000 00000000`,
    { operation: 'READ', handle: 9, offset: 2 ** 32, sizeBytes: 1_048_576, flags: 0x8002 },
  ],
  [
    16,
    `0900000000000000 0500000000000000 03000000 05000000 ${zeros(8)} 01000000 00000000 616263`,
    {
      operation: 'WRITE',
      handle: 9,
      offset: 5,
      flags: 1,
      fromPageCache: true,
      killSuidGid: true,
      data: Buffer.from('abc'),
    },
  ],
  [17, '', { operation: 'STATFS' }],
  [
    18,
    `0900000000000000 01000000 02000000 ffeeddccbbaa9988`,
    { operation: 'RELEASE', handle: 9, flags: 1, lockOwner: 0x8899aabbccddeeffn, flush: false, flockUnlock: true },
  ],
  [20, `0900000000000000 01000000 00000000`, { operation: 'FSYNC', handle: 9, dataOnly: true }],
  [
    21,
    `02000000 01000000 ${nul('user.a/b')} 0042`,
    { operation: 'SETXATTR', name: 'user.a/b', create: true, replace: false, value: Buffer.from([0, 0x42]) },
  ],
  [22, `00010000 00000000 ${nul('user.a')}`, { operation: 'GETXATTR', sizeBytes: 256, name: 'user.a' }],
  [23, `00010000 00000000`, { operation: 'LISTXATTR', sizeBytes: 256 }],
  [24, nul('user.a'), { operation: 'REMOVEXATTR', name: 'user.a' }],
  [
    25,
    `0900000000000000 00000000 00000000 ffeeddccbbaa9988`,
    { operation: 'FLUSH', handle: 9, lockOwner: 0x8899aabbccddeeffn },
  ],
  [
    26,
    `07000000 2d000000 00000200 fbfff773 01000000 ${zeros(44)}`,
    {
      operation: 'INIT',
      majorVersion: 7,
      minorVersion: 45,
      maxReadaheadBytes: 131_072,
      flags: 0x73f7fffb,
      flagsHigh: 1,
    },
  ],
  [
    26,
    `07000000 1f000000 00000200 fbfff713`,
    {
      operation: 'INIT',
      majorVersion: 7,
      minorVersion: 31,
      maxReadaheadBytes: 131_072,
      flags: 0x13f7fffb,
      flagsHigh: 0,
    },
  ],
  [27, `00880100 00000000`, { operation: 'OPENDIR', flags: 0x18800, killSuidGid: false }],
  [
    28,
    `0900000000000000 0700000000000000 00100000 ${zeros(20)}`,
    { operation: 'READDIR', handle: 9, offset: 7, sizeBytes: 4096 },
  ],
  [
    44,
    `0900000000000000 0000000000000000 00100000 ${zeros(20)}`,
    { operation: 'READDIRPLUS', handle: 9, offset: 0, sizeBytes: 4096 },
  ],
  [
    29,
    `0900000000000000 00000000 01000000 ${zeros(8)}`,
    { operation: 'RELEASEDIR', handle: 9, flags: 0, lockOwner: 0n, flush: true, flockUnlock: false },
  ],
  [30, `0900000000000000 00000000 00000000`, { operation: 'FSYNCDIR', handle: 9, dataOnly: false }],
  [
    32,
    `0900000000000000 ffeeddccbbaa9988 0a00000000000000 ffffffffffffff7f 01000000 07000000 00000000 00000000`,
    {
      operation: 'SETLK',
      handle: 9,
      owner: 0x8899aabbccddeeffn,
      lock: { type: 'write', start: 10, end: FILE_OFFSET_MAX, pid: 7 },
      flock: false,
    },
  ],
  [
    33,
    `0900000000000000 0100000000000000 ${zeros(16)} 00000000 07000000 01000000 00000000`,
    { operation: 'SETLKW', handle: 9, owner: 1n, lock: { type: 'read', start: 0, end: 0, pid: 7 }, flock: true },
  ],
  [
    31,
    `0900000000000000 0100000000000000 ${zeros(16)} 02000000 07000000 00000000 00000000`,
    { operation: 'GETLK', handle: 9, owner: 1n, lock: { type: 'unlock', start: 0, end: 0, pid: 7 }, flock: false },
  ],
  [34, `04000000 00000000`, { operation: 'ACCESS', mask: 4 }],
  [
    35,
    `41820000 a4810000 12000000 00000000 ${nul('new')}`,
    { operation: 'CREATE', flags: 0x8241, mode: 0o100644, umask: 0o22, killSuidGid: false, name: 'new' },
  ],
  [36, `0400000000000000`, { operation: 'INTERRUPT', target: 4 }],
  [38, '', { operation: 'DESTROY' }],
  [39, `0900000000000000 00000000 01540000 ${zeros(16)} aabb`, { operation: 'IOCTL', handle: 9, command: 0x5401 }],
  [40, `0900000000000000 ${zeros(16)}`, { operation: 'POLL', handle: 9 }],
  [
    42,
    `02000000 00000000 0600000000000000 0100000000000000 0700000000000000 0200000000000000`,
    {
      operation: 'BATCH_FORGET',
      nodes: [
        { nodeId: 6, lookupCount: 1 },
        { nodeId: 7, lookupCount: 2 },
      ],
    },
  ],
  [
    43,
    `0900000000000000 0010000000000000 0020000000000000 03000000 00000000`,
    { operation: 'FALLOCATE', handle: 9, offset: 4096, lengthBytes: 8192, mode: 3 },
  ],
  [
    46,
    `0900000000000000 0010000000000000 04000000 00000000`,
    { operation: 'LSEEK', handle: 9, offset: 4096, whence: 'hole' },
  ],
  [
    47,
    `0900000000000000 0100000000000000 0600000000000000 0a00000000000000 0200000000000000 0000000001000000 ${zeros(8)}`,
    {
      operation: 'COPY_FILE_RANGE',
      handle: 9,
      offset: 1,
      targetNodeId: 6,
      targetHandle: 10,
      targetOffset: 2,
      lengthBytes: 0xfffff000,
      flags: 0,
    },
  ],
  [
    53,
    `0900000000000000 0100000000000000 0600000000000000 0a00000000000000 0200000000000000 0000000001000000 ${zeros(8)}`,
    {
      operation: 'COPY_FILE_RANGE_64',
      handle: 9,
      offset: 1,
      targetNodeId: 6,
      targetHandle: 10,
      targetOffset: 2,
      lengthBytes: 2 ** 32,
      flags: 0,
    },
  ],
  [50, zeros(8), { operation: 'SYNCFS' }],
  [
    51,
    `02804000 a4810000 12000000 00000000 ${nul('/')}`,
    { operation: 'TMPFILE', flags: 0x408002, mode: 0o100644, umask: 0o22, killSuidGid: false },
  ],
  [
    52,
    `00000000 00000000 ${zeros(8)} 00010000 ff0f0000`,
    { operation: 'STATX', handle: undefined, flags: 256, mask: 0xfff },
  ],
]

const SETATTR_BODY = (valid: string): string =>
  `${valid} 00000000 0900000000000000 3930000000000000 ffeeddccbbaa9988
   0000000001000000 feffffffffffffff 0300000000000000 01000000 02000000 03000000
   a4810000 00000000 f4010000 f5010000 00000000`

it.each(BODIES.map(([opcode, body, record]) => ({ name: operationNameOf(opcode), opcode, body, record })))(
  'decodes $name written out by hand',
  ({ opcode, body, record }) => {
    expect(decode(request(opcode, body))).toEqual({ header: header(opcode), ...record })
  },
)

it('has a message by hand for every operation of the table', () => {
  const tested = new Set([...BODIES.map(([opcode]) => opcode), OPCODES.SETATTR])
  expect(Object.values(OPCODES).filter((opcode) => !tested.has(opcode))).toEqual([])
})

it('decodes SETATTR by the bits that count, with nanoseconds and times before 1970', () => {
  const unset = {
    header: header(4),
    operation: 'SETATTR',
    mode: undefined,
    uid: undefined,
    gid: undefined,
    sizeBytes: undefined,
    atime: undefined,
    mtime: undefined,
    ctime: undefined,
    handle: undefined,
    lockOwner: undefined,
    killSuidGid: false,
  }
  expect(decode(request(4, SETATTR_BODY('00000000')))).toEqual(unset)
  expect(decode(request(4, SETATTR_BODY('7f0e0000')))).toEqual({
    ...unset,
    mode: 0o100644,
    uid: 500,
    gid: 501,
    sizeBytes: 12_345,
    atime: { seconds: 2 ** 32, nanoseconds: 1 },
    mtime: { seconds: -2, nanoseconds: 2 },
    ctime: { seconds: 3, nanoseconds: 3 },
    handle: 9,
    lockOwner: 0x8899aabbccddeeffn,
    killSuidGid: true,
  })
  // utimensat(2) with UTIME_NOW: both bits of each time.
  expect(decode(request(4, SETATTR_BODY('b0010000')))).toEqual({ ...unset, atime: 'now', mtime: 'now' })
})

it('gives data as a view of the slot, not a copy', () => {
  const message = request(16, `${zeros(16)} 01000000 ${zeros(20)} 41`)
  const decoded = new RequestDecoder(message).decode(0, message.length)
  message[80] = 0x42
  expect(decoded.operation === 'WRITE' && decoded.data[0]).toBe(0x42)
})

it('makes offsets over 2^53 - 1 one that is beyond every limit, up to 8 EiB and negative ones', () => {
  const offsets = ['ffffffffffff1f00', '0000000000002000', 'ffffffffffffff7f', 'ffffffffffffffff']
  for (const offset of offsets) {
    const read = decode(request(15, `${zeros(8)} ${offset} 00100000 ${zeros(20)}`))
    expect(read).toMatchObject({ operation: 'READ', offset: Number.MAX_SAFE_INTEGER })
  }
  const below = decode(request(15, `${zeros(8)} feffffffffff1f00 00100000 ${zeros(20)}`))
  expect(below).toMatchObject({ offset: Number.MAX_SAFE_INTEGER - 1 })
})

it('names operations that it does not have as unknown, with whom to answer', () => {
  for (const opcode of [0, 7, 37, 41, 48, 54, 4096, 436_207_616, 0xffffffff]) {
    expect(decode(request(opcode, zeros(24)))).toEqual({ operation: 'UNKNOWN', header: header(opcode) })
  }
  expect(operationNameOf(37)).toBe('UNKNOWN')
})

it('knows what the kernel waits for', () => {
  const silent = Object.entries(OPCODES).filter(([, opcode]) => !expectsReply(opcode))
  expect(silent.map(([name]) => name)).toEqual(['FORGET', 'INTERRUPT', 'BATCH_FORGET'])
})

it('leaves out the extensions at the end of a request', () => {
  const message = request(1, `${nul('abc')} ${zeros(16)}`)
  message.writeUInt16LE(2, 36)
  expect(decode(message)).toMatchObject({ operation: 'LOOKUP', name: 'abc' })
})

it('takes structs that a later minor version made longer', () => {
  expect(decode(request(34, `04000000 00000000 ${zeros(8)}`))).toMatchObject({ operation: 'ACCESS', mask: 4 })
})
