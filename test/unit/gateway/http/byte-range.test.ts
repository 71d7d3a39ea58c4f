import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseByteRange, parseByteRanges, type ByteRange } from '../../../../src/gateway/http/byte-range.ts'

function ranges(header: string, size: number): unknown {
  const parsed = parseByteRanges(header, { size, rangesMax: 4 })
  return Array.isArray(parsed) ? (parsed as ByteRange[]).map(({ offset, length }) => [offset, length]) : parsed
}

describe('parseByteRanges', () => {
  it.each([
    [
      'bytes=0-9,20-29',
      [
        [0, 10],
        [20, 10],
      ],
    ],
    [
      'bytes=20-29, 0-9',
      [
        [20, 10],
        [0, 10],
      ],
    ],
    [
      'bytes=0-0,-1',
      [
        [0, 1],
        [99, 1],
      ],
    ],
    [
      'bytes=90-,0-4',
      [
        [90, 10],
        [0, 5],
      ],
    ],
    ['bytes=0-9,200-300', [[0, 10]]],
  ])('%s of 100 bytes, in the order asked for', (header, expected) => expect(ranges(header, 100)).toEqual(expected))

  it.each([
    ['bytes=0-9,10-19', [[0, 20]]],
    ['bytes=0-9,5-30', [[0, 31]]],
    ['bytes=40-49,0-9,5-45', [[0, 50]]],
    [
      'bytes=50-59,0-9,8-12',
      [
        [50, 10],
        [0, 13],
      ],
    ],
    ['bytes=0-99,10-19,30-39', [[0, 100]]],
  ])('%s of 100 bytes: what overlaps or touches is made one', (header, expected) =>
    expect(ranges(header, 100)).toEqual(expected),
  )

  it.each(['bytes=0-1,x', 'bytes=0-1,', 'bytes=5-4,0-1', 'lines=0-1,2-3', 'bytes', ''])('ignores %j', (header) =>
    expect(ranges(header, 100)).toBeUndefined(),
  )

  it('tells what lies outside, and what is too much', () => {
    expect(ranges('bytes=100-,200-300', 100)).toBe('unsatisfiable')
    expect(ranges('bytes=0-', 0)).toBe('unsatisfiable')
    expect(ranges('bytes=0-0,2-2,4-4,6-6', 100)).toHaveLength(4)
    expect(ranges('bytes=0-0,2-2,4-4,6-6,8-8', 100)).toBe('too-many')
  })

  it('gives exactly the bytes asked for, each once', () => {
    const pairs = fc.array(fc.tuple(fc.nat(60), fc.nat(60)), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(pairs, fc.integer({ min: 1, max: 50 }), (given, size) => {
        const specs = given.map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
        const wanted = new Set<number>()
        for (const [first, last] of specs) for (let at = first; at <= last && at < size; at++) wanted.add(at)
        const header = `bytes=${specs.map(([first, last]) => `${first}-${last}`).join(',')}`
        const parsed = parseByteRanges(header, { size, rangesMax: 4 })
        const got: number[] = []
        if (Array.isArray(parsed)) {
          for (const { offset, length } of parsed as ByteRange[]) for (let i = 0; i < length; i++) got.push(offset + i)
        }
        expect(got.toSorted((a, b) => a - b)).toEqual([...wanted].toSorted((a, b) => a - b))
      }),
    )
  })
})

describe('parseByteRange', () => {
  it('takes one range only', () => {
    expect(parseByteRange('bytes=2-5', 10)).toEqual({ offset: 2, length: 4 })
    expect(parseByteRange('bytes=2-5,7-8', 10)).toBeUndefined()
    expect(parseByteRange('bytes=10-', 10)).toBe('unsatisfiable')
  })
})
