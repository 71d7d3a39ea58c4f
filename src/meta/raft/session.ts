/**
 * Who may write for this node. Every group compares the node's session row, so whoever rewrites it makes sure that nothing which was under way before can still take
 * effect: a process does so when it starts, against an older one with the same data directory (C23), and to learn what became of a group whose answer was
 * lost (C6): once the row is rewritten that group has taken effect, and then the watch has shown it by that revision, or it never will.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import { encodeSession, onlyKey, sessionIncarnation, type EtcdLayout, type Incarnation } from './layout.ts'
import {
  EtcdFailure,
  type Compare,
  type Etcd,
  type EtcdOperation,
  type EtcdTransaction,
  type TransactionResult,
} from './ports.ts'

/** Between attempts, and twice as long each time. */
const RETRY_MS = 100
const RETRY_MS_MAX = 400

export class Fenced extends Error {
  override readonly name = 'Fenced'
}

/** The row is as it was before this process wrote it: etcd was restored from a backup. */
export class WentBack extends Error {
  override readonly name = 'WentBack'
}

export interface SessionOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  readonly node: number
  readonly incarnation: Incarnation
}

export class Session {
  readonly #options: SessionOptions
  #attempts = 0
  #modRevision: Revision = 0

  constructor(options: SessionOptions) {
    this.#options = options
  }

  /** Of the row, as this process wrote it last. */
  get modRevision(): Revision {
    return this.#modRevision
  }

  /** Holds while this process may write. */
  get compare(): Compare {
    const { layout, node } = this.#options
    return { kind: 'unchanged', key: layout.session(node), modRevision: this.#modRevision }
  }

  isOurs(value: Uint8Array | undefined): boolean {
    return value !== undefined && sessionIncarnation(value) === this.#options.incarnation
  }

  /**
   * Takes the node over from whoever has it. Safe to repeat. What it was is compared, so that an attempt whose answer was lost does not come late, after another
   * process has taken the node over.
   * @throws EtcdFailure
   */
  async begin(): Promise<void> {
    const { etcd, layout, node } = this.#options
    const key = layout.session(node)
    for (;;) {
      const { rows } = await etcd.range({ range: onlyKey(key), limit: 1 })
      const compare: Compare = { kind: 'unchanged', key, modRevision: rows[0]?.modRevision ?? 0 }
      const { succeeded, revision } = await etcd.transact({ compares: [compare], success: [this.#put()], failure: [] })
      if (succeeded) return void this.#written(revision)
    }
  }

  /**
   * Rewrites the row, as often as it takes to know that it has happened.
   * @returns the revision from which on nothing that was sent before can take effect
   * @throws Fenced, WentBack, and Unavailable when the signal aborts
   */
  async settle(signal: AbortSignal): Promise<Revision> {
    return await this.#settle(signal, () => {
      throw new WentBack('etcd is as it was before: it was restored from a backup')
    })
  }

  /** As `settle`, also where etcd has gone back, for who loads everything anew. @throws Fenced, and Unavailable when the signal aborts */
  async settleAnew(signal: AbortSignal): Promise<Revision> {
    return await this.#settle(signal, (modRevision) => {
      this.#modRevision = modRevision
    })
  }

  /** `onBack`: told of the revision of the row where that is one of before this process wrote it last; 0: there is none. */
  async #settle(signal: AbortSignal, onBack: (modRevision: Revision) => void): Promise<Revision> {
    const { layout, node } = this.#options
    while (!signal.aborted) {
      const answer = await this.#firstAnswer(signal, {
        compares: [this.compare],
        success: [this.#put()],
        failure: [{ kind: 'range', range: onlyKey(layout.session(node)), limit: 1 }],
      })
      if (answer === undefined) break
      const { succeeded, results, revision } = answer
      if (succeeded) return this.#written(revision)
      const [found] = results
      const row = found?.kind === 'range' ? found.found.rows[0] : undefined
      if (row === undefined || row.modRevision < this.#modRevision) {
        onBack(row?.modRevision ?? 0)
        continue
      }
      // An attempt of before, whose answer was lost.
      if (this.isOurs(row.value)) return this.#written(row.modRevision)
      throw new Fenced('another process has taken this node over')
    }
    throw new TidegateError('Unavailable', 'the metadata store has stopped')
  }

  /**
   * Sends it again and again until one of them is answered, without waiting for those before: what reaches a leader while it hands over is dropped, and nobody is told for
   * seconds. All compare the same, so one of them takes effect at most, and a late one none. Undefined when the signal aborts.
   */
  async #firstAnswer(signal: AbortSignal, transaction: EtcdTransaction): Promise<TransactionResult | undefined> {
    const { etcd, clock } = this.#options
    const first = Promise.withResolvers<TransactionResult>()
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const end = (): void => over.abort()
    first.promise.then(end, end)
    for (let pauseMs = RETRY_MS; !either.aborted; pauseMs = Math.min(pauseMs * 2, RETRY_MS_MAX)) {
      etcd.transact(transaction).then(first.resolve, (error: unknown) => {
        if (!(error instanceof EtcdFailure)) first.reject(error)
      })
      await clock.sleep(pauseMs, either).catch(() => {})
    }
    return over.signal.aborted ? await first.promise : undefined
  }

  #written(revision: Revision): Revision {
    this.#modRevision = Math.max(this.#modRevision, revision)
    return revision
  }

  /** Nested, because etcd does not hold nested puts against its quota (etcd server/etcdserver/quota.go), and this one must pass also when that is full. */
  #put(): EtcdOperation {
    const { layout, node, incarnation } = this.#options
    const put = { kind: 'put', key: layout.session(node), value: encodeSession(incarnation, ++this.#attempts) } as const
    return { kind: 'transaction', transaction: { compares: [], success: [put], failure: [] } }
  }
}
