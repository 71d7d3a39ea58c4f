/**
 * What leaves for an external S3 in a second through the gateway, from the first PUT until everything is in the remote store. The ceiling is
 * the same SDK, with as many requests in flight, straight to the same server.
 *
 * Large objects go into the gateway by that SDK too: they cost a second pass over disk and CPUs, which gateway, server and client share here.
 * Small ones come from the load generator, for what is compared is what reaches the server in segments and what reaches it one by one, and
 * the SDK's own work for a request would drown both; `-same-client` says what that generator does without a gateway.
 */
import { join } from 'node:path'
import { sdkClient } from '../../test/support/sdk-client.ts'
import { compare, interleave, takeTurns, type Benchmark } from '../benchmark.ts'
import { startOver, untilPersisted, uploadByLoad, uploadBySdk, withExternalRemote } from '../external-remote.ts'
import { BUCKET } from '../gateway-probe.ts'

const MIB = 2 ** 20
const LARGE = { bytes: 64 * MIB, objects: 16, inFlight: 4 } as const
const SMALL = { bytes: 4096, objects: 10_000, inFlight: 32 } as const

const largeUploads: Benchmark = {
  name: 'write-behind-put-64m',
  rounds: 3,
  run: (context) =>
    withExternalRemote(context, async (remote) => {
      const gateway = await startOver(context, { remote, data: join(context.directory, 'data') })
      const direct = remote.server.client()
      const client = sdkClient(gateway)
      const amountMib = (LARGE.bytes * LARGE.objects) / MIB
      try {
        const result = await interleave(
          context.rounds,
          async () => amountMib / (await untilPersisted(gateway, () => uploadBySdk(client, BUCKET, LARGE))),
          async () => amountMib / (await uploadBySdk(direct, remote.server.bucket, LARGE)),
        )
        return [{ name: 'write-behind-put-64m', ...result, unit: 'MiB/s', aim: '>= 0.9', durability: 'persisted' }]
      } finally {
        direct.destroy()
        client.destroy()
      }
    }),
}

const smallUploads: Benchmark = {
  name: 'write-behind-put-4k',
  rounds: 3,
  run: (context) =>
    withExternalRemote(context, async (remote) => {
      const { server } = remote
      const gateway = await startOver(context, { remote, data: join(context.directory, 'data') })
      const into = { origin: gateway.s3, bucket: BUCKET, credentials: gateway.root }
      const straight = { origin: server.endpoint, bucket: server.bucket, credentials: server }
      const sdk = server.client()
      try {
        const { through, bySdk, byLoad } = await takeTurns(context.rounds, {
          bySdk: async () => SMALL.objects / (await uploadBySdk(sdk, server.bucket, SMALL)),
          byLoad: async () => SMALL.objects / (await uploadByLoad(context, straight, SMALL)),
          through: async () =>
            SMALL.objects / (await untilPersisted(gateway, () => uploadByLoad(context, into, SMALL))),
        })
        const common = { unit: 'objects/s', durability: 'persisted' }
        return [
          { name: 'write-behind-put-4k', ...compare(through, bySdk), aim: '>= 5', ...common },
          { name: 'write-behind-put-4k-same-client', ...compare(through, byLoad), aim: null, ...common },
        ]
      } finally {
        sdk.destroy()
      }
    }),
}

export const writeBehindUploads: readonly Benchmark[] = [largeUploads, smallUploads]
