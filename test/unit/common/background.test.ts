import { expect, test } from 'vitest'
import { backingOff, givingWay } from '../../../src/common/background.ts'
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

test('who was disturbed has rounds a second apart for some seconds, and then as before', async () => {
  const clock = new HandClock()
  let disturbances = 0
  let disturbs = true
  const begunMs: number[] = []
  const round = (): Promise<boolean> => {
    begunMs.push(clock.monotonicMs())
    if (disturbs) disturbances++
    return Promise.resolve(true)
  }
  const job = givingWay(
    { name: 'sweep', pauseMs: 100, round },
    { clock, random: () => 0.5, disturbances: () => disturbances },
  )
  const rounds = async (count: number): Promise<boolean[]> => {
    const more: boolean[] = []
    for (let i = 0; i < count; i++) {
      more.push(await job.round())
      await clock.advance(100)
    }
    return more
  }
  expect(await rounds(11)).toEqual([true, ...Array<boolean>(9).fill(false), true])
  disturbs = false
  await rounds(200)
  const pauses = begunMs.slice(1).map((ms, at) => ms - (begunMs[at] ?? 0))
  expect(pauses.slice(0, 10)).toEqual(Array(10).fill(1000))
  expect(pauses.slice(11)).toEqual(Array(pauses.length - 11).fill(100))
})
