/**
 * Gateways that share their metadata in one etcd and know each other as neighbours: processes on the loopback address, each with a data directory of its own,
 * that are stopped, killed, paused and started again one by one.
 */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Client } from '@aws-sdk/client-s3'
import type { ShownStatus } from '../../src/cli/status-text.ts'
import { createKvClient, type KvClient } from '../../src/client/kv-client.ts'
import { must } from '../../src/common/assert.ts'
import type { AckLevel } from '../../src/common/model.ts'
import { EtcdCluster } from './etcd-member.ts'
import { randomCredentials, startGateway, type GatewayCredentials, type GatewayProcess } from './gateway-process.ts'
import { shell, type ShellResult } from './mounted-gateway.ts'
import { runCommand, type CommandResult } from './run-command.ts'
import { sdkClient } from './sdk-client.ts'

export const BUCKET = 'shared'

const COMMAND_MS_MAX = 60_000
const LOOK_EVERY_MS = 200
const STATUS_MS_MAX = 10_000
const UNTIL_MS_MAX = 90_000
const USUAL_FLAGS = ['--cache-memory', '64MiB', '--hash-workers', '1', '--log-level', 'info'] as const

export interface SharedGatewaysOptions {
  readonly count?: number
  /** Of all of them, besides those that make them neighbours. */
  readonly flags?: readonly string[]
  /** Of one of them. */
  readonly flagsOf?: (index: number) => readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  /** Each mounts the namespace. */
  readonly mounts?: boolean
}

export class SharedGateways {
  readonly root: GatewayCredentials = randomCredentials()
  readonly count: number
  readonly #scratch = mkdtempSync(join(tmpdir(), 'tidegate-neighbours-'))
  readonly #options: SharedGatewaysOptions
  readonly #gateways: (GatewayProcess | undefined)[] = []
  readonly #clients = new Set<{ destroy(): void }>()
  #etcd: EtcdCluster | undefined

  private constructor(options: SharedGatewaysOptions) {
    this.#options = options
    this.count = options.count ?? 3
  }

  /** All of them serve. */
  static async start(options: SharedGatewaysOptions = {}): Promise<SharedGateways> {
    const gateways = new SharedGateways(options)
    try {
      gateways.#etcd = await EtcdCluster.start({ directory: join(gateways.#scratch, 'etcd'), members: 1 })
      // The first one makes what all share; the others find it.
      for (const index of gateways.indexes) await gateways.start(index)
      return gateways
    } catch (error) {
      await gateways.end()
      throw error
    }
  }

  get indexes(): number[] {
    return Array.from({ length: this.count }, (_, index) => index)
  }

  get running(): number[] {
    return this.indexes.filter((index) => this.#gateways[index] !== undefined)
  }

  data(index: number): string {
    return join(this.#scratch, `data${index}`)
  }

  mountPoint(index: number): string {
    return join(this.#scratch, `mnt${index}`)
  }

  log(index: number): string {
    return readFileSync(join(this.#scratch, `log${index}`), 'utf8')
  }

  of(index: number): GatewayProcess {
    return must(this.#gateways[index], `gateway ${index}`)
  }

  async start(index: number, flags: readonly string[] = []): Promise<void> {
    const { flags: common = [], flagsOf = () => [], environment = {}, mounts = false } = this.#options
    const endpoint = must(this.#etcd?.endpoints[0], 'etcd')
    const mountFlags = mounts ? ['--mount', this.mountPoint(index)] : []
    if (mounts) mkdirSync(this.mountPoint(index), { recursive: true })
    const meta = ['--meta', `etcd://${new URL(endpoint).host}`, '--neighbour', '127.0.0.1:0', '--buckets', BUCKET]
    this.#gateways[index] = await startGateway({
      data: this.data(index),
      root: this.root,
      environment,
      logFile: join(this.#scratch, `log${index}`),
      flags: [...meta, ...USUAL_FLAGS, ...common, ...flagsOf(index), ...mountFlags, ...flags],
    })
  }

  async stop(index: number): Promise<number | null> {
    const gateway = this.of(index)
    this.#gateways[index] = undefined
    return await gateway.stop()
  }

  async kill(index: number): Promise<void> {
    const gateway = this.of(index)
    this.#gateways[index] = undefined
    await gateway.kill()
    await this.#unmount(index)
  }

  pause(index: number): void {
    this.of(index).child.kill('SIGSTOP')
  }

  resume(index: number): void {
    this.of(index).child.kill('SIGCONT')
  }

  /** Whether it ended by itself within that time; it may be started again then. */
  async ended(index: number, withinMs: number): Promise<boolean> {
    const { child } = this.of(index)
    if (child.exitCode === null && child.signalCode === null) {
      const timer = AbortSignal.timeout(withinMs)
      await once(child, 'exit', { signal: timer }).catch(() => undefined)
    }
    if (child.exitCode === null && child.signalCode === null) return false
    this.#gateways[index] = undefined
    await this.#unmount(index)
    return true
  }

  /** Of that gateway as it runs now; `ack` goes with every request. */
  s3(index: number, ack?: AckLevel): S3Client {
    const client = sdkClient(this.of(index))
    if (ack !== undefined) acknowledgedAt(client, ack)
    this.#clients.add(client)
    return client
  }

  kv(index: number): KvClient {
    const client = createKvClient({ url: this.of(index).http, bucket: BUCKET, ...this.root, retries: 0 })
    this.#clients.add({ destroy: () => client.close() })
    return client
  }

  /** The AWS CLI against that gateway, with files below `scratch`. */
  aws(index: number, ...args: readonly string[]): Promise<CommandResult> {
    return runCommand(['aws', '--endpoint-url', this.of(index).s3, ...args], {
      show: false,
      timeoutMs: COMMAND_MS_MAX,
      env: {
        AWS_ACCESS_KEY_ID: this.root.accessKey,
        AWS_SECRET_ACCESS_KEY: this.root.secretKey,
        AWS_DEFAULT_REGION: 'us-east-1',
        AWS_EC2_METADATA_DISABLED: 'true',
      },
    })
  }

  /** A path of the test's own. */
  file(name: string): string {
    return join(this.#scratch, name)
  }

  /** In its mount. */
  shell(index: number, script: string, timeoutMs?: number): Promise<ShellResult> {
    const directory = JSON.stringify(join(this.mountPoint(index), BUCKET))
    return shell(`cd ${directory} && { ${script}\n}`, timeoutMs)
  }

  async status(index: number): Promise<ShownStatus> {
    const response = await fetch(`${this.of(index).http}/admin/v1/status`, {
      headers: { authorization: this.authorization },
      signal: AbortSignal.timeout(STATUS_MS_MAX),
    })
    if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`)
    return (await response.json()) as ShownStatus
  }

  /** The status of that gateway once it is as wanted. @throws Error with the last one when that takes too long */
  async until(
    index: number,
    wanted: (status: ShownStatus) => boolean,
    { what, withinMs = UNTIL_MS_MAX }: { readonly what: string; readonly withinMs?: number },
  ): Promise<ShownStatus> {
    const untilMs = performance.now() + withinMs
    for (let last: unknown; ; await sleep(LOOK_EVERY_MS)) {
      try {
        const status = await this.status(index)
        if (wanted(status)) return status
        last = status
      } catch (error) {
        last = (error as Error).message
      }
      if (performance.now() > untilMs)
        throw new Error(`gateway ${index}: ${what}: not within ${withinMs} ms: ${JSON.stringify(last)}`)
    }
  }

  /** The sum over the labels of one series, or over those that have this one, such as `kind="read"`. */
  async metric(index: number, name: string, label = ''): Promise<number> {
    const response = await fetch(`${this.of(index).http}/metrics`, { headers: { authorization: this.authorization } })
    const series = [
      ...(await response.text()).matchAll(
        new RegExp(`^${name}${label === '' ? '(?:\\{[^}]*\\})?' : `\\{[^}]*${label}[^}]*\\}`} (\\S+)$`, 'gm'),
      ),
    ]
    return series.reduce((sum, [, value]) => sum + Number(value), 0)
  }

  get authorization(): string {
    const { accessKey, secretKey } = this.root
    return `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
  }

  /** Ends everything, whatever state it is in. */
  async end(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    await Promise.all(this.running.map((index) => this.kill(index)))
    await this.#etcd?.remove()
    rmSync(this.#scratch, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }

  async #unmount(index: number): Promise<void> {
    if (this.#options.mounts === true) await shell(`umount -l ${JSON.stringify(this.mountPoint(index))}`)
  }
}

/** Before each request is signed: the header is part of what the client vouches for. An upload that is only begun is as safe as its metadata, and refuses more. */
export function acknowledgedAt(client: S3Client, ack: AckLevel): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        const { headers } = args.request as { headers: Record<string, string> }
        if (commandName !== 'CreateMultipartUploadCommand') headers['x-tidegate-ack'] = ack
        return next(args)
      },
    { step: 'build', name: 'tidegateAck' },
  )
}

/** So many nodes are there, nothing waits for a copy, and no segment is one's that is away: every one of those was taken over. */
export function areSafeAgain(count: number): (status: ShownStatus) => boolean {
  return ({ backlog, nodes, lost, holdings }) => {
    const alive = new Set(nodes.filter(({ state }) => state === 'serving').map(({ number }) => number))
    return (
      alive.size === count &&
      lost.every(({ state }) => state === 'cleaned') &&
      backlog.copiesWaiting === 0 &&
      holdings !== null &&
      holdings.trouble === null &&
      holdings.isComplete &&
      holdings.byNode.every(({ node, bytes }) => alive.has(node) || bytes === 0)
    )
  }
}
