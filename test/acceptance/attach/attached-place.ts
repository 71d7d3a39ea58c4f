/** A gateway with a bucket that is attached, the store where that lies, a proxy between the two, and the programs that people use on both. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { Random } from '../../model/random.ts'
import { callAdmin, type AttachmentRequest } from '../../support/attached-buckets.ts'
import { AttachedStore } from '../../support/attached-store.ts'
import { runTidegate } from '../../support/command-line.ts'
import { startGateway, type GatewayCredentials, type GatewayProcess } from '../../support/gateway-process.ts'
import { SMALL_FLAGS } from '../../support/gateway-suite.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import type { RawResponse } from '../../support/raw-http.ts'
import { runCommand } from '../../support/run-command.ts'
import { sendSigned, type HandMadeCall } from '../../support/signed-calls.ts'
import type { RemoteKind, RemoteTarget } from '../../write-behind/remote/remote-target.ts'
import { WeatherProxy } from '../../write-behind/remote/weather-proxy.ts'

const COMMAND_MS_MAX = 60_000
const EVENTUALLY_MS_MAX = 30_000
export const BUCKET = 'far'

export class AttachedPlace {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'tidegate-attach-'))
  readonly store: AttachedStore
  readonly proxy: WeatherProxy
  readonly #flags: readonly string[]
  #gateway: GatewayProcess | undefined
  #mounted: MountedGateway | undefined

  private constructor(store: AttachedStore, flags: readonly string[]) {
    this.store = store
    this.proxy = new WeatherProxy(store.remote.endpoint, new Random(1))
    this.#flags = [...SMALL_FLAGS, ...flags]
  }

  /** Nothing is attached yet. */
  static async begin(
    to: RemoteKind | RemoteTarget,
    { mounts = false, flags = [] }: { readonly mounts?: boolean; readonly flags?: readonly string[] } = {},
  ): Promise<AttachedPlace> {
    const place = new AttachedPlace(await AttachedStore.start(to), flags)
    await place.proxy.start()
    const { environment } = place.store.remote
    if (mounts) place.#mounted = await startMounted(place.#flags, { environment })
    else await place.start()
    return place
  }

  get gateway(): GatewayProcess {
    const gateway = this.#mounted?.gateway ?? this.#gateway
    if (!gateway) throw new Error('the gateway is not up')
    return gateway
  }

  get mounted(): MountedGateway {
    if (!this.#mounted) throw new Error('there is no mount')
    return this.#mounted
  }

  at(...names: readonly string[]): string {
    return join(this.directory, ...names)
  }

  /** Also after it was stopped or killed. */
  async start(): Promise<void> {
    if (this.#mounted) return await this.#mounted.restart()
    this.#gateway = await startGateway({
      data: this.at('data'),
      logFile: this.at('log'),
      flags: this.#flags,
      environment: this.store.remote.environment,
      ...(this.#gateway ? { root: this.#gateway.root } : {}),
    })
  }

  /** By way of the proxy. */
  async attach(bucket: string = BUCKET, policy: Partial<AttachmentRequest> = {}): Promise<void> {
    await this.store.attach(this.gateway, bucket, { endpoint: this.proxy.endpoint, ...policy })
  }

  async end(): Promise<void> {
    await this.#mounted?.stop()
    await this.#gateway?.kill()
    await this.proxy.stop()
    await this.store.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** The gateway's log so far. */
  log(): string {
    return readFileSync(this.#mounted?.logFile ?? this.at('log'), 'utf8')
  }

  send(
    method: string,
    key: string,
    more: Partial<HandMadeCall> & { readonly bucket?: string } = {},
  ): Promise<RawResponse> {
    const { bucket = BUCKET, ...call } = more
    return sendSigned(this.gateway, { method, target: `/${bucket}/${encoded(key)}`, ...call })
  }

  // ---- what others do outside

  async putOutside(key: string, body: string | Uint8Array, bucket: string = BUCKET): Promise<void> {
    await this.store.outside.send(new PutObjectCommand({ ...this.#outside(key, bucket), Body: body }))
  }

  async deleteOutside(key: string, bucket: string = BUCKET): Promise<void> {
    await this.store.outside.send(new DeleteObjectCommand(this.#outside(key, bucket)))
  }

  /** Undefined when there is nothing. */
  async getOutside(key: string, bucket: string = BUCKET): Promise<Buffer | undefined> {
    try {
      const { Body } = await this.store.outside.send(new GetObjectCommand(this.#outside(key, bucket)))
      return Buffer.from((await Body?.transformToByteArray()) ?? [])
    } catch (error) {
      if ((error as Error).name === 'NoSuchKey') return undefined
      throw error
    }
  }

  #outside(key: string, bucket: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.store.remote.bucket, Key: `${this.store.prefix(bucket)}${key}` }
  }

  /** Of carrying out, in all attached buckets. */
  async writeBack(verb: 'pause' | 'resume'): Promise<void> {
    await callAdmin(this.gateway, 'POST', `/admin/v1/write-back/${verb}`)
  }

  // ---- programs

  async tidegate(...args: readonly string[]): Promise<string> {
    const { http, root } = this.gateway
    const { code, output } = await runTidegate([...args, '--gateway', http], {
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
    })
    if (code !== 0) throw new Error(`tidegate ${args.join(' ')} ended with ${code}:\n${output}`)
    return output
  }

  aws(...args: readonly string[]): Promise<string> {
    return run(['aws', '--endpoint-url', this.gateway.s3, ...args], this.gateway.root)
  }

  /** Past the gateway. */
  awsOutside(...args: readonly string[]): Promise<string> {
    const { endpoint, credentials } = this.store.remote
    return run(['aws', '--endpoint-url', endpoint, ...args], credentials)
  }

  /** `gate:` is the gateway. A CA bundle for the AWS SDK makes rclone fail, whatever the endpoint. */
  rclone(...args: readonly string[]): Promise<string> {
    return run(['env', '-u', 'AWS_CA_BUNDLE', 'rclone', '--config', '', ...args], this.gateway.root, {
      RCLONE_CONFIG_GATE_TYPE: 's3',
      RCLONE_CONFIG_GATE_PROVIDER: 'Other',
      RCLONE_CONFIG_GATE_ENV_AUTH: 'true',
      RCLONE_CONFIG_GATE_REGION: 'us-east-1',
      RCLONE_CONFIG_GATE_ENDPOINT: this.gateway.s3,
    })
  }

  /** Where the attached bucket lies, for `aws s3`. */
  get outsideUrl(): string {
    return `s3://${this.store.remote.bucket}/${this.store.prefix(BUCKET)}`
  }
}

async function run(
  command: readonly [string, ...string[]],
  { accessKey, secretKey }: GatewayCredentials,
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { code, output } = await runCommand(command, {
    show: false,
    timeoutMs: COMMAND_MS_MAX,
    env: {
      AWS_ACCESS_KEY_ID: accessKey,
      AWS_SECRET_ACCESS_KEY: secretKey,
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_PAGER: '',
      AWS_MAX_ATTEMPTS: '1',
      ...environment,
    },
  })
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}:\n${output}`)
  return output
}

export function encoded(key: string): string {
  return key.split('/').map(encodeURIComponent).join('/')
}

export function write(path: string, bytes: Uint8Array | string): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
  return path
}

/** Asks until it holds. @throws Error with what it found last */
export async function eventually<T>(what: string, ask: () => Promise<T>, holds: (found: T) => boolean): Promise<T> {
  for (const deadlineMs = Date.now() + EVENTUALLY_MS_MAX; ;) {
    const found = await ask()
    if (holds(found)) return found
    if (Date.now() > deadlineMs) throw new Error(`${what}: still ${JSON.stringify(found)}`)
    await sleep(100)
  }
}
