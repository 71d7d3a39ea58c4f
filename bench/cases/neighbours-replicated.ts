/**
 * PUTs acknowledged when they lie in two journals against PUTs acknowledged when they lie in one, through the same gateway, one of two over an etcd of three members. Both
 * journals lie on the same disk, so a `replicated` PUT asks that disk for twice the bytes and the syncs of two nodes: on two machines it would not.
 */
import { join } from 'node:path'
import { interleave, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { hasEtcd, startEtcd } from '../etcd.ts'
import { BUCKET } from '../gateway-probe.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'

const CASES = [
  { name: '4k-1', bytes: 4096, connections: 1, unit: 'puts/s' },
  { name: '4k-64', bytes: 4096, connections: 64, unit: 'puts/s' },
  { name: '1m-8', bytes: 2 ** 20, connections: 8, unit: 'puts/s' },
  { name: '16m-2', bytes: 16 * 2 ** 20, connections: 2, unit: 'puts/s' },
] as const
/** They are overwritten over and over. */
const KEYS = 256
const DURABILITY = 'two journals on one disk; compared: one journal; metadata: majority of three members'

export const neighboursReplicated: Benchmark = {
  name: 'neighbours-replicated',
  rounds: 3,
  async run(context) {
    if (!hasEtcd()) throw new Error('there is no etcd on this machine (PATH, or TIDEGATE_ETCD)')
    const etcd = await startEtcd(join(context.directory, 'etcd'))
    // They must stop before the etcd does: at the end of the benchmark it is gone.
    const gateways: GatewayProcess[] = []
    try {
      const flags = ['--meta', etcd.location('/bench/'), '--neighbour', '127.0.0.1:0', '--buckets', BUCKET]
      for (const _ of ['writer', 'partner']) gateways.push(await context.gateway(undefined, flags))
      return await measure(context, gateways)
    } finally {
      for (const gateway of gateways) await gateway.stop()
      await etcd.stop()
    }
  },
}

async function measure(context: BenchmarkContext, [writer]: readonly GatewayProcess[]): Promise<Measurement[]> {
  if (writer === undefined) throw new Error('no gateway was started')
  const measurements: Measurement[] = []
  for (const { name, bytes, connections, unit } of CASES) {
    const rate = async (ack: 'journal' | 'replicated'): Promise<number> => {
      const result = await context.load.run({
        origin: writer.s3,
        credentials: writer.root,
        request: {
          method: 'PUT',
          path: `/${BUCKET}/${ack}-${name}/#`,
          bodyBytes: bytes,
          headers: { 'x-tidegate-ack': ack },
          unsignedPayload: true,
        },
        keys: KEYS,
        connections,
        end: { warmupSeconds: 0.5, seconds: context.seconds },
      })
      return result.requests / result.seconds
    }
    const measured = await interleave(
      context.rounds,
      () => rate('replicated'),
      () => rate('journal'),
    )
    measurements.push({ name: `neighbours-replicated-${name}`, ...measured, unit, aim: null, durability: DURABILITY })
  }
  return measurements
}
