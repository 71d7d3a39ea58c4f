/**
 * etcd's multi-version store in memory: what a member does with a request once it is that request's turn. Nothing here waits.
 *
 * A store starts at revision 1. A transaction that changes something makes the next revision, however many rows it changes; a
 * range, or a transaction that changes nothing, makes none. Compares of all levels are evaluated against the state before it;
 * then the operations are applied in order, and each sees those before it. What is refused is refused as etcd's
 * `checkTxnRequest` and `checkIntervals` (server/etcdserver/api/v3rpc/key.go) refuse it, gaps included: see `checkKeys`.
 */
import type { ByteString, Revision } from '../../src/common/ids.ts'
import { EtcdFailure } from '../../src/meta/raft/ports.ts'
import type {
  Compare,
  EtcdOperation,
  EtcdRow,
  EtcdTransaction,
  LeaseId,
  OperationResult,
  RangeRequest,
  RangeResult,
  TransactionResult,
  WatchedChange,
} from '../../src/meta/raft/ports.ts'
import type { KeyRange } from '../../src/meta/ports.ts'

export interface FakeEtcdLimits {
  /** `--max-txn-ops` */
  readonly operationsMax: number
  /** `--max-request-bytes` */
  readonly bytesMax: number
}

interface Version {
  readonly modRevision: Revision
  /** Undefined: deleted. */
  readonly value: Uint8Array | undefined
  readonly lease: LeaseId | undefined
}

interface Committed {
  readonly revision: Revision
  readonly changes: readonly WatchedChange[]
}

/** Of a put or a delete in an encoded request, with its key and value left out; a guess that is a little high. */
const OPERATION_BYTES = 24

export class FakeEtcdStore {
  readonly #limits: FakeEtcdLimits
  /** Every key that has a version, ascending. */
  #keys: ByteString[] = []
  readonly #versionsByKey = new Map<ByteString, Version[]>()
  /** Ascending by revision; what compaction has left. */
  #log: Committed[] = []
  readonly #leases = new Set<LeaseId>()
  /** A put at the outermost level is refused while this is raised. */
  noSpaceAlarm = false
  revision: Revision = 1
  compactRevision: Revision = 0

  constructor(limits: FakeEtcdLimits) {
    this.#limits = limits
  }

  copy(): FakeEtcdStore {
    const copy = new FakeEtcdStore(this.#limits)
    copy.#keys = [...this.#keys]
    for (const [key, versions] of this.#versionsByKey) copy.#versionsByKey.set(key, [...versions])
    copy.#log = [...this.#log]
    for (const lease of this.#leases) copy.#leases.add(lease)
    copy.revision = this.revision
    copy.compactRevision = this.compactRevision
    return copy
  }

  range(request: RangeRequest, asOf: Revision = this.revision): RangeResult {
    checkKeyGiven(request.range.start)
    const revision = request.revision ?? asOf
    if (revision > asOf) throw refusal('malformed', `revision ${revision} is to come`)
    if (revision < this.compactRevision) throw refusal('compacted', `revision ${revision} is not kept`)
    return this.#rangeAt(request.range, request.limit, { revision, answeredAt: asOf })
  }

  transact(transaction: EtcdTransaction): TransactionResult {
    this.#check(transaction)
    const path = new Map<EtcdTransaction, boolean>()
    this.#choose(transaction, path)
    this.#checkLeases(transaction, path)
    const changes: WatchedChange[] = []
    const result = this.#apply(transaction, { path, changes })
    if (changes.length === 0) return result
    return withRevision(result, this.#committed(changes))
  }

  grantLease(lease: LeaseId): void {
    this.#leases.add(lease)
  }

  revokeLease(lease: LeaseId): void {
    if (!this.#leases.delete(lease)) return
    const attached = this.#keys.filter((key) => this.#latest(key)?.lease === lease)
    const changes: WatchedChange[] = []
    for (const key of attached) this.#write(key, undefined, { lease: undefined, changes })
    if (changes.length > 0) this.#committed(changes)
  }

  compact(revision: Revision): void {
    if (revision > this.revision) throw refusal('malformed', `revision ${revision} is to come`)
    if (revision <= this.compactRevision) throw refusal('compacted', `compacted up to ${this.compactRevision} already`)
    this.compactRevision = revision
    this.#log = this.#log.filter((committed) => committed.revision > revision)
    for (const key of this.#keys) {
      const versions = this.#versionsByKey.get(key) ?? []
      const kept = versions.findLastIndex((version) => version.modRevision <= revision)
      const left = versions.slice(kept === -1 ? 0 : versions[kept]?.value === undefined ? kept + 1 : kept)
      if (left.length === 0) this.#versionsByKey.delete(key)
      else this.#versionsByKey.set(key, left)
    }
    this.#keys = this.#keys.filter((key) => this.#versionsByKey.has(key))
  }

  /** What changed in the range from one revision to another (both included). @throws EtcdFailure `compacted` */
  changes(range: KeyRange, from: Revision, through: Revision): WatchedChange[] {
    if (from <= this.compactRevision) throw refusal('compacted', `changes since ${from} are not kept`)
    const first = this.#log.findIndex((committed) => committed.revision >= from)
    if (first === -1) return []
    return this.#log
      .slice(first)
      .filter((committed) => committed.revision <= through)
      .flatMap((committed) => committed.changes.filter((change) => isWithin(change.key, range)))
      .map((change) => ({ ...change, value: change.value?.slice() }))
  }

  #committed(changes: readonly WatchedChange[]): Revision {
    this.revision += 1
    this.#log.push({ revision: this.revision, changes })
    return this.revision
  }

  #latest(key: ByteString, revision = Infinity): Version | undefined {
    return this.#versionsByKey.get(key)?.findLast((version) => version.modRevision <= revision)
  }

  #rangeAt(range: KeyRange, limit: number, at: { revision: Revision; answeredAt: Revision }): RangeResult {
    const rows: EtcdRow[] = []
    for (let index = this.#firstAtOrAfter(range.start); index < this.#keys.length; index++) {
      const key = this.#keys[index] as ByteString
      if (key >= range.end) break
      const version = this.#latest(key, at.revision)
      if (version?.value === undefined) continue
      if (limit > 0 && rows.length === limit) return { rows, more: true, revision: at.answeredAt }
      rows.push({ key, value: version.value.slice(), modRevision: version.modRevision })
    }
    return { rows, more: false, revision: at.answeredAt }
  }

  #firstAtOrAfter(key: ByteString): number {
    let [low, high] = [0, this.#keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#keys[middle] as ByteString) < key) low = middle + 1
      else high = middle
    }
    return low
  }

  #holds(compare: Compare): boolean {
    switch (compare.kind) {
      case 'unchanged': {
        const latest = this.#latest(compare.key)
        return (latest?.value === undefined ? 0 : latest.modRevision) === compare.modRevision
      }
      case 'none younger': {
        const { rows } = this.#rangeAt(compare.range, 0, { revision: this.revision, answeredAt: this.revision })
        return rows.every((row) => row.modRevision <= compare.revision)
      }
    }
  }

  /** Which branch each transaction takes, on all levels that are reached, before anything is applied. */
  #choose(transaction: EtcdTransaction, path: Map<EtcdTransaction, boolean>): void {
    const succeeds = transaction.compares.every((compare) => this.#holds(compare))
    path.set(transaction, succeeds)
    for (const operation of succeeds ? transaction.success : transaction.failure)
      if (operation.kind === 'transaction') this.#choose(operation.transaction, path)
  }

  #apply(
    transaction: EtcdTransaction,
    context: { path: ReadonlyMap<EtcdTransaction, boolean>; changes: WatchedChange[] },
  ): TransactionResult {
    const succeeded = context.path.get(transaction) === true
    const operations = succeeded ? transaction.success : transaction.failure
    const results = operations.map((operation): OperationResult => {
      switch (operation.kind) {
        case 'put':
          this.#write(operation.key, operation.value.slice(), { lease: operation.lease, changes: context.changes })
          return { kind: 'put' }
        case 'delete': {
          const { rows } = this.#rangeNow(operation.range, 0, context.changes)
          for (const { key } of rows) this.#write(key, undefined, { lease: undefined, changes: context.changes })
          return { kind: 'delete', deleted: rows.length }
        }
        case 'range':
          return { kind: 'range', found: this.#rangeNow(operation.range, operation.limit, context.changes) }
        case 'transaction':
          return { kind: 'transaction', result: this.#apply(operation.transaction, context) }
      }
    })
    return { succeeded, results, revision: this.revision }
  }

  /** As the transaction under way sees it. */
  #rangeNow(range: KeyRange, limit: number, changes: readonly WatchedChange[]): RangeResult {
    const revision = changes.length > 0 ? this.revision + 1 : this.revision
    return this.#rangeAt(range, limit, { revision, answeredAt: revision })
  }

  #write(
    key: ByteString,
    value: Uint8Array | undefined,
    context: { lease: LeaseId | undefined; changes: WatchedChange[] },
  ): void {
    const modRevision = this.revision + 1
    const versions = this.#versionsByKey.get(key)
    const version = { modRevision, value, lease: context.lease }
    if (versions !== undefined) versions.push(version)
    else {
      this.#versionsByKey.set(key, [version])
      this.#keys.splice(this.#firstAtOrAfter(key), 0, key)
    }
    context.changes.push({ key, value, modRevision })
  }

  #check(transaction: EtcdTransaction): void {
    if (requestBytes(transaction) > this.#limits.bytesMax) throw refusal('too large', 'request is too large')
    checkOperations(transaction, this.#limits.operationsMax)
    checkKeys(transaction.success)
    checkKeys(transaction.failure)
    const puts = [...transaction.success, ...transaction.failure].some((operation) => operation.kind === 'put')
    // etcd does not look for puts in nested transactions when it holds a request against the quota (quota.go, costTxnReq).
    if (this.noSpaceAlarm && puts)
      throw new EtcdFailure('no space', 'etcdserver: mvcc: database space exceeded', { sent: true })
  }

  #checkLeases(transaction: EtcdTransaction, path: ReadonlyMap<EtcdTransaction, boolean>): void {
    for (const operation of path.get(transaction) === true ? transaction.success : transaction.failure) {
      if (operation.kind === 'transaction') this.#checkLeases(operation.transaction, path)
      if (operation.kind !== 'put' || operation.lease === undefined) continue
      if (!this.#leases.has(operation.lease)) throw refusal('lease gone', `there is no lease ${operation.lease}`)
    }
  }
}

function isWithin(key: ByteString, range: KeyRange): boolean {
  return key >= range.start && key < range.end
}

/** Refused before anything is applied. */
function refusal(kind: EtcdFailure['kind'], message: string): EtcdFailure {
  return new EtcdFailure(kind, message, { sent: false })
}

function checkKeyGiven(key: ByteString): void {
  if (key === '') throw refusal('malformed', 'key is not provided')
}

/** The revision of the whole on every level. */
function withRevision(result: TransactionResult, revision: Revision): TransactionResult {
  const results = result.results.map((part) =>
    part.kind === 'transaction' ? { ...part, result: withRevision(part.result, revision) } : part,
  )
  return { ...result, results, revision }
}

/** Each level may have as many compares, as many successes and as many failures as the levels above have left. */
function checkOperations(transaction: EtcdTransaction, operationsMax: number): void {
  const { compares, success, failure } = transaction
  const most = Math.max(compares.length, success.length, failure.length)
  if (most > operationsMax) throw refusal('too large', 'too many operations in a transaction')
  for (const compare of compares) checkKeyGiven(compare.kind === 'unchanged' ? compare.key : compare.range.start)
  for (const operation of [...success, ...failure]) {
    if (operation.kind === 'transaction') checkOperations(operation.transaction, operationsMax - most)
    else checkKeyGiven(operation.kind === 'put' ? operation.key : operation.range.start)
  }
}

/**
 * No key is put twice, or put and deleted, on any level. etcd's gap: a put is held against deletes of its own level and of the nested
 * transactions before it, and not against those of nested transactions after it. The two branches of a nested transaction may put the same key.
 */
function checkKeys(operations: readonly EtcdOperation[]): { puts: Set<ByteString>; deletes: KeyRange[] } {
  const deletes = operations.flatMap((operation) => (operation.kind === 'delete' ? [operation.range] : []))
  const puts = new Set<ByteString>()
  const add = (key: ByteString, twin?: ReadonlySet<ByteString>): void => {
    if ((puts.has(key) && twin?.has(key) !== true) || deletes.some((range) => isWithin(key, range)))
      throw refusal('malformed', 'duplicate key given in a transaction')
    puts.add(key)
  }
  for (const operation of operations) {
    if (operation.kind !== 'transaction') continue
    const success = checkKeys(operation.transaction.success)
    const failure = checkKeys(operation.transaction.failure)
    for (const key of success.puts) add(key)
    for (const key of failure.puts) add(key, success.puts)
    deletes.push(...success.deletes, ...failure.deletes)
  }
  for (const operation of operations) if (operation.kind === 'put') add(operation.key)
  return { puts, deletes }
}

function requestBytes({ compares, success, failure }: EtcdTransaction): number {
  const ofRange = (range: KeyRange): number => range.start.length + range.end.length
  const ofCompare = (compare: Compare): number =>
    compare.kind === 'unchanged' ? compare.key.length : ofRange(compare.range)
  const ofOperation = (operation: EtcdOperation): number => {
    if (operation.kind === 'transaction') return requestBytes(operation.transaction)
    return operation.kind === 'put' ? operation.key.length + operation.value.length : ofRange(operation.range)
  }
  const parts = [...compares.map(ofCompare), ...success.map(ofOperation), ...failure.map(ofOperation)]
  return parts.reduce((sum, bytes) => sum + bytes + OPERATION_BYTES, 0)
}
