/**
 * Two gateways over one etcd and one remote store, each a process of its own: PEER, which has taken the object, and READER, which is read from. What they say to each other passes a network that can
 * be cut; what they say to the remote store passes a door that can be held.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ShownStatus } from '../../../src/cli/status-text.ts'
import { must } from '../../../src/common/assert.ts'
import { CuttableNetwork } from '../../support/cuttable-network.ts'
import { EtcdCluster } from '../../support/etcd-member.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { freePorts } from '../../support/cluster-nodes.ts'
import { startRemote, type RemoteTarget } from '../../write-behind/remote/remote-target.ts'
import { RemoteDoor } from './remote-door.ts'

export const PEER = 0
export const READER = 1
export const BUCKET = 'large'
const BOTH = [PEER, READER] as const
const NAMES = ['peer', 'reader'] as const
const STATUS_MS_MAX = 10_000

const USUAL_FLAGS = Object.entries({
  '--buckets': BUCKET,
  // No block stays on a disk that is not its owner's, and few in memory.
  '--cache-memory': '64MiB',
  '--cache-disk': '0',
  '--hash-workers': '1',
  '--backlog-max': '8GiB',
  '--drain-timeout': '3s',
  // Nobody is to be taken for lost, however slow the machine is.
  '--node-grace': '10m',
  '--log-level': 'info',
}).flat()

export class TwoGateways {
  readonly #root = randomCredentials()
  readonly #scratch = mkdtempSync(join(tmpdir(), 'tidegate-fabric-faults-'))
  readonly #network = new CuttableNetwork()
  readonly #flags: readonly string[]
  readonly #running: (GatewayProcess | undefined)[] = []
  readonly #wires: string[] = []
  #ports: readonly number[] = []
  #etcd: EtcdCluster | undefined
  #remote: RemoteTarget | undefined
  #door: RemoteDoor | undefined

  private constructor(flags: readonly string[]) {
    this.#flags = flags
  }

  /** Both serve. `flags`: of both, besides those that they have anyway. */
  static async start(flags: readonly string[]): Promise<TwoGateways> {
    const gateways = new TwoGateways(flags)
    try {
      await gateways.#prepare()
      for (const index of BOTH) await gateways.start(index)
      return gateways
    } catch (error) {
      await gateways.end()
      throw error
    }
  }

  get door(): RemoteDoor {
    return must(this.#door, 'the door')
  }

  of(index: number): GatewayProcess {
    return must(this.#running[index], NAMES[index] ?? 'a gateway')
  }

  log(index: number): string {
    return readFileSync(this.#logFile(index), 'utf8')
  }

  async start(index: number): Promise<void> {
    const remote = must(this.#remote, 'a remote store')
    const etcd = must(this.#etcd?.endpoints[0], 'etcd')
    const own = Object.entries({
      '--meta': `etcd://${new URL(etcd).host}`,
      '--neighbour': `127.0.0.1:${this.#ports[index]}`,
      '--neighbour-advertise': new URL(must(this.#wires[index], 'a wire')).host,
    }).flat()
    this.#running[index] = await startGateway({
      data: join(this.#scratch, `data${index}`),
      root: this.#root,
      logFile: this.#logFile(index),
      environment: remote.environment,
      flags: [...own, ...remote.flags('shared', this.door.endpoint), ...USUAL_FLAGS, ...this.#flags],
    })
  }

  async kill(index: number): Promise<void> {
    await this.#taken(index).kill()
  }

  /** @returns its exit code */
  async stop(index: number): Promise<number | null> {
    return await this.#taken(index).stop()
  }

  pause(index: number): void {
    this.of(index).child.kill('SIGSTOP')
  }

  resume(index: number): void {
    this.of(index).child.kill('SIGCONT')
  }

  cut(from: number, to: number): void {
    this.#network.cut(NAMES[from] ?? '', NAMES[to] ?? '')
  }

  heal(): void {
    this.#network.heal()
  }

  /** @throws Error naming one that ended though nobody ended it */
  checkRunning(): void {
    for (const index of BOTH) {
      const { exitCode, signalCode } = this.of(index).child
      if (exitCode !== null || signalCode !== null)
        throw new Error(`the ${NAMES[index]} has ended by itself: code ${exitCode}, signal ${signalCode}`)
    }
  }

  async status(index: number): Promise<ShownStatus> {
    return JSON.parse(await this.#ask(index, '/admin/v1/status')) as ShownStatus
  }

  /** Reads a sum over the labels of one series, or one of them: `name` or `name{label="value"}`. */
  async metrics(index: number): Promise<(series: string) => number> {
    const lines = (await this.#ask(index, '/metrics')).split('\n')
    return (series) => {
      const [name = '', label = ''] = series.split(/[{}]/)
      return lines
        .filter((line) => /^\w+/.exec(line)?.[0] === name && line.includes(label))
        .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
    }
  }

  /** Ends everything, whatever state it is in. */
  async end(): Promise<void> {
    this.#network.close()
    await Promise.all(this.#running.flatMap((gateway) => gateway?.kill() ?? []))
    await this.#door?.stop()
    await this.#remote?.stop()
    await this.#etcd?.remove()
    rmSync(this.#scratch, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }

  async #ask(index: number, path: string): Promise<string> {
    const { accessKey, secretKey } = this.#root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const response = await fetch(`${this.of(index).http}${path}`, {
      headers: { authorization },
      signal: AbortSignal.timeout(STATUS_MS_MAX),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path} is answered with ${response.status}: ${text}`)
    return text
  }

  async #prepare(): Promise<void> {
    this.#etcd = await EtcdCluster.start({ directory: join(this.#scratch, 'etcd'), members: 1 })
    this.#remote = await startRemote('tidegate')
    this.#door = new RemoteDoor(this.#remote.endpoint)
    await this.#door.start()
    this.#ports = await freePorts(BOTH.length)
    for (const index of BOTH) {
      const url = `http://127.0.0.1:${this.#ports[index]}`
      const from = NAMES[BOTH.length - 1 - index]
      this.#wires.push(await this.#network.wire(NAMES[index] ?? '', url, from))
    }
  }

  #logFile(index: number): string {
    return join(this.#scratch, `${NAMES[index]}.log`)
  }

  #taken(index: number): GatewayProcess {
    const gateway = this.of(index)
    this.#running[index] = undefined
    return gateway
  }
}
