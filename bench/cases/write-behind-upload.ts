/**
 * What leaves for an external S3 in a second through the gateway, from the first PUT until everything is in the remote store, bytes and
 * names. The ceiling is the same SDK with as many requests in flight, straight to the same server.
 *
 * Large objects cost a second pass over disk and CPUs, which the gateway, the server and the client share here. Small ones travel in
 * segments: the gateway saves requests, and pays with one more process between.
 */
import { join } from 'node:path'
import { interleave, type Benchmark } from '../benchmark.ts'
import { startOver, uploadBySdk, uploadThrough, withExternalRemote, type Upload } from '../external-remote.ts'

interface UploadCase extends Upload {
  readonly name: string
  readonly unit: 'MiB/s' | 'objects/s'
  readonly aim: string
}

const MIB = 2 ** 20

const CASES: readonly UploadCase[] = [
  { name: 'write-behind-put-64m', bytes: 64 * MIB, objects: 16, inFlight: 4, unit: 'MiB/s', aim: '>= 0.9' },
  { name: 'write-behind-put-4k', bytes: 4096, objects: 10_000, inFlight: 32, unit: 'objects/s', aim: '>= 5' },
]

function uploadBenchmark({ name, unit, aim, ...upload }: UploadCase): Benchmark {
  const amount = unit === 'MiB/s' ? (upload.objects * upload.bytes) / MIB : upload.objects
  return {
    name,
    rounds: 3,
    run: (context) =>
      withExternalRemote(context, async (remote) => {
        const gateway = await startOver(context, { remote, data: join(context.directory, 'data') })
        const direct = remote.server.client()
        try {
          const through = async (): Promise<number> => amount / (await uploadThrough(gateway, upload))
          const ceiling = async (): Promise<number> =>
            amount / (await uploadBySdk(direct, remote.server.bucket, upload))
          const result = await interleave(context.rounds, through, ceiling)
          return [{ name, ...result, unit, aim, durability: 'persisted' }]
        } finally {
          direct.destroy()
        }
      }),
  }
}

export const writeBehindUploads: readonly Benchmark[] = CASES.map(uploadBenchmark)
