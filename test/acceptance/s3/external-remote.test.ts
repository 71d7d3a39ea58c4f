/**
 * A gateway whose remote store is an S3 over the network, as people use it with `aws` and `rclone`: an S3 server that is not ours, and a
 * second Tidegate. Between them lies a proxy of the test, which can be cut off.
 */
// needs: aws rclone
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Random } from '../../model/random.ts'
import { externalS3Lack } from '../../support/external-s3-program.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { expectSettled } from '../../support/gateway-suite.ts'
import { outcomeOf, type RawResponse } from '../../support/raw-http.ts'
import { runCommand } from '../../support/run-command.ts'
import { sendSigned } from '../../support/signed-calls.ts'
import { listRemote } from '../../write-behind/remote/audit.ts'
import { flushCommand } from '../../write-behind/remote/flush-command.ts'
import { startRemote, type RemoteKind, type RemoteTarget } from '../../write-behind/remote/remote-target.ts'
import { WeatherProxy } from '../../write-behind/remote/weather-proxy.ts'

const COMMAND_MS_MAX = 60_000
const TEST_MS_MAX = 240_000
const RECOVERS_MS_MAX = 60_000
const BUCKET = 'over-the-net'
const PREFIX = 'some/prefix'
const KIB = 1024
const MIB = 1024 * KIB
const FLAGS = Object.entries({
  '--buckets': BUCKET,
  '--cache-memory': '64MiB',
  '--hash-workers': '1',
  '--segment-size': '8MiB',
  '--segment-age': '300ms',
}).flat()
const lack = await externalS3Lack()

/** One gateway that is stopped and started again over the same data directory and remote store. */
class Place {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'tidegate-acceptance-'))
  readonly #kind: RemoteKind
  readonly #root = randomCredentials()
  #remote: RemoteTarget | undefined
  #proxy: WeatherProxy | undefined
  #gateway: GatewayProcess | undefined

  constructor(kind: RemoteKind) {
    this.#kind = kind
  }

  get remote(): RemoteTarget {
    if (!this.#remote) throw new Error('there is no remote store yet')
    return this.#remote
  }

  get proxy(): WeatherProxy {
    if (!this.#proxy) throw new Error('there is no proxy yet')
    return this.#proxy
  }

  get gateway(): GatewayProcess {
    if (!this.#gateway) throw new Error('the gateway is not up')
    return this.#gateway
  }

  at(...names: readonly string[]): string {
    return join(this.directory, ...names)
  }

  async begin(): Promise<void> {
    this.#remote = await startRemote(this.#kind)
    this.#proxy = new WeatherProxy(this.#remote.endpoint, new Random(1))
    await this.#proxy.start()
    await this.start()
  }

  async start(): Promise<void> {
    this.#gateway = await startGateway({
      data: this.at('data'),
      root: this.#root,
      logFile: this.at('log'),
      flags: [...FLAGS, ...this.remote.flags(PREFIX, this.proxy.endpoint)],
      environment: this.remote.environment,
    })
  }

  /** With nothing in memory; with nothing on disk either, if so asked. */
  async restart(options: { readonly emptiesCache: boolean }): Promise<void> {
    expect(await this.gateway.stop()).toBe(0)
    if (options.emptiesCache) rmSync(this.at('data', 'cache'), { recursive: true, force: true })
    await this.start()
  }

  async end(): Promise<void> {
    await this.#gateway?.kill()
    await this.#proxy?.stop()
    await this.#remote?.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  async aws(...args: readonly string[]): Promise<string> {
    return await this.#run(['aws', '--endpoint-url', this.gateway.s3, ...args])
  }

  /** `gate:` is the gateway. A CA bundle for the AWS SDK makes rclone fail, whatever the endpoint. */
  async rclone(...args: readonly string[]): Promise<string> {
    return await this.#run(['env', '-u', 'AWS_CA_BUNDLE', 'rclone', '--config', '', ...args])
  }

  async #run(command: readonly [string, ...string[]]): Promise<string> {
    const { accessKey, secretKey } = this.#root
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
        RCLONE_CONFIG_GATE_TYPE: 's3',
        RCLONE_CONFIG_GATE_PROVIDER: 'Other',
        RCLONE_CONFIG_GATE_ENV_AUTH: 'true',
        RCLONE_CONFIG_GATE_REGION: 'us-east-1',
        RCLONE_CONFIG_GATE_ENDPOINT: this.gateway.s3,
      },
    })
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}:\n${output}`)
    return output
  }

  async get(key: string): Promise<RawResponse> {
    return await sendSigned(this.gateway, { method: 'GET', target: `/${BUCKET}/${key}` })
  }

  async put(key: string, body: Uint8Array): Promise<string> {
    return outcomeOf(await sendSigned(this.gateway, { method: 'PUT', target: `/${BUCKET}/${key}`, body }))
  }

  async segments(): Promise<string[]> {
    const { objects } = await listRemote(this.remote, PREFIX)
    return [...objects.keys()].filter((name) => name.startsWith('segments/'))
  }
}

const SIZES = [0, 1, 4 * KIB, 4 * KIB + 1, 300 * KIB, 9 * MIB, 20 * MIB]

describe.skipIf(lack !== undefined).each(['external', 'tidegate'] as const)(
  'over an S3 that is: %s',
  { timeout: TEST_MS_MAX },
  (kind) => {
    const place = new Place(kind)
    beforeAll(() => place.begin(), TEST_MS_MAX)
    afterAll(() => place.end())

    const expectAllBack = async (): Promise<void> => {
      const back = mkdtempSync(place.at('back-'))
      await place.aws('s3', 'cp', '--quiet', '--recursive', `s3://${BUCKET}/sizes/`, join(back, 'sizes'))
      for (const size of SIZES) {
        const sent = readFileSync(place.at('sizes', `${size}.bin`))
        expect(readFileSync(join(back, 'sizes', `${size}.bin`)).equals(sent), `${size} bytes`).toBe(true)
      }
      expect(await place.rclone('check', '--download', place.at('tree'), `gate:${BUCKET}/tree`)).toMatch(
        /0 differences found/,
      )
    }

    it('aws and rclone put and get objects of any size, in parts where they like, and delete them', async () => {
      for (const size of SIZES) write(place.at('sizes', `${size}.bin`), randomBytes(size))
      for (let index = 0; index < 60; index++) {
        write(place.at('tree', `folder ${index % 4}`, `ümlaut-${index}`), randomBytes(1 + index * 700))
      }
      await place.aws('s3', 'cp', '--quiet', '--recursive', place.at('sizes'), `s3://${BUCKET}/sizes/`)
      await place.rclone('copy', place.at('tree'), `gate:${BUCKET}/tree`)
      await expectAllBack()
      await place.aws('s3', 'cp', '--quiet', place.at('sizes', '1.bin'), `s3://${BUCKET}/gone`)
      await place.aws('s3', 'rm', '--quiet', `s3://${BUCKET}/gone`)
      expect(outcomeOf(await place.get('gone'))).toBe('404 NoSuchKey')
    })

    it('tidegate flush drain brings everything there, and status says so', async () => {
      await flushCommand(place.gateway, 'drain')
      expect((await place.segments()).length).toBeGreaterThan(0)
      expect(readdirSync(place.at('data', 'journal')).filter((name) => name.endsWith('.seg'))).toEqual([])
      expect(await flushCommand(place.gateway, 'status')).toMatch(/./)
    })

    it('everything is there after a restart, from the disk cache', async () => {
      await place.restart({ emptiesCache: false })
      await expectAllBack()
    })

    it('everything is there after a restart with an empty cache, from the remote store', async () => {
      await place.restart({ emptiesCache: true })
      await expectAllBack()
      await expectSettled(place.gateway)
    })

    it('pause keeps what is written here, resume lets it go', async () => {
      await flushCommand(place.gateway, 'drain')
      await flushCommand(place.gateway, 'pause')
      const before = await place.segments()
      expect(await place.put('paused', randomBytes(100_000))).toBe('200')
      await sleep(2_000)
      expect(await place.segments()).toEqual(before)
      expect(await flushCommand(place.gateway, 'status')).toMatch(/paused/i)
      await flushCommand(place.gateway, 'resume')
      await flushCommand(place.gateway, 'drain')
      expect((await place.segments()).length).toBeGreaterThan(before.length)
    })

    it('while the remote store is away cached objects are served, others answer 503 with Retry-After, and it comes back', async () => {
      const [cached, cold] = [randomBytes(200_000), randomBytes(200_000)]
      // In segments of their own, so that one is not fetched with the other.
      for (const [key, body] of [
        ['cached', cached],
        ['cold', cold],
      ] as const) {
        expect(await place.put(key, body)).toBe('200')
        await flushCommand(place.gateway, 'drain')
      }
      await place.restart({ emptiesCache: true })
      expect((await place.get('cached')).body.equals(cached)).toBe(true)
      place.proxy.cutOff()
      try {
        expect((await place.get('cached')).body.equals(cached)).toBe(true)
        const refused = await place.get('cold')
        expect(outcomeOf(refused)).toMatch(/^503 /)
        expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
        // Writers need the local disk only.
        expect(await place.put('meanwhile', cold)).toBe('200')
        expect((await place.get('meanwhile')).body.equals(cold)).toBe(true)
      } finally {
        place.proxy.restore()
      }
      const deadlineMs = Date.now() + RECOVERS_MS_MAX
      let answer = await place.get('cold')
      for (; answer.status !== 200 && Date.now() < deadlineMs; answer = await place.get('cold')) await sleep(250)
      expect(answer.status).toBe(200)
      expect(answer.body.equals(cold)).toBe(true)
      await flushCommand(place.gateway, 'drain')
      await expectSettled(place.gateway)
      expect(await place.gateway.stop()).toBe(0)
      expect(readFileSync(place.at('log'), 'utf8')).not.toMatch(/"level":"fatal"|AssertionFailed/)
    })
  },
)

function write(path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
}
