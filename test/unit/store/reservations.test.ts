import { beforeEach, expect, test } from 'vitest'
import { Reservations } from '../../../src/store/reservations.ts'
import { Scheduler } from '../../sim/scheduler.ts'

let scheduler: Scheduler
let reservations: Reservations

beforeEach(() => {
  scheduler = new Scheduler()
  reservations = new Reservations({ slotsMax: 10, waitMsMax: 100, clock: scheduler.clock })
})

test('C19: first come, first served: a small request does not overtake a large one', async () => {
  const release = await reservations.reserve(8)
  const order: string[] = []
  const large = reservations.reserve(9).then((free) => (order.push('large'), free))
  const small = reservations.reserve(1).then((free) => (order.push('small'), free))
  await new Promise((resolve) => setImmediate(resolve))
  expect([order, reservations.taken]).toEqual([[], 8])
  release()
  release()
  const [freeLarge, freeSmall] = await Promise.all([large, small])
  expect([order, reservations.taken]).toEqual([['large', 'small'], 10])
  freeLarge()
  freeSmall()
  expect(reservations.taken).toBe(0)
})

test('C19: who waits too long is told SlowDown, and those behind move up', async () => {
  const release = await reservations.reserve(5)
  const large = expect(reservations.reserve(10)).rejects.toMatchObject({ code: 'SlowDown' })
  const small = reservations.reserve(5)
  await scheduler.until(small, 'the small one')
  await large
  expect([scheduler.nowMs, reservations.taken]).toEqual([100, 10])
  release()
  expect(reservations.taken).toBe(5)
})

test('a request for more than there is counts as all there is', async () => {
  const release = await reservations.reserve(1000)
  expect(reservations.taken).toBe(10)
  release()
  expect(reservations.taken).toBe(0)
})
