import { expect, test } from 'vitest'
import { backingOff } from '../../../src/common/background.ts'
import { HandClock } from '../../conformance/hand-clock.ts'

test('after failures a job pauses twice as long each time, up to half a minute, until it succeeds', async () => {
  const clock = new HandClock()
  let fails = true
  const begunMs: number[] = []
  const job = backingOff(
    {
      name: 'carry',
      pauseMs: 200,
      round() {
        begunMs.push(clock.monotonicMs())
        return fails ? Promise.reject(new Error('away')) : Promise.resolve(true)
      },
    },
    clock,
  )
  for (let ms = 0; ms < 120_000; ms += 100) {
    await job.round().catch(() => undefined)
    await clock.advance(100)
  }
  const pauses = begunMs.slice(1).map((ms, at) => ms - (begunMs[at] ?? 0))
  expect(pauses).toEqual([400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000])
  fails = false
  await clock.advance(30_000)
  expect([await job.round(), await job.round()]).toEqual([true, true])
})
