/** Redis beside the gateway: a process of its own on a free port of the loopback address, where the machine has one. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'

export interface RedisProcess {
  /** redis://HOST:PORT */
  readonly origin: string
  stop(): Promise<void>
}

const READY_MS_MAX = 20_000
const STOP_MS_MAX = 20_000

export function hasRedis(): boolean {
  return spawnSync('redis-server', ['--version']).status === 0
}

/** strace as a grandchild, so that signals reach Redis; the rest of what Redis does it does at full speed. */
const TRACED = [
  'strace',
  '-D',
  '-f',
  '--seccomp-bpf',
  '-e',
  'trace=fsync,fdatasync',
  '-e',
  'signal=none',
  '-o',
] as const

export function canTrace(): boolean {
  return spawnSync('strace', ['--seccomp-bpf', '-f', '-o', '/dev/null', 'true']).status === 0
}

/**
 * Every write is on the disk before it is acknowledged, in its append-only file; nothing else is written. Its syncs go to
 * `syncTrace`, a line each, if that is given.
 */
export async function startRedis(directory: string, syncTrace?: string): Promise<RedisProcess> {
  mkdirSync(directory, { recursive: true })
  const port = await freePort()
  const durability = [
    '--appendonly',
    'yes',
    '--appendfsync',
    'always',
    '--save',
    '',
    '--auto-aof-rewrite-percentage',
    '0',
  ]
  const where = ['--bind', '127.0.0.1', '--port', String(port), '--dir', directory, '--daemonize', 'no']
  const traced = syncTrace === undefined ? [] : [...TRACED, syncTrace]
  const [command = '', ...words] = [...traced, 'redis-server', ...where, ...durability]
  const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'ignore'] })
  await ready(child)
  return { origin: `redis://127.0.0.1:${port}`, stop: () => stop(child) }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const overdue = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await exited
  clearTimeout(overdue)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`Redis was not ready within ${READY_MS_MAX} ms`))
    }, READY_MS_MAX)
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`Redis ended with code ${code} before it was ready`)))
    if (child.stdout === null) return reject(new Error('Redis has no standard output'))
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!line.includes('Ready to accept connections')) return
      clearTimeout(timer)
      resolve()
    })
  })
}
