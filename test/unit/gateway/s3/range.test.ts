import { describe, expect, it } from 'vitest'
import { S3Error } from '../../../../src/gateway/s3/errors.ts'
import { parseCopyRange, parsePartNumber, parseRange } from '../../../../src/gateway/s3/range.ts'

describe('parseRange', () => {
  it.each([
    ['bytes=0-0', 10, { offset: 0, length: 1 }],
    ['bytes=4-7', 10, { offset: 4, length: 4 }],
    ['bytes=4-', 10, { offset: 4, length: 6 }],
    ['bytes=4-99', 10, { offset: 4, length: 6 }],
    ['bytes=-3', 10, { offset: 7, length: 3 }],
    ['bytes=-99', 10, { offset: 0, length: 10 }],
    ['Bytes = 1-2', 10, { offset: 1, length: 2 }],
  ])('%s of %i bytes', (header, size, range) => expect(parseRange(header, size)).toEqual(range))

  it.each(['bytes=0-1,3-4', 'bytes=5-4', 'bytes=-', 'bytes=a-b', 'lines=0-1', '0-1', 'bytes=0-1x', ''])(
    'ignores %j, as AWS does',
    (header) => expect(parseRange(header, 10)).toBeUndefined(),
  )

  it.each([
    ['bytes=10-', 10],
    ['bytes=40-50', 10],
    ['bytes=-0', 10],
    ['bytes=0-', 0],
    ['bytes=-1', 0],
  ])('%s of %i bytes is InvalidRange', (header, size) => {
    expect(() => parseRange(header, size)).toThrow(
      expect.objectContaining({ code: 'InvalidRange', details: { RangeRequested: header, ActualObjectSize: size } }),
    )
  })
})

describe('parseCopyRange', () => {
  it('takes first-last only', () => {
    expect(parseCopyRange(undefined)).toBeUndefined()
    expect(parseCopyRange('bytes=2-5')).toEqual({ offset: 2, length: 4 })
  })

  it.each([
    '0-2',
    'bytes=0',
    'bytes=hello-world',
    'bytes=0-bar',
    'bytes=hello-',
    'bytes=0-2,3-5',
    'bytes=5-2',
    'bytes=-5',
  ])('refuses %s', (header) =>
    expect(() => parseCopyRange(header)).toThrow(expect.objectContaining({ code: 'InvalidArgument' })),
  )
})

describe('parsePartNumber', () => {
  it('is 1 to partsMax', () => {
    expect(parsePartNumber('10000', 10_000)).toBe(10_000)
    for (const text of [undefined, '', '0', '10001', '-1', '1.5', 'x']) {
      expect(() => parsePartNumber(text, 10_000)).toThrow(S3Error)
    }
  })
})
