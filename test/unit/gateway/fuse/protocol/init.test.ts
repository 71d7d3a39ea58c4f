import { expect, it } from 'vitest'
import {
  FUSE_WRITE_BYTES_MAX,
  initFlagBits,
  negotiateInit,
  type InitOptions,
} from '../../../../../src/gateway/fuse/protocol/init.ts'
import type { InitRequest } from '../../../../../src/gateway/fuse/protocol/requests.ts'

const OPTIONS: InitOptions = {
  writebackCache: false,
  writeBytesMax: FUSE_WRITE_BYTES_MAX,
  readaheadBytesMax: 4 * 1024 * 1024,
}

function init(parts: Partial<InitRequest> = {}): InitRequest {
  return {
    operation: 'INIT',
    header: { opcode: 26, unique: 2, nodeId: 0, uid: 0, gid: 0, pid: 0 },
    majorVersion: 7,
    minorVersion: 45,
    maxReadaheadBytes: 131_072,
    flags: 0xffffffff,
    flagsHigh: 0xffffffff,
    ...parts,
  }
}

/** Of a kernel that offers everything: these and no others are taken, bit by bit as in the header. */
const TAKEN =
  (1 << 0) | // ASYNC_READ
  (1 << 1) | // POSIX_LOCKS
  (1 << 3) | // ATOMIC_O_TRUNC
  (1 << 5) | // BIG_WRITES
  (1 << 10) | // FLOCK_LOCKS
  (1 << 13) | // DO_READDIRPLUS
  (1 << 14) | // READDIRPLUS_AUTO
  (1 << 15) | // ASYNC_DIO
  (1 << 18) | // PARALLEL_DIROPS
  (1 << 22) | // MAX_PAGES
  (1 << 23) | // CACHE_SYMLINKS
  (1 << 28) | // HANDLE_KILLPRIV_V2
  (1 << 30) // INIT_EXT

it('takes what is wanted of a kernel that offers everything', () => {
  const outcome = negotiateInit(init(), OPTIONS)
  expect(outcome).toMatchObject({
    kind: 'accepted',
    minorVersion: 41,
    maxReadaheadBytes: 131_072,
    maxWriteBytes: 1_048_576,
    maxPages: 256,
    maxBackground: 64,
    congestionThreshold: 48,
    timeGranularityNs: 1,
  })
  expect(outcome.kind === 'accepted' && initFlagBits(outcome.flags)).toEqual({ flags: TAKEN, flagsHigh: 0 })
})

it('takes the writeback cache by option, if it is offered', () => {
  const writeback = { ...OPTIONS, writebackCache: true }
  const offered = negotiateInit(init(), writeback)
  expect(offered.kind === 'accepted' && initFlagBits(offered.flags).flags).toBe(TAKEN | (1 << 16))
  const absent = negotiateInit(init({ flags: 0xffffffff & ~(1 << 16) }), writeback)
  expect(absent.kind === 'accepted' && initFlagBits(absent.flags).flags).toBe(TAKEN)
})

it('takes nothing that is not offered, and smaller requests without MAX_PAGES', () => {
  const outcome = negotiateInit(init({ minorVersion: 27, flags: 1 << 5, flagsHigh: 0 }), OPTIONS)
  expect(outcome).toMatchObject({
    kind: 'accepted',
    minorVersion: 27,
    flags: new Set(['BIG_WRITES']),
    maxWriteBytes: 131_072,
    maxPages: 32,
  })
})

it('reads ahead no further than either side wants', () => {
  expect(negotiateInit(init(), { ...OPTIONS, readaheadBytesMax: 65_536 })).toMatchObject({ maxReadaheadBytes: 65_536 })
})

it('settles the version: later majors ask again, old ones are refused in words', () => {
  expect(negotiateInit(init({ majorVersion: 8, minorVersion: 0 }), OPTIONS)).toEqual({ kind: 'other-major' })
  expect(negotiateInit(init({ minorVersion: 23 }), OPTIONS)).toMatchObject({ kind: 'accepted', minorVersion: 23 })
  expect(negotiateInit(init({ minorVersion: 22 }), OPTIONS)).toEqual({
    kind: 'refused',
    reason: 'the kernel speaks FUSE 7.22, older than 7.23',
  })
  expect(negotiateInit(init({ majorVersion: 6 }), OPTIONS)).toMatchObject({ kind: 'refused' })
})
