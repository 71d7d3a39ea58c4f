/** Ranges of a stretch: never two at one place, and all of it again in the end. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ranges } from '../../../../src/rdma/fabric/ranges.ts'

describe('ranges', () => {
  it('lie apart, and join again', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -20, max: 3000 }), { maxLength: 200 }), (steps) => {
        const ranges = new Ranges(8192)
        const out = new Map<number, number>()
        for (const step of steps) {
          if (step <= 0) {
            const some = [...out.keys()][-step % Math.max(1, out.size)]
            if (some === undefined) continue
            ranges.give(some)
            out.delete(some)
            continue
          }
          const from = ranges.take(step)
          if (from === undefined) continue
          expect(from + step).toBeLessThanOrEqual(8192)
          for (const [other, bytes] of out) expect(from + step <= other || other + bytes <= from).toBe(true)
          out.set(from, step)
        }
        expect(ranges.rangesOut).toBe(out.size)
        for (const from of out.keys()) ranges.give(from)
        expect(ranges.take(8192)).toBe(0)
      }),
    )
  })

  it('take no more than there is, and are given back once', () => {
    const ranges = new Ranges(128)
    expect([ranges.take(65), ranges.take(1)]).toEqual([0, undefined])
    ranges.give(0)
    expect(() => ranges.give(0)).toThrow('once')
    expect([ranges.take(1), ranges.take(64), ranges.take(1)]).toEqual([0, 64, undefined])
  })
})
