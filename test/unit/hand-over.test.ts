import { expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import type { SegmentId } from '../../src/common/ids.ts'
import { HandOver } from '../../src/hand-over.ts'
import type { IndexedSegment } from '../../src/persist/ports.ts'

const id = (number: number): SegmentId => number.toString(16).padStart(32, '0') as SegmentId

function segmentsOf(count: number): IndexedSegment[] {
  return Array.from({ length: count }, (_, index) => ({
    segment: id(index + 1),
    state: 'sealed' as const,
    bytes: 10,
    liveBytes: 10,
  }))
}

function handOverOf(
  records: IndexedSegment[],
  copied: (segment: SegmentId) => Promise<void>,
  decidedSegment = (segment: SegmentId): Promise<IndexedSegment | undefined> =>
    Promise.resolve(records.find((record) => record.segment === segment)),
): HandOver {
  return new HandOver({
    clock: systemClock,
    index: {
      segments: (after, limit) =>
        Promise.resolve(records.filter(({ segment }) => after === undefined || segment > after).slice(0, limit)),
      decidedSegment,
    },
    isReachedByAll: ({ state }) => state === 'persisted',
    copied,
    sealOpen: () => Promise.resolve(),
  })
}

it('copies every segment that is alive and lies here alone, over many pages, and counts what nobody took', async () => {
  const records = segmentsOf(600)
  records[0] = { ...(records[0] as IndexedSegment), liveBytes: 0 }
  records[1] = { ...(records[1] as IndexedSegment), state: 'persisted' }
  const asked: SegmentId[] = []
  const handOver = handOverOf(records, (segment) => {
    asked.push(segment)
    return segment === id(300) ? Promise.reject(new Error('no room there')) : Promise.resolve()
  })
  expect(handOver.wanted).toBe(false)
  expect(await handOver.run(10_000)).toEqual({
    segments: 597,
    bytes: 5970,
    left: 1,
    lastError: 'no room there',
    done: true,
  })
  expect(handOver.wanted).toBe(true)
  expect(new Set(asked).size).toBe(598)
  expect(asked).not.toContain(id(1))
  expect(asked).not.toContain(id(2))
})

it('says how far it is when the time is up, and goes on', async () => {
  const gate = Promise.withResolvers<void>()
  const handOver = handOverOf(segmentsOf(2), (segment) => (segment === id(2) ? gate.promise : Promise.resolve()))
  expect(await handOver.run(20)).toMatchObject({ segments: 1, done: false })
  const second = handOver.run(10_000)
  gate.resolve()
  expect(await second).toMatchObject({ segments: 2, done: true })
})

it('copies what a publish that was not decided when it was looked at gives a name, and counts one of which nobody knows', async () => {
  const records = segmentsOf(3).map((record) => ({ ...record, liveBytes: 0 }))
  const copied: SegmentId[] = []
  const handOver = handOverOf(
    records,
    async (segment) => void copied.push(segment),
    async (segment) => {
      if (segment === id(3)) throw new Error('no answer in time')
      return records
        .map((record) => ({ ...record, liveBytes: record.segment === id(1) ? 10 : 0 }))
        .find((record) => record.segment === segment)
    },
  )
  expect(await handOver.run(10_000)).toMatchObject({ segments: 1, left: 1, lastError: 'no answer in time', done: true })
  expect(copied).toEqual([id(1)])
})
