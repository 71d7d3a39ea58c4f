import { expect, test } from 'vitest'
import { ReadAhead } from '../../../../src/store/files/read-ahead.ts'

const KIB = 1024
const MAX = 8 * KIB * KIB

function readInOrder(ahead: ReadAhead, from: number, reads: number): { from: number; to: number }[] {
  const windows: { from: number; to: number }[] = []
  for (let at = 0; at < reads; at++) {
    const window = ahead.next(from + at * 128 * KIB, 128 * KIB, MAX)
    if (window) windows.push(window)
  }
  return windows
}

test('windows grow for who reads in order, follow each other, and come in long runs once they are large', () => {
  const windows = readInOrder(new ReadAhead(), 0, 512)
  expect(windows.length).toBeLessThan(30)
  for (const [index, window] of windows.entries()) {
    if (index > 0) expect(window.from).toBe(windows[index - 1]?.to)
  }
  expect(windows[0]?.from).toBe(128 * KIB)
  expect((windows.at(-1)?.to ?? 0) - (windows.at(-1)?.from ?? 0)).toBeGreaterThanOrEqual(MAX / 2)
})

test('there is none for who jumps; who goes on from there begins small again', () => {
  const ahead = new ReadAhead()
  readInOrder(ahead, 0, 64)
  for (const at of [900, 300, 700]) expect(ahead.next(at * KIB * KIB, 4 * KIB, MAX)).toBeUndefined()
  const [first] = readInOrder(ahead, 700 * KIB * KIB + 4 * KIB, 1)
  expect((first?.to ?? 0) - (first?.from ?? 0)).toBeLessThanOrEqual(512 * KIB)
})

test('parts of the kernel’s own read-ahead that come out of order count as in order', () => {
  const ahead = new ReadAhead()
  readInOrder(ahead, 0, 16)
  const end = 16 * 128 * KIB
  expect(ahead.next(end + 128 * KIB, 128 * KIB, MAX)).toBeUndefined()
  ahead.next(end, 128 * KIB, MAX)
  expect(readInOrder(ahead, end + 256 * KIB, 64).length).toBeGreaterThan(0)
})
