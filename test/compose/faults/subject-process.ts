/**
 * What the faults' own test runs in its containers: it tells whom it hears, sends to others, serves bytes, tells the time, and tends a process named
 * `etcd` that is started again whenever it ends.
 */
import { spawn } from 'node:child_process'
import { copyFileSync, readFileSync } from 'node:fs'
import { createSocket } from 'node:dgram'
import { createServer, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const HTTP_PORT = 7000
const DATAGRAM_PORT = 7001
const SENT_TIMES = 3
const SENT_EVERY_MS = 100
const CHUNK = Buffer.alloc(64 * 1024)

const heard = new Set<string>()
const sockets = { udp4: createSocket('udp4'), udp6: createSocket({ type: 'udp6', ipv6Only: true }) }
for (const [type, socket] of Object.entries(sockets)) {
  socket.on('message', (message) => heard.add(`${message.toString()} ${type}`))
  socket.on('error', () => undefined)
  socket.bind(DATAGRAM_PORT)
}

/** Several times: the first may be lost while an address is asked for. What is dropped on its way out is an error here, and is lost all the same. */
async function send(addresses: readonly string[], message: string): Promise<string> {
  for (let time = 0; time < SENT_TIMES; time++) {
    for (const address of addresses)
      sockets[address.includes(':') ? 'udp6' : 'udp4'].send(message, DATAGRAM_PORT, address)
    await sleep(SENT_EVERY_MS)
  }
  return 'sent'
}

function pull(from: string, bytes: string): Promise<string> {
  const startedMs = performance.now()
  return new Promise((resolve, reject) => {
    const call = get(`http://${from}:${HTTP_PORT}/bytes?count=${bytes}`, { agent: false, timeout: 10_000 })
    call.on('error', reject)
    call.on('response', (response) => {
      response.resume()
      response.on('error', reject)
      response.on('end', () => resolve(String(performance.now() - startedMs)))
    })
  })
}

/** How long a wait of 100 ms takes, and how far the wall clock goes meanwhile. */
function clock(): Promise<string> {
  const startedMs = performance.now()
  const wallMs = Date.now()
  return new Promise((resolve) => {
    setTimeout(() => {
      resolve(JSON.stringify({ wallMs, waitedMs: performance.now() - startedMs, wallWaitedMs: Date.now() - wallMs }))
    }, 100)
  })
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://subject')
  const parameter = (name: string): string => searchParams.get(name) ?? ''
  const answer = (text: Promise<string>): void =>
    void text.then(
      (body) => response.end(body),
      (error: unknown) => response.writeHead(500).end(String(error)),
    )
  if (pathname === '/heard') return answer(Promise.resolve(JSON.stringify([...heard])))
  if (pathname === '/send') return answer(send(searchParams.getAll('to'), parameter('message')))
  if (pathname === '/pull') return answer(pull(parameter('from'), parameter('count')))
  if (pathname === '/clock') return answer(clock())
  if (pathname === '/up') return answer(Promise.resolve(readFileSync('/proc/self/comm', 'utf8')))
  for (let left = Number(parameter('count')); left > 0; left -= CHUNK.length)
    response.write(CHUNK.subarray(0, Math.min(left, CHUNK.length)))
  response.end()
})
server.listen(HTTP_PORT)

/** By its name a fault finds it. */
const ETCD = join(tmpdir(), 'etcd')

copyFileSync('/usr/bin/sleep', ETCD)
function tend(): void {
  spawn(ETCD, ['infinity'], { stdio: 'ignore' }).on('exit', () => void setTimeout(tend, 100))
}
tend()
// The first process of a container is ended only by signals that it asks for.
process.on('SIGTERM', () => process.exit(0))
