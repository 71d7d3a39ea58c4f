/**
 * Keeps the replica in step: takes the node over, loads what is missing, then follows the watch for as long as the store lives.
 *
 * When etcd does not keep the changes since the revision that the replica stands at (compacted: this node was away too long), all rows are loaded anew. Meanwhile nothing is read
 * or run. A group that was on its way is settled before, so that the marks that are loaded say what became of it.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { EtcdStoreSettings } from './etcd-options.ts'
import { writesMax } from './group-transaction.ts'
import { byteString, decodeGroupName, onlyKey, type EtcdLayout } from './layout.ts'
import { askOperationLimit } from './operation-limit.ts'
import { EtcdFailure, type Etcd, type EtcdRow } from './ports.ts'
import { loadReplica } from './replica-load.ts'
import type { Listeners } from './listeners.ts'
import type { Replica } from './replica.ts'
import type { Runner } from './runner.ts'
import { Fenced, type Session } from './session.ts'
import { unavailable } from './words.ts'

const NONE: ReadonlySet<ByteString> = new Set()
const FORMAT = 1
const RETRY_MS = 100

export interface FollowerParts {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly settings: EtcdStoreSettings
  readonly replica: Replica
  readonly session: Session
  readonly runner: Runner
  readonly listeners: Listeners
  readonly fenced: () => void
}

export class Follower {
  readonly #parts: FollowerParts
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #caughtUp: { revision: Revision; resolve: () => void } | undefined
  #trouble: string | undefined

  constructor(parts: FollowerParts) {
    this.#parts = parts
  }

  /** Why no changes arrive at present. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Resolves when the replica has all that was committed before. @throws TidegateError */
  async start(): Promise<{ operationsMax: { ofEtcd: number; ofOne: number } }> {
    const { etcd, layout, session, replica, settings } = this.#parts
    const { clock, startMsMax } = settings
    const endMs = clock.monotonicMs() + startMsMax
    const untilThen = <T>(what: () => Promise<T>): Promise<T> => repeat(what, clock, endMs)
    const clusterId = await untilThen(() => this.#clusterId())
    const ofEtcd = await untilThen(() => askOperationLimit(etcd, layout))
    await untilThen(() => session.begin())
    if (!replica.isOf(clusterId, session.modRevision)) {
      await untilThen(() => loadReplica(replica, { etcd, layout, clusterId, onChanged: () => {}, onOwnRow: () => {} }))
    }
    const caughtUp = new Promise<void>((resolve) => {
      this.#caughtUp = { revision: session.modRevision, resolve }
    })
    this.#running = this.#follow(clusterId)
    await Promise.race([caughtUp, this.#tooLate(endMs)])
    return { operationsMax: { ofEtcd, ofOne: writesMax(ofEtcd) } }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new TidegateError('Unavailable', 'the metadata store has stopped'))
    await this.#running
  }

  async #tooLate(endMs: number): Promise<never> {
    const { clock } = this.#parts.settings
    await clock.sleep(Math.max(0, endMs - clock.monotonicMs()), this.#stopping.signal)
    throw new TidegateError(
      'Unavailable',
      `metadata: the changes in etcd do not arrive (${this.#trouble ?? 'too many'})`,
    )
  }

  /** Makes the row if it is not there. @throws EtcdFailure, Unavailable for a format that this program does not know */
  async #clusterId(): Promise<ByteString> {
    const { etcd, layout, settings } = this.#parts
    const made = new Uint8Array(17)
    settings.fillRandom(made)
    made[0] = FORMAT
    const { succeeded, results } = await etcd.transact({
      compares: [{ kind: 'unchanged', key: layout.cluster, modRevision: 0 }],
      success: [{ kind: 'put', key: layout.cluster, value: made }],
      failure: [{ kind: 'range', range: onlyKey(layout.cluster), limit: 1 }],
    })
    const found = results[0]?.kind === 'range' ? results[0].found.rows[0]?.value : undefined
    const row = succeeded || found === undefined ? made : found
    if (row[0] !== FORMAT)
      throw new TidegateError('Unavailable', `metadata in etcd of format ${row[0]}, which this program does not read`)
    return byteString(row.subarray(1))
  }

  async #follow(clusterId: ByteString): Promise<void> {
    const { etcd, layout, replica, runner, settings } = this.#parts
    const { signal } = this.#stopping
    this.#noteProgress()
    while (!signal.aborted) {
      try {
        for await (const changes of etcd.watch(layout.all, replica.through + 1, signal)) {
          this.#trouble = undefined
          await runner.apply(changes)
          this.#noteProgress()
          await replica.room()
        }
      } catch (error) {
        if (signal.aborted) return
        this.#trouble = unavailable(error).message
        if (!(error instanceof EtcdFailure)) throw error
        if (error.kind === 'compacted') await this.#loadAnew(clusterId)
      }
      await settings.clock.sleep(RETRY_MS, signal).catch(() => {})
    }
  }

  async #loadAnew(clusterId: ByteString): Promise<void> {
    const { etcd, layout, replica, runner, listeners, settings, fenced } = this.#parts
    const { signal } = this.#stopping
    await runner.loading()
    while (!signal.aborted) {
      try {
        await runner.settle()
        const marks = new Map<string, Map<number, Revision>>()
        const onOwnRow = (row: EtcdRow): void => this.#noteOwn(row, marks)
        const onChanged = (keys: readonly ByteString[]): void => listeners.committed(keys, NONE)
        await loadReplica(replica, { etcd, layout, clusterId, onChanged, onOwnRow })
        await runner.loaded(marks)
        this.#noteProgress()
        return
      } catch (error) {
        if (error instanceof Fenced) return fenced()
        this.#trouble = unavailable(error).message
      }
      await settings.clock.sleep(RETRY_MS, signal).catch(() => {})
    }
  }

  #noteOwn({ key, value, modRevision }: EtcdRow, marks: Map<string, Map<number, Revision>>): void {
    const { layout, session, settings, fenced } = this.#parts
    if (key === layout.session(settings.node) && !session.isOurs(value) && modRevision > session.modRevision)
      return fenced()
    const index = layout.markIndex(settings.node, key)
    if (index === undefined) return
    const name = decodeGroupName(value)
    const ofGroup = marks.get(name) ?? new Map<number, Revision>()
    marks.set(name, ofGroup.set(index, modRevision))
  }

  #noteProgress(): void {
    if (this.#caughtUp === undefined || this.#parts.replica.through < this.#caughtUp.revision) return
    this.#caughtUp.resolve()
    this.#caughtUp = undefined
  }
}

/** Repeats what fails because etcd is away, until that time. */
async function repeat<T>(what: () => Promise<T>, clock: Clock, endMs: number): Promise<T> {
  for (;;) {
    try {
      return await what()
    } catch (error) {
      const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
      if (!passes || clock.monotonicMs() >= endMs) throw error
    }
    await clock.sleep(RETRY_MS)
  }
}
