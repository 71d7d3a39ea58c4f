import { expect, test } from 'vitest'
import { segmentNumber } from './fixtures.ts'
import { newFlusher, numberOf, SEGMENT_BYTES, turns, unavailable } from './flush/flusher-fixture.ts'

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

test('a segment is carried, marked persisted, and whoever waits is told', async () => {
  const marks: string[] = []
  const { flusher, index, add } = newFlusher({
    onPersisted: (segment) => {
      marks.push(`${numberOf(segment)} ${index.rows.get(segment)?.state}`)
      return Promise.resolve()
    },
  })
  index.set(segmentNumber(1), { state: 'sealed', bytes: SEGMENT_BYTES, liveBytes: SEGMENT_BYTES })
  const waiting = flusher.persisted(segmentNumber(1))
  add([1])
  expect([flusher.backlog, flusher.backlogBytes, flusher.isWaiting(segmentNumber(1))]).toEqual([1, SEGMENT_BYTES, true])
  await waiting
  await flusher.persisted(segmentNumber(1))
  await flusher.drain()
  expect([flusher.backlog, flusher.backlogBytes, marks]).toEqual([0, 0, ['1 persisted']])
})

test('it is not called persisted before the mark is durable', async () => {
  const { flusher, index, add } = newFlusher()
  let makeDurable = (): void => undefined
  index.durable = () => new Promise((resolve) => (makeDurable = resolve))
  add([1])
  let told = false
  const waiting = flusher.persisted(segmentNumber(1)).then(() => (told = true))
  index.rows.set(segmentNumber(1), { state: 'sealed', bytes: SEGMENT_BYTES, liveBytes: SEGMENT_BYTES })
  await turns()
  expect([told, flusher.backlog]).toEqual([false, 1])
  makeDurable()
  await waiting
})

test('no more are on their way than it was told, and one more that somebody waits for', async () => {
  const { flusher, remote, add } = newFlusher({ concurrency: 2 })
  remote.hold = true
  add(range(1, 5))
  await turns()
  expect(remote.begun).toEqual([1, 2])
  const waiting = flusher.persisted(segmentNumber(5))
  await turns()
  expect([remote.begun, flusher.status().uploads.length]).toEqual([[1, 2, 5], 3])
  await remote.letGo(5)
  await waiting
  expect(remote.begun).toEqual([1, 2, 5])
  await remote.letGo(1)
  expect(remote.begun).toEqual([1, 2, 5, 3])
  await flusher.stop()
})

test('a failing segment is tried again with growing pauses and does not hold up another', async () => {
  const { flusher, remote, clock, failures, add } = newFlusher()
  let refusals = 3
  remote.answer = (number) => (number === 1 && refusals-- > 0 ? Promise.reject(new Error('torn')) : Promise.resolve())
  add([1, 2])
  await flusher.drain()
  expect([remote.arrived, flusher.backlog]).toEqual([[2], 1])
  expect(flusher.status().failing).toMatchObject([
    { segment: segmentNumber(1), attempts: 1, cause: { code: 'other', message: 'torn' }, nextTryInMs: 200 },
  ])
  await clock.advance(199)
  expect(failures.length).toBe(1)
  await clock.advance(1)
  await turns()
  await clock.advance(400)
  await turns()
  await clock.advance(799)
  expect(remote.arrived).toEqual([2])
  await clock.advance(1)
  await turns()
  expect([remote.arrived, failures.map(({ attempt }) => attempt)]).toEqual([
    [2, 1],
    [1, 2, 3],
  ])
})

test('a poisoned segment, however often it fails, neither holds a slot nor makes the remote store look away', async () => {
  const { flusher, remote, clock, add } = newFlusher()
  remote.answer = (number) => (number === 1 ? unavailable() : Promise.resolve())
  add([1])
  for (let minute = 0; minute < 30; minute++) {
    add([100 + minute])
    await turns()
    expect(flusher.backlog).toBe(1)
    await clock.advance(60_000)
    await turns()
  }
  const status = flusher.status()
  expect([status.awayMs, status.totals.persistedItems, status.items]).toEqual([undefined, 30, 1])
  // Others got through: the longest pause.
  expect(status.failing[0]?.nextTryInMs).toBe(30_000)
})

test('a broken segment is mended first, then carried; its bytes count from then on', async () => {
  const actions: string[] = []
  const { flusher, index, remote } = newFlusher({
    mend: (segment) => {
      actions.push(`mend ${numberOf(segment)}`)
      return Promise.resolve(70)
    },
  })
  index.set(segmentNumber(1), { state: 'sealed', bytes: 70, liveBytes: 70 })
  remote.answer = (number) => {
    actions.push(`persist ${number} of ${flusher.backlogBytes}`)
    return Promise.resolve()
  }
  flusher.add({ segment: segmentNumber(1), bytes: 0 }, 'mend')
  expect(flusher.backlogBytes).toBe(0)
  await flusher.persisted(segmentNumber(1))
  expect(actions).toEqual(['mend 1', 'persist 1 of 70'])
})

test('what was overwritten or deleted before its turn is not sent, and goes when it is reclaimed', async () => {
  const { flusher, index, remote, dead, add } = newFlusher()
  index.set(segmentNumber(1), { state: 'sealed', bytes: SEGMENT_BYTES, liveBytes: 0 })
  const waiting = flusher.persisted(segmentNumber(1))
  add([1, 2])
  await waiting
  await flusher.drain()
  expect([remote.begun, dead, flusher.backlog]).toEqual([[2], [1, 1], 1])
  await flusher.forget(segmentNumber(1))
  expect([flusher.backlog, flusher.totals.notSentItems, flusher.totals.notSentBytes]).toEqual([0, 1, SEGMENT_BYTES])
})

test('a body that is published in it after the look is carried, at once if somebody waits for it', async () => {
  const { flusher, index, remote, clock, add } = newFlusher()
  for (const number of [1, 2]) index.set(segmentNumber(number), { state: 'sealed', bytes: 10, liveBytes: 0 })
  add([1, 2], { bytes: 10 })
  await turns()
  for (const number of [1, 2]) index.set(segmentNumber(number), { state: 'sealed', bytes: 10, liveBytes: 10 })
  await flusher.persisted(segmentNumber(2))
  expect(remote.arrived).toEqual([2])
  await clock.advance(10_000)
  await turns()
  expect(remote.arrived).toEqual([2, 1])
})

test('names that were captured wait for it: then it is sent, however dead it is', async () => {
  const { flusher, index, remote, dead, add } = newFlusher({ holds: (segment) => numberOf(segment) === 1 })
  index.set(segmentNumber(1), { state: 'sealed', bytes: 10, liveBytes: 0 })
  add([1])
  await flusher.drain()
  expect([remote.arrived, dead]).toEqual([[1], []])
})

test('what is mostly dead is compacted rather than sent, once, unless somebody waits for it', async () => {
  const compacted: number[] = []
  const { flusher, index, remote, dead, add } = newFlusher({
    compact: {
      below: 0.5,
      run: (segment) => {
        compacted.push(numberOf(segment))
        // The second one turns out to be not worthwhile.
        if (numberOf(segment) === 2) return Promise.resolve(false)
        index.set(segment, { state: 'sealed', bytes: 100, liveBytes: 0 })
        return Promise.resolve(true)
      },
    },
  })
  for (const number of [1, 2, 3]) index.set(segmentNumber(number), { state: 'sealed', bytes: 100, liveBytes: 49 })
  index.set(segmentNumber(4), { state: 'sealed', bytes: 100, liveBytes: 50 })
  const waiting = flusher.persisted(segmentNumber(3))
  add([1, 2, 3, 4], { bytes: 100 })
  await waiting
  await turns()
  expect([compacted, remote.arrived.toSorted((a, b) => a - b), dead]).toEqual([[1, 2], [2, 3, 4], [1]])
})

test('what somebody drained goes as it is: it is not compacted, then or between two polls', async () => {
  const compacted: number[] = []
  const { flusher, index, remote, clock, add } = newFlusher({
    compact: { below: 0.5, run: (segment) => Promise.resolve(compacted.push(numberOf(segment)) > 0) },
  })
  flusher.pause()
  for (const number of [1, 2]) index.set(segmentNumber(number), { state: 'sealed', bytes: 100, liveBytes: 10 })
  add([1], { bytes: 100 })
  const { through } = await flusher.drainBacklog({ waitMsMax: 1000 })
  add([2], { bytes: 100 })
  flusher.resume()
  await turns()
  await clock.advance(1)
  expect([compacted, remote.arrived]).toEqual([[2], [1, 2]])
  expect(await flusher.drainBacklog({ waitMsMax: 1000, through })).toMatchObject({ leftItems: 0 })
})

test('handing a local copy over keeps no slot, and a stop waits for it', async () => {
  const handed = Promise.withResolvers<void>()
  const { flusher, remote, add } = newFlusher({ onPersisted: () => handed.promise })
  add([1, 2])
  await turns()
  expect([remote.arrived, flusher.backlog]).toEqual([[1, 2], 0])
  let stopped = false
  const stopping = flusher.stop().then(() => (stopped = true))
  await turns()
  expect(stopped).toBe(false)
  handed.resolve()
  await stopping
})

test('an upload of a segment that is reclaimed is broken off before its bytes go', async () => {
  const { flusher, remote, failures, add } = newFlusher()
  remote.hold = true
  add([1, 2])
  await turns()
  await flusher.forget(segmentNumber(1))
  expect([remote.aborted, failures, flusher.backlog]).toEqual([[1], [], 1])
  await turns()
  expect(remote.begun).toEqual([1, 2])
  await flusher.stop()
})

test('a segment whose record is gone, before or while it is carried, is done with and is no failure', async () => {
  const { flusher, index, remote, failures, add } = newFlusher()
  flusher.add({ segment: segmentNumber(1), bytes: 10 })
  await flusher.drain()
  await flusher.persisted(segmentNumber(1))
  remote.answer = (number) => {
    index.rows.delete(segmentNumber(number))
    return Promise.reject(new Error('no such file'))
  }
  add([2])
  await flusher.drain()
  expect([remote.begun, flusher.backlog, failures]).toEqual([[2], 0, []])
})

test('who waits too long is told why, and the segment is carried all the same', async () => {
  const { flusher, remote, clock, index, add } = newFlusher({ waitMsMax: 60_000 })
  remote.answer = () => unavailable()
  add([1])
  const refused = expect(flusher.persisted(segmentNumber(1))).rejects.toMatchObject({
    code: 'Unavailable',
    message: expect.stringMatching(/waited 60000 ms; it failed with Unavailable: the remote store/) as string,
    details: { published: true },
  })
  for (let second = 0; second < 60; second++) await clock.advance(1000)
  await refused
  remote.answer = () => Promise.resolve()
  await clock.advance(5_000)
  await turns()
  expect(index.rows.get(segmentNumber(1))?.state).toBe('persisted')
})

test('paused, nothing is begun, who waits is told so, and mending goes on; resumed, it goes on', async () => {
  let mended = 0
  const { flusher, remote, index, add } = newFlusher({ mend: () => Promise.resolve(++mended) })
  remote.hold = true
  add([1, 2])
  await turns()
  const onItsWay = flusher.persisted(segmentNumber(1))
  // Not sealed yet.
  index.set(segmentNumber(9), { state: 'open' })
  const waiting = expect(flusher.persisted(segmentNumber(9))).rejects.toThrow(/paused \("tidegate flush resume"/)
  await turns()
  flusher.pause()
  await waiting
  await expect(flusher.persisted(segmentNumber(2))).rejects.toMatchObject({ code: 'Unavailable' })
  index.set(segmentNumber(3), { state: 'sealed', bytes: 1, liveBytes: 1 })
  flusher.add({ segment: segmentNumber(3), bytes: 0 }, 'mend')
  await remote.letGo(1)
  await onItsWay
  await turns()
  expect([remote.begun, mended, flusher.status().paused, flusher.backlog]).toEqual([[1], 1, true, 2])
  remote.hold = false
  flusher.resume()
  await flusher.drain()
  expect([remote.arrived, flusher.backlog]).toEqual([[1, 2, 3], 0])
})

test('a drain waits for what was there when it was asked for, or says what is left and why', async () => {
  const { flusher, remote, clock, add } = newFlusher()
  remote.answer = (number) => (number === 1 ? Promise.reject(new Error('torn')) : Promise.resolve())
  add([1, 2])
  const draining = flusher.drainBacklog({ waitMsMax: 5_000 })
  add([3])
  await turns()
  await clock.advance(5_000)
  const first = await draining
  expect(first).toMatchObject({ through: 2, paused: false, leftItems: 1, leftBytes: SEGMENT_BYTES })
  expect(first.left).toMatchObject([{ segment: segmentNumber(1), cause: { message: 'torn' } }])
  remote.answer = () => Promise.resolve()
  remote.hold = true
  add([4])
  const again = flusher.drainBacklog({ waitMsMax: 60_000, through: first.through })
  await clock.advance(5_000)
  await turns()
  await remote.letGo(4)
  await turns()
  await remote.letGo(1)
  expect(await again).toMatchObject({ leftItems: 0, left: [] })
  add([5])
  flusher.pause()
  expect(await flusher.drainBacklog({ waitMsMax: 60_000 })).toMatchObject({ paused: true, leftItems: 1 })
  await flusher.stop()
})

test('stopping breaks off what is on its way and ends every wait with Unavailable, then and later', async () => {
  const { flusher, remote, failures, add } = newFlusher()
  remote.hold = true
  add([1, 2])
  const told = expect(flusher.persisted(segmentNumber(1))).rejects.toMatchObject({ code: 'Unavailable' })
  await turns()
  await flusher.stop()
  await told
  await expect(flusher.persisted(segmentNumber(2))).rejects.toMatchObject({ code: 'Unavailable' })
  expect([remote.begun, remote.aborted, failures]).toEqual([[1], [1], []])
})

test('a look-up that fails is told once, and leaves no rejection behind when the flusher stops', async () => {
  const { flusher, index } = newFlusher()
  index.segment = () => Promise.reject(new Error('metadata is away'))
  await expect(flusher.persisted(segmentNumber(1))).rejects.toThrow('metadata is away')
  await flusher.stop()
})

test('what can be tried is tried once more by a drain at the end, and no longer', async () => {
  const { flusher, remote, failures, add } = newFlusher({ concurrency: 2 })
  remote.answer = (number) => (number === 1 ? Promise.reject(new Error('torn')) : Promise.resolve())
  add([1])
  await turns()
  await flusher.drain()
  expect(failures.map(({ attempt }) => attempt)).toEqual([1, 2])
})
