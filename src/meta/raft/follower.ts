/**
 * Keeps the replica in step: takes the node over, loads what is missing, then follows the watch for as long as the store lives.
 *
 * When etcd does not keep the changes since the revision that the replica stands at (compacted: this node was away too long), all rows are loaded anew. Meanwhile nothing is read
 * or run. A group that was on its way is settled before, so that the marks that are loaded say what became of it.
 *
 * So they are when etcd was restored from a backup: then what this node stands on is not etcd's past any more, whether etcd's revision is lower or has overtaken it since. Members must
 * end for that, and the watch with them. So whenever the watch begins at a member it is looked whether the row `clock` at the revision that the replica stands at
 * was what the replica says: every commit has a name that no other has.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { EtcdStoreSettings } from './etcd-options.ts'
import { writesMax } from './group-transaction.ts'
import { byteString, decodeGroupName, onlyKey, type EtcdLayout } from './layout.ts'
import { askOperationLimit } from './operation-limit.ts'
import type { Row } from '../ports.ts'
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
  readonly isOver: () => boolean
  readonly fenced: () => void
}

export class Follower {
  readonly #parts: FollowerParts
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #watching = new AbortController()
  #mustLoad = false
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
    const { clock, startMsMax, startSignal } = settings
    const endMs = clock.monotonicMs() + startMsMax
    const until = { clock, endMs, signal: startSignal }
    const untilThen = <T>(what: () => Promise<T>): Promise<T> => repeat(what, until)
    const clusterId = await untilThen(() => this.#clusterId())
    const ofEtcd = await untilThen(() => askOperationLimit(etcd, layout))
    await untilThen(() => session.begin())
    if (!replica.isOf(clusterId, session.modRevision)) {
      await untilThen(() =>
        loadReplica(replica, {
          etcd,
          layout,
          clusterId,
          onDeleting: () => {},
          onChanged: () => {},
          onOwnRow: () => {},
        }),
      )
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

  /** Not waited for: nothing is run or read meanwhile. */
  loadAnew(): void {
    this.#mustLoad = true
    this.#watching.abort(new Error('all is loaded anew'))
  }

  async #tooLate(endMs: number): Promise<never> {
    const { clock, startSignal } = this.#parts.settings
    const signals = [this.#stopping.signal, ...(startSignal === undefined ? [] : [startSignal])]
    await clock.sleep(Math.max(0, endMs - clock.monotonicMs()), AbortSignal.any(signals))
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
    const { etcd, layout, replica, runner, settings, isOver } = this.#parts
    const { signal } = this.#stopping
    this.#noteProgress()
    while (!signal.aborted && !isOver()) {
      try {
        this.#watching = new AbortController()
        if (this.#mustLoad) await this.#loadAnew(clusterId)
        const either = AbortSignal.any([signal, this.#watching.signal])
        for await (const changes of etcd.watch(layout.all, replica.through + 1, either)) {
          if (changes.length === 0) await this.#checkHistory()
          this.#trouble = undefined
          await runner.apply(changes)
          this.#noteProgress()
          await replica.room()
        }
      } catch (error) {
        if (signal.aborted) return
        this.#trouble = unavailable(error).message
        if (!(error instanceof EtcdFailure)) throw error
        if (error.kind === 'compacted') this.#mustLoad = true
        if (this.#mustLoad) continue
      }
      await settings.clock.sleep(RETRY_MS, signal).catch(() => {})
    }
  }

  /** @throws EtcdFailure `compacted`, as a watch does, when etcd's past is not what this node stands on */
  async #checkHistory(): Promise<void> {
    const { etcd, layout, replica } = this.#parts
    const { through, revision, lastCommit } = replica
    const range = onlyKey(layout.clock)
    const now = await etcd.range({ range, limit: 1 })
    if (now.revision >= through) {
      const [row] = (await etcd.range({ range, limit: 1, revision: through })).rows
      if (
        row === undefined
          ? lastCommit === ''
          : row.modRevision === revision && decodeGroupName(row.value) === lastCommit
      )
        return
    }
    throw new EtcdFailure('compacted', `${through} is not what it was: etcd was restored from a backup`, {
      sent: false,
    })
  }

  async #loadAnew(clusterId: ByteString): Promise<void> {
    const { etcd, layout, replica, runner, session, listeners, settings, fenced } = this.#parts
    const { signal } = this.#stopping
    this.#mustLoad = false
    await runner.loading()
    const lastSeen = replica.revision
    const gone: Row[] = []
    while (!signal.aborted) {
      try {
        await session.settleAnew(signal)
        const marks = new Map<string, Map<number, Revision>>()
        const onOwnRow = (row: EtcdRow): void => this.#noteOwn(row, marks)
        const onChanged = (keys: readonly ByteString[]): void => listeners.committed(keys, NONE)
        const onDeleting = (keys: readonly ByteString[]): void =>
          void gone.push(...listeners.aboutToGo(keys, (key) => replica.get(key)))
        await loadReplica(replica, { etcd, layout, clusterId, onDeleting, onChanged, onOwnRow })
        // When they went is not known any more: after what this node has seen last.
        listeners.gone(gone, lastSeen + 1)
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
async function repeat<T>(
  what: () => Promise<T>,
  { clock, endMs, signal }: { clock: Clock; endMs: number; signal: AbortSignal | undefined },
): Promise<T> {
  for (;;) {
    try {
      return await what()
    } catch (error) {
      const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
      if (!passes || clock.monotonicMs() >= endMs) throw error
    }
    await clock.sleep(RETRY_MS, signal)
  }
}
