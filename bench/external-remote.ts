/**
 * An S3 server that is not ours as remote store of a gateway, for the benchmarks of write-behind, and the same server without a gateway
 * before it. Both are on the loopback address and on the same disk, so what is measured is work, not a network.
 */
import type { S3Client } from '@aws-sdk/client-s3'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { startExternalS3, type ExternalS3 } from '../test/support/external-s3.ts'
import type { GatewayProcess } from '../test/support/gateway-process.ts'
import { sdkClient } from '../test/support/sdk-client.ts'
import { drainFlusher } from '../test/write-behind/remote/flush-command.ts'
import type { BenchmarkContext, Measurement } from './benchmark.ts'
import { BUCKET, makeBucket } from './gateway-probe.ts'
import { whenEnding } from './ending.ts'

export interface ExternalRemote {
  readonly server: ExternalS3
  gateway(data: string, flags?: readonly string[]): Promise<GatewayProcess>
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
      async gateway(data, flags = []) {
        const remote = ['--remote', server.remoteUrl('bench')]
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

/** The same through a gateway. @returns seconds until everything was in the remote store */
export async function uploadThrough(gateway: GatewayProcess, upload: Upload): Promise<number> {
  const client = sdkClient(gateway)
  const startMs = performance.now()
  try {
    await uploadBySdk(client, BUCKET, upload)
    await drainFlusher(gateway)
    return (performance.now() - startMs) / 1000
  } finally {
    client.destroy()
  }
}
