import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { TimedPins } from '../../../src/cache-tier/timed-pins.ts'

test('a block is held until the last of its holders has ended', () => {
  const pins = new TimedPins<string>()
  pins.set('a', 1, 100)
  pins.set('a', 2, 300)
  pins.set('b', 1, 200)
  expect(pins.takeEnded(99, 'when due')).toEqual([])
  expect(pins.takeEnded(100, 'when due')).toEqual([])
  expect([pins.end('a', 1), pins.end('a', 2), pins.size]).toEqual([undefined, 300, 2])
  expect(pins.takeEnded(200, 'when due')).toEqual(['b'])
  expect(pins.takeEnded(300, 'now')).toEqual(['a'])
  expect(pins.size).toBe(0)
})

test('many short pins do not make every look a sweep', () => {
  const pins = new TimedPins<number>()
  pins.set(0, 0, 1000)
  expect(pins.takeEnded(1000, 'when due')).toEqual([0])
  pins.set(1, 0, 1001)
  expect(pins.takeEnded(1050, 'when due')).toEqual([])
  expect(pins.takeEnded(1100, 'when due')).toEqual([1])
})

test('whatever is set, unset and forgotten, exactly those stay whose end has not come', () => {
  const steps = fc.array(
    fc.record({
      kind: fc.constantFrom('set', 'unset', 'forget', 'sweep'),
      key: fc.nat(4),
      holder: fc.nat(2),
      at: fc.nat(50),
    }),
    { maxLength: 100 },
  )
  fc.assert(
    fc.property(steps, (history) => {
      const pins = new TimedPins<number>()
      const model = new Map<string, number>()
      const held = (key: number): boolean => [...model.keys()].some((name) => name.startsWith(`${key}/`))
      let nowMs = 0
      for (const { kind, key, holder, at } of history) {
        const name = `${key}/${holder}`
        if (kind === 'set') {
          pins.set(key, holder, nowMs + at + 1)
          model.set(name, nowMs + at + 1)
        } else if (kind === 'unset') {
          const last = model.delete(name) && !held(key)
          expect(pins.unset(key, holder)).toBe(last)
        } else if (kind === 'forget') {
          pins.forget(key)
          for (const each of model.keys()) if (each.startsWith(`${key}/`)) model.delete(each)
        } else {
          nowMs += at
          const before = [0, 1, 2, 3, 4].filter(held)
          for (const [each, end] of model) if (end <= nowMs) model.delete(each)
          const released = before.filter((each) => !held(each))
          expect(new Set(pins.takeEnded(nowMs, 'now'))).toEqual(new Set(released))
        }
        expect(pins.size).toBe([0, 1, 2, 3, 4].filter(held).length)
        for (const each of [0, 1, 2, 3, 4]) expect(pins.has(each)).toBe(held(each))
      }
    }),
  )
})
