/** What the benchmarks of the KV API have in common. They come with HTTP Basic: what programs send that keep no token. */
import type { BenchmarkContext } from './benchmark.ts'
import { BUCKET } from './gateway-probe.ts'
import type { LoadRequest } from './load/job.ts'
import { createKvClient, type KvClient } from '../src/client/kv-client.ts'
import type { GatewayCredentials, GatewayProcess } from '../test/support/gateway-process.ts'

export const BUCKET_PATH: string = `/kv/v1/${BUCKET}`
const BATCH_KEYS = 1000

export function basicOf({ accessKey, secretKey }: GatewayCredentials): string {
  return `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
}

/** As the load generator numbers them. */
export function numbered(index: number): string {
  return String(index).padStart(7, '0')
}

/** A gateway with an empty bucket. */
export async function kvGateway(context: BenchmarkContext): Promise<GatewayProcess> {
  const gateway = await context.gateway()
  await sendKv(context, gateway, { method: 'PUT', path: BUCKET_PATH })
  return gateway
}

/** Sends a request with each number of `keys` once, to the HTTP port. */
export async function sendKv(
  context: BenchmarkContext,
  gateway: GatewayProcess,
  request: LoadRequest,
  keys = 1,
): Promise<void> {
  await context.load.run({
    origin: gateway.http,
    credentials: gateway.root,
    request: { authorization: basicOf(gateway.root), ...request },
    keys,
    connections: Math.min(keys, 16),
    end: { requests: keys },
  })
}

export function kvClient(gateway: GatewayProcess): KvClient {
  return createKvClient({ url: gateway.http, bucket: BUCKET, ...gateway.root })
}

/** Puts so many values of `bytes` each, by batches. */
export async function fillBucket(
  client: KvClient,
  { count, bytes, key }: { count: number; bytes: number; key: (index: number) => string },
): Promise<void> {
  const value = Buffer.alloc(bytes, 0x61)
  for (let from = 0; from < count; from += BATCH_KEYS) {
    const length = Math.min(BATCH_KEYS, count - from)
    const puts = Array.from({ length }, (_, index) => ({ op: 'put', key: key(from + index), value }) as const)
    const refused = (await client.batch(puts)).find(({ status }) => status !== 200)
    if (refused !== undefined) throw new Error(`a put of a batch was answered with ${refused.status} ${refused.detail}`)
  }
}
