import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { createWatching, type RunningWatching } from '../../../../src/store/watching/watching.ts'
import type { Store } from '../../../../src/store/doors.ts'
import { registerScanOrWatchRoute } from '../../../../src/gateway/kv/scan-or-watch.ts'
import { WATCHED_ROWS } from '../../../../src/meta/namespace/changes.ts'
import { Random, testSeed } from '../../../model/random.ts'
import { fixture, type Fixture } from '../../meta/namespace/fixture.ts'
import { EventStream, type StreamedEvent } from './event-stream.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

interface Made extends Fixture {
  readonly watching: RunningWatching
  readonly kv: KvHarness<Store>
  readonly url: string
}

const ending: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end()
})

/** The door over the real thing, but for the parts of the store that it does not touch. */
async function make(changeLogRevisionsMax = 1_000): Promise<Made> {
  const made = await fixture({ ...WATCHED_ROWS, changeLogRevisionsMax })
  const watching = createWatching({ metadata: made.namespace, clock: systemClock, recentEventsMax: 20 })
  await made.bucket('box')
  await made.namespace.flush()
  const kv = await startKvHarness<Store>([registerScanOrWatchRoute], { store: { watching } as unknown as Store })
  ending.push(async () => {
    await kv.stop()
    watching.stop()
    await made.stop()
  })
  return { ...made, watching, kv, url: `${kv.url}/kv/v1/box?watch=true` }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 500) throw new Error('it does not come about')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const shown = ({ event, data }: StreamedEvent): string =>
  event === 'renamed' ? `${String(data['from'])}>${String(data['to'])}` : `${event} ${String(data['key'])}`

test('changes come as server-sent events', async () => {
  const made = await make()
  const stream = await EventStream.open(`${made.url}&prefix=a/`)
  expect(stream.response.status).toBe(200)
  expect(stream.response.headers.get('content-type')).toBe('text/event-stream')
  expect(made.kv.asked[0]).toMatchObject({ action: 's3:ListBucket', bucket: 'box', context: { 's3:prefix': 'a/' } })
  const { revision, etag } = await made.put('box', 'a/1', { bytes: 'four' })
  await made.put('box', 'b/1')
  await made.remove('box', 'a/1')
  await made.put('box', 'a/b/2')
  await made.namespace.rename({ bucket: 'box', from: 'a/b/', to: 'c/', replace: false })
  const events = await stream.take(4)
  expect(events[0]).toEqual({
    event: 'put',
    data: { type: 'put', revision, key: 'a/1', etag, size: 4 },
    lastId: String(revision),
  })
  expect(events.map(shown)).toEqual(['put a/1', 'delete a/1', 'put a/b/2', 'a/b/>c/'])
  stream.close()
  await until(() => made.watching.count === 0)
  await until(() => made.kv.outcomes.length > 0)
  expect(made.kv.outcomes[0]).toMatchObject({ operation: 'KvWatch' })
})

test('C3: a stream that breaks anywhere and resumes misses nothing and is told nothing twice', async () => {
  const seed = testSeed()
  const random = new Random(seed)
  const made = await make()
  const from = made.namespace.revision() + 1
  const written: number[] = []
  const seen: number[] = []
  let lastId: string | undefined
  while (seen.length < 200) {
    for (let puts = random.below(30); puts > 0; puts--) written.push((await made.put('box', 'k')).revision)
    const resume = lastId === undefined ? {} : { 'last-event-id': lastId }
    const stream = await EventStream.open(`${made.url}&from=${from}`, resume)
    const events = await stream.take(random.below(written.length - seen.length + 1))
    seen.push(...events.map((event) => event.data['revision'] as number))
    lastId = events.at(-1)?.lastId ?? lastId
    stream.close()
  }
  expect(seen, `seed ${seed}`).toEqual(written.slice(0, seen.length))
})

test('a stream begins with the place to resume at, also when nothing has happened', async () => {
  const made = await make()
  const from = made.namespace.durableRevision() + 1
  const stream = await EventStream.open(made.url)
  const next = stream.next()
  await until(() => stream.lastId !== '')
  expect(stream.lastId).toBe(String(from - 1))
  await made.put('box', 'a')
  expect((await next)?.data['key']).toBe('a')
  stream.close()
})

test('C7: what is no longer kept is 410 at the start, and says what is', async () => {
  const made = await make(20)
  for (let i = 0; i < 60; i++) {
    await made.put('box', `k${i}`)
    await made.namespace.flush()
  }
  for (const accept of ['text/event-stream', 'application/json']) {
    const response = await fetch(`${made.url}&from=1`, { headers: { accept } })
    expect([response.status, response.headers.get('content-type')]).toEqual([410, 'application/problem+json'])
    const problem = (await response.json()) as { code: string; oldest: number }
    expect(problem.code).toBe('RevisionGone')
    expect((await fetch(`${made.url}&wait=0&from=${problem.oldest}`)).status).toBe(200)
  }
  expect(made.watching.count).toBe(0)
})

test('a long poll answers as soon as there is something, else after its wait', async () => {
  const made = await make()
  const first = fetch(`${made.url}&wait=30`)
  await until(() => made.watching.count === 1)
  const { revision, etag } = await made.put('box', 'a')
  const answer: unknown = await (await first).json()
  expect(answer).toEqual({ events: [{ type: 'put', revision, key: 'a', etag, size: 0 }], next: revision + 1 })
  await made.put('box', 'b')
  await made.remove('box', 'a')
  await made.namespace.flush()
  const poll = async (query: string): Promise<{ events: { key: string }[]; next: number }> =>
    (await (await fetch(`${made.url}&wait=0&${query}`)).json()) as never
  expect(await poll(`from=${revision}&limit=2`)).toMatchObject({ events: [{ key: 'a' }, { key: 'b' }] })
  expect(await poll(`from=${revision}&prefix=b`)).toMatchObject({ events: [{ key: 'b' }] })
  const next = made.namespace.durableRevision() + 1
  expect(await poll(`from=${next}`)).toEqual({ events: [], next })
  expect(made.watching.count).toBe(0)
})

test('what is not understood is refused', async () => {
  const made = await make()
  const status = async (query: string, headers: Record<string, string> = {}): Promise<number> =>
    (await fetch(`${made.url}&${query}`, { headers })).status
  const stream = { accept: 'text/event-stream' }
  expect(await status('wait=61')).toBe(400)
  expect(await status('limit=0')).toBe(400)
  expect(await status('from=-1')).toBe(400)
  expect(await status('from=x', stream)).toBe(400)
  expect(await status('limit=1', stream)).toBe(400)
  expect(await status('reverse=true')).toBe(400)
  expect(await status('', { ...stream, 'last-event-id': 'x' })).toBe(400)
  expect((await fetch(`${made.kv.url}/kv/v1/none?watch=true`, { headers: stream })).status).toBe(404)
  made.kv.deny(() => true)
  expect(await status('', stream)).toBe(403)
  expect(made.watching.count).toBe(0)
})

test('a draining port does not wait for watchers: streams and polls end at once', async () => {
  const made = await make()
  const stream = await EventStream.open(made.url)
  const poll = fetch(`${made.url}&wait=60`)
  await until(() => made.watching.count === 2)
  // Far from the minute that the poll would wait, and from how busy a machine can be.
  const beganMs = performance.now()
  const drained = made.kv.drain()
  expect(await stream.next()).toBeUndefined()
  expect(await (await poll).json()).toMatchObject({ events: [] })
  await drained
  expect(performance.now() - beganMs).toBeLessThan(20_000)
  expect(made.kv.outcomes.map((outcome) => outcome.status)).toEqual([200, 200])
  expect(made.watching.count).toBe(0)
})

test('a thousand streams of one prefix are all told', async () => {
  const made = await make()
  const streams = await Promise.all(Array.from({ length: 1_000 }, () => EventStream.open(made.url)))
  await until(() => made.watching.count === 1_000)
  const told = Promise.all(streams.map((stream) => stream.take(3)))
  for (const key of ['a', 'b', 'c']) await made.put('box', key)
  for (const events of await told) expect(events.map(shown)).toEqual(['put a', 'put b', 'put c'])
  for (const stream of streams) stream.close()
  await until(() => made.watching.count === 0)
})
