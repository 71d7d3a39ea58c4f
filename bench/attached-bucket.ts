/**
 * A bucket that another store has already, with very many objects, and gateways to attach it to. The other store is a gateway too, since it is filled
 * quickly and lists quickly: a slow one would hide what attaching costs. It is reached in two ways:
 *
 *     near   straight, on the loopback address: everything but work is missing, and that shares the machine's cores
 *     far    over a line like one to a data centre (link/link.ts)
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { attachBucket, callAdmin } from '../test/support/attached-buckets.ts'
import type { GatewayProcess } from '../test/support/gateway-process.ts'
import { sdkClient } from '../test/support/sdk-client.ts'
import type { BenchmarkContext } from './benchmark.ts'
import { whenEnding } from './ending.ts'
import { BUCKET, makeBucket } from './gateway-probe.ts'
import { startLink } from './link/link.ts'
import { publishObjects } from './publish-objects.ts'

const LINE = { bytesPerSecond: 100 * 2 ** 20, delayMs: 20 } as const
const HOUR_MS = 3_600_000
/** Beside the bucket that is measured: what gateway and outside store are set going with. */
export const OTHER = 'other'
const OTHER_OBJECTS = 20_000
const POLL_MS = 50

export type Distance = 'near' | 'far'

export interface OutsideBucket {
  readonly objects: number
  readonly server: GatewayProcess
  readonly origins: Readonly<Record<Distance, string>>
  client(distance: Distance): S3Client
  /** Runs `use` with a gateway that knows nothing yet, to which the bucket is attached as `BUCKET`, and `OTHER` too. */
  attached<T>(distance: Distance, flags: readonly string[], use: (gateway: GatewayProcess) => Promise<T>): Promise<T>
}

export type KeyOf = (index: number, count: number) => string

/** `flat`: all beside each other. `tree`: in as many directories as there are in each, two levels of them. */
export const LAYOUTS = {
  flat: (index) => `object-${digits(index, 8)}`,
  tree(index, count) {
    const each = Math.max(1, Math.round(Math.cbrt(count)))
    const [above, below] = [Math.floor(index / (each * each)), Math.floor(index / each) % each]
    return `${digits(above, 4)}/${digits(below, 4)}/${digits(index % each, 4)}.dat`
  },
} as const satisfies Record<string, KeyOf>

function digits(value: number, width: number): string {
  return String(value).padStart(width, '0')
}

/** Makes it, and ends everything whatever becomes of `use`. */
export async function withOutsideBucket<T>(
  context: BenchmarkContext,
  layout: keyof typeof LAYOUTS,
  use: (outside: OutsideBucket) => Promise<T>,
): Promise<T> {
  const { objects } = context
  const data = join(context.directory, `outside-${layout}`)
  const empty = await context.gateway(data)
  await makeBucket(context, empty)
  await makeBucket(context, empty, OTHER)
  await empty.stop()
  const key = LAYOUTS[layout]
  const startMs = performance.now()
  await publishObjects(data, [
    { bucket: BUCKET, key: (index) => key(index, objects), count: objects },
    { bucket: OTHER, key: (index) => key(index, OTHER_OBJECTS), count: OTHER_OBJECTS },
  ])
  context.note(`${objects} objects (${layout}) in ${((performance.now() - startMs) / 1000).toFixed(0)} s`)
  const server = await context.gateway(data)
  const link = await startLink(server.s3, LINE)
  const done = whenEnding(() => link.stop())
  const origins = { near: server.s3, far: link.origin }
  const client = (distance: Distance): S3Client => sdkClient(server, { endpoint: origins[distance] })
  try {
    return await use({
      objects,
      server,
      origins,
      client,
      attached: async (distance, flags, measure) =>
        await withAttached(context, { server, origin: origins[distance], flags }, measure),
    })
  } finally {
    link.stop()
    done()
    await server.stop()
    rmSync(data, { recursive: true, force: true })
  }
}

async function withAttached<T>(
  context: BenchmarkContext,
  {
    server,
    origin,
    flags,
  }: { readonly server: GatewayProcess; readonly origin: string; readonly flags: readonly string[] },
  use: (gateway: GatewayProcess) => Promise<T>,
): Promise<T> {
  const { accessKey: AWS_ACCESS_KEY_ID, secretKey: AWS_SECRET_ACCESS_KEY } = server.root
  const data = join(context.directory, 'attaching')
  const gateway = await context.gateway(data, flags, { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY })
  try {
    const query = new URLSearchParams({ endpoint: origin, region: 'us-east-1', style: 'path' })
    // No listing may become old in the middle of a measurement.
    const ttl = { ttlMs: HOUR_MS, listingTtlMs: HOUR_MS }
    for (const bucket of [BUCKET, OTHER]) {
      await attachBucket(gateway, { bucket, url: `s3://${bucket}?${query.toString()}`, ...ttl })
    }
    return await use(gateway)
  } finally {
    await gateway.stop()
    rmSync(data, { recursive: true, force: true })
  }
}

/** All pages of the other bucket: a process that has just begun runs code that has not been compiled yet. */
export async function setGoing(client: S3Client): Promise<void> {
  for (let token: string | undefined; ;) {
    const page = await client.send(new ListObjectsV2Command({ Bucket: OTHER, ContinuationToken: token }))
    token = page.NextContinuationToken
    if (token === undefined) return
  }
}

interface Import {
  readonly state: string
  readonly keys: number
  readonly requests: number
  readonly problem: string | null
}

/** @returns seconds, once all of it is there */
export async function importAll(
  gateway: GatewayProcess,
): Promise<{ readonly seconds: number; readonly requests: number; readonly keys: number }> {
  const path = `/admin/v1/attachments/${BUCKET}/import`
  const startMs = performance.now()
  await callAdmin(gateway, 'POST', path, {})
  for (;;) {
    const { import: last } = (await callAdmin(gateway, 'GET', path)) as { readonly import: Import }
    const { state, keys, requests, problem } = last
    if (state === 'done') return { seconds: (performance.now() - startMs) / 1000, keys, requests }
    if (state !== 'running') throw new Error(`the import ${state}: ${problem ?? ''}`)
    await sleep(POLL_MS)
  }
}
