/**
 * GET end to end by a gateway that has little of its own: what it answers with lies in another gateway's memory, and comes by the fabric or by the connection. Both pairs run at the same
 * time, over one etcd, and are asked in turns by the same load process. Each cycles over more objects than its memory holds, and has no disk level.
 */
import { join } from 'node:path'
import { must } from '../../src/common/assert.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'
import { interleave, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { hasEtcd, startEtcd, type BenchEtcd } from '../etcd.ts'
import { BUCKET, makeBucket, sendOnce } from '../gateway-probe.ts'

const OBJECT_BYTES = 2 ** 20
const OBJECTS = 320
const CONNECTIONS = 8
const MEMORY = { owner: '512MiB', reader: '64MiB' } as const
const PATH = `/${BUCKET}/held/#`
const PEER_MS_MAX = 30_000

interface Pair {
  readonly owner: GatewayProcess
  readonly reader: GatewayProcess
}

export async function gatewayRows(context: BenchmarkContext): Promise<Measurement[]> {
  if (!hasEtcd()) throw new Error('there is no etcd on this machine (PATH, or TIDEGATE_ETCD)')
  const etcd = await startEtcd(join(context.directory, 'etcd'))
  // They must stop before the etcd does: at the end of the benchmark it is gone.
  const running: GatewayProcess[] = []
  try {
    const fabric = await startPair(context, { etcd, running, way: 'tcp' })
    const connection = await startPair(context, { etcd, running, way: 'off' })
    const rate = ({ reader }: Pair): Promise<number> => getsPerSecond(context, reader)
    await rate(fabric)
    await rate(connection)
    const measured = await interleave(
      context.rounds,
      () => rate(fabric),
      () => rate(connection),
    )
    await noteShares(context, fabric, 'fabric')
    await noteShares(context, connection, 'connection')
    return [{ name: 'rdma-get-1m-8', unit: 'gets/s', ...measured, aim: null, durability: 'none' }]
  } finally {
    for (const gateway of running) await gateway.stop()
    await etcd.stop()
  }
}

async function startPair(
  context: BenchmarkContext,
  setting: { readonly etcd: BenchEtcd; readonly running: GatewayProcess[]; readonly way: 'tcp' | 'off' },
): Promise<Pair> {
  const start = async (memory: string): Promise<GatewayProcess> => {
    const flags = Object.entries({
      '--meta': setting.etcd.location(`/${setting.way}/`),
      '--neighbour': '127.0.0.1:0',
      '--fabric': setting.way,
      '--cache-memory': memory,
      '--cache-disk': '0',
      // What is read is dirty, and lies with its writer alone.
      '--segment-size': '1GiB',
      '--segment-age': '1h',
    }).flat()
    const gateway = await context.gateway(undefined, flags)
    setting.running.push(gateway)
    return gateway
  }
  const pair = { owner: await start(MEMORY.owner), reader: await start(MEMORY.reader) }
  await makeBucket(context, pair.owner)
  const request = { method: 'PUT', path: PATH, bodyBytes: OBJECT_BYTES, unsignedPayload: true } as const
  await sendOnce(context, pair.owner, request, { keys: OBJECTS, connections: CONNECTIONS })
  if (setting.way === 'tcp') await untilAgreed(pair.reader)
  return pair
}

async function getsPerSecond(context: BenchmarkContext, { s3, root }: GatewayProcess): Promise<number> {
  const { requests, seconds } = await context.load.run({
    origin: s3,
    credentials: root,
    request: { method: 'GET', path: PATH },
    keys: OBJECTS,
    connections: CONNECTIONS,
    end: { warmupSeconds: 0.5, seconds: context.seconds },
  })
  return requests / seconds
}

async function untilAgreed(gateway: GatewayProcess): Promise<void> {
  const untilMs = performance.now() + PEER_MS_MAX
  while ((await metric(gateway, 'tidegate_fabric_peers')) === 0) {
    if (performance.now() > untilMs) throw new Error(`the gateways agreed on no fabric within ${PEER_MS_MAX} ms`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** A rate of what came from somewhere else would say nothing. */
async function noteShares(context: BenchmarkContext, { reader }: Pair, name: string): Promise<void> {
  const hits = await metric(reader, 'tidegate_neighbour_bytes_total', 'direction="in"')
  const moved = await metric(reader, 'tidegate_fabric_bytes_total', 'kind="read"')
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
  context.note(`rdma-get, ${name}: ${mib(hits)} came from the neighbour, of these ${mib(moved)} by the fabric`)
}

async function metric({ http, root }: GatewayProcess, name: string, label = ''): Promise<number> {
  const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
  const text = await (await fetch(`${http}/metrics`, { headers: { authorization } })).text()
  const series = text.split('\n').filter((line) => line.startsWith(name) && line.includes(label))
  return series.reduce((sum, line) => sum + Number(must(line.split(' ').at(-1), 'a value')), 0)
}
