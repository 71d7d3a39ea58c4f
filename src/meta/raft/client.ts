/**
 * The port `Etcd` over gRPC, to one or several members of a cluster. Ranges are linearizable unless they ask not to be; they, leases and watches go on at
 * another member when one goes away. A transaction is sent to one member, and never again unless it is known not to have been sent.
 *
 * What lies where: grpc/protobuf.ts (wire format), grpc/messages.ts (etcd's messages), grpc/failures.ts (what its failures mean),
 * grpc/member.ts (one endpoint), grpc/members.ts (which one is asked), grpc/watch.ts.
 */
import type { Revision } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { etcdFailure, unsent } from './grpc/failures.ts'
import type { Member } from './grpc/member.ts'
import { Members } from './grpc/members.ts'
import type { EtcdClientOptions } from './grpc/members.ts'
import { GRANT_LEASE, KEEP_LEASE, RANGE, REVOKE_LEASE, TRANSACT } from './grpc/messages.ts'
import type { LeaseAnswer, Method } from './grpc/messages.ts'
import { rangeMessage, rangeResult, transactionMessage, transactionResult } from './grpc/transaction.ts'
import { watch } from './grpc/watch.ts'
import type {
  Etcd,
  EtcdTransaction,
  LeaseId,
  RangeRequest,
  RangeResult,
  TransactionResult,
  WatchedChange,
} from './ports.ts'

export type { EtcdClientOptions } from './grpc/members.ts'

/** `start` does not wait for a member: calls do. It fails if certificates cannot be read. */
export function createEtcdClient(options: EtcdClientOptions): Etcd {
  return new EtcdClient(options)
}

class EtcdClient implements Etcd {
  readonly #members: Members
  readonly #stopping = new AbortController()

  constructor(options: EtcdClientOptions) {
    this.#members = new Members(options)
  }

  async start(): Promise<void> {
    try {
      this.#members.connect()
    } catch (error) {
      throw etcdFailure(error)
    }
  }

  drain(): Promise<void> {
    return this.#members.settled()
  }

  stop(): Promise<void> {
    this.#stopping.abort()
    this.#members.close()
    return Promise.resolve()
  }

  async range(request: RangeRequest): Promise<RangeResult> {
    const withoutLeader = request.serializable === true
    return rangeResult(await this.#call(RANGE, rangeMessage(request), { repeatable: true, withoutLeader }))
  }

  async transact(transaction: EtcdTransaction): Promise<TransactionResult> {
    return transactionResult(await this.#call(TRANSACT, transactionMessage(transaction), { repeatable: false }))
  }

  async *watch(
    range: KeyRange,
    fromRevision: Revision,
    signal: AbortSignal,
  ): AsyncGenerator<readonly WatchedChange[], void> {
    const either = AbortSignal.any([signal, this.#stopping.signal])
    try {
      yield* watch(this.#members, range, { fromRevision, signal: either })
    } catch (error) {
      throw etcdFailure(error)
    }
    if (!signal.aborted) throw etcdFailure(unsent('the client is stopped'))
  }

  /** Repeated, it leaves a lease that nobody knows and that runs out. */
  async grantLease(seconds: number): Promise<LeaseId> {
    const { lease } = await this.#call(GRANT_LEASE, { seconds }, { repeatable: true })
    return lease
  }

  async keepLease(lease: LeaseId): Promise<number> {
    try {
      return await this.#members.callWith({ repeatable: true }, (member, { timeoutMs, token }) =>
        keepAlive(member, lease, { timeoutMs, token }),
      )
    } catch (error) {
      throw etcdFailure(error)
    }
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    try {
      await this.#call(REVOKE_LEASE, { lease }, { repeatable: true })
    } catch (error) {
      const failure = etcdFailure(error)
      if (failure.kind !== 'lease gone') throw failure
    }
  }

  async #call<Request, Response>(
    method: Method<Request, Response>,
    message: Partial<Request>,
    options: { repeatable: boolean; withoutLeader?: boolean },
  ): Promise<Response> {
    try {
      return await this.#members.call(method, message, options)
    } catch (error) {
      throw etcdFailure(error)
    }
  }
}

/** etcd has a stream for that, which is opened for one message here: leases are kept seconds apart. */
function keepAlive(
  member: Member,
  lease: LeaseId,
  { timeoutMs, token }: { timeoutMs: number; token: string | undefined },
): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = member.stream(KEEP_LEASE, { token, timeoutMs, requireLeader: true })
    stream.on('error', (error) => reject(member.failure(error)))
    stream.on('end', () => reject(unsent(`${member.endpoint}: no answer`)))
    stream.on('data', (answer: LeaseAnswer) => {
      resolve(answer.seconds)
      stream.cancel()
    })
    stream.write({ lease })
  })
}
