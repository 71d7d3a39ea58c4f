/**
 * What sharing metadata costs those who ask a gateway: a gateway over an etcd of three members against one with its own metadata, asked by the same load
 * process; and one directory that all write against sixty-four. All members, gateways and the load process share the machine.
 */
import { join } from 'node:path'
import {
  compare,
  interleave,
  takeTurns,
  type Benchmark,
  type BenchmarkContext,
  type Measurement,
} from '../benchmark.ts'
import { hasEtcd, startEtcd, type BenchEtcd } from '../etcd.ts'
import { basicOf, BUCKET_PATH, sendKv } from '../kv-probe.ts'
import type { LoadRequest } from '../load/job.ts'
import { startLoad, type Load } from '../load/load.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'

const KEYS = 1000
const BODY_BYTES = 100
const CLIENTS = 64
/** Each request makes a key that was not there, in as many rounds as there are. */
const NEW_KEYS_MAX = 10_000_000
const DURABLE = 'majority of three members'

interface Servers {
  readonly context: BenchmarkContext
  readonly etcd: BenchEtcd
  /** Two over the same metadata. */
  readonly shared: readonly [GatewayProcess, GatewayProcess]
  readonly embedded: GatewayProcess
  /** A second one, since each does one job at a time. */
  readonly load: Load
}

export const metaGateway: Benchmark = {
  name: 'meta-gateway',
  rounds: 3,
  async run(context) {
    if (!hasEtcd()) throw new Error('there is no etcd on this machine (PATH, or TIDEGATE_ETCD)')
    const etcd = await startEtcd(join(context.directory, 'etcd'))
    const load = startLoad()
    // They must stop before the etcd does: at the end of the benchmark it is gone.
    const gateways: GatewayProcess[] = []
    const started = async (flags: readonly string[]): Promise<GatewayProcess> => {
      const gateway = await context.gateway(undefined, [...flags, '--buckets', 'bench'])
      gateways.push(gateway)
      return gateway
    }
    try {
      const meta = ['--meta', etcd.location('/bench/')]
      const shared = [await started(meta), await started(meta)] as const
      const servers: Servers = { context, etcd, load, shared, embedded: await started([]) }
      return [
        ...(await measureSingle(servers)),
        ...(await measureDirectories(servers)),
        ...(await measureBytes(servers)),
      ]
    } finally {
      for (const gateway of gateways) await gateway.stop()
      load.stop()
      await etcd.stop()
    }
  },
}

async function requests(
  { context }: Pick<Servers, 'context'>,
  gateway: GatewayProcess,
  { request, connections, keys, load = context.load }: Asked,
): Promise<number> {
  const result = await load.run({
    origin: gateway.http,
    credentials: gateway.root,
    request: { authorization: basicOf(gateway.root), ...request },
    keys,
    connections,
    end: { warmupSeconds: 0.5, seconds: context.seconds },
  })
  return result.requests / result.seconds
}

interface Asked {
  readonly request: LoadRequest
  readonly connections: number
  readonly keys: number
  readonly load?: Load
}

async function measureSingle(servers: Servers): Promise<Measurement[]> {
  const { context, shared, embedded } = servers
  const path = `${BUCKET_PATH}/hot/#`
  for (const gateway of [shared[0], embedded])
    await sendKv(context, gateway, { method: 'PUT', path, bodyBytes: BODY_BYTES }, KEYS)
  const cases = [
    { name: 'meta-get-64', method: 'GET', connections: 64, aim: '>= 0.6', durability: 'none' },
    { name: 'meta-get-1', method: 'GET', connections: 1, aim: null, durability: 'none' },
    { name: 'meta-put-64', method: 'PUT', connections: 64, aim: null, durability: `${DURABLE}; embedded: journal` },
    { name: 'meta-put-1', method: 'PUT', connections: 1, aim: null, durability: `${DURABLE}; embedded: journal` },
  ] as const
  const measurements: Measurement[] = []
  for (const { name, method, connections, aim, durability } of cases) {
    const request = { method, path, ...(method === 'PUT' ? { bodyBytes: BODY_BYTES } : {}) }
    const asked = { request, connections, keys: KEYS }
    const measured = await interleave(
      context.rounds,
      () => requests(servers, shared[0], asked),
      () => requests(servers, embedded, asked),
    )
    measurements.push({ name, ...measured, unit: 'requests/s', aim, durability })
  }
  return measurements
}

/** By one gateway, where nothing can conflict, and by two with half the clients each. */
async function measureDirectories(servers: Servers): Promise<Measurement[]> {
  const { context, shared, load } = servers
  let run = 0
  const put = (gateway: GatewayProcess, path: string, asked: Partial<Asked>): Promise<number> => {
    const request = { method: 'PUT', path: `${BUCKET_PATH}/run${run++}/${path}`, bodyBytes: BODY_BYTES } as const
    return requests(servers, gateway, { connections: CLIENTS, keys: NEW_KEYS_MAX, ...asked, request })
  }
  const byTwo = async (path: (gateway: number) => string): Promise<number> => {
    const at = run
    const rates = await Promise.all(
      shared.map((gateway, index) => {
        run = at
        const asked = { connections: CLIENTS / 2, load: index === 0 ? context.load : load }
        return put(gateway, path(index), asked)
      }),
    )
    return rates.reduce((sum, rate) => sum + rate, 0)
  }
  const taken = await takeTurns(context.rounds, {
    many: () => put(shared[0], '@/#', {}),
    one: () => put(shared[0], 'one/#', {}),
    manyByTwo: () => byTwo((gateway) => `@/#-${gateway}`),
    oneByTwo: () => byTwo((gateway) => `one/#-${gateway}`),
  })
  const row = { unit: 'puts/s', aim: '>= 0.7', durability: DURABLE }
  return [
    { name: 'meta-one-directory', ...compare(taken.one, taken.many), ...row },
    { name: 'meta-one-directory-two', ...compare(taken.oneByTwo, taken.manyByTwo), ...row },
  ]
}

/** What etcd's file grows by, without history and free pages. The names are 20 bytes long below a directory of a thousand. */
async function measureBytes({ context, etcd, shared }: Servers): Promise<Measurement[]> {
  const objects = Math.min(context.objects, 50_000)
  const measurements: Measurement[] = []
  for (const { name, bytes } of [
    { name: 'meta-bytes-4k', bytes: 4096 },
    { name: 'meta-bytes-100b', bytes: 100 },
  ]) {
    const before = await etcd.bytesInUse()
    const path = `${BUCKET_PATH}/${name}/@/object-#.jpeg`
    await sendKv(context, shared[0], { method: 'PUT', path, bodyBytes: bytes }, objects)
    const value = ((await etcd.bytesInUse()) - before) / objects
    measurements.push({ name, value, unit: 'bytes/object', ceiling: null, ratio: null, aim: null, durability: DURABLE })
  }
  return measurements
}
