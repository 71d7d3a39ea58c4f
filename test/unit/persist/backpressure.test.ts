import { beforeEach, describe, expect, test } from 'vitest'
import { Admission, BackPressure } from '../../../src/persist/backpressure.ts'
import { DiskSpace } from '../../../src/persist/disk-space.ts'
import type { FileSystem } from '../../../src/persist/ports.ts'
import { HandClock, turn } from '../../conformance/hand-clock.ts'

const HIGH = 1_000_000
let clock: HandClock
let pressure: BackPressure
/** What the flusher and the journal would say. */
let backlog: number
let streaming: number
let rate: number | undefined

beforeEach(() => {
  clock = new HandClock()
  backlog = 0
  streaming = 0
  rate = 100_000
  pressure = new BackPressure({
    clock,
    backlogBytes: () => backlog,
    streamingBytes: () => streaming,
    backlogBytesMax: () => HIGH,
    bytesPerSecond: () => rate,
    waitMsMax: 30_000,
  })
})

/** Bytes a second that writers who always have more get in, at a backlog that stays as it is. */
async function accepted(atBacklog: number, seconds = 5): Promise<number> {
  backlog = atBacklog
  let bytes = 0
  let over = false
  const write = async (): Promise<void> => {
    for (;;) {
      await pressure.pacer().pace(500)
      if (over) return
      bytes += 500
    }
  }
  const writers = Array.from({ length: 4 }, () => write().catch(() => undefined))
  for (let ms = 0; ms < seconds * 1000; ms += 5) await clock.advance(5)
  over = true
  const measured = bytes / seconds
  backlog = 0
  for (let ms = 0; ms < 1000; ms += 50) await clock.advance(50)
  await Promise.all(writers)
  return measured
}

describe('C19: writers are slowed smoothly', () => {
  test('not at all below the low watermark', () => {
    backlog = HIGH / 2
    for (let piece = 0; piece < 10_000; piece++) expect(pressure.paceNow(1_000_000)).toBe(true)
    expect(pressure.status).toMatchObject({ fill: 0, slowed: 0, accepted: 10_000 })
  })

  test('to what the flusher carries at half fill, and without a step on the way there and beyond', async () => {
    expect((await accepted(HIGH * 0.75)) / 100_000).toBeCloseTo(1, 1)
    let before = Infinity
    for (const fill of [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) {
      const bytesPerSecond = await accepted(HIGH * (0.5 + fill / 2))
      const expected = (100_000 * (1 - fill)) / fill
      expect(bytesPerSecond / expected).toBeGreaterThan(0.9)
      expect(bytesPerSecond / expected).toBeLessThan(1.1)
      expect(bytesPerSecond).toBeLessThan(before)
      // From one tenth to the next never to less than two fifths: no cliff.
      if (before < Infinity) expect(bytesPerSecond / before).toBeGreaterThan(0.4)
      before = bytesPerSecond
    }
  })

  test('so that a backlog under more than the flusher carries comes to rest, and nobody is refused', async () => {
    backlog = HIGH / 2
    const write = async (): Promise<void> => {
      for (;;) {
        await pressure.pacer().pace(1000)
        backlog += 1000
      }
    }
    // The flusher carries 100,000 bytes a second; four writers bring all they can.
    const writers = Array.from({ length: 4 }, write)
    for (const writer of writers) writer.catch(() => undefined)
    for (let ms = 0; ms < 60_000; ms += 10) {
      await clock.advance(10)
      backlog -= 1000
    }
    expect(pressure.fill).toBeGreaterThan(0.4)
    expect(pressure.fill).toBeLessThan(0.6)
    expect(pressure.status.refused).toBe(0)
    pressure.stop()
  })

  test('at the rate that would take minutes to fill the rest, when nothing is carried', async () => {
    rate = 0
    const bytesPerSecond = await accepted(HIGH * 0.75, 10)
    expect(bytesPerSecond).toBeGreaterThan((HIGH / 2 / 600) * 0.5)
    expect(bytesPerSecond).toBeLessThan((HIGH / 2 / 600) * 3)
  })
})

describe('C19: above the high watermark', () => {
  test('a write waits at most the admission time, then it is told SlowDown', async () => {
    backlog = HIGH
    const refused = expect(pressure.pacer().pace(10)).rejects.toMatchObject({
      code: 'SlowDown',
      details: { backlogBytes: HIGH },
    })
    await clock.advance(29_900)
    expect(pressure.status).toMatchObject({ waiting: 1, refused: 0 })
    await clock.advance(100)
    await refused
    expect(pressure.status).toMatchObject({ waiting: 0, refused: 1, slowed: 1, waitedMs: 30_000 })
  })

  test('waiters are let in as soon as there is room, in the order in which they came', async () => {
    backlog = HIGH
    const order: number[] = []
    const waiting = [1, 2, 3].map((number) =>
      pressure
        .pacer()
        .pace(10)
        .then(() => order.push(number)),
    )
    await clock.advance(1000)
    expect(order).toEqual([])
    backlog = 0
    await clock.advance(50)
    await Promise.all(waiting)
    expect(order).toEqual([1, 2, 3])
  })

  test('nobody passes those who wait', async () => {
    backlog = HIGH
    const waiting = pressure.pacer().pace(10)
    backlog = 0
    expect([pressure.mayPass(), pressure.paceNow(1)]).toEqual([false, false])
    await clock.advance(50)
    await waiting
    expect(pressure.paceNow(1)).toBe(true)
  })

  test('a body that hardly moves uses up its patience: over all its pieces it waits no longer than the admission time', async () => {
    const pacer = pressure.pacer()
    let pieces = 0
    const body = (async () => {
      for (;;) {
        await pacer.pace(10)
        pieces++
        backlog = HIGH
      }
    })()
    const refused = expect(body).rejects.toMatchObject({ code: 'SlowDown' })
    let ms = 0
    for (; pressure.status.refused === 0 && ms < 120_000; ms += 50) {
      // Room for one piece, every ten seconds.
      if (ms % 10_000 === 9_950) backlog = 0
      await clock.advance(50)
    }
    await refused
    expect(pieces).toBeGreaterThanOrEqual(3)
    expect(ms).toBeLessThanOrEqual(31_000)
  })
})

test('C19: nothing is carried at all: no body trickles in for longer than it is worth', async () => {
  rate = 0
  backlog = HIGH * 0.75
  const pacer = pressure.pacer()
  const body = (async () => {
    for (;;) await pacer.pace(1000)
  })()
  const refused = expect(body).rejects.toMatchObject({ code: 'SlowDown' })
  let ms = 0
  for (; pressure.status.refused === 0 && ms < 120_000; ms += 50) await clock.advance(50)
  await refused
  expect(ms).toBeLessThanOrEqual(31_000)
})

describe('bodies that are being streamed', () => {
  test('bring writers down to what the flusher carries, and never wait for each other', async () => {
    streaming = 100 * HIGH
    expect(pressure.fill).toBe(0.5)
    expect((await accepted(0)) / 100_000).toBeCloseTo(1, 1)
  })

  test('slow nobody where segments are adopted in no time', () => {
    streaming = 100 * HIGH
    rate = undefined
    for (let piece = 0; piece < 1000; piece++) expect(pressure.paceNow(1_000_000)).toBe(true)
  })
})

test('stopping tells whoever waits', async () => {
  backlog = HIGH
  const told = expect(pressure.pacer().pace(10)).rejects.toMatchObject({ code: 'Unavailable' })
  await turn()
  pressure.stop()
  await told
  await expect(pressure.pacer().pace(10)).rejects.toMatchObject({ code: 'Unavailable' })
})

describe('admission', () => {
  let freeBytes: number
  let admission: Admission

  beforeEach(async () => {
    freeBytes = 10_000
    const fileSystem = {
      space: () => Promise.resolve({ freeBytes, totalBytes: 100_000 }),
    } as unknown as FileSystem
    const disk = new DiskSpace({ fileSystem, path: '/', clock, reserveBytes: 1000 })
    await disk.look()
    admission = new Admission(disk, pressure)
  })

  test('is at once where there is room on the disk and in the backlog', async () => {
    expect(admission.acceptNow(100)).toBe(true)
    await admission.accept(100)
    expect(pressure.status).toMatchObject({ accepted: 2, slowed: 0 })
  })

  test('is never at once where accept would wait, and takes nothing from the disk then', async () => {
    backlog = HIGH
    expect(admission.acceptNow(100)).toBe(false)
    backlog = 0
    freeBytes = 1050
    await clock.advance(1000)
    expect(admission.acceptNow(100)).toBe(false)
    expect(pressure.status.accepted).toBe(0)
  })

  test('of a full disk is refused without waiting for the backlog', async () => {
    backlog = HIGH
    await expect(admission.accept(9_500)).rejects.toMatchObject({ code: 'StorageFull' })
    await expect(admission.reserve(9_500)).rejects.toMatchObject({ code: 'StorageFull' })
  })

  test('looks at the disk again after a wait', async () => {
    backlog = HIGH
    const refused = expect(admission.accept(100)).rejects.toMatchObject({ code: 'StorageFull' })
    await clock.advance(5_000)
    freeBytes = 500
    backlog = 0
    await clock.advance(50)
    await refused
  })
})
