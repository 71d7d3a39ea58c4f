import { expect, test, vi } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { Moves } from '../../../src/persist/flush/moves.ts'
import { noNames } from '../../../src/persist/names/no-names.ts'
import { Reclaimer, type ReclaimerOptions } from '../../../src/persist/reclaimer.ts'
import type { SegmentBody } from '../../../src/persist/ports.ts'
import { FakeIndex, segmentNumber } from './fixtures.ts'

const [ONE, TWO] = [segmentNumber(1), segmentNumber(2)]

function newReclaimer(options: Partial<ReclaimerOptions> = {}): {
  reclaimer: Reclaimer
  index: FakeIndex
  removed: SegmentId[]
  settled: () => number
} {
  const index = new FakeIndex()
  const removed: SegmentId[] = []
  let settled = 0
  const reclaimer = new Reclaimer({
    index,
    horizon: () => Infinity,
    hasPending: () => false,
    isUnsealed: () => false,
    compactBelow: 0.5,
    names: noNames,
    moves: new Moves(),
    forget: () => Promise.resolve(),
    remove: ({ segment }) => {
      removed.push(segment)
      return Promise.resolve()
    },
    bodies: () => Promise.resolve([]),
    copyBody: (_, body) =>
      Promise.resolve({
        run: { content: body.content, segment: TWO, segmentOffset: 100, length: body.length },
        sync: () => Promise.resolve(),
        isLost: () => false,
        settled: () => settled++,
      }),
    ...options,
  })
  return { reclaimer, index, removed, settled: () => settled }
}

async function round(reclaimer: Reclaimer): Promise<void> {
  await reclaimer.step()
  await reclaimer.removePersisted()
}

test('C12: an emptied segment waits for the readers that began before, then goes', async () => {
  let horizon = 0
  const { reclaimer, index, removed } = newReclaimer({ horizon: () => horizon })
  index.set(ONE, { state: 'persisted', bytes: 10 })
  index.emptied = [ONE]
  await round(reclaimer)
  await round(reclaimer)
  expect(removed).toEqual([])
  horizon = index.visible
  await round(reclaimer)
  expect([removed, index.rows.has(ONE)]).toEqual([[ONE], false])
})

test('C12: an emptied segment waits until the commit that emptied it is durable', async () => {
  const { reclaimer, index, removed } = newReclaimer()
  index.set(ONE, { state: 'persisted', bytes: 10 })
  index.durableUpTo = 1
  index.emptied = [ONE]
  await round(reclaimer)
  expect(removed).toEqual([])
  index.durableUpTo = undefined
  await round(reclaimer)
  expect(removed).toEqual([ONE])
})

test('C12: what is visibly empty but could still be undone is not removed', async () => {
  const { reclaimer, index, removed } = newReclaimer()
  index.set(ONE, { state: 'persisted', bytes: 10 })
  reclaimer.emptied([ONE])
  index.durable = () => Promise.reject(new Error('undone'))
  await expect(round(reclaimer)).rejects.toThrow('undone')
  expect(removed).toEqual([])
  const row = index.rows.get(ONE)
  if (row) row.liveBytes = 10
  index.durable = () => Promise.resolve()
  await round(reclaimer)
  expect(removed).toEqual([])
})

test('C12: what was on its way to metadata when it was looked at keeps the segment', async () => {
  const { reclaimer, index, removed } = newReclaimer()
  index.set(ONE, { state: 'sealed', bytes: 10 })
  reclaimer.emptied([ONE])
  vi.spyOn(index, 'flush').mockImplementationOnce(() => {
    index.set(ONE, { state: 'sealed', bytes: 10, liveBytes: 10 })
    return Promise.resolve()
  })
  await round(reclaimer)
  expect(removed).toEqual([])
  index.set(ONE, { state: 'sealed', bytes: 10 })
  await round(reclaimer)
  expect(removed).toEqual([])
  reclaimer.emptied([ONE])
  await round(reclaimer)
  expect(removed).toEqual([ONE])
})

test.each(['hasPending', 'isUnsealed'] as const)('a segment that is still written to stays (%s)', async (reason) => {
  let holds = true
  const { reclaimer, index, removed } = newReclaimer({ [reason]: () => holds })
  index.set(ONE, { state: 'sealed', bytes: 10 })
  reclaimer.emptied([ONE])
  await round(reclaimer)
  expect(removed).toEqual([])
  holds = false
  await round(reclaimer)
  expect(removed).toEqual([ONE])
})

const BODIES: SegmentBody[] = [1, 2, 3, 4].map((content) => ({
  content,
  offset: content * 1000,
  length: 900,
  label: '',
}))

test('C22: a segment that is mostly dead is compacted: what is live moves, what is dead does not', async () => {
  const { reclaimer, index, removed, settled } = newReclaimer({ bodies: () => Promise.resolve(BODIES) })
  index.set(ONE, { state: 'persisted', bytes: 4000, liveBytes: 900 })
  index.liveContents.add(3)
  expect(await reclaimer.compactSome()).toBe(true)
  expect(index.moved.map(({ from, to }) => [from.content, from.segmentOffset, to.segment])).toEqual([[3, 3000, TWO]])
  expect(settled()).toBe(1)
  await round(reclaimer)
  expect(removed).toEqual([ONE])
})

test('a remote store that hangs keeps neither dismantling nor segments that lie here', async () => {
  const { reclaimer, index } = newReclaimer({
    remove: ({ state }) => (state === 'persisted' ? new Promise(() => undefined) : Promise.resolve()),
  })
  index.set(ONE, { state: 'persisted', bytes: 10 })
  index.set(TWO, { state: 'sealed', bytes: 10 })
  index.emptied = [ONE, TWO]
  await reclaimer.step()
  void reclaimer.removePersisted()
  await reclaimer.step()
  expect([index.rows.has(ONE), index.rows.has(TWO), index.horizons.length]).toEqual([true, false, 2])
})

test('a segment whose upload ends while it is reclaimed goes as one that lies in the remote store', async () => {
  const removed: string[] = []
  let mayRemove = false
  const { reclaimer, index } = newReclaimer({
    names: { holds: () => false, mayRemove: () => mayRemove },
    forget: (segment) => {
      index.set(segment, { state: 'persisted', bytes: 10 })
      return Promise.resolve()
    },
    remove: ({ state }) => {
      removed.push(state)
      return Promise.resolve()
    },
  })
  index.set(ONE, { state: 'sealed', bytes: 10 })
  reclaimer.emptied([ONE])
  await round(reclaimer)
  expect([removed, index.rows.has(ONE)]).toEqual([[], true])
  mayRemove = true
  await round(reclaimer)
  expect([removed, index.rows.has(ONE)]).toEqual([['persisted'], false])
})

test('while moving is held up nothing is compacted, and what is under way stops at the next body', async () => {
  const moves = new Moves()
  let release = (): void => undefined
  const { reclaimer, index } = newReclaimer({
    moves,
    bodies: () => Promise.resolve(BODIES),
    copyBody: (_, body) => {
      void moves.hold().then((held) => (release = held))
      return Promise.resolve({
        run: { content: body.content, segment: TWO, segmentOffset: 100, length: body.length },
        sync: () => Promise.resolve(),
        isLost: () => false,
        settled: () => undefined,
      })
    },
  })
  index.set(ONE, { state: 'sealed', bytes: 8000, liveBytes: 1800 })
  for (const content of [2, 3]) index.liveContents.add(content)
  expect(await reclaimer.compactSome()).toBe(true)
  expect(index.moved.length).toBe(1)
  expect(await reclaimer.compact(ONE)).toBe(false)
  release()
  expect(await reclaimer.compact(ONE)).toBe(true)
  expect(index.moved.length).toBeGreaterThan(1)
})

test('a sweep goes on after a remote store that is away, and asks it once', async () => {
  const tried: SegmentId[] = []
  const [three, four] = [segmentNumber(3), segmentNumber(4)]
  const { reclaimer, index } = newReclaimer({
    bodies: (segment) => {
      tried.push(segment)
      if (segment === four) return Promise.resolve(BODIES)
      return Promise.reject(new TidegateError('Unavailable', 'away'))
    },
  })
  for (const segment of [ONE, TWO, three]) index.set(segment, { state: 'persisted', bytes: 4000, liveBytes: 900 })
  index.set(four, { state: 'sealed', bytes: 4000, liveBytes: 900 })
  index.liveContents.add(3)
  expect(await reclaimer.compactSome()).toBe(true)
  expect([tried, index.moved.length]).toEqual([[ONE, four], 1])
  // The rest of the sweep, then from the start.
  expect(await reclaimer.compactSome()).toBe(false)
  await expect(reclaimer.compactSome()).rejects.toMatchObject({ code: 'Unavailable' })
  expect(tried).toEqual([ONE, four, ONE])
})

test('a damaged segment is told once and does not keep the next one from its turn', async () => {
  const three = segmentNumber(3)
  const tried: SegmentId[] = []
  const { reclaimer, index } = newReclaimer({
    bodies: (segment) => {
      tried.push(segment)
      return segment === ONE ? Promise.reject(new TidegateError('DataLost', 'damaged')) : Promise.resolve([])
    },
  })
  for (const segment of [ONE, three]) index.set(segment, { state: 'persisted', bytes: 1000, liveBytes: 10 })
  await expect(reclaimer.compactSome()).rejects.toMatchObject({ code: 'DataLost' })
  await reclaimer.compactSome()
  expect(tried).toEqual([ONE, three, three])
})

test('a segment of small bodies with long names is not copied over and over', async () => {
  const tiny = BODIES.map((body) => ({ ...body, length: 10, label: 'x'.repeat(900) }))
  let looks = 0
  const { reclaimer, index } = newReclaimer({
    bodies: () => {
      looks++
      return Promise.resolve(tiny)
    },
  })
  index.set(ONE, { state: 'persisted', bytes: 4000, liveBytes: 40 })
  for (const { content } of tiny) index.liveContents.add(content)
  for (let round = 0; round < 3; round++) expect(await reclaimer.compactSome()).toBe(false)
  expect([index.moved, looks]).toEqual([[], 1])
})

test('compaction leaves open and well-filled segments alone, and finds empty ones', async () => {
  const { reclaimer, index, removed } = newReclaimer()
  index.set(ONE, { state: 'open', bytes: 0, liveBytes: 1 })
  index.set(TWO, { state: 'persisted', bytes: 100, liveBytes: 60 })
  index.set(segmentNumber(3), { state: 'persisted', bytes: 100, liveBytes: 0 })
  expect(await reclaimer.compactSome()).toBe(false)
  await round(reclaimer)
  expect(removed).toEqual([segmentNumber(3)])
})

test('C12: a segment that was emptied and removed while it was looked at is no failure; one that lost its file is', async () => {
  const { reclaimer, index } = newReclaimer({
    bodies: (segment) => {
      if (segment === ONE) index.rows.delete(ONE)
      return Promise.reject(new TidegateError('DataLost', `segment ${segment} is on no disk`))
    },
  })
  for (const segment of [ONE, TWO]) {
    index.set(segment, { state: 'sealed', bytes: 100, liveBytes: 10 })
  }
  expect(await reclaimer.compact(ONE)).toBe(false)
  await expect(reclaimer.compact(TWO)).rejects.toMatchObject({ code: 'DataLost' })
})
