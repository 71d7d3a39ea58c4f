/**
 * etcd with revisions that begin higher. Metadata that were moved to etcd (src/meta/migrate) hold revisions of the engine that they come from, and clients
 * know them: what is committed from then on must have greater ones (C3), and etcd counts from 1. So where a prefix has a *base* (layout.ts), everything above
 * sees etcd's revisions with that number added, wherever they stand: in rows, answers, compares and watches. 0 stays 0: there is no row.
 */
import type { Revision } from '../../common/ids.ts'
import { onlyKey, uint64At, type EtcdLayout } from './layout.ts'
import type {
  Compare,
  Etcd,
  EtcdOperation,
  EtcdTransaction,
  OperationResult,
  RangeResult,
  TransactionResult,
  WatchedChange,
} from './ports.ts'

/** What is added to etcd's revisions below that prefix. @throws EtcdFailure */
export async function revisionBase(etcd: Etcd, layout: EtcdLayout): Promise<Revision> {
  const { rows } = await etcd.range({ range: onlyKey(layout.base), limit: 1 })
  return rows[0] === undefined ? 0 : uint64At(rows[0].value, 0)
}

/** Starts and stops with the one that it stands for. */
export function shiftedEtcd(etcd: Etcd, base: Revision): Etcd {
  if (base === 0) return etcd
  return {
    start: () => etcd.start(),
    drain: () => etcd.drain(),
    stop: () => etcd.stop(),
    async range(request) {
      const revision = request.revision === undefined ? undefined : below(request.revision, base)
      return raisedRange(await etcd.range({ ...request, revision }), base)
    },
    transact: async (transaction) => raisedResult(await etcd.transact(loweredTransaction(transaction, base)), base),
    watch: (range, fromRevision, signal) =>
      raisedChanges(etcd.watch(range, Math.max(1, below(fromRevision, base)), signal), base),
    grantLease: (seconds) => etcd.grantLease(seconds),
    keepLease: (lease) => etcd.keepLease(lease),
    revokeLease: (lease) => etcd.revokeLease(lease),
  }
}

/** A revision from before the base is older than everything in etcd. */
function below(revision: Revision, base: Revision): Revision {
  return Math.max(0, revision - base)
}

function loweredTransaction({ compares, success, failure }: EtcdTransaction, base: Revision): EtcdTransaction {
  return {
    compares: compares.map((compare) => loweredCompare(compare, base)),
    success: success.map((operation) => loweredOperation(operation, base)),
    failure: failure.map((operation) => loweredOperation(operation, base)),
  }
}

function loweredCompare(compare: Compare, base: Revision): Compare {
  return compare.kind === 'unchanged'
    ? { ...compare, modRevision: below(compare.modRevision, base) }
    : { ...compare, revision: below(compare.revision, base) }
}

function loweredOperation(operation: EtcdOperation, base: Revision): EtcdOperation {
  if (operation.kind !== 'transaction') return operation
  return { kind: 'transaction', transaction: loweredTransaction(operation.transaction, base) }
}

function raisedRange({ rows, more, revision }: RangeResult, base: Revision): RangeResult {
  return {
    rows: rows.map((row) => ({ ...row, modRevision: row.modRevision + base })),
    more,
    revision: revision + base,
  }
}

function raisedResult({ succeeded, results, revision }: TransactionResult, base: Revision): TransactionResult {
  return { succeeded, results: results.map((result) => raisedOperation(result, base)), revision: revision + base }
}

function raisedOperation(result: OperationResult, base: Revision): OperationResult {
  switch (result.kind) {
    case 'put':
    case 'delete':
      return result
    case 'range':
      return { kind: 'range', found: raisedRange(result.found, base) }
    case 'transaction':
      return { kind: 'transaction', result: raisedResult(result.result, base) }
  }
}

async function* raisedChanges(
  batches: AsyncIterable<readonly WatchedChange[]>,
  base: Revision,
): AsyncGenerator<readonly WatchedChange[], void> {
  for await (const batch of batches)
    yield batch.map((change) => ({ ...change, modRevision: change.modRevision + base }))
}
