/** How many operations etcd takes in a transaction (`--max-txn-ops`): it does not say, so it is asked with transactions that do nothing. */
import { EtcdFailure, type Etcd, type EtcdTransaction } from './ports.ts'
import type { EtcdLayout } from './layout.ts'

/** etcd's default is 128. More than the first is of no use here. */
const CANDIDATES = [8192, 4096, 2048, 1024, 512, 256, 128, 64, 32]

/** @throws EtcdFailure */
export async function askOperationLimit(etcd: Etcd, layout: EtcdLayout): Promise<number> {
  for (const count of CANDIDATES) {
    const compares = Array.from({ length: count }, () => ({
      kind: 'none younger' as const,
      range: { start: layout.cluster, end: `${layout.cluster}\0` as typeof layout.cluster },
      revision: 0,
    }))
    const transaction: EtcdTransaction = { compares, success: [], failure: [] }
    try {
      await etcd.transact(transaction)
      return count
    } catch (error) {
      if (!(error instanceof EtcdFailure) || error.kind !== 'too large') throw error
    }
  }
  throw new EtcdFailure('too large', 'etcd takes fewer than 32 operations in a transaction (--max-txn-ops)', {
    sent: false,
  })
}
