import { constants } from 'node:os'
import { expect, it } from 'vitest'
import { ERROR_CODES, TidegateError } from '../../../../../src/common/errors.ts'
import { ERRNO, FuseError, errnoNameOf, errnoOf } from '../../../../../src/gateway/fuse/protocol/errno.ts'

it('has the numbers of this platform', () => {
  const known = Object.entries(ERRNO).filter(([name]) => name in constants.errno)
  expect(known.length).toBeGreaterThan(35)
  const platform = constants.errno as Readonly<Record<string, number>>
  expect(known.filter(([name, number]) => platform[name] !== number)).toEqual([])
})

it('never answers ENOSYS for an error of operation, which the kernel would remember for good', () => {
  expect(ERROR_CODES.filter((code) => errnoNameOf(code) === 'ENOSYS')).toEqual([])
})

it.each([
  ['NoSuchKey', 'ENOENT'],
  ['StorageFull', 'ENOSPC'],
  ['SlowDown', 'EAGAIN'],
  ['AccessDenied', 'EACCES'],
  ['CrossBucket', 'EXDEV'],
  ['BucketNotEmpty', 'ENOTEMPTY'],
  ['KeyTooLong', 'ENAMETOOLONG'],
  ['InvalidKey', 'EILSEQ'],
  ['DataLost', 'EIO'],
  ['NotADirectory', 'ENOTDIR'],
  ['IsADirectory', 'EISDIR'],
  ['FileExists', 'EEXIST'],
] as const)('makes %s %s (C19, C26)', (code, name) => {
  expect(errnoOf(new TidegateError(code, 'x'))).toBe(ERRNO[name])
})

it('makes its own errors what they say, and knows no number for a bug', () => {
  expect(errnoOf(new FuseError('ENOTTY'))).toBe(25)
  expect(errnoOf(new TypeError('x'))).toBeUndefined()
  expect(errnoOf(undefined)).toBeUndefined()
})
