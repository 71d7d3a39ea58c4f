import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, it, vi } from 'vitest'
import { AssertionFailed } from '../../../../src/common/assert.ts'
import { createLogger, silentLogger } from '../../../../src/common/logging.ts'
import { RequestMetrics } from '../../../../src/gateway/http/request-metrics.ts'
import { createDoorServer } from '../../../../src/gateway/http/server.ts'
import type { IncomingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import type { DoorServer, DoorServerOptions } from '../../../../src/gateway/http/server.ts'
import type { HttpHandler } from '../../../../src/gateway/http/types.ts'

const servers: DoorServer[] = []

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})

async function door(handler: HttpHandler, options: Partial<DoorServerOptions> = {}): Promise<DoorServer> {
  const server = createDoorServer({
    name: 's3',
    host: '127.0.0.1',
    port: 0,
    logger: silentLogger,
    metrics: new RequestMetrics(),
    ready: () => true,
    handler,
    ...options,
  })
  servers.push(server)
  await server.start()
  return server
}

/** Says what it was asked, as the door sees it. */
const echo: HttpHandler = async (request, response) => {
  let length = 0
  for await (const chunk of request) length += (chunk as Buffer).length
  response.end(JSON.stringify({ method: request.method, url: request.url, length }))
}

const hello: HttpHandler = (_request, response) => {
  response.end('hello')
  return Promise.resolve()
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

function send(server: DoorServer, method: string, path: string, body = Buffer.alloc(0), headers = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port: server.port, method, path, headers })
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() })
      })
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end(body)
  })
}

/** Sends bytes as they are and gives all that comes back until the server closes. */
async function raw(server: DoorServer, text: string): Promise<string> {
  const socket = connect(server.port, '127.0.0.1')
  socket.write(text)
  return received(socket)
}

async function received(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('latin1')
  socket.on('data', (chunk) => (text += String(chunk)))
  socket.on('error', () => undefined)
  await new Promise((resolve) => {
    socket.once('close', resolve)
  })
  return text
}

it('hands every request to the door raw: strange types, JSON, bad escapes, unknown methods', async () => {
  const server = await door(echo)
  const json = Buffer.from('{not json')
  expect((await send(server, 'PUT', '/b/k', json, { 'content-type': 'application/json' })).body).toContain('"length":9')
  expect((await send(server, 'PUT', '/b/k', json, { 'content-type': 'no such/type;;' })).status).toBe(200)
  expect((await send(server, 'GET', '/b/%zz?x=%')).body).toContain('"url":"/b/%zz?x=%"')
  expect((await send(server, 'GET', '/b//../a/./b?versioning&x=1')).body).toContain('/b//../a/./b?versioning&x=1')
  expect((await send(server, 'PROPFIND', '/b')).body).toContain('PROPFIND')
  expect((await send(server, 'GET', `/b/${'k'.repeat(3000)}`)).status).toBe(200)
  expect(await raw(server, 'OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')).toContain('"url":"*"')
})

it('survives what is not for it: upgrades, CONNECT, other expectations, silence', async () => {
  const server = await door(hello)
  const close = 'host: x\r\nconnection: close\r\n'
  const upgrade = 'GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n'
  expect(await raw(server, upgrade)).toContain('hello')
  expect(await raw(server, `CONNECT a:80 HTTP/1.1\r\n${close}\r\n`)).toBe('')
  expect(await raw(server, `PUT / HTTP/1.1\r\n${close}expect: miracles\r\ncontent-length: 0\r\n\r\n`)).toContain('417')
  expect(await raw(server, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')).toContain('400 Bad Request')
  const silent = connect(server.port, '127.0.0.1')
  await once(silent, 'connect')
  silent.destroy()
  expect((await send(server, 'GET', '/')).body).toBe('hello')
})

it('answers health without the door: exactly those paths, by GET and HEAD', async () => {
  let ready = true
  const server = await door(hello, { ready: () => ready })
  expect((await send(server, 'GET', '/-/healthz')).status).toBe(200)
  expect((await send(server, 'HEAD', '/minio/health/live')).status).toBe(200)
  expect((await send(server, 'GET', '/-/readyz')).status).toBe(200)
  ready = false
  expect((await send(server, 'GET', '/-/readyz')).status).toBe(503)
  expect((await send(server, 'GET', '/minio/health/ready')).status).toBe(503)
  expect((await send(server, 'GET', '/-/healthz')).status).toBe(200)
  for (const path of ['/-/healthz/', '/-/healthz?x', '/-/metrics', '/minio/health/cluster', '/-/toString']) {
    expect((await send(server, 'GET', path)).body, path).toBe('hello')
  }
  expect((await send(server, 'PUT', '/-/healthz')).body).toBe('hello')
})

it('says what is the matter with what it stands on, and that it goes on without', async () => {
  let condition: { words: string; serves: boolean } | undefined
  const server = await door(hello, { condition: () => condition })
  condition = { words: 'quorum is lost', serves: false }
  expect(await send(server, 'GET', '/-/readyz')).toMatchObject({ status: 503, body: 'quorum is lost\n' })
  expect((await send(server, 'HEAD', '/-/readyz')).body).toBe('')
  expect((await send(server, 'GET', '/a')).headers['tidegate-stale']).toBe(undefined)
  condition = { words: 'quorum is lost', serves: true }
  expect((await send(server, 'GET', '/-/readyz')).status).toBe(200)
  expect((await send(server, 'GET', '/a')).headers['tidegate-stale']).toBe('metadata')
})

it('sends 100 Continue only when the door says so (lesson 5.1.14)', async () => {
  const order: string[] = []
  const server = await door(async (request, response, exchange) => {
    order.push('authenticated')
    exchange.sendContinue()
    exchange.sendContinue()
    for await (const _chunk of request) order.push('body')
    response.end('stored')
  })
  const socket = connect(server.port, '127.0.0.1')
  socket.write('PUT /b/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n')
  const [first] = (await once(socket, 'data')) as [Buffer]
  expect(first.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n')
  expect(order).toEqual(['authenticated'])
  socket.write('data')
  expect(await received(socket)).toContain('200 OK')
  expect(order).toEqual(['authenticated', 'body'])
})

it('refuses an Expect without a 100, and closes: the client may or may not send the body (lesson 5.1.13)', async () => {
  const server = await door((_request, response) => {
    response.writeHead(403, { 'content-length': 0 })
    response.end()
    return Promise.resolve()
  })
  const text = await raw(server, 'PUT /b/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 40\r\n\r\n')
  expect(text).not.toContain('100 Continue')
  expect(text).toContain('403 Forbidden')
  expect(text.toLowerCase()).toContain('connection: close')
})

it('lets a client that still sends its body read an early answer, and never reads the body as a request', async () => {
  let requests = 0
  const server = await door((_request, response) => {
    requests += 1
    response.writeHead(403, { 'content-length': 6 })
    response.end('denied')
    return Promise.resolve()
  })
  const smuggled = Buffer.from('GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(200_000))
  const answer = await send(server, 'PUT', '/b/k', smuggled)
  expect(answer).toMatchObject({ status: 403, body: 'denied' })
  expect(answer.headers.connection).toBe('close')
  expect(requests).toBe(1)
})

it('keeps a connection whose body was read', async () => {
  const server = await door(echo)
  const text = await raw(
    server,
    'PUT /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
  )
  expect(text).toContain('/1')
  expect(text).toContain('/2')
})

it.each([
  [
    'Content-Length with Transfer-Encoding',
    'PUT /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['two lengths', 'PUT /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd'],
  ['a space before the colon', 'GET / HTTP/1.1\r\nhost : x\r\n\r\n'],
  ['a bare line feed in a header', 'GET / HTTP/1.1\r\nhost: x\r\na: b\n\rc: d\r\n\r\n'],
  ['an unknown transfer encoding', 'PUT /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n'],
  ['no HTTP at all', 'hello there\r\n\r\n'],
])('answers 400 in XML and closes on %s (lesson 5.1.13)', async (_what, text) => {
  let handled = 0
  const server = await door((_request, response) => {
    handled += 1
    response.end()
    return Promise.resolve()
  })
  const answer = await raw(server, text)
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
  expect(answer).toContain('<Code>BadRequest</Code>')
  expect(answer).toMatch(/x-amz-request-id: [0-9A-F]{16}\r\n/)
  expect(handled).toBe(0)
})

it('answers S3 style when the head is over 64 KiB (lesson 5.1.15)', async () => {
  const server = await door(hello)
  const answer = await raw(server, `GET / HTTP/1.1\r\nhost: x\r\na: ${'b'.repeat(66_000)}\r\n\r\n`)
  expect(answer).toContain('<Code>RequestHeaderSectionTooLarge</Code>')
  expect(
    await raw(server, `GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: ${'b'.repeat(64_000)}\r\n\r\n`),
  ).toContain('hello')
})

it('closes a connection on which nothing moves in the middle of a body (lessons 5.1.15 and 5.2.7)', async () => {
  let failure: unknown
  const server = await door(
    async (request) => {
      try {
        for await (const _chunk of request);
      } catch (error) {
        failure = error
      }
    },
    { idleTimeoutMs: 150 },
  )
  const answer = await raw(server, 'PUT /b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc')
  expect(answer).toContain('<Code>RequestTimeout</Code>')
  await vi.waitFor(() => expect(failure).toBeInstanceOf(Error))
})

it('gives up nobody who waits for us: a request that has come whole is answered, however long that takes', async () => {
  const server = await door(
    async (request, response) => {
      for await (const _chunk of request);
      await sleep(500)
      response.end('at last')
    },
    { idleTimeoutMs: 100 },
  )
  const asked = 'PUT /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc'
  expect(await raw(server, asked)).toContain('at last')
})

it('closes a connection that rests without a word, which a next request could take for its answer (lesson 5.1.15)', async () => {
  const server = await door(hello, { idleTimeoutMs: 150 })
  expect(await received(connect(server.port, '127.0.0.1'))).toBe('')
})

it('drops connections over the cap (lesson 5.2.7)', async () => {
  const server = await door(hello, { connectionsMax: 2 })
  const held = [connect(server.port, '127.0.0.1'), connect(server.port, '127.0.0.1')]
  await Promise.all(held.map((socket) => once(socket, 'connect')))
  const third = connect(server.port, '127.0.0.1')
  third.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  expect(await received(third)).toBe('')
  held.forEach((socket) => socket.destroy())
})

it('answers 500 to a bug, logs it, and tells the guard of failed assertions', async () => {
  const lines: string[] = []
  const bugs: unknown[] = []
  const server = await door(
    (request) => Promise.reject(request.url === '/assert' ? new AssertionFailed('broken') : new Error('oops')),
    {
      logger: createLogger({ level: 'warn', pretty: false, write: (line) => lines.push(line) }),
      onBug: (error) => bugs.push(error),
    },
  )
  const answer = await send(server, 'GET', '/b/k?X-Amz-Signature=deadbeef')
  expect(answer.status).toBe(500)
  expect(answer.body).toContain('<Code>InternalError</Code>')
  expect(answer.body).not.toContain('oops')
  expect(bugs).toEqual([])
  await send(server, 'GET', '/assert')
  expect(bugs).toHaveLength(1)
  const log = lines.join('')
  expect(log).toContain('oops')
  expect(log).toContain('"status":500')
  expect(log, 'a query may be a credential').not.toContain('deadbeef')
})

it('counts requests by operation and status class, and aborted ones as such', async () => {
  const metrics = new RequestMetrics()
  const server = await door(
    (request, response, exchange) => {
      exchange.operation = 'GetObject'
      exchange.bytesOut = 5
      if (request.url === '/hang') return Promise.resolve()
      response.writeHead(request.url === '/404' ? 404 : 200)
      response.end('hello')
      return Promise.resolve()
    },
    { metrics },
  )
  await send(server, 'GET', '/')
  await send(server, 'GET', '/')
  await send(server, 'GET', '/404')
  const socket = connect(server.port, '127.0.0.1')
  socket.write('GET /hang HTTP/1.1\r\nhost: x\r\n\r\n')
  await new Promise((resolve) => setTimeout(resolve, 50))
  socket.destroy()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const { resourceMetrics } = await metrics.collect()
  const points = resourceMetrics.scopeMetrics[0]?.metrics[0]?.dataPoints.map((point) => [
    point.attributes['status'],
    point.value,
  ])
  expect(points).toEqual([
    ['aborted', 1],
    ['2xx', 2],
    ['4xx', 1],
  ])
})

it('drains: no new connections, requests in flight finish and close, idle connections end', async () => {
  let release: () => void = () => undefined
  const held = new Promise<void>((resolve) => (release = resolve))
  const server = await door(async (_request, response) => {
    await held
    response.end('finished')
  })
  const idle = connect(server.port, '127.0.0.1')
  const busy = connect(server.port, '127.0.0.1')
  busy.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
  await once(busy, 'connect')
  await new Promise((resolve) => setTimeout(resolve, 50))
  const drained = server.drain()
  const refused = connect(server.port, '127.0.0.1')
  await expect(once(refused, 'connect')).rejects.toThrow('ECONNREFUSED')
  release()
  const text = await received(busy)
  expect(text).toContain('finished')
  expect(text.toLowerCase()).toContain('connection: close')
  await drained
  idle.destroy()
})

it('cuts requests off at the drain deadline', async () => {
  const server = await door(() => new Promise(() => undefined), { drainTimeoutMs: 100 })
  const stuck = send(server, 'GET', '/').catch((error: Error) => error.message)
  await new Promise((resolve) => setTimeout(resolve, 50))
  await server.drain()
  expect(await stuck).toMatch(/hang up|ECONNRESET/)
})

it('says which port is taken', async () => {
  const first = await door(hello)
  const second = createDoorServer({
    name: 's3',
    host: '127.0.0.1',
    port: first.port,
    logger: silentLogger,
    metrics: new RequestMetrics(),
    ready: () => true,
    handler: hello,
  })
  await expect(second.start()).rejects.toThrow(`cannot listen on 127.0.0.1:${first.port} (s3): the port is in use`)
})
