import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { RemoteHealth } from '../../../../src/persist/reading/remote-health.ts'
import { Scheduler } from '../../../sim/scheduler.ts'

let scheduler: Scheduler
let health: RemoteHealth
let calls: number

beforeEach(() => {
  scheduler = new Scheduler()
  health = new RemoteHealth(scheduler.clock)
  calls = 0
})

const DOWN = new TidegateError('Unavailable', 'connection refused')

function failing(error: Error = DOWN): Promise<never> {
  return health.call(1000, () => {
    calls++
    return Promise.reject(error)
  })
}

function answered(): Promise<string> {
  return health.call(1000, () => {
    calls++
    return Promise.resolve('bytes')
  })
}

async function bringDown(): Promise<void> {
  for (let count = 0; count < 4; count++) await expect(failing()).rejects.toBe(DOWN)
  calls = 0
}

test('after failures in a row calls fail at once, without one being made', async () => {
  await bringDown()
  expect([health.isDown, health.reason]).toEqual([true, 'connection refused'])
  for (let count = 0; count < 100; count++) await expect(answered()).rejects.toMatchObject({ code: 'Unavailable' })
  expect([calls, scheduler.nowMs]).toEqual([0, 0])
})

test('a success in between means that the store is up', async () => {
  for (let count = 0; count < 10; count++) {
    for (let failures = 0; failures < 3; failures++) await expect(failing()).rejects.toBe(DOWN)
    expect(await answered()).toBe('bytes')
  }
  expect(health.isDown).toBe(false)
})

test('a missing object is an answer like any other', async () => {
  for (let count = 0; count < 10; count++) {
    for (let failures = 0; failures < 3; failures++) await expect(failing()).rejects.toBe(DOWN)
    await expect(failing(new TidegateError('NoSuchKey', 'no'))).rejects.toMatchObject({ code: 'NoSuchKey' })
  }
  expect(health.isDown).toBe(false)
})

test('SlowDown says neither that the store is up nor that it is down', async () => {
  const slowDown = new TidegateError('SlowDown', 'ask less')
  for (let count = 0; count < 10; count++) await expect(failing(slowDown)).rejects.toBe(slowDown)
  expect(health.isDown).toBe(false)
  for (let failures = 0; failures < 3; failures++) await expect(failing()).rejects.toBe(DOWN)
  await expect(failing(slowDown)).rejects.toBe(slowDown)
  await expect(failing()).rejects.toBe(DOWN)
  expect(health.isDown).toBe(true)
})

test('it is asked again after pauses that grow to seconds, one call each, and is up with the first answer', async () => {
  await bringDown()
  const triedAtMs: number[] = []
  while (scheduler.nowMs < 20_000) {
    const before = calls
    await expect(failing()).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(failing()).rejects.toMatchObject({ code: 'Unavailable' })
    if (calls > before) triedAtMs.push(scheduler.nowMs)
    expect(calls - before).toBeLessThanOrEqual(1)
    scheduler.nowMs += 100
  }
  expect(triedAtMs).toEqual([500, 1500, 3500, 7500, 11_500, 15_500, 19_500])
  scheduler.nowMs += 4000
  expect(await answered()).toBe('bytes')
  for (let count = 0; count < 10; count++) expect(await answered()).toBe('bytes')
})

test('a call that hangs does not put off recovery', async () => {
  await bringDown()
  scheduler.nowMs += 600
  const hanging = health.call(60_000, () => new Promise<never>(() => undefined))
  hanging.catch(() => undefined)
  await expect(answered()).rejects.toMatchObject({ code: 'Unavailable' })
  scheduler.nowMs += 1000
  expect(await answered()).toBe('bytes')
  expect(health.isDown).toBe(false)
})

test('the failures of calls that were under way when it went down do not make the pause longer', async () => {
  const slow = Array.from({ length: 50 }, () =>
    health.call(60_000, async () => {
      await scheduler.delay(300)
      throw DOWN
    }),
  )
  const outcomes = Promise.allSettled(slow)
  await bringDown()
  await scheduler.until(outcomes, 'calls under way')
  scheduler.nowMs = 501
  expect(await answered()).toBe('bytes')
})

test('at the deadline the call is told to end, and the caller that it is Unavailable', async () => {
  let aborted = false
  const waiting = health.call(1000, async ({ signal }) => {
    await new Promise((resolve) => signal?.addEventListener('abort', resolve))
    aborted = true
    throw new Error('aborted')
  })
  const told = expect(waiting).rejects.toMatchObject({
    code: 'Unavailable',
    message: expect.stringContaining('1000 ms'),
  })
  await scheduler.step()
  await told
  expect([aborted, scheduler.nowMs]).toEqual([true, 1000])
})

test('waiting for our own rates does not count towards the deadline, and what the store then takes does', async () => {
  const calling = health.call(1000, async ({ signal, hold }) => {
    await hold?.(scheduler.delay(5000))
    await scheduler.clock.sleep(800, signal)
    return 'bytes'
  })
  expect(await scheduler.until(calling, 'a held call')).toBe('bytes')
  const late = health.call(1000, async ({ signal, hold }) => {
    await scheduler.clock.sleep(600, signal)
    await hold?.(scheduler.delay(5000))
    await scheduler.clock.sleep(600, signal)
  })
  await expect(scheduler.until(late, 'a late call')).rejects.toMatchObject({ code: 'Unavailable' })
  expect(scheduler.nowMs).toBe(5800 + 6000)
})

test('a call that our own rates hold for minutes is SlowDown, and says nothing about the store', async () => {
  for (let count = 0; count < 5; count++) {
    const begunMs = scheduler.nowMs
    const held = health.call(1000, ({ signal, hold }) => hold!(scheduler.clock.sleep(600_000, signal)))
    await expect(scheduler.until(held, 'a held call')).rejects.toMatchObject({ code: 'SlowDown' })
    expect(scheduler.nowMs - begunMs).toBe(120_000)
  }
  expect(health.isDown).toBe(false)
})
