import { beforeEach, expect, test } from 'vitest'
import { PeerHealth } from '../../../../src/cache-tier/neighbours/peer-health.ts'
import { HandClock } from '../../../conformance/hand-clock.ts'

let clock: HandClock
let health: PeerHealth

beforeEach(() => {
  clock = new HandClock()
  health = new PeerHealth(clock)
})

test('the time follows what answers took, within bounds, and by kind', () => {
  expect(health.waitMs(1, 'resident')).toBe(2000)
  for (let at = 0; at < 50; at++) health.answered(1, 'resident', 2)
  expect(health.waitMs(1, 'resident')).toBe(250)
  expect(health.waitMs(1, 'fetched')).toBe(2000)
  expect(health.waitMs(2, 'resident')).toBe(2000)
  for (let at = 0; at < 50; at++) health.answered(1, 'resident', at % 2 === 0 ? 100 : 300)
  expect(health.waitMs(1, 'resident')).toBeGreaterThan(500)
  expect(health.waitMs(1, 'resident')).toBeLessThan(800)
  for (let at = 0; at < 50; at++) health.answered(1, 'fetched', 3)
  expect(health.waitMs(1, 'fetched')).toBe(1000)
  for (let at = 0; at < 50; at++) health.answered(1, 'fetched', 60_000)
  expect(health.waitMs(1, 'fetched')).toBe(4000)
})

test('a time that was too short is doubled until an answer comes in time, once for all that were under way', async () => {
  for (let at = 0; at < 50; at++) health.answered(1, 'resident', 2)
  for (const waitMs of [500, 1000, 2000, 2000]) {
    for (let at = 0; at < 5; at++) health.timedOut(1, 'resident')
    expect(health.waitMs(1, 'resident')).toBe(waitMs)
    await clock.advance(10_000)
  }
  health.answered(1, 'resident', 2)
  expect(health.waitMs(1, 'resident')).toBe(250)
})

test('a node that failed is rested, twice as long each time up to a bound, and tried by one question', async () => {
  const rests: number[] = []
  for (let round = 0; round < 7; round++) {
    health.failed(1)
    // What was under way fails too: it is the same failure.
    health.failed(1)
    const beganMs = clock.monotonicMs()
    while (health.isResting(1)) await clock.advance(100)
    rests.push(clock.monotonicMs() - beganMs)
    health.asked(1)
    expect(health.isResting(1)).toBe(true)
  }
  expect(rests).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000])
  health.answered(1, 'resident', 1)
  expect(health.isResting(1)).toBe(false)
  health.failed(1)
  await clock.advance(500)
  expect(health.isResting(1)).toBe(false)
})

test('a try that taught nothing leaves the next to another; a node that is another one is not rested', async () => {
  health.failed(1)
  await clock.advance(500)
  health.asked(1)
  health.spared(1)
  expect(health.isResting(1)).toBe(false)
  health.failed(1)
  expect(health.isResting(1)).toBe(true)
  health.forget(1)
  expect([health.isResting(1), health.waitMs(1, 'resident'), health.tookMs(1)]).toEqual([false, 2000, undefined])
})
