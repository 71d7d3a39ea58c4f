/** `GET /kv/v1/{bucket}?watch=true`: server-sent events and long poll, and how both resume. */
// needs: curl
/* oxlint-disable unicorn/no-thenable -- the API's word for what a transaction does */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import type { KvClient, WatchEvent } from '../../../src/client/kv-client.ts'
import { basic } from '../../support/curl.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'kvs', '--change-log-revisions', '1000'])
const { curl } = suite
let kv: KvClient
beforeAll(() => {
  kv = suite.client('kvs')
})

interface Poll {
  readonly events: readonly Record<string, unknown>[]
  readonly next: number
}

async function poll(query: string): Promise<Poll> {
  const answer = await curl(`/kvs?watch=true&${query}`)
  expect([answer.status, answer.headers['content-type']], answer.text).toEqual([
    200,
    expect.stringMatching(/^application\/json/),
  ])
  return JSON.parse(answer.text) as Poll
}

/** `curl -N` on the event stream, until `enough` says so of what came. */
function stream(query: string, enough: (text: string) => boolean, headers: readonly string[] = []): Promise<string> {
  const { http, root } = suite.gateway
  const url = `${http}/kv/v1/kvs?watch=true&${query}`
  const fixed = ['-sSN', '--max-time', '60', '-H', 'Accept: text/event-stream', ...basic(root)]
  const child = spawn('curl', [...fixed, ...headers.flatMap((header) => ['-H', header]), url])
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
    if (enough(text)) child.kill()
  })
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return new Promise((resolve) => child.on('close', () => resolve(text)))
}

/** Those that tell something; the others say only that the stream is alive, and where to resume. */
function blocksOf(text: string): string[] {
  return text.split('\n\n').filter((block) => /^data:/m.test(block))
}

async function take(events: AsyncIterable<WatchEvent>, count: number): Promise<WatchEvent[]> {
  const taken: WatchEvent[] = []
  for await (const event of events) if (taken.push(event) === count) break
  return taken
}

describe('as events', () => {
  it('tells every change in order, from a revision on', async () => {
    const first = await kv.put('sse/a', 'blue')
    await kv.put('elsewhere', 'x')
    const second = await kv.delete('sse/a')
    const text = await stream(
      `from=${first.revision}&prefix=sse/`,
      (seen) => seen.includes('event: delete') && seen.endsWith('\n\n'),
    )
    const [put = '', deleted = ''] = blocksOf(text)
    expect(put.split('\n').slice(0, 2).sort()).toEqual([`event: put`, `id: ${first.revision}`].sort())
    expect(JSON.parse(/^data: (?<data>.*)$/m.exec(put)?.groups?.['data'] ?? '')).toEqual({
      type: 'put',
      revision: first.revision,
      key: 'sse/a',
      etag: first.etag,
      size: 4,
    })
    expect(JSON.parse(/^data: (?<data>.*)$/m.exec(deleted)?.groups?.['data'] ?? '')).toEqual({
      type: 'delete',
      revision: second.revision,
      key: 'sse/a',
    })
  })

  it('resumes behind Last-Event-ID', async () => {
    const one = await kv.put('resume/1', 'x')
    const two = await kv.put('resume/2', 'x')
    const text = await stream('prefix=resume/', (seen) => seen.includes('resume/2'), [`Last-Event-ID: ${one.revision}`])
    expect(text).not.toContain('resume/1')
    expect(text).toContain(`id: ${two.revision}\n`)
  })

  it('tells what comes from now on, as it comes', async () => {
    const watched = take(kv.watch({ prefix: 'now/' }), 20)
    await sleep(300)
    const puts: number[] = []
    for (let at = 0; at < 20; at++) puts.push((await kv.put(`now/${at}`, 'x')).revision)
    expect((await watched).map(({ revision }) => revision)).toEqual(puts)
  })

  it('tells a transaction as one revision, whose last change has the id', async () => {
    const { revision } = await kv.transaction({
      then: [
        { op: 'put', key: 'txn/a', value: 'x' },
        { op: 'put', key: 'txn/b', value: 'x' },
        { op: 'put', key: 'txn/c', value: 'x' },
      ],
    })
    const text = await stream(`from=${revision}&prefix=txn/`, (seen) => seen.includes('txn/c') && seen.endsWith('\n\n'))
    expect(blocksOf(text).map((block) => block.includes(`id: ${revision}\n`))).toEqual([false, false, true])
    const events = await take(kv.watch({ from: revision, prefix: 'txn/' }), 3)
    expect(events.map((event) => [event.revision, event.type === 'renamed' ? '' : event.key])).toEqual(
      ['txn/a', 'txn/b', 'txn/c'].map((key) => [revision, key]),
    )
  })

  it('misses nothing and repeats nothing behind a scan, whatever is written meanwhile', async () => {
    const ended = new AbortController()
    const writer = (async () => {
      for (let round = 0; !ended.signal.aborted; round++) {
        if (round % 3 === 2) await kv.delete(`mirror/${round % 10}`)
        else await kv.put(`mirror/${round % 10}`, String(round))
        await sleep(2)
      }
      return (await kv.put('mirror/end', 'x')).revision
    })()
    await sleep(50)
    const mirror = new Map<string, number>()
    const page = await kv.scanPage({ prefix: 'mirror/' })
    for (const { key, revision } of page.entries) mirror.set(key, revision)
    setTimeout(() => {
      ended.abort()
    }, 300)
    let last = page.revision
    for await (const event of kv.watch({ from: page.revision + 1, prefix: 'mirror/' })) {
      expect(event.revision).toBeGreaterThan(last)
      last = event.revision
      if (event.type === 'put') mirror.set(event.key, event.revision)
      else if (event.type === 'delete') mirror.delete(event.key)
      if (event.type === 'put' && event.key === 'mirror/end') break
    }
    await writer
    const present = await kv.scanPage({ prefix: 'mirror/' })
    expect(mirror).toEqual(new Map(present.entries.map(({ key, revision }) => [key, revision])))
  })

  it('sends a comment every 15 s when nothing else comes', async () => {
    const { next } = await kv.poll({ waitSeconds: 0 })
    const text = await stream(`from=${next}&prefix=silence/`, (seen) => /^:.*\n/m.test(seen))
    expect(text).toMatch(/^:/m)
    expect(text).not.toContain('data:')
  }, 40_000)

  it('100 watchers hear of the same change', async () => {
    const { next } = await kv.poll({ waitSeconds: 0 })
    const watchers = Array.from({ length: 100 }, () => take(kv.watch({ from: next, prefix: 'fan/' }), 2))
    await sleep(500)
    await kv.put('fan/a', 'x')
    await kv.put('fan/b', 'x')
    for (const events of await Promise.all(watchers)) {
      expect(events.map((event) => (event.type === 'put' ? event.key : event.type))).toEqual(['fan/a', 'fan/b'])
    }
  })
})

describe('by long poll', () => {
  it('answers at once with what there is, and tells where to go on', async () => {
    const first = await kv.put('poll/a', 'x')
    const second = await kv.put('poll/b', 'x', { ttlSeconds: 1_000 })
    const { events, next } = await poll(`from=${first.revision}&prefix=poll/`)
    expect(events).toMatchObject([
      { type: 'put', revision: first.revision, key: 'poll/a', etag: first.etag, size: 1 },
      { type: 'put', revision: second.revision, key: 'poll/b' },
    ])
    expect(next).toBeGreaterThan(second.revision)
    expect(await poll(`from=${next}&prefix=poll/&wait=0`)).toMatchObject({ events: [] })
  })

  it('waits for what comes, and no longer than it was told', async () => {
    const { next } = await poll('wait=0')
    const startedMs = Date.now()
    const waiting = poll(`from=${next}&prefix=wait/&wait=30`)
    await sleep(300)
    const { revision } = await kv.put('wait/a', 'x')
    expect((await waiting).events).toMatchObject([{ revision }])
    expect(Date.now() - startedMs).toBeLessThan(10_000)
    const emptyMs = Date.now()
    const empty = await poll('prefix=wait/&wait=1')
    expect(empty.events).toEqual([])
    expect(empty.next).toBeGreaterThan(revision)
    expect(Date.now() - emptyMs).toBeGreaterThanOrEqual(900)
  })

  it('gives whole revisions only, at most as many as asked', async () => {
    const { revision } = await kv.put('whole/0', 'x')
    await kv.transaction({ then: ['1', '2', '3'].map((name) => ({ op: 'put', key: `whole/${name}`, value: 'x' })) })
    await kv.put('whole/4', 'x')
    const seen: unknown[][] = []
    for (let from = revision; seen.flat().length < 5;) {
      const { events, next } = await poll(`from=${from}&prefix=whole/&limit=2&wait=5`)
      seen.push(events.map(({ key }) => key))
      expect(next).toBeGreaterThan(from)
      from = next
    }
    expect(seen.flat()).toEqual(['whole/0', 'whole/1', 'whole/2', 'whole/3', 'whole/4'])
    expect(seen.some((keys) => keys.length >= 3 && keys.includes('whole/1') && keys.includes('whole/3'))).toBe(true)
  })
})

it('says that a revision is gone: 410, and to the client as RevisionGone', async () => {
  for (let round = 0; round < 16; round++) {
    await kv.batch(
      Array.from({ length: 100 }, (_, at) => ({ op: 'put', key: `fill/${at}`, value: String(round) }) as const),
    )
  }
  const deadline = Date.now() + 30_000
  let answer = await curl('/kvs?watch=true&from=1&wait=0')
  // The log is cut in the background; and what is committed at once may be one revision (C3).
  while (answer.status === 200 && Date.now() < deadline) {
    for (let put = 0; put < 50; put++) await kv.put('fill/more', 'x')
    answer = await curl('/kvs?watch=true&from=1&wait=0')
  }
  expect(problemOf(answer)).toBe('410 RevisionGone')
  expect(await stream('from=1', (seen) => seen.includes('RevisionGone'))).toContain('RevisionGone')
  await expect(take(kv.watch({ from: 1 }), 1)).rejects.toMatchObject({ name: 'RevisionGone', code: 'RevisionGone' })
  // What it says to do then works.
  const { revision } = await kv.scanPage({ limit: 1 })
  expect((await kv.poll({ from: revision + 1, waitSeconds: 0 })).events).toEqual([])
})

it.each([
  'wait=61',
  'wait=-1',
  'wait=x',
  'limit=0',
  'limit=10001',
  'from=-1',
  'from=x',
  'from=',
  'values=true',
  'reverse=true',
  'cursor=x',
  'from=1&from=2',
  'made-up=1',
])('refuses ?watch=true&%s', async (query) => {
  expect(problemOf(await curl(`/kvs?watch=true&${query}`))).toBe('400 InvalidArgument')
})
