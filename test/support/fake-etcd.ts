/**
 * etcd in memory, with faults under a test's hand: one store (fake-etcd-store.ts), and clients that each stand for a process with the member that it
 * talks to. Time is the clock's, so that it fits the simulation; without faults a call takes some microtasks.
 *
 * Faults of single calls are a `CallPlan`: either for the next call of a kind (`etcd.next('transact', plan)`), or by a function that is asked at
 * every call (`etcd.planner`), which a simulation gives its random numbers. Faults that last are switches: `etcd.majority`, `etcd.noSpaceAlarm`, and of a client
 * `reachable` and `hold()`.
 *
 * Every call settles by its deadline (`callTimeoutMs`). What was due to be applied after that still is: so `beforeMs` past the deadline is a transaction
 * that is applied after its failure was reported.
 */
import type { Clock } from '../../src/common/clock.ts'
import type { Revision } from '../../src/common/ids.ts'
import type { KeyRange } from '../../src/meta/ports.ts'
import { EtcdFailure } from '../../src/meta/raft/ports.ts'
import type {
  Etcd,
  EtcdFailureKind,
  EtcdTransaction,
  LeaseId,
  RangeRequest,
  RangeResult,
  TransactionResult,
  WatchedChange,
} from '../../src/meta/raft/ports.ts'
import { FakeEtcdStore, type FakeEtcdLimits } from './fake-etcd-store.ts'

export type CallKind = 'range' | 'transact' | 'lease'

export interface CallPlan {
  /** Passes before it is applied. */
  readonly beforeMs?: number | undefined
  /** Passes between its application and the answer. */
  readonly afterMs?: number | undefined
  /** The answer is: it failed, and may have been applied (`sent`). `never applied`: nor will it be. */
  readonly lost?: 'applied' | 'never applied' | undefined
  /** It is applied, then answered with this failure: `no space` is told like that when the quota is passed meanwhile. */
  readonly answer?: EtcdFailureKind | undefined
  /** Fails without being sent. */
  readonly fails?: EtcdFailureKind | undefined
}

export interface FakeCall {
  readonly client: FakeEtcdClient
  readonly kind: CallKind
  /** Of `transact`. */
  readonly transaction?: EtcdTransaction | undefined
  /** Of `range`. */
  readonly request?: RangeRequest | undefined
}

export interface FakeEtcdOptions {
  readonly clock: Clock
  readonly limits?: Partial<FakeEtcdLimits>
  readonly callTimeoutMs?: number
}

const LIMITS: FakeEtcdLimits = { operationsMax: 128, bytesMax: 1.5 * 1024 * 1024 }
const CALL_TIMEOUT_MS = 5_000
/** Of one batch of a watch, as long as whole revisions allow it. */
const WATCH_REVISIONS_MAX = 64

export class FakeEtcd {
  readonly clock: Clock
  readonly callTimeoutMs: number
  /** Grows when members are ended, as for putting a backup in their place: then all watches end. */
  life = 0
  #store: FakeEtcdStore
  /** Without it only serializable ranges and watches are answered. */
  majority = true
  /** Asked at every call that no `next` was said for. */
  planner: ((call: FakeCall) => CallPlan | undefined) | undefined
  readonly #plans: { kind: CallKind; plan: CallPlan }[] = []
  readonly #watching = new Set<() => void>()
  readonly #leases = new Map<LeaseId, { endsMs: number; seconds: number }>()
  #leasesGranted = 0

  constructor(options: FakeEtcdOptions) {
    this.clock = options.clock
    this.callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS
    this.#store = new FakeEtcdStore({ ...LIMITS, ...options.limits })
  }

  get store(): FakeEtcdStore {
    return this.#store
  }

  /** What `restore` puts back. */
  backup(): FakeEtcdStore {
    return this.#store.copy()
  }

  /** All members are ended, and start from that. */
  restore(backup: FakeEtcdStore): void {
    this.#store = backup.copy()
    this.life++
    this.changed()
  }

  get revision(): Revision {
    return this.store.revision
  }

  /** Puts at the outermost level are answered with `no space`. */
  set noSpaceAlarm(raised: boolean) {
    this.store.noSpaceAlarm = raised
  }

  client(): FakeEtcdClient {
    return new FakeEtcdClient(this)
  }

  /** What happens to the next call of that kind, of whichever client. Several are used in turn. */
  next(kind: CallKind, plan: CallPlan): void {
    this.#plans.push({ kind, plan })
  }

  planFor(call: FakeCall): CallPlan {
    const index = this.#plans.findIndex(({ kind }) => kind === call.kind)
    if (index === -1) return this.planner?.(call) ?? {}
    return this.#plans.splice(index, 1)[0]?.plan ?? {}
  }

  compact(revision: Revision = this.revision): void {
    this.store.compact(revision)
  }

  grantLease(seconds: number): LeaseId {
    this.#leasesGranted += 1
    const lease = String(7_587_000_000_000_000_000n + BigInt(this.#leasesGranted))
    this.store.grantLease(lease)
    this.#keepFor(lease, seconds)
    return lease
  }

  keepLease(lease: LeaseId): number {
    const known = this.#leases.get(lease)
    if (known === undefined) return 0
    this.#keepFor(lease, known.seconds)
    return known.seconds
  }

  revokeLease(lease: LeaseId): void {
    this.#leases.delete(lease)
    this.store.revokeLease(lease)
    this.changed()
  }

  #keepFor(lease: LeaseId, seconds: number): void {
    const endsMs = this.clock.monotonicMs() + seconds * 1_000
    this.#leases.set(lease, { endsMs, seconds })
    void this.clock.sleep(seconds * 1_000).then(() => {
      if (this.#leases.get(lease)?.endsMs === endsMs) this.revokeLease(lease)
    })
  }

  /** Every watch looks again. */
  changed(): void {
    const watching = [...this.#watching]
    this.#watching.clear()
    for (const look of watching) look()
  }

  whenChanged(look: () => void): void {
    this.#watching.add(look)
  }
}

export class FakeEtcdClient implements Etcd {
  readonly #etcd: FakeEtcd
  #reachable = true
  #running = false
  /** What the member of this client has applied, if it stands still. */
  #heldAt: Revision | undefined
  /** Watches end with this when they look next. */
  #watchFailure: { readonly kind: EtcdFailureKind } | undefined

  constructor(etcd: FakeEtcd) {
    this.#etcd = etcd
  }

  start(): Promise<void> {
    this.#running = true
    return Promise.resolve()
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#running = false
    this.#etcd.changed()
    return Promise.resolve()
  }

  /** False: this client's calls fail, those under way are answered by nobody, and its watches stand still. */
  set reachable(reachable: boolean) {
    this.#reachable = reachable
    this.#etcd.changed()
  }

  /** From now on its watches and serializable ranges show nothing new. */
  hold(): void {
    this.#heldAt ??= this.#etcd.revision
  }

  release(): void {
    this.#heldAt = undefined
    this.#etcd.changed()
  }

  /** Its watches of this moment end with a failure: that no member answers, or that what changed is not kept any more. */
  failWatches(kind: 'unavailable' | 'compacted'): void {
    this.#watchFailure = { kind }
    this.#etcd.changed()
  }

  range(request: RangeRequest): Promise<RangeResult> {
    const { store } = this.#etcd
    const asOf = (): Revision => (request.serializable === true ? this.#visible() : store.revision)
    return this.#call({ client: this, kind: 'range', request }, () => store.range(request, asOf()))
  }

  transact(transaction: EtcdTransaction): Promise<TransactionResult> {
    return this.#call({ client: this, kind: 'transact', transaction }, () => {
      const before = this.#etcd.store.revision
      const result = this.#etcd.store.transact(transaction)
      if (result.revision !== before) this.#etcd.changed()
      return result
    })
  }

  async *watch(
    range: KeyRange,
    fromRevision: Revision,
    signal: AbortSignal,
  ): AsyncGenerator<readonly WatchedChange[], void> {
    let next = fromRevision
    const failureBefore = this.#watchFailure
    const lifeBefore = this.#etcd.life
    if (!signal.aborted) yield []
    while (!signal.aborted) {
      if (this.#watchFailure !== undefined && this.#watchFailure !== failureBefore)
        throw new EtcdFailure(this.#watchFailure.kind, 'the watch was ended', { sent: false })
      if (this.#etcd.life !== lifeBefore)
        throw new EtcdFailure('unavailable', 'the members have ended', { sent: false })
      if (!this.#running) throw new EtcdFailure('unavailable', 'the client is stopped', { sent: false })
      const through = Math.min(this.#visible(), next + WATCH_REVISIONS_MAX - 1)
      if (this.#reachable && through >= next) {
        const changes = this.#etcd.store.changes(range, next, through)
        next = through + 1
        if (changes.length > 0) yield changes
      } else await this.#nextLook(signal)
    }
  }

  grantLease(seconds: number): Promise<LeaseId> {
    return this.#call({ client: this, kind: 'lease' }, () => this.#etcd.grantLease(seconds))
  }

  keepLease(lease: LeaseId): Promise<number> {
    return this.#call({ client: this, kind: 'lease' }, () => this.#etcd.keepLease(lease))
  }

  revokeLease(lease: LeaseId): Promise<void> {
    return this.#call({ client: this, kind: 'lease' }, () => this.#etcd.revokeLease(lease))
  }

  #visible(): Revision {
    return this.#heldAt ?? this.#etcd.revision
  }

  #nextLook(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        signal.removeEventListener('abort', look)
        resolve()
      }
      signal.addEventListener('abort', look, { once: true })
      this.#etcd.whenChanged(look)
    })
  }

  /** Applies it when its turn has come, whoever still waits for the answer; settles by the deadline. */
  async #call<T>(call: FakeCall, apply: () => T): Promise<T> {
    const { clock, callTimeoutMs, majority } = this.#etcd
    const sent = call.kind === 'transact'
    if (!this.#running) throw new EtcdFailure('unavailable', 'the client is stopped', { sent: false })
    if (!this.#reachable) throw new EtcdFailure('unavailable', 'no member can be reached', { sent: false })
    const plan = this.#etcd.planFor(call)
    if (plan.fails !== undefined) throw new EtcdFailure(plan.fails, 'as planned', { sent: plan.fails === 'no space' })
    const isLocal = call.request?.serializable === true
    if (!majority && !isLocal) {
      await clock.sleep(callTimeoutMs)
      throw new EtcdFailure('unavailable', 'there is no majority', { sent })
    }
    const late = new AbortController()
    const deadline = clock.sleep(callTimeoutMs, late.signal).then(() => {
      throw new EtcdFailure('unavailable', `no answer within ${callTimeoutMs} ms`, { sent })
    })
    try {
      return await Promise.race([this.#carryOut(plan, apply, sent), deadline])
    } finally {
      deadline.catch(() => undefined)
      late.abort(new Error('the call has settled'))
    }
  }

  async #carryOut<T>(plan: CallPlan, apply: () => T, sent: boolean): Promise<T> {
    await this.#pass(plan.beforeMs)
    const answer = plan.lost === 'never applied' ? undefined : apply()
    await this.#pass(plan.afterMs)
    if (plan.lost !== undefined || !this.#reachable || !this.#running)
      throw new EtcdFailure('unavailable', 'the answer was lost', { sent })
    if (plan.answer !== undefined) throw new EtcdFailure(plan.answer, 'as planned', { sent: true })
    return answer as T
  }

  /** Even what takes no time takes a turn: no call is carried out before it has returned its promise. */
  async #pass(ms: number | undefined): Promise<void> {
    if (ms === undefined || ms <= 0) await Promise.resolve()
    else await this.#etcd.clock.sleep(ms)
  }
}
