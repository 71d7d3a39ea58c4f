import { expect, test } from 'vitest'
import { DrainRate } from '../../../../src/persist/flush/drain-rate.ts'

test('steady uploads are measured as what they are, short and long ones, one or several at once', () => {
  const short = new DrainRate()
  short.wanting(true, 0)
  for (let ms = 100; ms <= 60_000; ms += 100) short.carried(10_000, 100, ms)
  expect(short.bytesPerSecond).toBeCloseTo(100_000, -2)
  const long = new DrainRate()
  long.wanting(true, 0)
  for (const ms of [100_000, 200_000]) for (let upload = 0; upload < 4; upload++) long.carried(2_500_000, 100_000, ms)
  expect(long.bytesPerSecond).toBeCloseTo(100_000, -2)
})

test('idle time does not count, and an outage fades what was measured within a minute', () => {
  const rate = new DrainRate()
  expect(rate.bytesPerSecond).toBeUndefined()
  rate.wanting(true, 0)
  rate.carried(1_000_000, 1000, 1000)
  rate.wanting(false, 1000)
  rate.wanting(true, 900_000)
  expect(rate.bytesPerSecond).toBeCloseTo(1_000_000, -2)
  rate.counted(960_000)
  expect(rate.bytesPerSecond).toBeLessThan(50_000)
})

test('a remote store that never answered is known to carry nothing', () => {
  const rate = new DrainRate()
  rate.wanting(true, 0)
  rate.counted(1000)
  expect(rate.bytesPerSecond).toBeUndefined()
  rate.counted(10_000)
  expect(rate.bytesPerSecond).toBe(0)
})
