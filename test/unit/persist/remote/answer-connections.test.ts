import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTlsServer, getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterEach, expect, test } from 'vitest'
import { LengthMissing, type Answer } from '../../../../src/persist/remote/answer-connection.ts'
import { AnswerConnections } from '../../../../src/persist/remote/answer-connections.ts'
import { makeCertificate } from '../../../support/certificate.ts'

type Script = (socket: Socket, request: string, count: number) => void

let connections = new AnswerConnections()
let server: Server | undefined
let sockets: Socket[] = []
afterEach(() => {
  connections.destroy()
  for (const socket of sockets) socket.destroy()
  server?.close()
  sockets = []
  connections = new AnswerConnections()
})

/** `count` counts requests, from 1. */
async function serve(script: Script, tls?: { cert: Buffer; key: Buffer }): Promise<number> {
  let count = 0
  const talk = (socket: Socket): void => {
    sockets.push(socket)
    let received = ''
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      if (!received.endsWith('\r\n\r\n')) return
      const request = received
      received = ''
      script(socket, request, ++count)
    })
  }
  server = tls ? createTlsServer(tls, talk) : createServer(talk)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

interface Asking {
  readonly answer: Promise<Answer>
  readonly into: readonly Buffer[]
  readonly filled: number[]
}

function ask(
  port: number,
  lengths: readonly number[],
  signal?: AbortSignal,
  protocol = 'http:',
  onFilled: () => void = () => undefined,
): Asking {
  const shared = lengths.map((length) => Buffer.from(new SharedArrayBuffer(length)).fill('.'))
  const filled: number[] = []
  const request = {
    protocol,
    hostname: '127.0.0.1',
    port,
    path: '/bucket/a%20b',
    query: { 'x-id': 'GetObject', "it's": null },
    headers: { host: 'there', range: 'bytes=0-9' },
  }
  const sink = {
    what: 'read name',
    into: shared,
    accept: (_: unknown, length: number): number => length,
    progress: () => undefined,
    onFilled: (index: number) => {
      filled.push(index)
      onFilled()
    },
  }
  return { answer: connections.get(request, sink, signal ?? new AbortController().signal), into: shared, filled }
}

const answerOf = (body: string, headers = ''): string =>
  `HTTP/1.1 206 Partial Content\r\ncontent-length: ${body.length}\r\n${headers}\r\n${body}`

test('a body goes to the buffers however it is cut, each is told of when it is full, and the connection is used again', async () => {
  const text = answerOf('0123456789')
  const port = await serve((socket, request, count) => {
    expect(request.split('\r\n')).toEqual([
      'GET /bucket/a%20b?x-id=GetObject&it%27s HTTP/1.1',
      'host: there',
      'range: bytes=0-9',
      '',
      '',
    ])
    socket.write(text.slice(0, count * 7))
    setTimeout(() => socket.write(text.slice(count * 7)), 5)
  })
  for (let count = 1; count <= text.length / 7; count++) {
    const { answer, into, filled } = ask(port, [4, 1, 5])
    expect(await answer).toMatchObject({ head: { status: 206 }, bytesPoured: 10 })
    expect(Buffer.concat(into).toString()).toBe('0123456789')
    expect(filled).toEqual([0, 1, 2])
  }
  expect(sockets.length).toBe(1)
})

test('many megabytes arrive unchanged, in the last buffer as far as there are any', async () => {
  const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 31) % 251))
  const port = await serve((socket) => {
    socket.write(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: ${bytes.length}\r\n\r\n`)
    socket.write(bytes)
  })
  const { answer, into, filled } = ask(port, [1_000_000, 1_000_000, 1_500_000])
  expect(await answer).toMatchObject({ head: { status: 200 }, bytesPoured: bytes.length })
  expect(Buffer.concat(into).subarray(0, bytes.length).equals(bytes)).toBe(true)
  expect(filled).toEqual([0, 1])
})

test('over TLS too', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-answer-'))
  const { certificate, key } = makeCertificate(directory)
  const cert = readFileSync(certificate)
  const port = await serve((socket) => void socket.write(answerOf('x'.repeat(200_000))), {
    cert,
    key: readFileSync(key),
  })
  rmSync(directory, { recursive: true })
  await expect(ask(port, [200_000], undefined, 'https:').answer).rejects.toMatchObject({
    code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
  })
  setDefaultCACertificates([...getCACertificates(), cert.toString()])
  for (let count = 1; count <= 2; count++) {
    const { answer, into } = ask(port, [100_000, 100_000], undefined, 'https:')
    expect(await answer).toMatchObject({ bytesPoured: 200_000 })
    expect(Buffer.concat(into).every((byte) => byte === 0x78)).toBe(true)
  }
  expect(sockets.length).toBe(1)
})

test('over TLS nothing is written to the buffers after the signal either, though more of it is deciphered already', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-answer-'))
  const { certificate, key } = makeCertificate(directory)
  const cert = readFileSync(certificate)
  const port = await serve((socket) => void socket.write(answerOf('x'.repeat(600_000))), {
    cert,
    key: readFileSync(key),
  })
  rmSync(directory, { recursive: true })
  setDefaultCACertificates([...getCACertificates(), cert.toString()])
  const controller = new AbortController()
  const before: Buffer[] = []
  const { answer, into } = ask(port, [300_000, 300_000], controller.signal, 'https:', () =>
    queueMicrotask(() => {
      controller.abort(new Error('enough'))
      before.push(Buffer.from(into[1] as Buffer))
    }),
  )
  await expect(answer).rejects.toThrow('enough')
  await sleep(30)
  expect(before).toEqual([into[1]])
})

test('a refusal has its body with it, and touches no buffer', async () => {
  const port = await serve((socket) => void socket.write('HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno!'))
  const { answer, into } = ask(port, [4])
  expect(await answer).toMatchObject({ head: { status: 404 }, bytesPoured: undefined, body: Buffer.from('no!') })
  expect(into[0]?.toString()).toBe('....')
})

test('a refusal may end with the connection', async () => {
  const port = await serve((socket) => {
    socket.write('HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\nn')
    setTimeout(() => socket.end('o!'), 5)
  })
  for (let count = 1; count <= 2; count++) {
    expect(await ask(port, [4]).answer).toMatchObject({ head: { status: 404 }, body: Buffer.from('no!') })
  }
  expect(sockets.length).toBe(2)
})

test('what was given up before it began opens no connection', async () => {
  let opened = 0
  const port = await serve(() => undefined)
  server?.on('connection', () => opened++)
  await expect(ask(port, [4], AbortSignal.abort(new Error('enough'))).answer).rejects.toThrow('enough')
  await sleep(30)
  expect(opened).toBe(0)
})

test('a connection that was closed while it was idle is replaced; one that breaks in the answer is an error', async () => {
  const port = await serve((socket, _, count) => {
    if (count === 2) socket.destroy()
    else socket.write(answerOf('abcd').slice(0, count === 4 ? -1 : undefined), () => count === 4 && socket.destroy())
  })
  await ask(port, [4]).answer
  expect(await ask(port, [4]).answer).toMatchObject({ bytesPoured: 4 })
  expect(sockets.length).toBe(2)
  await expect(ask(port, [4]).answer).rejects.toMatchObject({ code: 'Unavailable', details: { retryable: true } })
})

test('bytes that nobody asked for end the connection', async () => {
  const port = await serve((socket) => {
    socket.write(answerOf('abcd'))
    setTimeout(() => socket.write('more'), 10)
  })
  await ask(port, [4]).answer
  await sleep(50)
  expect(await ask(port, [4]).answer).toMatchObject({ bytesPoured: 4 })
  expect(sockets.length).toBe(2)
})

test('after the signal nothing is written to the buffers, though bytes go on coming', async () => {
  const port = await serve((socket) => {
    socket.write('HTTP/1.1 206 P\r\ncontent-length: 1000000\r\n\r\n')
    const timer = setInterval(() => socket.write(Buffer.alloc(1000, 'x')), 1)
    socket.on('close', () => clearInterval(timer))
  })
  const controller = new AbortController()
  const { answer, into } = ask(port, [1_000_000], controller.signal)
  await sleep(30)
  controller.abort(new Error('enough'))
  const before = Buffer.from(into[0] as Buffer)
  await expect(answer).rejects.toThrow('enough')
  await sleep(30)
  expect(before.includes('x')).toBe(true)
  expect(into[0]?.equals(before)).toBe(true)
})

test('data without a length is not read here, and no further answer of such a store', async () => {
  const port = await serve(
    (socket) => void socket.write('HTTP/1.1 206 P\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n'),
  )
  expect(connections.areUsable).toBe(true)
  const { answer, into } = ask(port, [4])
  await expect(answer).rejects.toBeInstanceOf(LengthMissing)
  expect([connections.areUsable, into[0]?.toString()]).toEqual([false, '....'])
})
