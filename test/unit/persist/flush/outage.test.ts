/** A remote store that is away: not hammered, and used again within seconds when it is back (T4). */
import { expect, test } from 'vitest'
import type { ErrorCode } from '../../../../src/common/errors.ts'
import { newFlusher, turns, unavailable, type FlusherFixture } from './flusher-fixture.ts'

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

async function pass({ clock }: FlusherFixture, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 50) {
    await clock.advance(50)
    await turns(4)
  }
}

test.each(['Unavailable', 'AccessDenied', 'SlowDown'] as const)(
  'ten minutes of %s: a try every few seconds, then all of it within seconds',
  async (code: ErrorCode) => {
    const fixture = newFlusher({ concurrency: 4 })
    const { flusher, remote, clock, add } = fixture
    remote.answer = () => unavailable(code)
    add(range(1, 200))
    await turns()
    expect(flusher.status().awayMs).toBe(0)
    await pass(fixture, 10_000)
    remote.begun.splice(0)
    for (let minute = 0; minute < 10; minute++) {
      await pass(fixture, 6_000)
      await clock.advance(54_000)
      await turns(4)
    }
    expect(flusher.status()).toMatchObject({ awayMs: 610_000, items: 200 })
    // At most one in two seconds of those that were played through, by different segments.
    expect(remote.begun.length).toBeGreaterThanOrEqual(10)
    expect(remote.begun.length).toBeLessThan(50)
    expect(new Set(remote.begun).size).toBe(remote.begun.length)
    remote.answer = () => Promise.resolve()
    await pass(fixture, 5_000)
    expect([flusher.backlog, flusher.status().awayMs, flusher.status().totals.persistedItems]).toEqual([
      0,
      undefined,
      200,
    ])
  },
)

test('a poisoned segment does not keep the remote store away for the others', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { flusher, remote, add } = fixture
  remote.answer = () => unavailable()
  add(range(1, 20))
  await pass(fixture, 30_000)
  remote.answer = (number) => (number === 7 ? unavailable() : Promise.resolve())
  await pass(fixture, 10_000)
  expect(flusher.status()).toMatchObject({ items: 1, awayMs: undefined })
})

test('failures that are of the segments themselves never make it away', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { flusher, remote, add } = fixture
  remote.answer = (number) => (number <= 10 ? unavailable('DataLost') : Promise.resolve())
  add(range(1, 30))
  await turns(60)
  expect([flusher.backlog, flusher.status().awayMs, flusher.totals.failures.get('DataLost')]).toEqual([
    10,
    undefined,
    10,
  ])
})

test('at three failures in ten everything arrives, and is not taken for an absence for long', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { flusher, remote, add } = fixture
  let seed = 7
  remote.answer = () => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed % 10 < 3 ? unavailable() : Promise.resolve()
  }
  add(range(1, 300))
  await pass(fixture, 30_000)
  expect(flusher.backlog).toBe(0)
})

test('somebody who waits sees it come back within seconds, though his was tried in vain', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { flusher, remote, add, index } = fixture
  remote.answer = () => unavailable()
  add([1])
  await pass(fixture, 60_000)
  remote.answer = () => Promise.resolve()
  await pass(fixture, 5_000)
  expect([flusher.backlog, [...index.rows.values()].map(({ state }) => state)]).toEqual([0, ['persisted']])
})

test('while it is away it is probed in pauses, whatever the probes fail with', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { flusher, remote, add } = fixture
  remote.answer = () => unavailable()
  add(range(1, 40))
  await turns()
  expect(flusher.status().awayMs).toBe(0)
  // An ingress in front of nothing, say.
  remote.answer = () => unavailable('NoSuchKey')
  remote.begun.splice(0)
  await pass(fixture, 10_000)
  expect(remote.begun.length).toBeGreaterThan(2)
  expect(remote.begun.length).toBeLessThan(20)
  remote.begun.splice(0)
  await turns(200)
  expect(remote.begun).toEqual([])
  remote.answer = () => Promise.resolve()
  await pass(fixture, 30_000)
  expect(flusher.backlog).toBe(0)
})

test('what rests for a fault of its own is no probe', async () => {
  const fixture = newFlusher({ concurrency: 4 })
  const { remote, add } = fixture
  remote.answer = (number) => (number === 1 ? unavailable('DataLost') : unavailable())
  add(range(1, 4))
  await pass(fixture, 60_000)
  remote.begun.splice(0)
  await pass(fixture, 60_000)
  expect(remote.begun.length).toBeGreaterThan(12)
  expect(remote.begun.filter((number) => number === 1).length).toBeLessThan(remote.begun.length / 2)
})
