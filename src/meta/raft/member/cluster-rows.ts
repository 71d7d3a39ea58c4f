/**
 * What the nodes keep in etcd about the cluster itself, outside of the metadata's prefix:
 *
 *     tidegate.cluster/settings          {"format": 1, "name", "voters"}: written by the founder, never changed
 *     tidegate.cluster/turn              who changes members or tends them, with a lease
 */
import type { Clock } from '../../../common/clock.ts'
import type { ByteString } from '../../../common/ids.ts'
import type { Etcd, LeaseId } from '../ports.ts'

const PREFIX = 'tidegate.cluster/'
const SETTINGS = `${PREFIX}settings` as ByteString
const TURN = `${PREFIX}turn` as ByteString
const FORMAT = 1
const TURN_SECONDS = 15
const TURN_KEPT_EVERY_MS = 4_000
const TURN_TRIED_EVERY_MS = 250

export interface ClusterSettings {
  readonly name: string
  readonly voters: number
}

/** Somebody else has the turn, for longer than was waited. */
export class TurnTaken extends Error {
  override readonly name = 'TurnTaken'
}

export class ClusterRows {
  readonly #etcd: Etcd
  readonly #clock: Clock
  readonly #node: string

  constructor(etcd: Etcd, options: { clock: Clock; node: string }) {
    this.#etcd = etcd
    this.#clock = options.clock
    this.#node = options.node
  }

  /** Undefined: this is no cluster of ours, or one that was begun a moment ago. @throws EtcdFailure */
  async settings(): Promise<ClusterSettings | undefined> {
    const text = await this.#text(SETTINGS)
    return text === undefined ? undefined : settingsOf(text)
  }

  /** Resolves with those that are there, whoever wrote them. @throws EtcdFailure */
  async begin(settings: ClusterSettings): Promise<ClusterSettings> {
    const value = Buffer.from(JSON.stringify({ format: FORMAT, ...settings }))
    await this.#etcd.transact({
      compares: [{ kind: 'unchanged', key: SETTINGS, modRevision: 0 }],
      success: [{ kind: 'put', key: SETTINGS, value }],
      failure: [],
    })
    return (await this.settings()) ?? settings
  }

  /**
   * Runs `work` while this node, and no other, has the turn. The lease is kept meanwhile; if that fails for as long as it lasts, the turn is lost and
   * `signal` says so.
   * @throws TurnTaken, EtcdFailure, and what `work` throws
   */
  async inTurn<T>(work: (lost: AbortSignal) => Promise<T>, waitMsMax: number): Promise<T> {
    const lease = await this.#takeTurn(waitMsMax)
    const ended = new AbortController()
    const lost = new AbortController()
    const keeping = this.#keep(lease, ended.signal, lost)
    try {
      return await work(lost.signal)
    } finally {
      ended.abort()
      await keeping
      await this.#etcd.revokeLease(lease).catch(() => undefined)
    }
  }

  async #takeTurn(waitMsMax: number): Promise<LeaseId> {
    const untilMs = this.#clock.monotonicMs() + waitMsMax
    const lease = await this.#etcd.grantLease(TURN_SECONDS)
    const value = Buffer.from(this.#node)
    try {
      for (;;) {
        const { succeeded } = await this.#etcd.transact({
          compares: [{ kind: 'unchanged', key: TURN, modRevision: 0 }],
          success: [{ kind: 'put', key: TURN, value, lease }],
          failure: [],
        })
        if (succeeded) return lease
        if (this.#clock.monotonicMs() > untilMs)
          throw new TurnTaken(`${(await this.#text(TURN)) ?? 'another node'} is changing the cluster`)
        await this.#clock.sleep(TURN_TRIED_EVERY_MS)
        await this.#etcd.keepLease(lease)
      }
    } catch (error) {
      await this.#etcd.revokeLease(lease).catch(() => undefined)
      throw error
    }
  }

  async #keep(lease: LeaseId, ended: AbortSignal, lost: AbortController): Promise<void> {
    let keptMs = this.#clock.monotonicMs()
    for (;;) {
      await this.#clock.sleep(TURN_KEPT_EVERY_MS, ended).catch(() => undefined)
      if (ended.aborted) return
      const askedMs = this.#clock.monotonicMs()
      const left = await this.#etcd.keepLease(lease).catch(() => undefined)
      if (left !== undefined && left > 0) keptMs = askedMs
      else if (left === 0 || this.#clock.monotonicMs() - keptMs > TURN_SECONDS * 1000)
        return lost.abort(new TurnTaken('the turn was lost'))
    }
  }

  async #text(key: ByteString): Promise<string | undefined> {
    const { rows } = await this.#etcd.range({ range: { start: key, end: `${key}\0` as ByteString }, limit: 1 })
    const [row] = rows
    return row === undefined ? undefined : Buffer.from(row.value).toString()
  }
}

function settingsOf(text: string): ClusterSettings | undefined {
  const { format, name, voters } = JSON.parse(text) as Partial<ClusterSettings> & { format?: number }
  return format === FORMAT && name !== undefined && voters !== undefined ? { name, voters } : undefined
}
