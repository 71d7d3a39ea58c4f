import { expect, test } from 'vitest'
import { AssertionFailed } from '../../../src/common/assert.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'

test('every slot is lent once, and again when it was given back', () => {
  const slab = new Slab({ bytes: 1000, slotBytes: 256 })
  expect([slab.slots, slab.freeSlots]).toEqual([3, 3])
  const taken = [slab.take(), slab.take(), slab.take()]
  expect(new Set(taken)).toEqual(new Set([0, 256, 512]))
  expect(slab.take()).toBeUndefined()
  slab.give(256)
  expect([slab.take(), slab.freeSlots]).toEqual([256, 0])
})

test('a slot that is given back twice, or never was taken, is a bug', () => {
  const slab = new Slab({ bytes: 512, slotBytes: 256 })
  const slot = slab.take() as number
  slab.give(slot)
  expect(() => slab.give(slot)).toThrow(AssertionFailed)
  expect(() => slab.give(256)).toThrow(AssertionFailed)
  expect(() => slab.give(1)).toThrow(AssertionFailed)
})

test('a view never reaches across a slot', () => {
  const slab = new Slab({ bytes: 512, slotBytes: 256 })
  expect(slab.view(256, 256).length).toBe(256)
  expect(() => slab.view(200, 57)).toThrow(AssertionFailed)
  expect(() => slab.view(512, 1)).toThrow(AssertionFailed)
})

test('what is given back is scribbled over when asked, so that a late reader is caught', () => {
  const slab = new Slab({ bytes: 256, slotBytes: 256, poison: true })
  const slot = slab.take() as number
  slab.view(slot, 256).fill(1)
  const late = slab.view(slot, 256)
  slab.give(slot)
  expect(late.every((byte) => byte === 0xa5)).toBe(true)
})
