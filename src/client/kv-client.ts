/**
 * `tidegate/kv`: the KV API (docs/kv.md) for programs. It needs Node and nothing else.
 *
 * A key without a value is `undefined`, not an error; every failure is a `KvError` with the gateway's stable code. Calls may
 * be made concurrently, each on a connection of its own out of those kept open; bytes are handed over and back as they
 * are, without a copy where the socket gave them in one piece. What is sent again by itself stands in transport.ts.
 */
import { KvBatches } from './batch.ts'
import { bucketPathOf } from './names.ts'
import { KvScan } from './scan.ts'
import { KvTransactions } from './transaction.ts'
import { KvTransport } from './transport.ts'
import { KvValues } from './values.ts'
import { KvWatches, type WatchPoll } from './watch.ts'
import type {
  BatchOperation,
  BatchResult,
  CallOptions,
  DeleteOptions,
  DeleteResult,
  GetOptions,
  HeadOptions,
  KvAttributes,
  KvClientOptions,
  KvStreamedValue,
  KvValue,
  PollOptions,
  PutBody,
  PutOptions,
  PutResult,
  ScanEntry,
  ScanOptions,
  ScanPage,
  ScanPageOptions,
  Transaction,
  TransactionResult,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from './types.ts'

export type * from './types.ts'
export type { KvErrorCode } from './errors.ts'
export type { WatchPoll } from './watch.ts'
export { isKvError, KvError, RevisionGone } from './errors.ts'

export interface KvClient {
  get(key: string, options?: GetOptions): Promise<KvValue | undefined>
  /** For values that one would not have in memory whole. */
  getStream(key: string, options?: GetOptions): Promise<KvStreamedValue | undefined>
  head(key: string, options?: HeadOptions): Promise<KvAttributes | undefined>
  /** Bytes must not change until it settles. */
  put(key: string, value: PutBody, options?: PutOptions): Promise<PutResult>
  delete(key: string, options?: DeleteOptions): Promise<DeleteResult>
  /** Every key there is, by as many requests as it takes. */
  scan(options?: ScanOptions): AsyncIterable<ScanEntry>
  /** One request. */
  scanPage(options?: ScanPageOptions): Promise<ScanPage>
  /** Up to 1,000 operations; not a transaction. */
  batch(operations: readonly BatchOperation[], options?: WriteOptions): Promise<BatchResult[]>
  transaction(transaction: Transaction, options?: WriteOptions): Promise<TransactionResult>
  increment(
    key: string,
    delta?: bigint | number,
    options?: WriteOptions & { readonly ttlSeconds?: number | undefined },
  ): Promise<{ readonly value: bigint; readonly revision: number }>
  /** Which of up to 10,000 keys there are. */
  exists(
    keys: readonly string[],
    options?: CallOptions,
  ): Promise<{ readonly exists: boolean[]; readonly revision: number }>
  /** How many of up to 10,000 keys, from the first on, there are. */
  match(
    keys: readonly string[],
    options?: CallOptions,
  ): Promise<{ readonly matched: number; readonly revision: number }>
  /** Changes as they come, until `signal` aborts (then it rejects with its reason) or the loop is left. @throws RevisionGone */
  watch(options?: WatchOptions): AsyncIterable<WatchEvent>
  /** Changes by long poll. @throws RevisionGone */
  poll(options?: PollOptions): Promise<WatchPoll>
  close(): void
}

export function createKvClient(options: KvClientOptions): KvClient {
  const transport = new KvTransport(options)
  const bucketPath = bucketPathOf(options.bucket)
  const values = new KvValues(transport, bucketPath)
  const scans = new KvScan(transport, bucketPath)
  const batches = new KvBatches(transport, bucketPath)
  const transactions = new KvTransactions(transport, bucketPath)
  const watches = new KvWatches(transport, bucketPath)
  const ask = (operation: string, keys: readonly string[], signal: AbortSignal | undefined): Promise<unknown> =>
    transport.json({ method: 'POST', path: `${bucketPath}:${operation}`, idempotent: true, signal }, { keys })
  return {
    get: (key, options = {}) => values.get(key, options),
    getStream: (key, options = {}) => values.getStream(key, options),
    head: (key, options = {}) => values.head(key, options),
    put: (key, value, options = {}) => values.put(key, value, options),
    delete: (key, options = {}) => values.delete(key, options),
    scan: (options = {}) => scans.entries(options),
    scanPage: (options = {}) => scans.page(options),
    batch: (operations, options = {}) => batches.batch(operations, options),
    transaction: (transaction, options = {}) => transactions.transact(transaction, options),
    increment: (key, delta = 1n, options = {}) => transactions.increment(key, delta, options),
    exists: async (keys, options = {}) =>
      (await ask('exists', keys, options.signal)) as { exists: boolean[]; revision: number },
    match: async (keys, options = {}) =>
      (await ask('match', keys, options.signal)) as { matched: number; revision: number },
    watch: (options = {}) => watches.events(options),
    poll: (options = {}) => watches.poll(options),
    close: () => transport.close(),
  }
}
