/**
 * Who may write for this node. Every group compares the node's session row, so whoever rewrites it makes sure that nothing which was under way before can still take
 * effect: a process does so when it starts, against an older one with the same data directory (C23), and to learn what became of a group whose answer was
 * lost (C6): once the row is rewritten that group has taken effect, and then the watch has shown it by that revision, or it never will.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import { encodeSession, onlyKey, sessionIncarnation, type EtcdLayout, type Incarnation } from './layout.ts'
import { EtcdFailure, type Compare, type Etcd, type EtcdOperation, type EtcdTransaction } from './ports.ts'

const RETRY_MS = 100

export class Fenced extends Error {
  override readonly name = 'Fenced'
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

  /** Takes the node over from whoever has it. Safe to repeat. @throws EtcdFailure */
  async begin(): Promise<void> {
    const { revision } = await this.#options.etcd.transact({ compares: [], success: [this.#put()], failure: [] })
    this.#written(revision)
  }

  /**
   * Rewrites the row, as often as it takes to know that it has happened.
   * @returns the revision from which on nothing that was sent before can take effect
   * @throws Fenced, and Unavailable when the signal aborts
   */
  async settle(signal: AbortSignal): Promise<Revision> {
    const { etcd, clock, layout, node } = this.#options
    while (!signal.aborted) {
      const transaction: EtcdTransaction = {
        compares: [this.compare],
        success: [this.#put()],
        failure: [{ kind: 'range', range: onlyKey(layout.session(node)), limit: 1 }],
      }
      try {
        const { succeeded, results, revision } = await etcd.transact(transaction)
        if (succeeded) return this.#written(revision)
        const [found] = results
        const row = found?.kind === 'range' ? found.found.rows[0] : undefined
        // An attempt of before, whose answer was lost.
        if (row !== undefined && this.isOurs(row.value)) return this.#written(row.modRevision)
        throw new Fenced('another process has taken this node over')
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error
      }
      await clock.sleep(RETRY_MS, signal).catch(() => {})
    }
    throw new TidegateError('Unavailable', 'the metadata store has stopped')
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
