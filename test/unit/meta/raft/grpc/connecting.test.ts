/** Connections to members that do not answer: given up after a while, and at once by a client that is stopped. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { systemClock, type Clock } from '../../../../../src/common/clock.ts'
import { createEtcdClient } from '../../../../../src/meta/raft/client.ts'
import { CONNECT_MS_MAX, Connecting } from '../../../../../src/meta/raft/grpc/connecting.ts'
import { openBlackHole } from '../../../../support/black-hole.ts'

const PROGRAM = join(import.meta.dirname, 'stopped-client-process.ts')
const HURRY = 20
const HURRIED_CLOCK: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / HURRY, signal) }

it('a process whose client is stopped while a member swallows packets ends by itself', async () => {
  const hole = await openBlackHole()
  onTestFinished(() => hole.end())
  const child = spawn(process.execPath, [PROGRAM, `http://127.0.0.1:${hole.port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  const [told] = (await once(child.stdout, 'data')) as [Buffer]
  expect(told.toString()).toBe('failed\n')
  const sinceMs = performance.now()
  expect(await ended).toEqual([0, null])
  expect(performance.now() - sinceMs).toBeLessThan(5_000)
}, 30_000)

it('a connection to a member that swallows packets is given up, and made anew, until the client is stopped', async () => {
  const hole = await openBlackHole()
  onTestFinished(() => hole.end())
  const opened: { socket: Socket; atMs: number }[] = []
  const onSocket = (message: unknown): void => {
    opened.push({ socket: (message as { socket: Socket }).socket, atMs: performance.now() })
  }
  subscribe('net.client.socket', onSocket)
  onTestFinished(() => void unsubscribe('net.client.socket', onSocket))
  const endpoints = [`http://127.0.0.1:${hole.port}`]
  const client = createEtcdClient({ endpoints, clock: HURRIED_CLOCK, callTimeoutMs: 20_000 })
  await client.start()
  const granted = client.grantLease(10).catch(() => 'failed')
  await expect.poll(() => opened.length, { timeout: 10_000 }).toBeGreaterThan(2)
  const [first, second] = opened
  expect(first?.socket.destroyed).toBe(true)
  expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(CONNECT_MS_MAX / HURRY - 50)
  await client.stop()
  expect(await granted).toBe('failed')
  const attempts = opened.length
  await sleep(500)
  expect(opened.every(({ socket }) => socket.destroyed)).toBe(true)
  expect(opened).toHaveLength(attempts)
}, 30_000)

it.each(['http', 'https'])(
  'a stopped client ends a connection that has said nothing: %s',
  async (scheme) => {
    let taken = 0
    let closed = 0
    const server = createServer((socket) => {
      taken++
      socket.on('error', () => undefined).on('close', () => closed++)
      socket.resume()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const client = createEtcdClient({ endpoints: [`${scheme}://127.0.0.1:${port}`], clock: systemClock })
    await client.start()
    await expect.poll(() => taken, { timeout: 10_000 }).toBe(1)
    await client.stop()
    await expect.poll(() => closed, { timeout: 5_000 }).toBe(1)
  },
  30_000,
)

it('what is opened for a channel that was closed ends too, also where it is answered', async () => {
  const server = createServer((socket) => void socket.on('error', () => undefined).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const connecting = new Connecting(systemClock)
  connecting.end()
  const { port } = server.address() as AddressInfo
  const socket = connecting.during(() => connect(port, '127.0.0.1'))
  onTestFinished(() => void socket.destroy())
  await once(socket, 'close', { signal: AbortSignal.timeout(5_000) })
  await sleep(100)
  expect(socket.destroyed).toBe(true)
})
