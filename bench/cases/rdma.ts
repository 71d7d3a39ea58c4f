/**
 * Bodies between nodes: by libfabric from JavaScript against a C program on the same provider, and calls whose bodies go by the fabric against the same calls over a connection. The provider is libfabric's TCP, since
 * that is everywhere; each side's processor time is told beside. The other node is a process of its own.
 */
import { must } from '../../src/common/assert.ts'
import { compare, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { compilePeer, CPeers, VARIANTS, type Reads, type Variant } from '../rdma/c-peers.ts'
import { gatewayRows } from '../rdma/gateway-rows.ts'
import { callMover, deviceMover, moved, type Mover } from '../rdma/owner.ts'

const KIB = 1024
const ADDON_CASES = [
  { name: '1m-16', bytes: 1024 * KIB, inFlight: 16, aim: '>= 0.75' },
  { name: '64k-16', bytes: 64 * KIB, inFlight: 16, aim: null },
  { name: '4k-16', bytes: 4 * KIB, inFlight: 16, aim: '>= 0.6' },
  { name: '4k-1', bytes: 4 * KIB, inFlight: 1, aim: null },
] as const
const CALL_CASES = [
  { name: 'read-1m-16', way: 'read', bytes: 1024 * KIB, inFlight: 16, aim: '>= 1.5' },
  { name: 'read-1m-1', way: 'read', bytes: 1024 * KIB, inFlight: 1, aim: null },
  { name: 'read-64k-16', way: 'read', bytes: 64 * KIB, inFlight: 16, aim: null },
  { name: 'read-4k-16', way: 'read', bytes: 4 * KIB, inFlight: 16, aim: null },
  { name: 'copy-1m-4', way: 'copy', bytes: 1024 * KIB, inFlight: 4, aim: null },
] as const
/** Of what one round measures. */
const SECONDS_SHARE = 1 / 4

export const rdma: Benchmark = {
  name: 'rdma',
  async run(context) {
    return [...(await addonRows(context)), ...(await callRows(context)), ...(await gatewayRows(context))]
  },
}

async function addonRows(context: BenchmarkContext): Promise<Measurement[]> {
  const seconds = context.seconds * SECONDS_SHARE
  const program = await compilePeer(context.directory)
  const mover = await deviceMover()
  const rows: Measurement[] = []
  try {
    for (const { name, aim, ...load } of ADDON_CASES) {
      const addon = (): Promise<Reads> => moved(mover, mover.read, { ...load, seconds })
      const inC = await fastestInC(program, load, seconds)
      await addon()
      try {
        const c = (): Promise<Reads> => inC.peers.reads(load.bytes, load.inFlight, seconds * 1000)
        rows.push(...(await compared(context, { name: `rdma-addon-${name}`, aim }, { value: addon, ceiling: c })))
        const beside = inC.besideThread?.toFixed(2) ?? 'not measured'
        context.note(
          `rdma-addon-${name}: the fastest C program is ${inC.variant.join(', ')}; with two threads, as the addon has them, it is ${beside} of that`,
        )
      } finally {
        await inC.peers.end()
      }
    }
  } finally {
    await mover.end()
  }
  return rows
}

/** Two tries each: the machine is noisy. `besideThread`: what is left of it where one thread starts the reads and another sees them end. */
async function fastestInC(
  program: string,
  { bytes, inFlight }: { readonly bytes: number; readonly inFlight: number },
  seconds: number,
): Promise<{ peers: CPeers; variant: Variant; besideThread: number | undefined }> {
  let best: { readonly variant: Variant; readonly perSecond: number } | undefined
  let besideThread: number | undefined
  for (const variant of [...VARIANTS, ...VARIANTS]) {
    // What the provider does not offer is no variant.
    const peers = await CPeers.start(program, variant).catch(() => undefined)
    const reads = await peers?.reads(bytes, inFlight, seconds * 1000).catch(() => undefined)
    await peers?.end()
    if (reads === undefined) continue
    if (reads.perSecond > (best?.perSecond ?? 0)) best = { variant, perSecond: reads.perSecond }
    if (variant[0] === 'thread') besideThread = Math.max(besideThread ?? 0, reads.perSecond)
  }
  const { variant, perSecond } = must(best, 'a C program that reads')
  return {
    peers: await CPeers.start(program, variant),
    variant,
    besideThread: besideThread === undefined ? undefined : besideThread / perSecond,
  }
}

async function callRows(context: BenchmarkContext): Promise<Measurement[]> {
  const seconds = context.seconds * SECONDS_SHARE
  const [fabric, connection] = [await callMover('fabric'), await callMover('connection')]
  const rows: Measurement[] = []
  try {
    for (const { name, way, aim, ...load } of CALL_CASES) {
      const by = (mover: Mover) => (): Promise<Reads> => moved(mover, mover[way], { ...load, seconds })
      await by(fabric)()
      await by(connection)()
      const measures = { value: by(fabric), ceiling: by(connection) }
      rows.push(...(await compared(context, { name: `rdma-call-${name}`, aim }, measures)))
    }
  } finally {
    await fabric.end()
    await connection.end()
  }
  return rows
}

/** Rates, and below them what each GiB costs on either side. */
async function compared(
  { rounds }: BenchmarkContext,
  { name, aim }: { readonly name: string; readonly aim: string | null },
  measures: { readonly value: () => Promise<Reads>; readonly ceiling: () => Promise<Reads> },
): Promise<Measurement[]> {
  const values: Reads[] = []
  const ceilings: Reads[] = []
  for (let round = 0; round < rounds; round++) {
    ceilings.push(await measures.ceiling())
    values.push(await measures.value())
  }
  const row = (suffix: string, unit: string, of: keyof Reads): Measurement => ({
    name: `${name}${suffix}`,
    unit,
    ...compare(
      values.map((each) => each[of]),
      ceilings.map((each) => each[of]),
    ),
    aim: of === 'perSecond' ? aim : null,
    durability: 'none',
  })
  return [row('', 'bodies/s', 'perSecond'), row('-cpu', 's/GiB', 'readerCpu'), row('-owner-cpu', 's/GiB', 'ownerCpu')]
}
