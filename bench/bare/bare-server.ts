/**
 * The ceiling: a `node:http` server that does nothing but HTTP. Runs in a process of its own, as the gateway does.
 *
 *     GET of a path whose last part is a number     so many bytes from memory
 *     PUT, POST                                     read and thrown away
 *     PUT, then GET, below /kept/                   the same bytes, streamed in chunks
 *     GET that accepts text/event-stream            stays open; from then on every PUT is told to all of them, as the KV API's
 *                                                   watch tells it, with a revision that is also in the answer to the PUT
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

const STREAM_CHUNK_BYTES = 64 * 1024

const bodies = new Map<number, Buffer>()
const kept = new Map<string, Buffer>()
const watchers = new Set<ServerResponse>()
let revision = 0

const server = createServer((request, response) => {
  const path = request.url ?? ''
  if (request.method === 'PUT' || request.method === 'POST') {
    if (path.startsWith('/kept/')) return keep(path, request, response)
    request.on('data', () => undefined)
    request.on('end', () => (watchers.size > 0 ? tell(path, response) : sendEmpty(response)))
    return
  }
  if (path.startsWith('/kept/')) return streamKept(path, response)
  if (request.headers.accept === 'text/event-stream') return watch(response)
  const length = Number(/\/(\d+)$/.exec(path)?.[1] ?? 0)
  let body = bodies.get(length)
  if (body === undefined) bodies.set(length, (body = Buffer.alloc(length, 0x61)))
  response.writeHead(200, { 'content-length': body.length, 'content-type': 'application/octet-stream' }).end(body)
})

function sendEmpty(response: ServerResponse, headers: Record<string, string> = {}): void {
  response.writeHead(200, { ...headers, 'content-length': 0 }).end()
}

function keep(path: string, request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    kept.set(path, Buffer.concat(chunks))
    sendEmpty(response)
  })
}

function streamKept(path: string, response: ServerResponse): void {
  const bytes = kept.get(path) ?? Buffer.alloc(0)
  let at = 0
  const send = (): void => {
    while (at < bytes.length) {
      const room = response.write(bytes.subarray(at, at + STREAM_CHUNK_BYTES))
      at += STREAM_CHUNK_BYTES
      if (!room) return void response.once('drain', send)
    }
    response.end()
  }
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  send()
}

function watch(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  response.flushHeaders()
  watchers.add(response)
  response.on('close', () => watchers.delete(response))
}

function tell(path: string, response: ServerResponse): void {
  revision++
  sendEmpty(response, { 'x-tidegate-revision': String(revision) })
  const key = path.split('/').slice(4).join('/')
  const event = { type: 'put', revision, key, etag: '7215ee9c7d9dc229d2921a40e899ec5f', size: 100 }
  const block = Buffer.from(`id: ${revision}\nevent: put\ndata: ${JSON.stringify(event)}\n\n`)
  for (const watcher of watchers) watcher.write(block)
}

server.listen(0, '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port })
})

process.on('disconnect', () => process.exit(0))
