/** Which segment is next: fairness, age, urgency (T4). */
import { expect, test } from 'vitest'
import { segmentNumber } from '../fixtures.ts'
import { newFlusher, turns } from './flusher-fixture.ts'

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

/** The first upload is held until all are added, so that the order of the rest is the queue's. */
async function orderOf(fixture: ReturnType<typeof newFlusher>, addAll: () => void): Promise<number[]> {
  fixture.remote.hold = true
  fixture.add([9999])
  await turns()
  addAll()
  fixture.remote.hold = false
  await fixture.remote.letGo(9999)
  await fixture.flusher.drain()
  return fixture.remote.arrived.slice(1)
}

test('a bucket with a thousand segments does not hold up the one of another', async () => {
  const fixture = newFlusher()
  const order = await orderOf(fixture, () => {
    fixture.add(range(1, 1000), { bucket: 'large' })
    fixture.add([2001], { bucket: 'small' })
    fixture.add([3001, 3002])
  })
  expect(order.length).toBe(1003)
  for (const number of [2001, 3001]) expect(order.indexOf(number)).toBeLessThan(4)
  expect(order.indexOf(3002)).toBeLessThan(6)
  expect(order.filter((number) => number <= 1000)).toEqual(range(1, 1000))
})

test('turns go by bytes: of two busy buckets each gets as much, whatever the size of its segments', async () => {
  const fixture = newFlusher()
  const order = await orderOf(fixture, () => {
    fixture.add(range(1, 10), { bucket: 'large', bytes: 8000 })
    fixture.add(range(101, 200), { bucket: 'small', bytes: 1000 })
  })
  const bytesOf = (numbers: number[]): number => numbers.reduce((sum, number) => sum + (number <= 10 ? 8000 : 1000), 0)
  for (let upTo = 1; upTo < 80; upTo++) {
    const carried = order.slice(0, upTo)
    const large = bytesOf(carried.filter((number) => number <= 10))
    expect(Math.abs(large - (bytesOf(carried) - large))).toBeLessThanOrEqual(8000)
  }
})

test('who was idle saves up no claim, and who was served much is remembered', async () => {
  const fixture = newFlusher()
  const { remote, add, flusher } = fixture
  add(range(1, 50), { bucket: 'busy' })
  await flusher.drain()
  remote.arrived.splice(0)
  const order = await orderOf(fixture, () => {
    add(range(101, 110), { bucket: 'busy' })
    add(range(201, 210), { bucket: 'idle' })
  })
  const firstTen = order.slice(0, 10).filter((number) => number > 200).length
  expect([5, 6]).toContain(firstTen)
})

test('past the age limit the oldest goes first, whosever turn it is', async () => {
  const fixture = newFlusher({ ageMsMax: 60_000 })
  const order = await orderOf(fixture, () => {
    fixture.add([1, 2], { bucket: 'a' })
    fixture.add([3], { bucket: 'b', ageMs: 60_000 })
    fixture.add([4], { bucket: 'c', ageMs: 90_000 })
    fixture.add([5], { bucket: 'c', ageMs: 59_000 })
  })
  expect(order.slice(0, 2)).toEqual([4, 3])
})

test('C17: who waits for the remote store brings his own segment forward, and waits for that alone', async () => {
  const fixture = newFlusher({ ageMsMax: 1000 })
  const { flusher, remote, add } = fixture
  remote.hold = true
  add([9999])
  await turns()
  add(range(1, 5), { ageMs: 5000 })
  const waiting = flusher.persisted(segmentNumber(3))
  await turns()
  expect(remote.begun).toEqual([9999, 3])
  await remote.letGo(3)
  await waiting
  expect(remote.arrived).toEqual([3])
  await flusher.stop()
})

test('within a bucket the oldest goes first, also when it was added last', async () => {
  const fixture = newFlusher()
  const order = await orderOf(fixture, () => {
    fixture.add([1], { ageMs: 10 })
    fixture.add([2], { ageMs: 30 })
    fixture.add([3], { ageMs: 20 })
  })
  expect(order).toEqual([2, 3, 1])
})
