import { afterEach, expect, it } from 'vitest'
import { readEvents } from '../../../src/attach/event-messages.ts'
import { Events } from '../../../src/attach/events.ts'
import { mirrorFixture } from './mirror-fixture.ts'
import { turns } from './write-back-fixture.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

const record = (key: string, bucket = 'there'): object => ({
  eventVersion: '2.1',
  eventSource: 'aws:s3',
  eventName: 'ObjectCreated:Put',
  s3: { bucket: { name: bucket }, object: { key, size: 3, eTag: 'e', sequencer: '0055AED6DCD90281E5' } },
})
const message = (...keys: readonly string[]): object => ({ Records: keys.map((key) => record(key)) })

async function begin(options?: { keysMax?: number }) {
  const fixture = await mirrorFixture()
  const failures: string[] = []
  const { names, freshness, attached } = fixture
  const buckets = {
    isEmpty: false,
    of: () => attached,
    ofId: (id: number) => (id === attached.record.bucketId ? attached : undefined),
    all: () => [attached],
  }
  const onFailure = (doing: string): void => void failures.push(doing)
  const events = new Events({ attached: buckets, names, freshness, onFailure }, options)
  stops.push(async () => {
    await events.stop()
    await fixture.stop()
  })
  const at = { ...attached, place: { bucket: 'there', prefix: 'photos' } }
  return { ...fixture, events, failures, notify: (sent: unknown) => events.notify(at, sent) }
}

const listing = { bucket: 'far', prefix: '', after: '', delimiter: '', limit: 100 }

it('looks at a key again that was changed, made or removed outside, within its TTL', async () => {
  const run = await begin()
  run.external.outsidePut('a', '1')
  run.external.outsidePut('b', '1')
  await run.metadata.list(listing)
  run.external.outsidePut('a', '22')
  run.external.outsideDelete('b')
  run.external.outsidePut('c d', '1')
  expect(run.notify(message('photos/a', 'photos/b', 'photos/c+d'))).toEqual({ taken: 3, ignored: 0, unread: 0 })
  await turns()
  const { objects } = await run.namespace.list(listing)
  expect(objects.map(({ key, size }) => [key, size])).toEqual([
    ['a', 2],
    ['c d', 1],
  ])
})

it('ignores and counts what is of other buckets, outside the prefix, or no event', async () => {
  const run = await begin()
  expect(
    run.notify({ Records: [record('photos/a', 'elsewhere'), record('photos2/a'), record('photos/'), {}] }),
  ).toEqual({
    taken: 0,
    ignored: 3,
    unread: 1,
  })
  expect(run.notify({ Service: 'Amazon S3', Event: 's3:TestEvent' })).toEqual({ taken: 0, ignored: 0, unread: 1 })
  await turns()
  expect(run.external.operations).toEqual([])
  expect(run.events.status(run.attached.record.bucketId)).toEqual({
    taken: 0,
    ignored: 3,
    unread: 2,
    overflowed: 0,
    waiting: 0,
  })
})

it('takes the same event any number of times, and asks about as often as there is something to find', async () => {
  const run = await begin()
  run.external.outsidePut('a', '1')
  for (let index = 0; index < 50; index++) run.notify(message('photos/a', 'photos/a'))
  await turns()
  expect(run.external.calls('head')).toBeLessThanOrEqual(10)
  await expect(run.metadata.lookup('far', 'a', undefined)).resolves.toMatchObject({ size: 1 })
})

it('lets listings ask again where too many came at once', async () => {
  const run = await begin({ keysMax: 4 })
  for (let index = 0; index < 40; index++) run.external.outsidePut(`d/e/${index}`, '1')
  await run.metadata.list(listing)
  run.external.down = false
  const keys = Array.from({ length: 40 }, (_, index) => `photos/d/e/${index}`)
  for (let index = 0; index < 40; index++) run.external.outsideDelete(`d/e/${index}`)
  run.external.outsidePut('d/e/new', '1')
  const heads = run.external.calls('head')
  run.notify(message(...keys, 'photos/d/e/new'))
  await turns(60)
  expect(run.external.calls('head') - heads).toBeLessThanOrEqual(4)
  expect(run.events.status(run.attached.record.bucketId)).toMatchObject({ taken: 41, overflowed: 37, waiting: 0 })
  const { objects } = await run.metadata.list({ ...listing, prefix: 'd/e/' })
  expect(objects.map(({ key }) => key)).toEqual(['d/e/new'])
  // Also by itself, within the TTL of what was seen before.
  await expect(run.metadata.lookup('far', 'd/e/39', undefined)).rejects.toMatchObject({ code: 'NoSuchKey' })
})

it('does not care whether the store answers', async () => {
  const run = await begin()
  run.external.down = true
  run.notify(message('photos/a'))
  await turns()
  run.external.down = false
  run.clock.ms += 2000
  run.external.outsidePut('a', '1')
  await expect(run.metadata.lookup('far', 'a', undefined)).resolves.toMatchObject({ size: 1 })
})

it('reads S3, SNS and EventBridge messages, and arrays of them', () => {
  const bridge = {
    source: 'aws.s3',
    'detail-type': 'Object Deleted',
    detail: { bucket: { name: 'there' }, object: { key: 'with+plus and space' } },
  }
  const sns = { Type: 'Notification', MessageId: 'm', Message: JSON.stringify(message('a%2Bb+c', '%E2%82%AC')) }
  expect(readEvents(bridge)).toMatchObject({ events: [{ bucket: 'there', key: 'with+plus and space' }], unread: 0 })
  expect(readEvents([sns, bridge]).events.map(({ key }) => key)).toEqual(['a+b c', '€', 'with+plus and space'])
})

it.each([
  undefined,
  null,
  'text',
  7,
  { Type: 'SubscriptionConfirmation', Message: 'You have chosen to subscribe', SubscribeURL: 'http://x' },
  { Message: '{"Message":"{\\"Message\\":\\"{}\\"}"}' },
  { Records: [null] },
  { Records: [record('%')] },
  { source: 'aws.s3', detail: { bucket: {}, object: { key: 'a' } } },
])('reads nothing from %j', (sent) => {
  expect(readEvents(sent)).toMatchObject({ events: [], unread: 1 })
})

it('does not look at what is no key of any store', async () => {
  const run = await begin({ keysMax: 1 })
  const deep = '/'.repeat(500_000)
  const sent = [deep, 'é'.repeat(513), '\ud800'].map((key) => ({
    source: 'aws.s3',
    detail: { bucket: { name: 'there' }, object: { key: `photos/${key}` } },
  }))
  expect(run.notify(sent)).toEqual({ taken: 0, ignored: 0, unread: 3 })
})
