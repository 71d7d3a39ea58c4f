/**
 * A block that another node has in memory, brought to a slot of this one's and checked, against the bare request and response over a socket of the same link: as many bytes, as many
 * in flight, answers copied to the same place and looked at by nobody. The other node is a process of its own; this one is the benchmark's.
 */
import { fork } from 'node:child_process'
import { randomBytes, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { must } from '../../src/common/assert.ts'
import { NeighbourLevel } from '../../src/cache-tier/neighbours/neighbour-level.ts'
import { Slab } from '../../src/cache-tier/slab.ts'
import { systemClock } from '../../src/common/clock.ts'
import { prepareCrc32 } from '../../src/common/crc32.ts'
import type { SegmentId } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { TcpTransport } from '../../src/rdma/tcp/tcp-transport.ts'
import { interleave, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { whenEnding } from '../ending.ts'
import {
  HOLDER,
  INCARNATION,
  LARGE,
  LARGE_BLOCKS,
  memberAt,
  READER,
  SLAB_BYTES,
  SMALL_BYTES,
  SMALL_SEGMENTS,
  smallSegment,
  type HolderReady,
} from '../neighbours/place.ts'
import { RawClient } from '../neighbours/raw-link.ts'

const limits = DEFAULT_LIMITS
const CASES = [
  { name: '4k-1', bytes: SMALL_BYTES, inFlight: 1 },
  { name: '4k-16', bytes: SMALL_BYTES, inFlight: 16 },
  { name: '1m-1', bytes: limits.blockBytes, inFlight: 1 },
  { name: '1m-4', bytes: limits.blockBytes, inFlight: 4 },
] as const

interface Setting {
  readonly level: NeighbourLevel
  readonly slab: Slab
  /** Each reads in its own way: which is faster depends on the case. */
  readonly raw: readonly RawClient[]
}

export const neighboursHit: Benchmark = {
  name: 'neighbours-hit',
  async run(context) {
    const secret = randomBytes(32)
    const program = fileURLToPath(new URL('../neighbours/holder-process.ts', import.meta.url))
    const holder = fork(program, [secret.toString('hex')], { execArgv: [] })
    const done = whenEnding(() => void holder.kill('SIGKILL'))
    try {
      const [ready] = (await once(holder, 'message')) as [HolderReady]
      return await withReader(ready, secret, (setting) => measure(context, setting))
    } finally {
      holder.kill('SIGKILL')
      done()
    }
  },
}

async function withReader<Result>(
  { address, rawPort }: HolderReady,
  secret: Buffer,
  use: (setting: Setting) => Promise<Result>,
): Promise<Result> {
  await prepareCrc32()
  const slab = new Slab({ bytes: SLAB_BYTES, slotBytes: limits.blockBytes })
  const hashing = createHashWorkers({ slab: slab.buffer, workers: 1, queueSlicesMax: 64 })
  await hashing.start()
  const members = [memberAt(READER, ''), memberAt(HOLDER, address)]
  const member = (node: number): (typeof members)[number] | undefined => members.find(({ number }) => number === node)
  const transport = new TcpTransport({
    self: {
      node: READER,
      incarnation: INCARNATION,
      secret: () => secret,
      fillRandom: (bytes) => randomFillSync(bytes),
    },
    listen: { host: '127.0.0.1', port: 0 },
    member,
    clock: systemClock,
    random: Math.random,
    onBug: (error) => {
      throw error
    },
  })
  await transport.start()
  const raw = [await RawClient.connect(rawPort, 'chunks'), await RawClient.connect(rawPort, 'one buffer')]
  const level = new NeighbourLevel({
    calls: transport,
    view: { self: READER, members: () => members, member, onChange: () => () => undefined },
    segment: () => Promise.resolve({ state: 'sealed', node: HOLDER }),
    isRemoteShared: false,
    hashing,
    limits,
    slabView: (slabOffset, length) => slab.view(slabOffset, length),
    clock: systemClock,
  })
  try {
    return await use({ level, slab, raw })
  } finally {
    for (const client of raw) client.close()
    level.stop()
    await transport.drain()
    await transport.stop()
    await hashing.stop()
  }
}

type ReadOne = (index: number, slot: number) => Promise<unknown>

async function measure(context: BenchmarkContext, { level, slab, raw }: Setting): Promise<Measurement[]> {
  const rows: Measurement[] = []
  for (const { name, bytes, inFlight } of CASES) {
    const place = (index: number): readonly [SegmentId, number] =>
      bytes === SMALL_BYTES ? [smallSegment(index % SMALL_SEGMENTS), 0] : [LARGE, index % LARGE_BLOCKS]
    const ask: ReadOne = async (index, slot) => {
      const [segment, block] = place(index)
      const asked = await level.ask({ segment, block, slabOffset: slot * limits.blockBytes, needed: bytes })
      if ((await asked?.length) !== bytes) throw new Error(`block ${block} of ${segment} did not come`)
    }
    const rate = (one: ReadOne): Promise<number> => readsPerSecond(one, inFlight, context.seconds / 4)
    await rate(ask)
    const askRaw = await fastest(
      raw.map(
        (client): ReadOne =>
          (_, slot) =>
            client.ask(slab.view(slot * limits.blockBytes, bytes)),
      ),
      rate,
    )
    const compared = await interleave(
      context.rounds,
      () => rate(ask),
      () => rate(askRaw),
    )
    rows.push({ name: `neighbours-hit-${name}`, unit: 'blocks/s', ...compared, aim: '>= 0.8', durability: 'none' })
  }
  return rows
}

/** The ceiling is the fastest way that there is (two tries each: the machine is noisy). */
async function fastest(ways: readonly ReadOne[], rate: (one: ReadOne) => Promise<number>): Promise<ReadOne> {
  const rates: number[] = ways.map(() => 0)
  for (let round = 0; round < 2; round++)
    for (const [index, way] of ways.entries()) rates[index] = Math.max(rates[index] ?? 0, await rate(way))
  return must(ways[rates.indexOf(Math.max(...rates))], 'way')
}

async function readsPerSecond(one: ReadOne, inFlight: number, seconds: number): Promise<number> {
  const startMs = performance.now()
  const endMs = startMs + seconds * 1000
  let reads = 0
  const lane = async (_: unknown, slot: number): Promise<void> => {
    while (performance.now() < endMs) await one(reads++, slot)
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  return reads / ((performance.now() - startMs) / 1000)
}
