/** Gateways of a cluster, each a process with a data directory of its own that runs a member of etcd: started, stopped and killed one by one. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../src/common/assert.ts'
import { freePorts } from './cluster-nodes.ts'
import { runTidegate } from './command-line.ts'
import { ETCD_PROGRAM } from './etcd-member.ts'
import { randomCredentials, startGateway, type GatewayProcess } from './gateway-process.ts'
import { REPOSITORY, type CommandResult } from './run-command.ts'

const LOOK_EVERY_MS = 100

export interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
  readonly durationMs: number
}

export class ClusterGateways {
  readonly bucket = 'shared'
  readonly #scratch = mkdtempSync(join(tmpdir(), 'tidegate-gateways-'))
  readonly #root = randomCredentials()
  readonly #ports: readonly number[]
  readonly #flags: readonly string[]
  readonly #alsoJoin: readonly string[]
  readonly #gateways: (GatewayProcess | undefined)[] = []

  private constructor(ports: readonly number[], flags: readonly string[], alsoJoin: readonly string[]) {
    this.#ports = ports
    this.#flags = flags
    this.#alsoJoin = alsoJoin
  }

  /** `alsoJoin`: URLs that each is told besides those of the others. */
  static async create(
    count: number,
    flags: readonly string[] = [],
    alsoJoin: readonly string[] = [],
  ): Promise<ClusterGateways> {
    return new ClusterGateways(await freePorts(count * 2), flags, alsoJoin)
  }

  data(index: number): string {
    return join(this.#scratch, `data${index}`)
  }

  log(index: number): string {
    return readFileSync(join(this.#scratch, `log${index}`), 'utf8')
  }

  /** What its node is told of the cluster. */
  flags(index: number): string[] {
    const url = (place: number): string => `http://127.0.0.1:${this.#ports[place]}`
    const joined = this.#ports.flatMap((_, place) => (place % 2 === 1 ? [url(place)] : []))
    const values: Readonly<Record<string, string>> = {
      '--cluster': 'test',
      '--cluster-node': `n${index}`,
      '--cluster-etcd': ETCD_PROGRAM,
      '--cluster-peer': url(index * 2),
      '--cluster-client': url(index * 2 + 1),
      '--cluster-join': [...joined, ...this.#alsoJoin].join(','),
    }
    return Object.entries(values).flat()
  }

  prepare(action: 'init' | 'join', index: number): Promise<CommandResult> {
    return runTidegate(['cluster', action, '--data', this.data(index), ...this.flags(index)])
  }

  async start(index: number, flags: readonly string[] = []): Promise<void> {
    this.#gateways[index] = await startGateway({
      data: this.data(index),
      root: this.#root,
      logFile: join(this.#scratch, `log${index}`),
      flags: [...this.flags(index), '--cache-memory', '32MiB', ...this.#flags, ...flags],
    })
  }

  /** Starts one that has to wait for the others. */
  wait(index: number): WaitingGateway {
    const { accessKey, secretKey } = this.#root
    const flags = [...this.flags(index), '--s3', '127.0.0.1:0', '--http', '127.0.0.1:0']
    const child = spawn(process.execPath, ['src/main.ts', 'serve', '--data', this.data(index), ...flags], {
      cwd: REPOSITORY,
      env: { PATH: process.env['PATH'], TIDEGATE_ROOT_USER: accessKey, TIDEGATE_ROOT_PASSWORD: secretKey },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let log = ''
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
    const ended = once(child, 'exit') as Promise<[number | null]>
    const stop = async (): Promise<number | null> => {
      child.kill('SIGTERM')
      const [code] = await ended
      return code
    }
    return { log: () => log, stop }
  }

  async stop(index: number): Promise<number | null> {
    const code = await this.of(index).stop()
    this.#gateways[index] = undefined
    return code
  }

  /** SIGKILL; its etcd dies with it. */
  async kill(index: number): Promise<void> {
    await this.of(index).kill()
    this.#gateways[index] = undefined
  }

  of(index: number): GatewayProcess {
    return must(this.#gateways[index], `gateway ${index}`)
  }

  /** Against its HTTP port, as root. */
  async call(index: number, method: string, path: string, body?: string): Promise<Answer> {
    const { accessKey, secretKey } = this.#root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const sinceMs = performance.now()
    const response = await fetch(`${this.of(index).http}${path}`, {
      method,
      headers: { authorization },
      ...(body === undefined ? {} : { body }),
    })
    const text = await response.text()
    return { status: response.status, text, headers: response.headers, durationMs: performance.now() - sinceMs }
  }

  put(index: number, key: string, value: string): Promise<Answer> {
    return this.call(index, 'PUT', `/kv/v1/${this.bucket}/${key}`, value)
  }

  get(index: number, key: string): Promise<Answer> {
    return this.call(index, 'GET', `/kv/v1/${this.bucket}/${key}`)
  }

  ready(index: number): Promise<Answer> {
    return this.call(index, 'GET', '/-/readyz')
  }

  metrics(index: number): Promise<Answer> {
    return this.call(index, 'GET', '/metrics')
  }

  /** `tidegate cluster ...` against that gateway. */
  command(index: number, ...args: readonly string[]): Promise<CommandResult> {
    const { accessKey, secretKey } = this.#root
    const env = { TIDEGATE_ROOT_USER: accessKey, TIDEGATE_ROOT_PASSWORD: secretKey }
    return runTidegate(['cluster', ...args, '--gateway', this.of(index).http], env)
  }

  /** The name of whoever leads; all are there and vote. */
  async leader(index: number, voters = 3): Promise<number> {
    for (;;) {
      const { text } = await this.call(index, 'GET', '/admin/v1/cluster')
      const { level, members } = JSON.parse(text) as { level: string; members: { name: string; role: string }[] }
      const leader = members.find(({ role }) => role === 'leader')
      if (level === 'well' && members.length === voters && leader !== undefined) return Number(leader.name.slice(1))
      await sleep(LOOK_EVERY_MS)
    }
  }

  async end(): Promise<void> {
    await Promise.all(this.#gateways.flatMap((gateway) => gateway?.kill() ?? []))
    rmSync(this.#scratch, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }
}

/** A gateway that does not get to serve. */
export interface WaitingGateway {
  /** What it has logged so far. */
  readonly log: () => string
  /** SIGTERM, and its exit code. */
  readonly stop: () => Promise<number | null>
}

/** Puts one key after the other through one gateway, and remembers which were acknowledged and when. */
export class SteadyWriter {
  readonly acknowledged: string[] = []
  readonly #cluster: ClusterGateways
  readonly #index: number
  readonly #atMs: number[] = []
  readonly #running: Promise<void>
  #stopped = false

  constructor(cluster: ClusterGateways, index: number, name: string) {
    this.#cluster = cluster
    this.#index = index
    this.#running = this.#write(name)
  }

  /** Resolves when so many more are acknowledged. */
  async more(count: number): Promise<void> {
    const wanted = this.acknowledged.length + count
    while (this.acknowledged.length < wanted) await sleep(10)
  }

  /** The longest time without an acknowledged write since then. */
  longestGapMs(sinceMs: number): number {
    const times = [sinceMs, ...this.#atMs.filter((timeMs) => timeMs > sinceMs)]
    return Math.max(...times.slice(1).map((timeMs, index) => timeMs - (times[index] ?? timeMs)))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #write(name: string): Promise<void> {
    for (let number = 0; !this.#stopped; number++) {
      const key = `${name}-${number}`
      const { status } = await this.#cluster.put(this.#index, key, `value of ${key}`)
      if (status >= 300) continue
      this.acknowledged.push(key)
      this.#atMs.push(performance.now())
    }
  }
}
