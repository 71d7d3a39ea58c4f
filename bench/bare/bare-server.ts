/**
 * The ceiling: a `node:http` server that does nothing but HTTP. GET of any path whose last part is a number answers so many
 * bytes from memory; a PUT is read and thrown away. Runs in a process of its own, as the gateway does.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const bodies = new Map<number, Buffer>()

const server = createServer((request, response) => {
  if (request.method === 'PUT') {
    request.on('data', () => undefined)
    request.on('end', () => response.writeHead(200, { 'content-length': 0 }).end())
    return
  }
  const length = Number(/\/(\d+)$/.exec(request.url ?? '')?.[1] ?? 0)
  let body = bodies.get(length)
  if (body === undefined) bodies.set(length, (body = Buffer.alloc(length, 0x61)))
  response.writeHead(200, { 'content-length': body.length, 'content-type': 'application/octet-stream' }).end(body)
})

server.listen(0, '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port })
})

process.on('disconnect', () => process.exit(0))
