import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { StreamAhead } from '../../../src/store/stream-ahead.ts'

const OPTIONS = { blockBytes: 1, windowBytesMax: 16, stepBytesMax: 4 }

/** Reads block by block what was asked for in one go; returns the windows. */
function stream(ahead: StreamAhead, from: number, askedTo: number, size = 1000): string[] {
  const windows: string[] = []
  for (let offset = from; offset < askedTo; offset++) {
    const range = ahead.next({ offset, end: offset + 1, askedTo, size })
    if (!range) continue
    windows.push(`${offset}:${range.from}-${range.to}`)
    ahead.fetched(range.to)
  }
  return windows
}

test('windows double from one block to the most, filled up when half is read or a step', () => {
  expect(stream(new StreamAhead(OPTIONS), 0, 60)).toEqual([
    '0:1-2',
    '1:2-4',
    '2:4-7',
    '4:7-13',
    '8:13-25',
    '12:25-29',
    '16:29-33',
    '20:33-37',
    '24:37-41',
    '28:41-45',
    '32:45-49',
    '36:49-53',
    '40:53-57',
    '44:57-60',
  ])
})

test('a range in the middle is fetched to its end and not beyond; the next one starts anew', () => {
  const ahead = new StreamAhead(OPTIONS)
  expect(stream(ahead, 100, 104)).toEqual(['100:101-102', '101:102-104'])
  expect(stream(ahead, 500, 501)).toEqual([])
  expect(stream(ahead, 700, 703)).toEqual(['700:701-702', '701:702-703'])
})

test('who asks piece by piece in order is fetched ahead of, up to the end of the object', () => {
  const ahead = new StreamAhead(OPTIONS)
  const windows: (string | undefined)[] = []
  for (let offset = 40; offset < 50; offset++) {
    const range = ahead.next({ offset, end: offset + 1, askedTo: offset + 1, size: 50 })
    windows.push(range && `${range.from}-${range.to}`)
    if (range) ahead.fetched(range.to)
  }
  expect(windows.slice(0, 4)).toEqual([undefined, '42-43', '43-45', '45-48'])
  expect(windows.at(-1)).toBeUndefined()
})

test('however it reads, no byte is fetched ahead twice in order, none before what was read, and never more than a window', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 60 }), fc.nat({ max: 5 }), (lengths, room) => {
      const ahead = new StreamAhead(OPTIONS)
      let offset = 0
      let reached = 0
      for (const length of lengths) {
        const end = offset + length + 1
        const range = ahead.next({ offset, end, askedTo: 500, size: 500 })
        if (range) {
          expect(range.from).toBeGreaterThanOrEqual(Math.max(reached, end))
          expect(range.to - end).toBeLessThanOrEqual(OPTIONS.windowBytesMax)
          reached = Math.min(range.to, range.from + room)
          if (reached > range.from) ahead.fetched(reached)
        }
        offset = end
      }
    }),
  )
})
