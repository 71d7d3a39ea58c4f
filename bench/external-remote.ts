/**
 * An S3 server that is not ours as remote store of a gateway, for the benchmarks of write-behind, and the same server without a gateway
 * before it. Both are on the loopback address and on the same disk, so what is measured is work, not a network.
 */
import { PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { startExternalS3, type ExternalS3 } from '../test/support/external-s3.ts'
import type { GatewayCredentials, GatewayProcess } from '../test/support/gateway-process.ts'
import { drainFlusher, drainNames } from '../test/write-behind/remote/flush-command.ts'
import type { BenchmarkContext, Measurement } from './benchmark.ts'
import { makeBucket } from './gateway-probe.ts'
import { whenEnding } from './ending.ts'

export interface ExternalRemote {
  readonly server: ExternalS3
  /** `endpoint`: where it finds the server, if not at its own. */
  gateway(data: string, flags?: readonly string[], endpoint?: string): Promise<GatewayProcess>
}

/** Runs `measure` with a server that is gone afterwards. */
export async function withExternalRemote(
  context: BenchmarkContext,
  measure: (remote: ExternalRemote) => Promise<Measurement[]>,
): Promise<Measurement[]> {
  const server = await startExternalS3()
  const done = whenEnding(() => void server.kill())
  context.note(`the remote store is ${server.kind}, on this machine`)
  try {
    return await measure({
      server,
      async gateway(data, flags = [], endpoint = server.endpoint) {
        const url = server.remoteUrl('bench').replace(encodeURIComponent(server.endpoint), encodeURIComponent(endpoint))
        const remote = ['--remote', url]
        return await context.gateway(data, [...remote, ...flags], server.environment)
      },
    })
  } finally {
    await server.stop()
    done()
  }
}

/** A gateway over the server, with a bucket. */
export async function startOver(
  context: BenchmarkContext,
  {
    remote,
    data,
    flags,
  }: { readonly remote: ExternalRemote; readonly data: string; readonly flags?: readonly string[] },
): Promise<GatewayProcess> {
  const gateway = await remote.gateway(data, flags)
  await makeBucket(context, gateway)
  return gateway
}

export interface Upload {
  readonly objects: number
  readonly bytes: number
  readonly inFlight: number
}

/** PUTs by the AWS SDK. @returns seconds until the last one was acknowledged */
export async function uploadBySdk(
  client: S3Client,
  bucket: string,
  { objects, bytes, inFlight }: Upload,
): Promise<number> {
  const Body = Buffer.alloc(bytes, 0x61)
  const startMs = performance.now()
  let next = 0
  const writer = async (): Promise<void> => {
    for (let index = next++; index < objects; index = next++) {
      const Key = `by-sdk/${String(index).padStart(7, '0')}`
      await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }))
    }
  }
  await Promise.all(Array.from({ length: inFlight }, writer))
  return (performance.now() - startMs) / 1000
}

/** The same by this repository's load generator, which costs far less for a request than the SDK. @returns seconds */
export async function uploadByLoad(
  context: BenchmarkContext,
  {
    origin,
    bucket,
    credentials,
  }: { readonly origin: string; readonly bucket: string; readonly credentials: GatewayCredentials },
  { objects, bytes, inFlight }: Upload,
): Promise<number> {
  const { accessKey, secretKey } = credentials
  const { seconds } = await context.load.run({
    origin,
    credentials: { accessKey, secretKey },
    request: { method: 'PUT', path: `/${bucket}/by-load/#`, bodyBytes: bytes },
    keys: objects,
    connections: inFlight,
    end: { requests: objects },
  })
  return seconds
}

/** What `write` puts into a gateway. @returns seconds until everything was in the remote store, bytes and names */
export async function untilPersisted(gateway: GatewayProcess, write: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now()
  await write()
  await drainFlusher(gateway)
  await drainNames(gateway)
  return (performance.now() - startMs) / 1000
}
