import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { afterEach, expect, it } from 'vitest'
import { createKvClient, type KvClient, type WatchEvent } from '../../../src/client/kv-client.ts'
import { serverSentEvents, type ServerSentEvent } from '../../../src/client/event-stream.ts'
import { fakeGateway, sendProblem, type FakeGateway } from './fake-gateway.ts'

let gateway: FakeGateway | undefined
let kv: KvClient | undefined

async function against(
  answer: Parameters<typeof fakeGateway>[0],
): Promise<{ kv: KvClient; seen: FakeGateway['seen'] }> {
  gateway = await fakeGateway(answer)
  kv = createKvClient({ url: gateway.url, bucket: 'b' })
  return { kv, seen: gateway.seen }
}

afterEach(async () => {
  kv?.close()
  await gateway?.close()
})

function put(revision: number, key: string, last = true): string {
  const data = JSON.stringify({ type: 'put', revision, key, etag: 'e', size: 1 })
  return `${last ? `id: ${revision}\n` : ''}event: put\ndata: ${data}\n\n`
}

function sendEvents(response: ServerResponse, text: string): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(text)
}

async function take(events: AsyncIterable<WatchEvent>, count: number): Promise<string[]> {
  const taken: string[] = []
  for await (const event of events) {
    taken.push(`${event.revision} ${event.type === 'renamed' ? event.to : event.key}`)
    if (taken.length === count) break
  }
  return taken
}

it('resumes behind the last whole revision when a connection breaks, telling every change once', async () => {
  const { kv, seen } = await against((response, request, number) => {
    if (number === 0) {
      // A transaction of two, of which the second never comes.
      sendEvents(response, put(5, 'a') + put(6, 'b', false))
      setTimeout(() => response.destroy(), 20)
    } else if (number === 1) sendProblem(response, 503, 'Unavailable')
    else sendEvents(response, `: alive\n\n${put(6, 'b', false)}${put(6, 'c')}${put(9, 'd')}`)
  })
  expect(await take(kv.watch({ from: 5, prefix: 'x/' }), 4)).toEqual(['5 a', '6 b', '6 c', '9 d'])
  expect(seen.map(({ target }) => target)).toEqual([
    '/kv/v1/b?watch=true&prefix=x%2F&from=5',
    '/kv/v1/b?watch=true&prefix=x%2F&from=6',
    '/kv/v1/b?watch=true&prefix=x%2F&from=6',
  ])
})

it('asks for the present revision first when it is told none', async () => {
  const { kv, seen } = await against((response, request, number) => {
    if (number === 0) response.end('{"events":[],"next":20}')
    else if (number === 1) response.destroy()
    else sendEvents(response, put(20, 'a'))
  })
  expect(await take(kv.watch(), 1)).toEqual(['20 a'])
  expect(seen.map(({ target }) => target)).toEqual([
    '/kv/v1/b?watch=true&wait=0',
    '/kv/v1/b?watch=true&from=20',
    '/kv/v1/b?watch=true&from=20',
  ])
})

it('resumes where the gateway was, though nothing concerned it', async () => {
  const { kv, seen } = await against((response, _request, number) => {
    if (number > 0) return sendEvents(response, put(900, 'a'))
    sendEvents(response, ':\nid: 4\n\n:\nid: 800\n\n')
    setTimeout(() => response.destroy(), 20)
  })
  expect(await take(kv.watch({ from: 5 }), 1)).toEqual(['900 a'])
  expect(seen.at(-1)?.target).toBe('/kv/v1/b?watch=true&from=801')
})

it.each([
  ['as an answer', (response: ServerResponse) => sendProblem(response, 410, 'RevisionGone')],
  ['in the stream', (response: ServerResponse) => sendEvents(response, 'event: gone\ndata: {"detail":"too old"}\n\n')],
])('is told that the revision is gone %s', async (_name, answer) => {
  const { kv } = await against(answer)
  await expect(take(kv.watch({ from: 1 }), 1)).rejects.toMatchObject({ name: 'RevisionGone', code: 'RevisionGone' })
  expect(gateway?.seen.length).toBe(1)
})

it('gives up when it may not, and after as long as it was told', async () => {
  const { kv } = await against((response, request) =>
    request.target.includes('secret') ? sendProblem(response, 403, 'AccessDenied') : response.destroy(),
  )
  await expect(take(kv.watch({ from: 1, prefix: 'secret' }), 1)).rejects.toMatchObject({ code: 'AccessDenied' })
  await expect(take(kv.watch({ from: 1, reconnectMsMax: 300 }), 1)).rejects.toMatchObject({ code: 'NoAnswer' })
})

it('closes its connection when the loop is left or the signal aborts', async () => {
  const closed: Promise<unknown>[] = []
  const { kv } = await against((response) => {
    closed.push(once(response, 'close'))
    sendEvents(response, put(5, 'a'))
  })
  await take(kv.watch({ from: 5 }), 1)
  await closed[0]
  const abort = new AbortController()
  const watching = take(kv.watch({ from: 5, signal: abort.signal }), 2)
  setTimeout(() => abort.abort(), 30)
  await expect(watching).rejects.toMatchObject({ name: 'AbortError' })
  await closed[1]
})

async function all(chunks: AsyncIterable<Buffer>): Promise<ServerSentEvent[]> {
  const events: ServerSentEvent[] = []
  for await (const event of serverSentEvents(chunks)) events.push(event)
  return events
}

it('reads events however they are cut', async () => {
  const text =
    'id: 1\r\nevent: put\r\ndata: {"a":\r\ndata: 1}\r\n\r\n: comment\n\ndata:x\n\n:\nid: 7\n\nid: 9\nevent: cut'
  const whole: ServerSentEvent[] = [
    { event: 'put', data: '{"a":\n1}', id: '1' },
    { event: 'message', data: 'x', id: undefined },
    { event: 'message', data: undefined, id: '7' },
  ]
  for (const size of [1, 2, 7, 1_000]) {
    const cut = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
      Buffer.from(text.slice(at * size, at * size + size)),
    )
    async function* chunks(): AsyncGenerator<Buffer> {
      yield* cut
    }
    expect(await all(chunks())).toEqual(whole)
  }
  const endless = async function* (): AsyncGenerator<Buffer> {
    for (;;) yield Buffer.alloc(20_000, 'x')
  }
  await expect(all(endless())).rejects.toMatchObject({ code: 'BadAnswer' })
})
