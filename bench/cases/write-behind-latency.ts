/**
 * How long writers wait for their acknowledgement at `journal` while the flusher carries segments away, and while it rests
 * (`tidegate flush pause`): p99 of PUTs of 64 KiB.
 */
import { join } from 'node:path'
import { flushCommand } from '../../test/write-behind/remote/flush-command.ts'
import { interleave, type Benchmark } from '../benchmark.ts'
import { startOver, withExternalRemote } from '../external-remote.ts'
import { BUCKET } from '../gateway-probe.ts'

const BODY_BYTES = 64 * 1024
const CONNECTIONS = 4
const KEYS = 5_000
/** More than a few of them are sealed and sent in one measurement. */
const FLAGS = ['--segment-size', '16MiB'] as const

export const writeBehindLatency: Benchmark = {
  name: 'write-behind-latency',
  run: (context) =>
    withExternalRemote(context, async (remote) => {
      const gateway = await startOver(context, { remote, data: join(context.directory, 'data'), flags: FLAGS })
      const p99 = async (): Promise<number> => {
        const result = await context.load.run({
          origin: gateway.s3,
          credentials: gateway.root,
          request: { method: 'PUT', path: `/${BUCKET}/#`, bodyBytes: BODY_BYTES },
          keys: KEYS,
          connections: CONNECTIONS,
          end: { warmupSeconds: 0.5, seconds: context.seconds },
        })
        return result.latencyMs.p99
      }
      const flushing = async (): Promise<number> => {
        await flushCommand(gateway, 'resume')
        return await p99()
      }
      const resting = async (): Promise<number> => {
        await flushCommand(gateway, 'drain')
        await flushCommand(gateway, 'pause')
        return await p99()
      }
      await p99()
      const result = await interleave(context.rounds, flushing, resting)
      return [{ name: 'write-behind-latency', ...result, unit: 'ms (p99)', aim: '<= 1.2', durability: 'journal' }]
    }),
}
