/**
 * GET of 1 GiB that only the remote store holds: the gateway has just been started, with neither memory nor disk cache. Then the same
 * again. There are three ceilings, each an object of that size read straight from the server:
 *
 *   by one plain GET, which a server answers by letting the kernel copy the file: what the machine can do
 *   by the AWS SDK, in the ranges in which a gateway asks for them: what anybody pays who reads in ranges
 *   by one plain GET over a line as thin and long as one to a data centre, with the gateway behind the same line
 */
import { rmSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { Readable } from 'node:stream'
import { sdkClient } from '../../test/support/sdk-client.ts'
import type { GatewayCredentials } from '../../test/support/gateway-process.ts'
import { drainFlusher } from '../../test/write-behind/remote/flush-command.ts'
import { compare, takeTurns, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { whenEnding } from '../ending.ts'
import { startOver, withExternalRemote, type ExternalRemote } from '../external-remote.ts'
import { BUCKET } from '../gateway-probe.ts'
import { startLink } from '../link/link.ts'

const MIB = 2 ** 20
const PART_BYTES = 64 * MIB
const PARTS = 16
const KEY = 'cold'
const FLAGS = ['--cache-memory', '2GiB'] as const
/** As a gateway reads ahead for one client. */
const RANGE_BYTES = 8 * MIB
const RANGES_AT_ONCE = 4
const LINE = { bytesPerSecond: 100 * MIB, delayMs: 5 } as const

export const writeBehindCold: Benchmark = {
  name: 'write-behind-cold',
  rounds: 3,
  run: (context) =>
    withExternalRemote(context, async (remote) => {
      const data = join(context.directory, 'data')
      await fill(context, remote, data)
      const link = await startLink(remote.server.endpoint, LINE)
      const done = whenEnding(() => link.stop())
      try {
        return await measure(context, { remote, data, lineOrigin: link.origin })
      } finally {
        link.stop()
        done()
      }
    }),
}

/** The object, straight in the server and through a gateway. */
async function fill(context: BenchmarkContext, remote: ExternalRemote, data: string): Promise<void> {
  const { server } = remote
  const gateway = await startOver(context, { remote, data, flags: FLAGS })
  for (const [client, bucket] of [
    [sdkClient(gateway), BUCKET],
    [server.client(), server.bucket],
  ] as const) {
    await putLarge(client, bucket)
    client.destroy()
  }
  await drainFlusher(gateway)
  await gateway.stop()
}

async function measure(
  context: BenchmarkContext,
  { remote, data, lineOrigin }: { readonly remote: ExternalRemote; readonly data: string; readonly lineOrigin: string },
): Promise<Measurement[]> {
  const { server } = remote
  const { accessKey, secretKey } = server
  const rate = async (origin: string, bucket: string, credentials: GatewayCredentials): Promise<number> => {
    const result = await context.load.run({
      origin,
      credentials,
      request: { method: 'GET', path: `/${bucket}/${KEY}` },
      keys: 1,
      connections: 1,
      end: { requests: 1 },
    })
    return result.bytes / MIB / result.seconds
  }
  const withGateway = async <T>(endpoint: string, reads: (read: () => Promise<number>) => Promise<T>): Promise<T> => {
    rmSync(join(data, 'cache'), { recursive: true, force: true })
    const gateway = await remote.gateway(data, FLAGS, endpoint)
    try {
      return await reads(() => rate(gateway.s3, BUCKET, gateway.root))
    } finally {
      await gateway.stop()
    }
  }
  let secondRate = Number.NaN
  const direct = (origin: string): Promise<number> => rate(origin, server.bucket, { accessKey, secretKey })
  const taken = await takeTurns(context.rounds, {
    direct: () => direct(server.endpoint),
    bySdk: () => rateBySdk(server.client(), server.bucket),
    first: () =>
      withGateway(server.endpoint, async (read) => {
        const firstRate = await read()
        secondRate = await read()
        return firstRate
      }),
    // Of the same gateway, right after.
    second: () => Promise.resolve(secondRate),
    directFar: () => direct(lineOrigin),
    far: () => withGateway(lineOrigin, (read) => read()),
  })
  const common = { unit: 'MiB/s', durability: 'none' }
  return [
    { name: 'write-behind-cold', ...compare(taken.first, taken.direct), aim: '>= 0.9', ...common },
    { name: 'write-behind-cold-by-sdk', ...compare(taken.first, taken.bySdk), aim: '>= 0.9', ...common },
    { name: 'write-behind-second', ...compare(taken.second, taken.direct), aim: '>= 5', ...common },
    { name: 'write-behind-far', ...compare(taken.far, taken.directFar), aim: '>= 0.9', ...common },
  ]
}

/** MiB/s of the object in ranges, some at a time; the bytes are looked at by nobody. */
async function rateBySdk(client: S3Client, bucket: string): Promise<number> {
  const bytes = PARTS * PART_BYTES
  const startMs = performance.now()
  let next = 0
  const reader = async (): Promise<void> => {
    for (let offset = next; offset < bytes; offset = next) {
      next += RANGE_BYTES
      const Range = `bytes=${offset}-${Math.min(bytes, next) - 1}`
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: KEY, Range }))
      let got = 0
      for await (const chunk of Body as Readable) got += (chunk as Buffer).length
      if (got !== RANGE_BYTES) throw new Error(`${got} bytes came for ${Range}`)
    }
  }
  await Promise.all(Array.from({ length: RANGES_AT_ONCE }, reader))
  client.destroy()
  return bytes / MIB / ((performance.now() - startMs) / 1000)
}

async function putLarge(client: S3Client, bucket: string): Promise<void> {
  const address = { Bucket: bucket, Key: KEY }
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(address))
  const Parts: { PartNumber: number; ETag: string | undefined }[] = []
  for (let PartNumber = 1; PartNumber <= PARTS; PartNumber++) {
    const Body = randomBytes(PART_BYTES)
    const { ETag } = await client.send(new UploadPartCommand({ ...address, UploadId, PartNumber, Body }))
    Parts.push({ PartNumber, ETag })
  }
  await client.send(new CompleteMultipartUploadCommand({ ...address, UploadId, MultipartUpload: { Parts } }))
}
