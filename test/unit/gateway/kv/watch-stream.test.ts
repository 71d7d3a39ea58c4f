import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { DoorExchange } from '../../../../src/gateway/http/exchange.ts'
import { batchDocument, eventBlocks } from '../../../../src/gateway/kv/watch-events.ts'
import { streamChanges, type WatchStream } from '../../../../src/gateway/kv/watch-stream.ts'
import type { Watching } from '../../../../src/store/doors.ts'
import type { WatchBatch, WatchEvent } from '../../../../src/store/kv-types.ts'
import { EventStream } from './event-stream.ts'

const ending: (() => void)[] = []

afterEach(() => {
  for (const end of ending.splice(0)) end()
})

/** A watcher that is told what the test says, or always the same. */
class Told implements Watching {
  asked = 0
  closed = false
  readonly #answer: (waitMs: number) => Promise<WatchBatch>

  constructor(answer: (waitMs: number) => Promise<WatchBatch>) {
    this.#answer = answer
  }

  revision(): number {
    return 0
  }

  open(): Promise<number> {
    return Promise.resolve(1)
  }

  next(_watcher: number, { waitMs }: { waitMs: number }): Promise<WatchBatch> {
    this.asked++
    return this.#answer(waitMs)
  }

  close(): void {
    this.closed = true
  }
}

interface Served {
  readonly url: string
  readonly port: number
  readonly exchanges: DoorExchange[]
  readonly ended: Promise<void>
}

async function serve(watching: Watching, options: Partial<WatchStream> = {}): Promise<Served> {
  const exchanges: DoorExchange[] = []
  const ended = Promise.withResolvers<void>()
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const exchange = new DoorExchange('0123456789ABCDEF', request, response, false)
    exchanges.push(exchange)
    const stream = { watching, watcher: 1, from: 7, exchange, draining: new AbortController().signal, headers: {} }
    streamChanges({ ...stream, ...options }).then(ended.resolve, ended.reject)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  ending.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, port, exchanges, ended: ended.promise }
}

const deleted = (revision: number, key: string): WatchEvent => ({ kind: 'delete', revision, key })

test('C3: only the last event of a revision has the id', () => {
  const put: WatchEvent = { kind: 'put', revision: 5, key: 'é', etag: 'e', size: 1, expiresMs: 1_700_000_000_000 }
  const renamed: WatchEvent = { kind: 'renamed', revision: 6, from: 'a/', to: 'b/' }
  const batch: WatchBatch = { events: [deleted(5, 'a'), put, renamed], next: 9 }
  expect(eventBlocks(batch).toString()).toBe(
    'event: delete\ndata: {"type":"delete","revision":5,"key":"a"}\n\n' +
      'id: 5\nevent: put\n' +
      'data: {"type":"put","revision":5,"key":"é","etag":"e","size":1,"expires":"2023-11-14T22:13:20.000Z"}\n\n' +
      'id: 6\nevent: renamed\ndata: {"type":"renamed","revision":6,"from":"a/","to":"b/"}\n\n',
  )
  expect(JSON.parse(batchDocument(batch))).toMatchObject({
    events: [{ key: 'a' }, { key: 'é' }, { to: 'b/' }],
    next: 9,
  })
})

test('a batch is encoded once, however many get it', () => {
  const events = [deleted(5, 'a')]
  expect(eventBlocks({ events, next: 6 })).toBe(eventBlocks({ events, next: 6 }))
})

test('a heartbeat comes when nothing else does, with the place to resume at', async () => {
  let next = 10
  const watching = new Told(async (waitMs) => {
    await new Promise((resolve) => setTimeout(resolve, waitMs))
    return { events: [], next: next++ }
  })
  const { url } = await serve(watching, { heartbeatMs: 10 })
  const stream = await EventStream.open(url)
  const reading = stream.next().catch(() => undefined)
  while (stream.comments < 4) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(Number(stream.lastId)).toBeGreaterThanOrEqual(11)
  stream.close()
  await reading
  while (!watching.closed) await new Promise((resolve) => setTimeout(resolve, 5))
})

test('C7: a revision that is gone in mid-stream comes as an event, and the stream ends', async () => {
  const batches = [{ events: [deleted(8, 'a')], next: 9 }]
  const gone = new TidegateError('RevisionGone', 'only from 30 on', { details: { revision: 9, oldest: 30 } })
  const watching = new Told(async () => batches.shift() ?? Promise.reject(gone))
  const { url, exchanges, ended } = await serve(watching)
  const stream = await EventStream.open(url)
  const [first, last] = await stream.take(2)
  expect(first).toMatchObject({ event: 'delete', lastId: '8' })
  expect(last).toMatchObject({ event: 'gone', data: { code: 'RevisionGone', status: 410, oldest: 30 }, lastId: '8' })
  expect(await stream.next()).toBeUndefined()
  await ended
  expect(exchanges[0]?.errorCode).toBe('RevisionGone')
  expect(watching.closed).toBe(true)
})

test('other failures come as an error, after which a client may resume; bugs reject', async () => {
  const watching = new Told(() => Promise.reject(new TidegateError('Unavailable', 'stopping')))
  const { url, ended } = await serve(watching)
  const stream = await EventStream.open(url)
  expect(await stream.next()).toMatchObject({ event: 'error', data: { code: 'Unavailable' }, lastId: '6' })
  await ended
  const buggy = await serve(new Told(() => Promise.reject(new TypeError('a bug'))))
  const rejected = expect(buggy.ended).rejects.toThrow('a bug')
  const cut = await EventStream.open(buggy.url)
  await rejected
  cut.close()
})

test('a client that does not read is not buffered for, and cut off after a while', async () => {
  const events = Array.from({ length: 1_000 }, (_, index) => deleted(index + 10, 'k'.repeat(500)))
  const watching = new Told(async () => ({ events, next: 2_000 }))
  const { port, exchanges, ended } = await serve(watching, { stalledMsMax: 300 })
  const socket = connect(port, '127.0.0.1')
  ending.push(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  let askedBefore = -1
  while (askedBefore !== watching.asked || watching.asked === 0) {
    askedBefore = watching.asked
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const response = exchanges[0]?.response
  expect(response?.writableLength).toBeLessThan(2 * eventBlocks({ events, next: 0 }).length)
  await ended
  expect(response?.destroyed).toBe(true)
  expect(watching.closed).toBe(true)
})

test('a client that reads slowly gets everything', async () => {
  const pending = Array.from({ length: 30 }, (_, batch) => ({
    events: Array.from({ length: 1_000 }, (__, index) => deleted(batch * 1_000 + index, 'k'.repeat(100))),
    next: (batch + 1) * 1_000,
  }))
  const gone = new TidegateError('RevisionGone', 'the end of the test')
  const { url } = await serve(new Told(async () => pending.shift() ?? Promise.reject(gone)))
  const stream = await EventStream.open(url)
  await new Promise((resolve) => setTimeout(resolve, 200))
  const events = await stream.take(30_001)
  expect(events.slice(0, -1).every((event, index) => event.data['revision'] === index)).toBe(true)
  expect(events.at(-1)?.event).toBe('gone')
})
