import { expect, test } from 'vitest'
import { must } from '../../src/common/assert.ts'
import type { BackgroundJob } from '../../src/common/background.ts'
import type { EngineParts } from '../../src/engine-parts.ts'
import { remoteJobs } from '../../src/engine-remote.ts'
import type { Collector } from '../../src/persist/collector.ts'
import type { NamesStream } from '../../src/persist/names/names-stream.ts'
import { HandClock } from '../conformance/hand-clock.ts'

const MINUTE_MS = 60_000
const IDLE: BackgroundJob = { name: 'remote-guard', pauseMs: MINUTE_MS, round: () => Promise.resolve(false) }

interface Fixture {
  readonly clock: HandClock
  readonly collect: BackgroundJob
  /** Steps of the collector so far. */
  readonly steps: () => number
  /** A round each second, for that long. */
  readonly pass: (ms: number) => Promise<void>
}

function begin(
  collectIntervalMs: number,
  { shippedThrough = (): number => 0, step = (): Promise<boolean> => Promise.resolve(false) } = {},
): Fixture {
  const clock = new HandClock()
  let steps = 0
  const collector = {
    step: () => {
      steps++
      return step()
    },
  } as unknown as Collector
  const names = { job: { ...IDLE, name: 'names' }, status: () => ({ shippedThrough: shippedThrough() }) }
  const parts = { clock, remote: { guard: { job: IDLE }, collectIntervalMs } } as unknown as EngineParts
  const jobs = remoteJobs(parts, { names: names as unknown as NamesStream, collector })
  expect(jobs.map(({ name }) => name)).toEqual(['remote-guard', 'names', 'collect'])
  const collect = must(jobs[2], 'job')
  return {
    clock,
    collect,
    steps: () => steps,
    async pass(ms) {
      for (let passed = 0; passed < ms; passed += 1000) {
        await clock.advance(1000)
        await collect.round().catch(() => undefined)
      }
    },
  }
}

test('the remote store is compared with metadata once in --collect-interval, and at once after a start', async () => {
  const { collect, steps, pass } = begin(10 * MINUTE_MS)
  expect(await collect.round()).toBe(false)
  expect(steps()).toBe(1)
  await pass(9 * MINUTE_MS)
  expect(steps()).toBe(1)
  await pass(MINUTE_MS)
  expect(steps()).toBe(2)
  await pass(20 * MINUTE_MS)
  expect(steps()).toBe(4)
})

test('a pass of several pages goes on at once', async () => {
  let pages = 3
  const { collect, steps } = begin(10 * MINUTE_MS, { step: () => Promise.resolve(--pages > 0) })
  expect([await collect.round(), await collect.round(), await collect.round()]).toEqual([true, true, false])
  await collect.round()
  expect(steps()).toBe(3)
})

test('a pass that fails is tried again within a minute, however long the interval', async () => {
  const { collect, steps, pass } = begin(1000 * MINUTE_MS, { step: () => Promise.reject(new Error('down')) })
  await expect(collect.round()).rejects.toThrow('down')
  await pass(MINUTE_MS - 1000)
  expect(steps()).toBe(1)
  await pass(2000)
  expect(steps()).toBe(2)
})

test('nothing is compared before it is known what backups need', async () => {
  let shipped = -1
  const { steps, pass } = begin(MINUTE_MS, { shippedThrough: () => shipped })
  await pass(10 * MINUTE_MS)
  expect(steps()).toBe(0)
  shipped = 5
  await pass(1000)
  expect(steps()).toBe(1)
})

test('where there is no remote store there are no jobs', () => {
  const parts = { clock: new HandClock(), remote: undefined } as unknown as EngineParts
  expect(remoteJobs(parts, { names: undefined, collector: undefined })).toEqual([])
})
