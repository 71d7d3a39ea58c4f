/**
 * GET of 1 GiB that only the remote store holds: the gateway has just been started, with neither memory nor disk cache. Then the same
 * again. The ceiling of both is the GET of an object of that size straight from the server.
 */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { sdkClient } from '../../test/support/sdk-client.ts'
import { drainFlusher } from '../../test/write-behind/remote/flush-command.ts'
import { compare, takeTurns, type Benchmark } from '../benchmark.ts'
import { startOver, withExternalRemote } from '../external-remote.ts'
import { BUCKET } from '../gateway-probe.ts'

const MIB = 2 ** 20
const PART_BYTES = 64 * MIB
const PARTS = 16
const KEY = 'cold'
const FLAGS = ['--cache-memory', '2GiB'] as const

export const writeBehindCold: Benchmark = {
  name: 'write-behind-cold',
  rounds: 3,
  run: (context) =>
    withExternalRemote(context, async (remote) => {
      const data = join(context.directory, 'data')
      const { server } = remote
      const { accessKey, secretKey } = server
      let gateway = await startOver(context, { remote, data, flags: FLAGS })
      for (const [client, bucket] of [
        [sdkClient(gateway), BUCKET],
        [server.client(), server.bucket],
      ] as const) {
        await putLarge(client, bucket)
        client.destroy()
      }
      await drainFlusher(gateway)
      const rate = async (origin: string, bucket: string, as: typeof gateway.root): Promise<number> => {
        const result = await context.load.run({
          origin,
          credentials: as,
          request: { method: 'GET', path: `/${bucket}/${KEY}` },
          keys: 1,
          connections: 1,
          end: { requests: 1 },
        })
        return result.bytes / MIB / result.seconds
      }
      const cold = async (): Promise<number> => {
        await gateway.stop()
        rmSync(join(data, 'cache'), { recursive: true, force: true })
        gateway = await remote.gateway(data, FLAGS)
        return await rate(gateway.s3, BUCKET, gateway.root)
      }
      const { direct, first, second } = await takeTurns(context.rounds, {
        direct: () => rate(server.endpoint, server.bucket, { accessKey, secretKey }),
        first: cold,
        second: () => rate(gateway.s3, BUCKET, gateway.root),
      })
      const common = { unit: 'MiB/s', durability: 'none' }
      return [
        { name: 'write-behind-cold', ...compare(first, direct), aim: '>= 0.9', ...common },
        { name: 'write-behind-second', ...compare(second, direct), aim: '>= 5', ...common },
      ]
    }),
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
