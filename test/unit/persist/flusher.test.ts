import { expect, test } from 'vitest'
import { Flusher, type FlusherOptions } from '../../../src/persist/flusher.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { FakeIndex, segmentNumber } from './fixtures.ts'

const [ONE, TWO] = [segmentNumber(1), segmentNumber(2)]

function newFlusher(options: Partial<FlusherOptions> = {}): {
  flusher: Flusher
  index: FakeIndex
  scheduler: Scheduler
  failures: { action: string; attempt: number }[]
} {
  const index = new FakeIndex()
  for (const segment of [ONE, TWO]) index.set(segment, { state: 'sealed', bytes: 10, liveBytes: 10 })
  const scheduler = new Scheduler()
  const failures: { action: string; attempt: number }[] = []
  const flusher = new Flusher({
    index,
    clock: scheduler.clock,
    random: () => 1,
    adopt: () => Promise.resolve(),
    mend: () => Promise.resolve(10),
    waitMsMax: 30_000,
    onFailure: ({ action, attempt }) => failures.push({ action, attempt }),
    ...options,
  })
  return { flusher, index, scheduler, failures }
}

test('a segment is adopted, marked persisted, and whoever waits is told', async () => {
  const { flusher, index } = newFlusher()
  const waiting = flusher.persisted(ONE)
  flusher.add(ONE, 'adopt')
  await waiting
  expect(index.rows.get(ONE)?.state).toBe('persisted')
  await flusher.persisted(ONE)
  await flusher.drain()
  expect(flusher.backlog).toBe(0)
})

test('a failing segment is tried again with growing pauses and does not hold up another', async () => {
  let refusals = 3
  const adopted: string[] = []
  const { flusher, scheduler, failures } = newFlusher({
    adopt: (segment) => {
      if (segment === ONE && refusals-- > 0) return Promise.reject(new Error('no room'))
      adopted.push(segment)
      return Promise.resolve()
    },
  })
  flusher.add(ONE, 'adopt')
  flusher.add(TWO, 'adopt')
  await flusher.drain()
  expect([adopted, flusher.backlog]).toEqual([[TWO], 1])
  await scheduler.until(flusher.persisted(ONE), 'the third try')
  expect(failures.map(({ attempt }) => attempt)).toEqual([1, 2, 3])
  expect(scheduler.nowMs).toBe(200 + 400 + 800)
})

test('a broken segment is mended first, then adopted', async () => {
  const actions: string[] = []
  const { flusher } = newFlusher({
    mend: () => {
      actions.push('mend')
      return Promise.resolve(10)
    },
    adopt: () => {
      actions.push('adopt')
      return Promise.resolve()
    },
  })
  flusher.add(ONE, 'mend')
  await flusher.persisted(ONE)
  expect(actions).toEqual(['mend', 'adopt'])
})

test('a segment that is reclaimed while it is carried is done with, and is no failure', async () => {
  const made = newFlusher({
    adopt: () => {
      made.index.rows.delete(ONE)
      return Promise.reject(new Error('no such file'))
    },
  })
  made.flusher.add(ONE, 'adopt')
  await made.flusher.drain()
  expect([made.flusher.backlog, made.failures]).toEqual([0, []])
})

test('a segment that was reclaimed meanwhile is done with', async () => {
  const { flusher, index } = newFlusher({ adopt: () => Promise.reject(new Error('not to be called')) })
  index.rows.delete(ONE)
  flusher.add(ONE, 'adopt')
  await flusher.drain()
  await flusher.persisted(ONE)
  expect(flusher.backlog).toBe(0)
})

test('stopping ends every wait with Unavailable, then and later', async () => {
  const { flusher } = newFlusher({ adopt: () => Promise.reject(new Error('never')) })
  flusher.add(ONE, 'adopt')
  const waiting = flusher.persisted(ONE)
  const told = expect(waiting).rejects.toMatchObject({ code: 'Unavailable' })
  await flusher.stop()
  await told
  await expect(flusher.persisted(TWO)).rejects.toMatchObject({ code: 'Unavailable' })
})

test('a look-up that fails is told once, and leaves no rejection behind when the flusher stops', async () => {
  const { flusher, index } = newFlusher()
  index.segment = () => Promise.reject(new Error('metadata is away'))
  await expect(flusher.persisted(ONE)).rejects.toThrow('metadata is away')
  await flusher.stop()
})

test('who waits for the remote store is told when it takes too long, and the segment is carried there all the same', async () => {
  let works = false
  const { flusher, index, scheduler } = newFlusher({
    adopt: () => (works ? Promise.resolve() : Promise.reject(new Error('no room'))),
    waitMsMax: 60_000,
  })
  flusher.add(ONE, 'adopt')
  const refused = expect(flusher.persisted(ONE)).rejects.toMatchObject({ code: 'Unavailable' })
  await scheduler.until(refused, 'the refusal')
  works = true
  await scheduler.until(flusher.persisted(ONE), 'the segment')
  expect(index.rows.get(ONE)?.state).toBe('persisted')
})
