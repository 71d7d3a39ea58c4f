/**
 * A gateway for the length of a test file. When the file ends, what every file must leave behind is checked: no body,
 * lease or reader still open, a stop by SIGTERM with code 0, and a log that holds no secret and no error.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { get as httpsGet } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect } from 'vitest'
import type { RemoteKind } from '../write-behind/remote/remote-target.ts'
import type { AttachedStore } from './attached-store.ts'
import { randomCredentials, startGateway, type GatewayOptions, type GatewayProcess } from './gateway-process.ts'
import { sdkClient } from './sdk-client.ts'

const SETTLE_MS_MAX = 20_000
/** With what attached buckets wait for: nothing may be left running because a hook took too long. */
const END_MS_MAX = 240_000
/** Gauges of things that somebody must give back. */
const BORROWED = ['tidegate_bodies_open', 'tidegate_cache_leases', 'tidegate_readers_open'] as const

export interface GatewaySuite {
  readonly gateway: GatewayProcess
  /** For files of the test, beside the data directory. */
  readonly directory: string
  /** Log lines of level error and above. */
  errors(): string[]
  /** Whether its buckets are attached ones: what those refuse is left out. */
  readonly isAttached: boolean
  /** Makes a bucket, or attaches one. */
  makeBucket(name: string): Promise<void>
}

/**
 * In a test file that imports one of those that use a gateway: their buckets are attached to such a store, and at the end what lies
 * there is compared with them. In the environment (`ATTACHED=tidegate`) it counts for all files.
 */
export function attachBucketsTo(kind: RemoteKind): void {
  process.env['ATTACHED'] ??= kind
}

function attachedKind(): RemoteKind | undefined {
  const kind = process.env['ATTACHED']
  if (kind === undefined || kind === 'external' || kind === 'tidegate') return kind
  throw new Error(`ATTACHED=${kind} is neither external nor tidegate`)
}

/** Small, since test files run side by side. */
export const SMALL_FLAGS: readonly string[] = ['--cache-memory', '128MiB', '--hash-workers', '2']

/** A directory that is gone when the test file ends. */
export function useDirectory(): { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'tidegate-acceptance-'))
  afterAll(() => rmSync(path, { recursive: true, force: true }))
  return { path }
}

/** `options` is asked once there is a directory. Errors that the log may hold are matched by `expectedErrors`. */
export function useGateway(
  options: (directory: string) => Partial<GatewayOptions> = () => ({}),
  expectedErrors?: RegExp,
): GatewaySuite {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-acceptance-'))
  const logFile = join(directory, 'log')
  const root = randomCredentials()
  let gateway: GatewayProcess | undefined
  const running = (): GatewayProcess => {
    if (gateway === undefined) throw new Error('the gateway is not up yet')
    return gateway
  }
  const errors = (): string[] => errorLines(logFile)
  const kind = attachedKind()
  let store: AttachedStore | undefined
  const makeBucket = async (Bucket: string): Promise<void> => {
    if (store) return await store.attach(running(), Bucket)
    const client = sdkClient(running())
    await client.send(new CreateBucketCommand({ Bucket }))
    client.destroy()
  }
  beforeAll(async () => {
    const own = options(directory)
    const { flags: given = [], ...more } = own
    if (kind) store = await (await import('./attached-store.ts')).AttachedStore.start(kind)
    const { flags, buckets } = store ? withoutBuckets(given) : { flags: given, buckets: [] }
    const environment = { ...own.environment, ...store?.remote.environment }
    const all = [...SMALL_FLAGS, ...flags]
    gateway = await startGateway({ data: join(directory, 'data'), root, logFile, ...more, environment, flags: all })
    for (const bucket of buckets) await makeBucket(bucket)
  })
  afterAll(async () => {
    try {
      if (gateway === undefined) return
      await store?.compareAll(gateway)
      await expectSettled(gateway)
      expect(await gateway.stop()).toBe(0)
      expect(errors().filter((line) => expectedErrors?.test(line) !== true)).toEqual([])
      expect(readFileSync(logFile, 'utf8')).not.toContain(gateway.root.secretKey)
    } finally {
      if (gateway?.child.exitCode === null) await gateway.kill()
      await store?.stop()
      rmSync(directory, { recursive: true, force: true })
    }
  }, END_MS_MAX)
  return {
    get gateway() {
      return running()
    },
    directory,
    errors,
    isAttached: kind !== undefined,
    makeBucket,
  }
}

/** What `--buckets` would make is attached instead. */
function withoutBuckets(flags: readonly string[]): { readonly flags: readonly string[]; readonly buckets: string[] } {
  const at = flags.indexOf('--buckets')
  if (at < 0) return { flags, buckets: [] }
  return { flags: flags.toSpliced(at, 2), buckets: (flags[at + 1] ?? '').split(',') }
}

export function errorLines(logFile: string): string[] {
  return readFileSync(logFile, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !/^\{"level":"(?:trace|debug|info|warn)"/.test(line))
}

/** Series of /metrics by name and labels. */
export async function readMetrics(gateway: GatewayProcess): Promise<ReadonlyMap<string, number>> {
  const page = await textFrom(`${gateway.http}/metrics`)
  const rows = page.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(rows.map((row) => [row.slice(0, row.lastIndexOf(' ')), Number(row.slice(row.lastIndexOf(' ') + 1))]))
}

/** Not `fetch`: a gateway with a certificate of its own making is read too. */
function textFrom(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const answered = (response: IncomingMessage): void => {
      text(response).then(resolve, reject)
    }
    const options = { agent: false, headers: { connection: 'close' }, timeout: SETTLE_MS_MAX }
    const request = url.startsWith('https:')
      ? httpsGet(url, { ...options, rejectUnauthorized: false }, answered)
      : httpGet(url, options, answered)
    request.on('timeout', () => request.destroy(new Error(`${url} does not answer`)))
    request.on('error', reject)
  })
}

/** Waits until everything borrowed was given back. @throws AssertionError naming what was not */
export async function expectSettled(gateway: GatewayProcess): Promise<void> {
  const deadlineMs = Date.now() + SETTLE_MS_MAX
  for (;;) {
    const metrics = await readMetrics(gateway)
    const left = BORROWED.filter((name) => metrics.get(name) !== 0)
    if (left.length === 0) return
    if (Date.now() > deadlineMs) {
      expect(Object.fromEntries(left.map((name) => [name, metrics.get(name)]))).toEqual({})
    }
    await sleep(100)
  }
}
