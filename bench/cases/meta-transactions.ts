/**
 * Metadata transactions over etcd against a bare client of etcd that does the same compare-and-swaps, one a transaction of etcd. Both by this process over
 * the same three members and over connections of the same client, with as many callers, each with a row of its own. The bare one knows each row's revision
 * from its last answer, so it reads nothing: what it cannot save is a consensus for each of them.
 */
import { join } from 'node:path'
import { assert } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import type { OrderedStore } from '../../src/meta/ports.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { Etcd } from '../../src/meta/raft/ports.ts'
import { interleave, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { hasEtcd, startEtcd } from '../etcd.ts'

const VALUE = new Uint8Array(100).fill(0x61)
const CASES = [
  { callers: 64, aim: '>= 4' },
  { callers: 256, aim: '>= 4' },
] as const

export const metaTransactions: Benchmark = {
  name: 'meta-transactions',
  async run(context) {
    if (!hasEtcd()) throw new Error('there is no etcd on this machine (PATH, or TIDEGATE_ETCD)')
    const cluster = await startEtcd(join(context.directory, 'etcd'))
    const etcd = createEtcdClient({ endpoints: cluster.endpoints, clock: systemClock })
    const replica = new LmdbBackend({ directory: join(context.directory, 'replica') })
    const store = createEtcdStore({ etcd, node: 1, replica })
    try {
      await etcd.start()
      await store.start()
      return await measure(context, { etcd, store })
    } finally {
      await store.drain()
      await store.stop()
      await etcd.stop()
      await cluster.stop()
    }
  },
}

async function measure(
  context: BenchmarkContext,
  { etcd, store }: { etcd: Etcd; store: OrderedStore },
): Promise<Measurement[]> {
  const measurements: Measurement[] = []
  for (const { callers, aim } of CASES) {
    const measured = await interleave(
      context.rounds,
      () => rate(context.seconds, callers, (caller) => swapThroughStore(store, caller)),
      () => rate(context.seconds, callers, bareSwap(etcd, callers)),
    )
    const name = `meta-transactions-${callers}`
    measurements.push({ name, ...measured, unit: 'transactions/s', aim, durability: 'majority of three members' })
  }
  return measurements
}

async function swapThroughStore(store: OrderedStore, caller: number): Promise<void> {
  const key = `swapped/${caller}` as ByteString
  await store.transact(async (tx) => {
    const value = (await tx.get(key)) ?? VALUE
    tx.put(key, value.slice())
  })
}

function bareSwap(etcd: Etcd, callers: number): (caller: number) => Promise<void> {
  const revisions = new Map<number, number>()
  const run = Date.now()
  return async (caller) => {
    const key = `/bare/${run}/${callers}/${caller}` as ByteString
    const { succeeded, revision } = await etcd.transact({
      compares: [{ kind: 'unchanged', key, modRevision: revisions.get(caller) ?? 0 }],
      success: [{ kind: 'put', key, value: VALUE }],
      failure: [],
    })
    assert(succeeded, 'nobody else writes these rows')
    revisions.set(caller, revision)
  }
}

/** Each caller has one under way. */
async function rate(seconds: number, callers: number, swap: (caller: number) => Promise<void>): Promise<number> {
  const startMs = performance.now()
  let done = 0
  const call = async (caller: number): Promise<void> => {
    while (performance.now() - startMs < seconds * 1000) {
      await swap(caller)
      done++
    }
  }
  await Promise.all(Array.from({ length: callers }, (_, caller) => call(caller)))
  return done / ((performance.now() - startMs) / 1000)
}
