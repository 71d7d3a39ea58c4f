/** Memory of the process at rest, and what a thousand idle connections add, against a bare server. Less is better. */
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Benchmark } from '../benchmark.ts'
import { BUCKET, makeBucket, residentMiB, sendOnce } from '../gateway-probe.ts'

const CONNECTIONS = 1000
const SETTLE_MS = 3000
const ANSWER_MS_MAX = 10_000

export const memoryBenchmark: Benchmark = {
  name: 'memory',
  async run(context) {
    const gateway = await context.gateway()
    await makeBucket(context, gateway)
    await sendOnce(context, gateway, { method: 'PUT', path: `/${BUCKET}/4096`, bodyBytes: 4096 })
    const [gatewayRest, gatewayIdle] = await restAndIdle(gateway.s3, gateway.pid)
    const [bareRest, bareIdle] = await restAndIdle(context.bare.origin, context.bare.pid)
    const row = (name: string, value: number, ceiling: number) =>
      ({ name, value, unit: 'MiB', ceiling, ratio: value / ceiling, aim: null, durability: 'none' }) as const
    return [row('memory-at-rest', gatewayRest, bareRest), row('memory-1000-idle', gatewayIdle, bareIdle)]
  },
}

async function restAndIdle(origin: string, pid: number): Promise<[number, number]> {
  await sleep(SETTLE_MS)
  const rest = residentMiB(pid)
  const sockets: Socket[] = []
  for (let count = 0; count < CONNECTIONS; count++) sockets.push(await idleConnection(origin))
  await sleep(SETTLE_MS)
  const idle = residentMiB(pid)
  for (const socket of sockets) socket.destroy()
  return [rest, idle]
}

/** A connection that has been used once, for a health check, and is kept. */
async function idleConnection(origin: string): Promise<Socket> {
  const { hostname, port, host } = new URL(origin)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(`GET /-/healthz HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
  await once(socket, 'data', { signal: AbortSignal.timeout(ANSWER_MS_MAX) })
  return socket
}
