import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { Collector, type CollectorOptions } from '../../../src/persist/collector.ts'
import { FaultyStore } from '../../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../../src/persist/remote/memory-store.ts'
import { segmentObjectName } from '../../../src/persist/remote/ports.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { FakeIndex, newFileSystem, segmentNumber } from './fixtures.ts'

let store: MemoryStore
let faulty: FaultyStore
let index: FakeIndex
let missing: SegmentId[]
let failures: string[]

beforeEach(() => {
  store = new MemoryStore({ clock: new HandClock(), fileSystem: newFileSystem() })
  faulty = new FaultyStore(store, { clock: new HandClock(), random: () => 0 })
  index = new FakeIndex()
  missing = []
  failures = []
})

function newCollector(options: Partial<CollectorOptions> = {}): Collector {
  return new Collector({
    remote: faulty,
    index,
    verify: () => Promise.resolve(),
    mayCollect: () => true,
    onMissing: (segment) => missing.push(segment),
    onFailure: (doing) => failures.push(doing),
    nowMs: () => 0,
    ...options,
  })
}

async function lies(...numbers: number[]): Promise<void> {
  for (const number of numbers) await store.put(segmentObjectName(segmentNumber(number)), Buffer.from('x'))
}

test('what no record knows goes; what one knows stays, whatever its state; other names are left alone', async () => {
  await lies(1, 2, 3, 4)
  index.set(segmentNumber(1), { state: 'persisted', liveBytes: 1 })
  index.set(segmentNumber(2), { state: 'sealed', liveBytes: 1 })
  index.set(segmentNumber(3), { state: 'persisted', liveBytes: 0 })
  await store.put('segments/ab/notes.txt', Buffer.from('mine'))
  await store.put(`segments/ff/${segmentNumber(9)}.seg`, Buffer.from('in the wrong place'))
  await store.put('names/x', Buffer.from('x'))
  const stats = await newCollector().pass()
  expect(stats).toMatchObject({ passes: 1, removedObjects: 1, missing: 0 })
  expect([...store.objects.keys()].sort()).toEqual(
    [
      'names/x',
      segmentObjectName(segmentNumber(1)),
      segmentObjectName(segmentNumber(2)),
      segmentObjectName(segmentNumber(3)),
      'segments/ab/notes.txt',
      `segments/ff/${segmentNumber(9)}.seg`,
    ].sort(),
  )
})

test('what should be there and is not is told; what nothing refers to need not be', async () => {
  await lies(1)
  index.set(segmentNumber(1), { state: 'persisted', liveBytes: 1 })
  index.set(segmentNumber(2), { state: 'persisted', liveBytes: 1 })
  index.set(segmentNumber(3), { state: 'persisted', liveBytes: 0 })
  index.set(segmentNumber(4), { state: 'sealed', liveBytes: 1 })
  expect(await newCollector().pass()).toMatchObject({ missing: 1, removedObjects: 0 })
  expect(missing).toEqual([segmentNumber(2)])
})

test('nothing is removed from a store that is not known to be ours', async () => {
  await lies(1)
  let ours = true
  const collector = newCollector({
    verify: () => (ours ? Promise.resolve() : Promise.reject(new TidegateError('InvalidRequest', 'taken over'))),
  })
  ours = false
  await expect(collector.pass()).rejects.toThrow('taken over')
  expect(store.objects.size).toBe(1)
  ours = true
  expect(await collector.pass()).toMatchObject({ removedObjects: 1 })
})

test('what kept backups may need is left', async () => {
  await lies(1, 2)
  const collector = newCollector({ mayCollect: (segment) => segment !== segmentNumber(1) })
  expect(await collector.pass()).toMatchObject({ removedObjects: 1 })
  expect([...store.objects.keys()]).toEqual([segmentObjectName(segmentNumber(1))])
})

test('a pass that fails begins anew, page by page', async () => {
  await lies(...Array.from({ length: 1500 }, (_, number) => number + 1))
  for (let number = 1; number <= 1490; number++) {
    index.set(segmentNumber(number), { state: 'persisted', liveBytes: 1 })
  }
  faulty.failNth('list', 2, 'unavailable')
  const collector = newCollector()
  await expect(collector.pass()).rejects.toMatchObject({ code: 'Unavailable' })
  expect(await collector.pass()).toMatchObject({ passes: 1, removedObjects: 10, missing: 0 })
  expect(missing).toEqual([])
})

test('a store whose uploads cannot be listed is collected all the same, and that is told', async () => {
  await lies(1)
  faulty.failNth('abandonUploads', 1, 'denied')
  expect(await newCollector().pass()).toMatchObject({ removedObjects: 1 })
  expect(failures).toEqual(['give up unfinished uploads'])
})

test('segments of other nodes are known, missed, and their uploads left alone for a day', async () => {
  const others = new FakeIndex()
  others.set(segmentNumber(1), { state: 'persisted', liveBytes: 1 })
  others.set(segmentNumber(2), { state: 'persisted', liveBytes: 1 })
  await lies(1, 3)
  let before = 0
  faulty.abandonUploads = (begunBeforeMs) => {
    before = begunBeforeMs
    return Promise.resolve(0)
  }
  index.segment = (segment) => others.segment(segment)
  const allSegments: CollectorOptions['allSegments'] = (after, limit) => others.segments(after, limit)
  const stats = await newCollector({ allSegments, nowMs: () => 100_000_000 }).pass()
  expect(stats).toMatchObject({ removedObjects: 1, missing: 1 })
  expect(missing).toEqual([segmentNumber(2)])
  expect(before).toBe(100_000_000 - 86_400_000)
})
