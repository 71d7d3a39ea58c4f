import { afterEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { WatchEvent, WatcherId } from '../../../../src/store/kv-types.ts'
import type { MetadataChange, MetadataChangeBatch } from '../../../../src/store/ports.ts'
import { createWatching, type RunningWatching, type WatchingOptions } from '../../../../src/store/watching/watching.ts'
import { Random, testSeed } from '../../../model/random.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { WATCHED_ROWS } from '../../../../src/meta/namespace/changes.ts'
import { fixture, type Fixture } from '../../meta/namespace/fixture.ts'

const ALL = { waitMs: 0, limit: 10_000 }

interface Made extends Fixture {
  readonly scheduler: Scheduler
  readonly watching: RunningWatching
}

const ending: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const end of ending.splice(0)) await end()
})

async function make(
  options: Partial<WatchingOptions> = {},
  store: { changeLogRevisionsMax?: number } = {},
): Promise<Made> {
  const made = await fixture({ ...WATCHED_ROWS, ...store })
  const scheduler = new Scheduler()
  const watching = createWatching({ metadata: made.namespace, clock: scheduler.clock, ...options })
  await made.bucket('box')
  await made.bucket('other')
  await made.namespace.flush()
  ending.push(async () => {
    watching.stop()
    await made.stop()
  })
  return { ...made, scheduler, watching }
}

/** All that is durable, once the feed has it. */
async function settled(made: Made): Promise<void> {
  await made.namespace.flush()
  await new Promise((resolve) => setImmediate(resolve))
}

function names(events: readonly WatchEvent[]): string[] {
  return events.map((event) => (event.kind === 'renamed' ? `${event.from}>${event.to}` : `${event.kind} ${event.key}`))
}

async function drained(made: Made, watcher: WatcherId, limit = 10_000): Promise<WatchEvent[]> {
  const events: WatchEvent[] = []
  for (;;) {
    const batch = await made.watching.next(watcher, { waitMs: 0, limit })
    events.push(...batch.events)
    if (batch.next > made.namespace.durableRevision()) return events
  }
}

/** The metadata's whole log, read directly. */
async function logged(made: Made): Promise<MetadataChange[]> {
  const events: MetadataChange[] = []
  for await (const batch of made.namespace.watch(1, new AbortController().signal)) {
    events.push(...batch.events)
    if (batch.through >= made.namespace.durableRevision()) break
  }
  return events
}

test('a watcher is told of what is committed from now on, in order, and only of its bucket and prefix', async () => {
  const made = await make()
  await made.put('box', 'a/0')
  await settled(made)
  const watcher = await made.watching.open({ bucket: 'box', prefix: 'a/', from: undefined })
  const told = made.watching.next(watcher, { waitMs: 1_000, limit: 10 })
  await made.put('other', 'a/1')
  await made.put('box', 'b/1')
  await made.put('box', 'a/1')
  expect(names((await told).events)).toEqual(['put a/1'])
  await made.remove('box', 'a/1')
  await made.put('box', 'a/2')
  await settled(made)
  const { events, next } = await made.watching.next(watcher, ALL)
  expect(names(events)).toEqual(['delete a/1', 'put a/2'])
  expect(next).toBe(made.namespace.durableRevision() + 1)
})

test('C3: renames concern the old name, the new one, and what is in a renamed directory', async () => {
  const made = await make()
  await made.put('box', 'a/b/1')
  const from = made.namespace.revision() + 1
  await made.namespace.rename({ bucket: 'box', from: 'a/', to: 'c/', replace: false })
  await made.namespace.rename({ bucket: 'box', from: 'c/b/1', to: 'd', replace: false })
  await made.namespace.flush()
  const seen = async (prefix: string): Promise<string[]> =>
    names(await drained(made, await made.watching.open({ bucket: 'box', prefix, from })))
  expect(await seen('')).toEqual(['a/>c/', 'c/b/1>d'])
  expect(await seen('a/b/1')).toEqual(['a/>c/'])
  expect(await seen('c/b/')).toEqual(['a/>c/', 'c/b/1>d'])
  expect(await seen('d')).toEqual(['c/b/1>d'])
  expect(await seen('e')).toEqual([])
})

test('C3: resumed at any revision, with any limits, nothing is missed and nothing told twice, from memory and from the log', async () => {
  const seed = testSeed()
  const random = new Random(seed)
  const made = await make({ recentEventsMax: 40 })
  const early = await made.watching.open({ bucket: 'box', prefix: '', from: 1 })
  const expected: WatchEvent[] = []
  for (let i = 0; i < 300; i++) {
    const key = `${random.pick(['a', 'b'])}/${random.below(10)}`
    if (random.chance(0.7)) await made.put(random.pick(['box', 'other']), key)
    else await made.remove('box', key)
    // One watcher takes a little now and then, sometimes from memory and sometimes long after.
    if (random.chance(0.1)) {
      expected.push(...(await made.watching.next(early, { waitMs: 0, limit: 1 + random.below(20) })).events)
    }
    if (random.chance(0.1)) await made.reclaim()
  }
  await settled(made)
  expected.push(...(await drained(made, early, 7)))
  expect(expected.length).toBeGreaterThan(100)
  expect(expected, `seed ${seed}`).toEqual((await logged(made)).filter((event) => event.bucket === 'box'))
  for (let from = 1; from <= made.namespace.durableRevision() + 1; from += 3) {
    const prefix = random.pick(['', 'a/', 'b/1'])
    const watcher = await made.watching.open({ bucket: 'box', prefix, from })
    const events = await drained(made, watcher, 1 + random.below(50))
    const wanted = expected.filter(
      (event) => event.revision >= from && event.kind !== 'renamed' && event.key.startsWith(prefix),
    )
    expect(events, `seed ${seed}, from ${from}`).toEqual(wanted)
    made.watching.close(watcher)
  }
})

test('C3: a batch is cut between revisions, never within one', async () => {
  const event = (revision: number, key: string): MetadataChange => ({
    kind: 'delete',
    revision,
    bucket: 'box',
    key,
  })
  const events = [event(5, 'a'), event(6, 'b'), event(6, 'c'), event(6, 'd'), event(7, 'e')]
  const made = fakeMetadata(4)
  const watcher = await made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  const first = made.watching.next(watcher, { waitMs: 1_000, limit: 2 })
  made.tell({ events, through: 9 })
  const cuts = [await first]
  for (const limit of [2, 1, 1]) cuts.push(await made.watching.next(watcher, { waitMs: 0, limit }))
  expect(cuts.map((batch) => [names(batch.events), batch.next])).toEqual([
    [['delete a'], 6],
    [['delete b', 'delete c', 'delete d'], 7],
    [['delete e'], 10],
    [[], 10],
  ])
  made.watching.stop()
})

test('C7: who asks for what is no longer kept is told at once, and who falls behind when it asks again', async () => {
  const made = await make({ recentEventsMax: 4 }, { changeLogRevisionsMax: 20 })
  const slow = await made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  for (let i = 0; i < 100; i++) {
    await made.put('box', `k${i}`)
    await made.namespace.flush()
  }
  await settled(made)
  await expect(made.watching.next(slow, ALL)).rejects.toMatchObject({ code: 'RevisionGone' })
  const late = made.watching.open({ bucket: 'box', prefix: '', from: 1 })
  await expect(late).rejects.toMatchObject({ code: 'RevisionGone', details: { revision: 1 } })
  expect(made.watching.count).toBe(1)
})

test('C7: the place of a watcher moves on while its prefix is quiet', async () => {
  const made = await make({}, { changeLogRevisionsMax: 20 })
  const watcher = await made.watching.open({ bucket: 'box', prefix: 'quiet/', from: undefined })
  for (let i = 0; i < 100; i++) {
    await made.put('box', `busy/${i}`)
    await made.namespace.flush()
    if (i % 10 === 0) await made.watching.next(watcher, ALL)
  }
  const idle = made.watching.next(watcher, { waitMs: 5_000, limit: 10 })
  await made.scheduler.until(idle, 'a quiet watch')
  expect(await idle).toEqual({ events: [], next: made.namespace.durableRevision() + 1 })
  expect(made.scheduler.nowMs).toBeGreaterThanOrEqual(5_000)
  expect(made.scheduler.nowMs).toBeLessThan(5_100)
})

test('a thousand watchers: those of one prefix get the same batch, those of another bucket sleep on', async () => {
  const made = await make()
  const open = (bucket: string, prefix: string): Promise<WatcherId> =>
    made.watching.open({ bucket, prefix, from: undefined })
  const [box, other] = [[] as WatcherId[], [] as WatcherId[]]
  for (let i = 0; i < 1_000; i++) {
    box.push(await open('box', 'a/'))
    other.push(await open('other', ''))
  }
  let woken = 0
  const wait = { waitMs: 10_000, limit: 100 }
  const sleeping = other.map((watcher) => made.watching.next(watcher, wait).then(() => woken++))
  const told = box.map((watcher) => made.watching.next(watcher, wait))
  await made.put('box', 'a/1')
  const batches = await Promise.all(told)
  expect(names(batches[0]?.events ?? [])).toEqual(['put a/1'])
  expect(new Set(batches).size).toBe(1)
  expect(woken).toBe(0)
  for (const watcher of other) made.watching.close(watcher)
  await Promise.all(sleeping)
})

test('closing a watcher ends its wait with nothing; stopping ends every wait', async () => {
  const made = await make()
  const open = (): Promise<WatcherId> => made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  const [first, second] = [await open(), await open()]
  const wait = { waitMs: 10_000, limit: 1 }
  const closed = made.watching.next(first, wait)
  const stopped = made.watching.next(second, wait)
  made.watching.close(first)
  expect((await closed).events).toEqual([])
  made.watching.stop()
  await expect(stopped).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(made.watching.next(second, wait)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(open()).rejects.toMatchObject({ code: 'Unavailable' })
})

test('a bucket that is not there cannot be watched, and one that goes ends the watch', async () => {
  const made = await make()
  const open = (bucket: string): Promise<WatcherId> => made.watching.open({ bucket, prefix: '', from: undefined })
  await expect(open('none')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  const watcher = await open('box')
  const next = made.watching.next(watcher, { waitMs: 1_000, limit: 1 })
  const outcome = expect(next).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await made.namespace.deleteBucket('box')
  await made.scheduler.until(
    next.catch(() => undefined),
    'the watch',
  )
  await outcome
})

test('watchers are bounded', async () => {
  const made = await make({ watchersMax: 2 })
  const open = (): Promise<WatcherId> => made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  const first = await open()
  await open()
  await expect(open()).rejects.toMatchObject({ code: 'SlowDown' })
  made.watching.close(first)
  await open()
})

test('a feed that fails tells those who wait, and goes on where it was', async () => {
  const made = fakeMetadata(1)
  const watcher = await made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  const failed = made.watching.next(watcher, { waitMs: 60_000, limit: 10 })
  made.fail(new TidegateError('StorageFull', 'no space'))
  await expect(failed).rejects.toMatchObject({ code: 'Unavailable' })
  const told = made.watching.next(watcher, { waitMs: 60_000, limit: 10 })
  await made.scheduler.step()
  await new Promise((resolve) => setImmediate(resolve))
  expect(made.watchedFrom).toEqual([2, 2])
  made.tell({ events: [{ kind: 'delete', revision: 2, bucket: 'box', key: 'a' }], through: 2 })
  expect(names((await told).events)).toEqual(['delete a'])
  made.watching.stop()
})

test('the feed ends a while after the last watcher', async () => {
  const made = fakeMetadata(1)
  const open = (): Promise<WatcherId> => made.watching.open({ bucket: 'box', prefix: '', from: undefined })
  made.watching.close(await open())
  made.watching.close(await open())
  expect(made.aborted()).toBe(false)
  await made.scheduler.delayed(61_000)
  expect(made.aborted()).toBe(true)
  await open()
  expect(made.watchedFrom).toEqual([2, 2])
  made.watching.stop()
})

interface FakeMetadata {
  readonly watching: RunningWatching
  readonly scheduler: Scheduler & { delayed(ms: number): Promise<void> }
  readonly watchedFrom: number[]
  tell(batch: MetadataChangeBatch): void
  fail(error: Error): void
  aborted(): boolean
}

/** Tells what the test says. */
function fakeMetadata(durable: number): FakeMetadata {
  const scheduler = Object.assign(new Scheduler(), {
    async delayed(this: Scheduler, ms: number): Promise<void> {
      await this.until(this.delay(ms), 'a delay')
    },
  })
  const watchedFrom: number[] = []
  let feed = Promise.withResolvers<MetadataChangeBatch>()
  let signal: AbortSignal | undefined
  async function* watch(from: number, stop: AbortSignal): AsyncGenerator<MetadataChangeBatch> {
    watchedFrom.push(from)
    signal = stop
    for (;;) yield await feed.promise
  }
  const metadata = {
    watch,
    durableRevision: () => durable,
    bucket: () => Promise.resolve({} as never),
  }
  const next = (): typeof feed => {
    const present = feed
    feed = Promise.withResolvers()
    return present
  }
  return {
    watching: createWatching({ metadata, clock: scheduler.clock }),
    scheduler,
    watchedFrom,
    tell: (batch) => next().resolve(batch),
    fail: (error) => next().reject(error),
    aborted: () => signal?.aborted === true,
  }
}
