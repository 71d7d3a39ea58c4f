/**
 * How blocks are spread over 1, 2, 3 and 5 nodes, and what they cost at the remote store when every node reads all of them.
 *
 *   share      of the blocks that the node with most of them owns, over the share that each would have; computed, no node is started
 *   requests   GETs that reach the remote store for each block, when all nodes read it cold at once; the ceiling is a request for each node, which is what
 *              nodes that know nothing of each other would ask for
 */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { ownersOf } from '../../src/cache-tier/neighbours/ownership.ts'
import { newSegmentId } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import type { NodeMember } from '../../src/common/node-view.ts'
import { Random } from '../../test/model/random.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'
import { drainFlusher } from '../../test/write-behind/remote/flush-command.ts'
import { WeatherProxy } from '../../test/write-behind/remote/weather-proxy.ts'
import type { Benchmark, BenchmarkContext, Measurement } from '../benchmark.ts'
import { hasEtcd, startEtcd, type BenchEtcd } from '../etcd.ts'
import { withExternalRemote, type ExternalRemote } from '../external-remote.ts'
import { BUCKET, sendOnce } from '../gateway-probe.ts'

const NODES = [1, 2, 3, 5] as const
const SEGMENTS = 2_000
const BLOCKS_OF_SEGMENT = 64
const OBJECTS = 64
const OBJECT_BYTES = 2 ** 20
const READERS = 8

export const neighboursBalance: Benchmark = {
  name: 'neighbours-balance',
  rounds: 1,
  async run(context) {
    if (!hasEtcd()) throw new Error('there is no etcd on this machine (PATH, or TIDEGATE_ETCD)')
    const shares = NODES.map(measureShare)
    const requests = await withExternalRemote(context, async (remote) => {
      const measurements: Measurement[] = []
      for (const nodes of NODES) measurements.push(await measureRequests(context, remote, nodes))
      return measurements
    })
    return [...shares, ...requests]
  },
}

function member(number: number): NodeMember {
  const rest = { incarnation: '0'.repeat(16), address: '', labels: {}, version: '' } as const
  return { ...rest, number, name: `n${number}`, weight: 1, state: 'serving' }
}

function measureShare(nodes: number): Measurement {
  const members = Array.from({ length: nodes }, (_, index) => member(index + 1))
  const owned = new Map<number, number>()
  for (let segment = 0; segment < SEGMENTS; segment++) {
    const id = newSegmentId(Date.now())
    for (let block = 0; block < BLOCKS_OF_SEGMENT; block++) {
      const [owner = 0] = ownersOf(members, id, block, DEFAULT_LIMITS.blockBytes)
      owned.set(owner, (owned.get(owner) ?? 0) + 1)
    }
  }
  const value = Math.max(...owned.values()) / (SEGMENTS * BLOCKS_OF_SEGMENT)
  return {
    name: `neighbours-share-${nodes}`,
    value,
    unit: 'of blocks',
    ceiling: 1 / nodes,
    ratio: value * nodes,
    aim: '<= 1.05',
    durability: 'none',
  }
}

async function measureRequests(context: BenchmarkContext, remote: ExternalRemote, nodes: number): Promise<Measurement> {
  const proxy = new WeatherProxy(remote.server.endpoint, new Random(nodes))
  await proxy.start()
  const etcd = await startEtcd(join(context.directory, `etcd-${nodes}`))
  const running: GatewayProcess[] = []
  try {
    const start = await starter({ context, remote, proxy, etcd, nodes })
    for (let index = 0; index < nodes; index++) running.push(await start(index))
    await fill(context, running)
    // Neither memory nor the disk level has anything of it then.
    for (const gateway of running.splice(0)) await gateway.stop()
    for (let index = 0; index < nodes; index++) {
      rmSync(join(dataOf(context, nodes, index), 'cache'), { recursive: true, force: true })
      running.push(await start(index))
    }
    let requests = 0
    proxy.onRequest = ({ method, url = '' }) => {
      if (method === 'GET' && url.includes('.seg')) requests++
    }
    await Promise.all(running.map((gateway) => readAll(gateway)))
    const value = requests / OBJECTS
    context.note(`${nodes} nodes: ${requests} requests for ${OBJECTS} blocks, footers included`)
    const common = { unit: 'requests/block', aim: null, durability: 'none' }
    return { name: `neighbours-requests-${nodes}`, value, ceiling: nodes, ratio: value / nodes, ...common }
  } finally {
    for (const gateway of running) await gateway.stop()
    await etcd.stop()
    await proxy.stop()
  }
}

interface Setting {
  readonly context: BenchmarkContext
  readonly remote: ExternalRemote
  readonly proxy: WeatherProxy
  readonly etcd: BenchEtcd
  readonly nodes: number
}

function dataOf(context: BenchmarkContext, nodes: number, index: number): string {
  return join(context.directory, `data-${nodes}-${index}`)
}

async function starter({
  context,
  remote,
  proxy,
  etcd,
  nodes,
}: Setting): Promise<(index: number) => Promise<GatewayProcess>> {
  const flags = Object.entries({
    '--meta': etcd.location('/bench/'),
    '--neighbour': '127.0.0.1:0',
    '--buckets': BUCKET,
    '--remote': remoteUrl(remote, proxy, nodes),
    '--cache-memory': '256MiB',
    '--hash-workers': '1',
  }).flat()
  const root = { accessKey: 'AKBENCH', secretKey: randomBytes(20).toString('hex') }
  const environment = {
    ...remote.server.environment,
    TIDEGATE_ROOT_USER: root.accessKey,
    TIDEGATE_ROOT_PASSWORD: root.secretKey,
  }
  return async (index) => ({ ...(await context.gateway(dataOf(context, nodes, index), flags, environment)), root })
}

function remoteUrl({ server }: ExternalRemote, proxy: WeatherProxy, nodes: number): string {
  return server
    .remoteUrl(`neighbours-${nodes}`)
    .replace(encodeURIComponent(server.endpoint), encodeURIComponent(proxy.endpoint))
}

/** Each object is a segment's worth of one block, wherever it ends up. */
async function fill(context: BenchmarkContext, gateways: readonly GatewayProcess[]): Promise<void> {
  const [first] = gateways
  if (first === undefined) throw new Error('no gateway was started')
  const path = `/${BUCKET}/cold/#`
  const request = { method: 'PUT', path, bodyBytes: OBJECT_BYTES, unsignedPayload: true } as const
  await sendOnce(context, first, request, { keys: OBJECTS, connections: READERS })
  await drainFlusher(first)
}

/** All of them are read at the same time by all nodes, so each by a client of its own. */
async function readAll(gateway: GatewayProcess): Promise<void> {
  const { accessKey, secretKey } = gateway.root
  const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
  let next = 0
  const reader = async (): Promise<void> => {
    for (let index = next++; index < OBJECTS; index = next++) {
      const key = String(index).padStart(7, '0')
      const response = await fetch(`${gateway.http}/kv/v1/${BUCKET}/cold/${key}`, { headers: { authorization } })
      const { byteLength } = await response.arrayBuffer()
      if (!response.ok || byteLength !== OBJECT_BYTES)
        throw new Error(`${key}: ${response.status}, ${byteLength} bytes`)
    }
  }
  await Promise.all(Array.from({ length: READERS }, reader))
}
