/**
 * Members of an etcd cluster on the loopback address, for tests: started, paused, killed and stopped one by one. The program is `etcd` of the PATH, or
 * what TIDEGATE_ETCD names. A member dies with the process that started it, where `setpriv` is there to see to that.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, openSync, closeSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

export const ETCD_PROGRAM: string = process.env['TIDEGATE_ETCD'] ?? 'etcd'

const HEALTHY_WITHIN_MS = 30_000
const STOPPED_WITHIN_MS = 15_000
const LOOK_EVERY_MS = 50
const LOG_TAIL_CHARS = 2_000

export interface ClusterOptions {
  /** Below it each member has its data and its log. Removed by `remove`. */
  readonly directory: string
  readonly members: number
  /** Of every member, after those that are given anyway. */
  readonly flags?: readonly string[]
  /** Where the others reach a member that listens for them there, if not there: a test stands between them. */
  readonly peerUrlFor?: ((name: string, listensAt: string) => Promise<string>) | undefined
  /** Certificate and key of the members, and who signs those of clients if these must have one. */
  readonly tls?:
    | { readonly certificate: string; readonly key: string; readonly clientAuthority?: string | undefined }
    | undefined
}

interface Ports {
  readonly client: number
  readonly peer: number
  readonly metrics: number
}

export class EtcdMember {
  readonly name: string
  readonly endpoint: string
  /** Where the others reach it. */
  readonly peerUrl: string
  readonly #ports: Ports
  readonly #options: ClusterOptions
  readonly #directory: string
  #process: ChildProcess | undefined

  constructor(name: string, { peerUrl, ...ports }: Ports & { readonly peerUrl?: string }, options: ClusterOptions) {
    this.name = name
    this.endpoint = `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${ports.client}`
    this.peerUrl = peerUrl ?? peerUrlAt(ports.peer)
    this.#ports = ports
    this.#options = options
    this.#directory = join(options.directory, name)
  }

  /** Starts it; `waitHealthy` waits for it. `cluster`: `name=peer URL` of all that form or have formed it. */
  start(cluster: string, state: 'new' | 'existing' = 'new'): void {
    mkdirSync(this.#directory, { recursive: true })
    const log = openSync(join(this.#directory, 'log'), 'a')
    const command = [...dyingWithParent(), ETCD_PROGRAM, ...this.#flags(cluster, state)] as [string, ...string[]]
    this.#process = spawn(command[0], command.slice(1), { stdio: ['ignore', log, log] })
    this.#process.on('error', () => undefined)
    closeSync(log)
  }

  async waitHealthy(): Promise<void> {
    const untilMs = Date.now() + HEALTHY_WITHIN_MS
    while (!(await this.isHealthy())) {
      if (Date.now() > untilMs || !this.isRunning)
        throw new Error(`etcd ${this.name} is not healthy:\n${this.logTail()}`)
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
    }
  }

  async isHealthy(): Promise<boolean> {
    try {
      const url = `http://127.0.0.1:${this.#ports.metrics}/health`
      const response = await fetch(url, { signal: AbortSignal.timeout(1_000) })
      return ((await response.json()) as { health?: string }).health === 'true'
    } catch {
      return false
    }
  }

  get isRunning(): boolean {
    return this.#process?.exitCode === null && this.#process.signalCode === null && this.#process.pid !== undefined
  }

  pause(): void {
    this.#process?.kill('SIGSTOP')
  }

  resume(): void {
    this.#process?.kill('SIGCONT')
  }

  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  stop(): Promise<void> {
    this.resume()
    return this.#end('SIGTERM')
  }

  removeData(): void {
    rmSync(join(this.#directory, 'data'), { recursive: true, force: true })
  }

  logTail(): string {
    return readFileSync(join(this.#directory, 'log'), 'utf8').slice(-LOG_TAIL_CHARS)
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child === undefined || !this.isRunning) return
    const exited = once(child, 'exit')
    child.kill(signal)
    const hard = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS)
    await exited
    clearTimeout(hard)
  }

  #flags(cluster: string, state: string): string[] {
    const { tls, flags } = this.#options
    const values: Readonly<Record<string, string>> = {
      name: this.name,
      'data-dir': join(this.#directory, 'data'),
      'listen-client-urls': this.endpoint,
      'advertise-client-urls': this.endpoint,
      'listen-peer-urls': peerUrlAt(this.#ports.peer),
      'initial-advertise-peer-urls': this.peerUrl,
      'listen-metrics-urls': `http://127.0.0.1:${this.#ports.metrics}`,
      'initial-cluster': cluster,
      'initial-cluster-state': state,
      'initial-cluster-token': 'tidegate-test',
      logger: 'zap',
      'log-level': 'warn',
      ...(tls === undefined ? {} : { 'cert-file': tls.certificate, 'key-file': tls.key }),
      ...(tls?.clientAuthority === undefined ? {} : { 'trusted-ca-file': tls.clientAuthority }),
    }
    return [
      ...Object.entries(values).map(([name, value]) => `--${name}=${value}`),
      ...(tls?.clientAuthority === undefined ? [] : ['--client-cert-auth']),
      '--pre-vote',
      ...(flags ?? []),
    ]
  }
}

export class EtcdCluster {
  readonly members: EtcdMember[]
  readonly #options: ClusterOptions

  private constructor(members: EtcdMember[], options: ClusterOptions) {
    this.members = members
    this.#options = options
  }

  /** All members are up and healthy. */
  static async start(options: ClusterOptions): Promise<EtcdCluster> {
    const ports = await freePorts(options.members * 3)
    const members: EtcdMember[] = []
    for (let index = 0; index < options.members; index++) {
      const [client = 0, peer = 0, metrics = 0] = ports.slice(index * 3)
      const name = `m${index}`
      const peerUrl = (await options.peerUrlFor?.(name, peerUrlAt(peer))) ?? peerUrlAt(peer)
      members.push(new EtcdMember(name, { client, peer, metrics, peerUrl }, options))
    }
    const cluster = new EtcdCluster(members, options)
    for (const member of members) member.start(cluster.initial)
    await cluster.waitHealthy()
    return cluster
  }

  /** What members are told of each other. */
  get initial(): string {
    return this.members.map((member) => `${member.name}=${member.peerUrl}`).join(',')
  }

  get endpoints(): string[] {
    return this.members.map((member) => member.endpoint)
  }

  async waitHealthy(): Promise<void> {
    await Promise.all(this.members.filter((member) => member.isRunning).map((member) => member.waitHealthy()))
  }

  /** One more, that has not been started: its `peerUrl` is to be made known to the others before that. */
  async another(): Promise<EtcdMember> {
    const [client = 0, peer = 0, metrics = 0] = await freePorts(3)
    const member = new EtcdMember(`m${this.members.length}`, { client, peer, metrics }, this.#options)
    this.members.push(member)
    return member
  }

  /** Ends every member and removes what they kept. */
  async remove(): Promise<void> {
    for (const member of this.members) member.resume()
    await Promise.all(this.members.map((member) => member.kill()))
    rmSync(this.#options.directory, { recursive: true, force: true })
  }
}

function peerUrlAt(port: number): string {
  return `http://127.0.0.1:${port}`
}

/** Several at once, so that none is given out twice. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  for (const server of servers) server.close()
  return ports
}

function dyingWithParent(): string[] {
  const isThere = spawnSync('setpriv', ['--version'], { stdio: 'ignore' }).status === 0
  return isThere ? ['setpriv', '--pdeathsig', 'KILL', '--'] : []
}
