/**
 * GET and PUT of single values through the KV API, against a bare server that answers with or throws away as many bytes, and
 * against Redis that syncs every write (`appendfsync always`), where the machine has it. All three are asked by the same load
 * process over as many connections with one request in flight on each, and nothing is pipelined.
 *
 * What a sync carries is compared beside it, since both share one among the writes that wait for it. Redis's are counted by
 * strace, in a run of its own; the gateway's are its own count, of the journal's syncs and of group commits. A group commit
 * counts twice: LMDB syncs its pages, and then writes its meta page synchronously.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { compare, takeTurns, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { deviceSyncsSoFar } from '../gateway-probe.ts'
import { basicOf, BUCKET_PATH, kvGateway, sendKv } from '../kv-probe.ts'
import type { LoadResult } from '../load/job.ts'
import { canTrace, hasRedis, startRedis, type RedisProcess } from '../redis-process.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'

const KEYS = 1000
const WARMUP_SECONDS = 0.5
/** On each connection. */
const PUTS_COUNTED = 500

interface SingleCase {
  readonly name: string
  readonly method: 'GET' | 'PUT'
  readonly bytes: number
  readonly inFlight: number
}

const SIZES = [
  { label: '100b', bytes: 100 },
  { label: '4k', bytes: 4096 },
] as const
const AIMS = { GET: '>= 0.55', PUT: '>= 0.3' } as const

const CASES: readonly SingleCase[] = (['GET', 'PUT'] as const).flatMap((method) =>
  SIZES.flatMap(({ label, bytes }) =>
    [1, 64].map((inFlight) => ({ name: `kv-${method.toLowerCase()}-${label}-${inFlight}`, method, bytes, inFlight })),
  ),
)

/** Everything that one case is measured on. */
interface Servers {
  readonly context: BenchmarkContext
  readonly gateway: GatewayProcess
  readonly redis: RedisProcess | undefined
}

export const kvSingle: Benchmark = {
  name: 'kv-single',
  rounds: 3,
  async run(context) {
    const gateway = await kvGateway(context)
    const redis = hasRedis() ? await startRedis(join(context.directory, 'redis')) : undefined
    if (redis === undefined) context.note('there is no redis-server on this machine: no rows against it')
    try {
      const servers: Servers = { context, gateway, redis }
      for (const { bytes } of SIZES) await fill(servers, bytes)
      const measurements: Measurement[] = []
      for (const single of CASES) measurements.push(...(await measureSingle(servers, single)))
      if (redis !== undefined) measurements.push(...(await measurePutsPerSync(servers)))
      return measurements
    } finally {
      await redis?.stop()
    }
  },
}

/** The path ends in the length, which is what the bare server goes by. */
function pathOf(bytes: number): string {
  return `${BUCKET_PATH}/#/${bytes}`
}

async function fill({ context, gateway, redis }: Servers, bytes: number): Promise<void> {
  const request = { method: 'PUT', path: pathOf(bytes), bodyBytes: bytes } as const
  await sendKv(context, gateway, request, KEYS)
  if (redis === undefined) return
  await context.load.run({
    origin: redis.origin,
    credentials: gateway.root,
    request,
    keys: KEYS,
    connections: 16,
    end: { requests: KEYS },
  })
}

function load({ context, gateway }: Servers, single: SingleCase, origin: string): Promise<LoadResult> {
  const { method, bytes, inFlight } = single
  return context.load.run({
    origin,
    credentials: gateway.root,
    request: {
      method,
      path: pathOf(bytes),
      authorization: basicOf(gateway.root),
      ...(method === 'PUT' ? { bodyBytes: bytes } : {}),
    },
    keys: KEYS,
    connections: inFlight,
    end: { warmupSeconds: WARMUP_SECONDS, seconds: context.seconds },
  })
}

async function measureSingle(servers: Servers, single: SingleCase): Promise<Measurement[]> {
  const { context, gateway, redis } = servers
  const rate = async (origin: string): Promise<number> => {
    const { requests, seconds } = await load(servers, single, origin)
    return requests / seconds
  }
  const taken = await takeTurns(context.rounds, {
    bare: () => rate(context.bare.origin),
    gateway: () => rate(gateway.http),
    redis: redis === undefined ? () => Promise.resolve(Number.NaN) : () => rate(redis.origin),
  })
  const row = { name: single.name, unit: 'requests/s', durability: single.method === 'PUT' ? 'journal' : 'none' }
  const againstRedis = {
    ...row,
    ...compare(taken.gateway, taken.redis),
    name: `${row.name}-redis`,
    aim: null,
    durability: single.method === 'PUT' ? 'journal; Redis: appendfsync always' : 'none',
  }
  return [
    { ...row, ...compare(taken.gateway, taken.bare), aim: AIMS[single.method] },
    ...(redis === undefined ? [] : [againstRedis]),
  ]
}

interface SyncCount {
  readonly putsPerSync: number
  readonly putsPerSecond: number
  readonly syncsPerSecond: number
}

async function measurePutsPerSync(servers: Servers): Promise<Measurement[]> {
  const { context } = servers
  if (!canTrace()) {
    context.note("strace does not work on this machine: Redis's syncs are not counted")
    return []
  }
  const measurements: Measurement[] = []
  for (const single of CASES.filter(({ method, bytes }) => method === 'PUT' && bytes === 100)) {
    const redis = await redisSyncs(servers, single)
    const gateway = await gatewaySyncs(servers, single)
    const row = (name: string, unit: string, field: keyof SyncCount): Measurement => ({
      name: `${single.name}-${name}`,
      value: gateway[field],
      unit,
      ceiling: redis[field],
      ratio: gateway[field] / redis[field],
      aim: null,
      durability: 'journal; Redis: appendfsync always',
    })
    measurements.push(
      row('puts-per-sync', 'puts/sync', 'putsPerSync'),
      row('syncs-per-second', 'syncs/s', 'syncsPerSecond'),
    )
  }
  return measurements
}

async function gatewaySyncs(servers: Servers, single: SingleCase): Promise<SyncCount> {
  return countSyncs(servers, single, servers.gateway.http, async (puts) => {
    const before = await deviceSyncsSoFar(servers.gateway)
    await puts()
    return (await deviceSyncsSoFar(servers.gateway)) - before
  })
}

async function redisSyncs(servers: Servers, single: SingleCase): Promise<SyncCount> {
  const directory = join(servers.context.directory, `redis-${single.name}`)
  const trace = `${directory}.trace`
  const redis = await startRedis(directory, trace)
  const syncs = (): number => readFileSync(trace, 'latin1').match(/\bf(?:data)?sync\(/g)?.length ?? 0
  try {
    return await countSyncs(servers, single, redis.origin, async (puts) => {
      const before = syncs()
      await puts()
      return syncs() - before
    })
  } finally {
    await redis.stop()
  }
}

async function countSyncs(
  servers: Servers,
  single: SingleCase,
  origin: string,
  during: (puts: () => Promise<void>) => Promise<number>,
): Promise<SyncCount> {
  let result: LoadResult | undefined
  const syncs = await during(async () => {
    result = await servers.context.load.run({
      origin,
      credentials: servers.gateway.root,
      request: {
        method: 'PUT',
        path: pathOf(single.bytes),
        bodyBytes: single.bytes,
        authorization: basicOf(servers.gateway.root),
      },
      keys: KEYS,
      connections: single.inFlight,
      // To the last one of them, so that every put is counted beside its sync.
      end: { requests: single.inFlight * PUTS_COUNTED },
    })
  })
  const { requests, seconds } = result as LoadResult
  return { putsPerSync: requests / syncs, putsPerSecond: requests / seconds, syncsPerSecond: syncs / seconds }
}
