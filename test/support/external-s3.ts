/** An S3 server that is not ours, running: see external-s3-program.ts for which, and where it comes from. */
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findExternalS3, type ExternalS3Kind, type ExternalS3Program } from './external-s3-program.ts'
import { randomCredentials, type GatewayCredentials } from './gateway-process.ts'

const READY_MS_MAX = 60_000
const READY_POLL_MS = 50
const STARTS_MAX = 5

export interface ExternalS3 {
  readonly kind: ExternalS3Kind
  /** Such as http://127.0.0.1:40001; the same for as long as it lives. Path style. */
  readonly endpoint: string
  readonly region: string
  /** It is there, and empty at first. */
  readonly bucket: string
  readonly accessKey: string
  readonly secretKey: string
  /** `s3://BUCKET/PREFIX?...` for `--remote`. */
  remoteUrl(prefix: string): string
  /** For the SDK's chain: the environment of a gateway that uses it. */
  readonly environment: Readonly<Record<string, string>>
  /** A client of the AWS SDK; the caller destroys it. */
  client(): S3Client
  /** The server stands still: connections are taken by the kernel, and nothing is answered. */
  pause(): void
  resume(): void
  /** kill -9: connections break, new ones are refused. */
  kill(): Promise<void>
  /**
   * Starts again at the same address, over the same objects (moto forgets them). Other credentials revoke those before.
   * @throws Error while it runs
   */
  restart(credentials?: GatewayCredentials): Promise<void>
  /** Ends it, and removes its objects. */
  stop(): Promise<void>
}

export async function startExternalS3(
  options: { readonly kind?: ExternalS3Kind; readonly bucket?: string } = {},
): Promise<ExternalS3> {
  const program = await findExternalS3(options.kind)
  const server = new ExternalServer(program, options.bucket ?? 'remote-store')
  try {
    for (let start = 1; !(await server.start(await freePort())); start++) {
      // Somebody else took the port in between.
      if (start === STARTS_MAX) throw new Error(`${program.kind} could not be started:\n${server.logTail()}`)
    }
    await server.makeBucket()
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

class ExternalServer implements ExternalS3 {
  readonly kind: ExternalS3Kind
  readonly region = 'us-east-1'
  readonly bucket: string
  readonly #program: ExternalS3Program
  readonly #directory: string
  #credentials = randomCredentials()
  #child: ChildProcess | undefined
  #port = 0
  readonly #endWithUs = (): void => void this.#child?.kill('SIGKILL')

  constructor(program: ExternalS3Program, bucket: string) {
    this.kind = program.kind
    this.bucket = bucket
    this.#program = program
    this.#directory = mkdtempSync(join(tmpdir(), `tidegate-${program.kind}-`))
    mkdirSync(join(this.#directory, 'objects'))
    process.on('exit', this.#endWithUs)
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get accessKey(): string {
    return this.#credentials.accessKey
  }

  get secretKey(): string {
    return this.#credentials.secretKey
  }

  get environment(): Readonly<Record<string, string>> {
    return { AWS_ACCESS_KEY_ID: this.accessKey, AWS_SECRET_ACCESS_KEY: this.secretKey }
  }

  remoteUrl(prefix: string): string {
    return `s3://${this.bucket}/${prefix}?endpoint=${encodeURIComponent(this.endpoint)}&region=${this.region}`
  }

  client(): S3Client {
    return new S3Client({
      endpoint: this.endpoint,
      region: this.region,
      forcePathStyle: true,
      credentials: { accessKeyId: this.accessKey, secretAccessKey: this.secretKey },
    })
  }

  /** False when it ended before it answered. */
  async start(port: number): Promise<boolean> {
    this.#port = port
    const log = openSync(join(this.#directory, 'log'), 'a')
    const child = spawn(this.#program.path, this.#arguments(), {
      env: {
        ...process.env,
        ROOT_ACCESS_KEY: this.accessKey,
        ROOT_SECRET_KEY: this.secretKey,
        AWS_ACCESS_KEY_ID: this.accessKey,
        AWS_SECRET_ACCESS_KEY: this.secretKey,
      },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.#child = child
    // `exit` does not come when it could not be started at all.
    let failure: Error | undefined
    child.once('error', (error) => (failure = error))
    const hasEnded = (): boolean => failure !== undefined || child.exitCode !== null || child.signalCode !== null
    for (const deadlineMs = Date.now() + READY_MS_MAX; Date.now() < deadlineMs && !hasEnded();) {
      if (await answers(this.endpoint)) return !hasEnded()
      await sleep(READY_POLL_MS)
    }
    return false
  }

  #arguments(): string[] {
    switch (this.kind) {
      case 'versitygw': {
        const address = ['--port', `127.0.0.1:${this.#port}`, '--region', this.region, '--quiet', '--keep-alive']
        return [...address, 'posix', join(this.#directory, 'objects')]
      }
      case 'moto':
        return ['-H', '127.0.0.1', '-p', String(this.#port)]
    }
  }

  async makeBucket(): Promise<void> {
    const client = this.client()
    try {
      await client.send(new CreateBucketCommand({ Bucket: this.bucket }))
    } finally {
      client.destroy()
    }
  }

  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  async restart(credentials?: GatewayCredentials): Promise<void> {
    if (this.#child !== undefined) throw new Error('the server still runs')
    this.#credentials = credentials ?? this.#credentials
    if (!(await this.start(this.#port))) throw new Error(`${this.kind} did not start again:\n${this.logTail()}`)
    if (this.kind === 'moto') await this.makeBucket()
  }

  async stop(): Promise<void> {
    await this.kill()
    process.off('exit', this.#endWithUs)
    rmSync(this.#directory, { recursive: true, force: true })
  }

  logTail(): string {
    return readFileSync(join(this.#directory, 'log'), 'utf8').slice(-2_000)
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Any answer over HTTP will do, a refusal too. */
async function answers(endpoint: string): Promise<boolean> {
  try {
    const response = await fetch(endpoint, { signal: AbortSignal.timeout(2_000) })
    await response.arrayBuffer()
    return true
  } catch {
    return false
  }
}
