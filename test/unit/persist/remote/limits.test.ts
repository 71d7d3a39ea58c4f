import { describe, expect, it } from 'vitest'
import { RateLimit } from '../../../../src/persist/remote/rate-limit.ts'
import { RequestSlots, type RequestKind } from '../../../../src/persist/remote/request-slots.ts'
import { retryPauseMs } from '../../../../src/persist/remote/s3-calls.ts'
import { HandClock, turn } from '../../../conformance/hand-clock.ts'

const never = new AbortController().signal

describe('slots', () => {
  const slotsOf = (slots: number): { slots: RequestSlots; clock: HandClock } => {
    const clock = new HandClock()
    return { slots: new RequestSlots({ slots, clock, waitMsMax: 1_000 }), clock }
  }
  const take = (slots: RequestSlots, kind: RequestKind, granted: string[], signal = never): Promise<() => void> =>
    slots.take(kind, signal).then((giveBack) => {
      granted.push(kind)
      return giveBack
    })

  it('keep a quarter from reads, and from uploads, for the others', async () => {
    const { slots } = slotsOf(8)
    const granted: string[] = []
    for (let index = 0; index < 8; index++) void take(slots, 'upload', granted)
    await turn()
    expect(granted).toHaveLength(6)
    void take(slots, 'read', granted)
    void take(slots, 'other', granted)
    void take(slots, 'other', granted)
    await turn()
    expect(granted.slice(6)).toEqual(['read', 'other'])
    expect(slots.waiting).toBe(3)
  })

  it('are given on in the order of asking, passing over a kind that has its share', async () => {
    const { slots } = slotsOf(4)
    const granted: string[] = []
    const held = await Promise.all(
      ['upload', 'upload', 'upload', 'other'].map((kind) => slots.take(kind as RequestKind, never)),
    )
    void take(slots, 'upload', granted)
    void take(slots, 'read', granted)
    void take(slots, 'upload', granted)
    held[3]?.()
    held[3]?.()
    await turn()
    expect(granted).toEqual(['read'])
    held[0]?.()
    await turn()
    expect(granted).toEqual(['read', 'upload'])
  })

  it('are there for one request at a time too', async () => {
    const { slots } = slotsOf(1)
    const giveBack = await slots.take('read', never)
    giveBack()
    const second = await slots.take('upload', never)
    second()
    await slots.take('other', never)
  })

  it('are refused with SlowDown after the wait, and not held by who gave up', async () => {
    const { slots, clock } = slotsOf(1)
    const giveBack = await slots.take('other', never)
    const controller = new AbortController()
    const overdue = slots.take('other', never)
    const givenUp = slots.take('other', controller.signal)
    controller.abort(new Error('given up'))
    await expect(givenUp).rejects.toThrow('given up')
    const refused = expect(overdue).rejects.toMatchObject({ code: 'SlowDown' })
    await clock.advance(1_000)
    await refused
    expect(slots.waiting).toBe(0)
    giveBack()
    await slots.take('other', never)
  })
})

describe('a rate', () => {
  it('lets a second go at once, and then no more than it says', async () => {
    const clock = new HandClock()
    const rate = new RateLimit(100, clock)
    let used = 0
    for (let index = 0; index < 50; index++) void rate.take(10, never).then(() => (used += 10))
    await turn()
    // What a second holds, and the one that runs into debt.
    expect(used).toBe(110)
    for (let second = 1; second <= 3; second++) {
      await clock.advance(1_000)
      expect(used).toBe(110 + second * 100)
    }
  })

  it('takes an amount above a second too, and makes the next one wait for it', async () => {
    const clock = new HandClock()
    const rate = new RateLimit(100, clock)
    await rate.take(1_000, never)
    let done = false
    void rate.take(1, never).then(() => (done = true))
    await clock.advance(8_900)
    expect(done).toBe(false)
    await clock.advance(200)
    expect(done).toBe(true)
  })

  it('charges nothing to who gave up', async () => {
    const clock = new HandClock()
    const rate = new RateLimit(100, clock)
    await rate.take(200, never)
    const controller = new AbortController()
    const givenUp = rate.take(100_000, controller.signal)
    controller.abort(new Error('given up'))
    await expect(givenUp).rejects.toThrow('given up')
    let done = false
    void rate.take(1, never).then(() => (done = true))
    await clock.advance(1_100)
    expect(done).toBe(true)
  })

  it('that is not given is none', async () => {
    await new RateLimit(undefined, new HandClock()).take(2 ** 50, never)
  })
})

it('pauses between attempts grow, differ, and end at five seconds', () => {
  const pauses = Array.from({ length: 12 }, (_, attempt) => [
    retryPauseMs(attempt, () => 0),
    retryPauseMs(attempt, () => 0.999),
  ])
  for (const [least, most] of pauses) {
    expect(least).toBeGreaterThanOrEqual(25)
    expect(most).toBeLessThanOrEqual(5_000)
    expect(most! / least!).toBeGreaterThan(1.9)
  }
  expect(pauses.at(-1)?.[0]).toBe(2_500)
})
