/**
 * This node's copy of all rows in etcd (docs/decisions/0016): rows with the mod revisions that they have there, kept in an embedded engine.
 *
 * Changes are applied whole revision by whole revision and are visible at once, in a layer over the engine; the engine gets them in batches, behind everybody's
 * back, in the order of their revisions and each batch ending at a whole one, together with the row that says how far it stands. So after a crash the engine
 * holds some past of etcd, and goes on from there. Nothing is lost with it: what it has not got is in etcd.
 *
 * Two revisions tell where it stands: `through` is that of etcd itself, `revision` that of the last commit of ours in it. They differ by what changes
 * no row: sessions, and other programs' rows.
 */
import { assert, must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange, Row } from '../ports.ts'
import { writeUint64, type LoggedCommit } from '../stage/change-log.ts'
import type { LogKeeper } from '../stage/log-keeper.ts'
import type { Backend, DurableRows, RowChanges, RowReader } from '../stage/ports.ts'
import { RowLayer } from '../stage/row-layer.ts'
import { decodeState, REPLICA_KEY, STATE_KEY } from '../stage/stage-state.ts'
import { VisibleRows, type PendingReader } from '../stage/visible-rows.ts'
import { counterOf, deltaKey, isCounterKey, partsRange, sumOfParts } from './counter-parts.ts'
import { uint64At, type GroupName } from './layout.ts'
import { decodeReplicaState, encodeReplicaState, type ReplicaState } from './replica-state.ts'

const REVISION_BYTES = 8

export interface ReplicaOptions {
  readonly backend: Backend
  readonly log: LogKeeper
  readonly clock: Clock
  /** Between two batches that nobody waits for. */
  readonly writePauseMs: number
  /** Rows that may be visible and not in the engine before no more are taken. */
  readonly unwrittenRowsMax: number
  readonly unwrittenBytesMax: number
}

export interface AppliedRow {
  readonly key: ByteString
  /** Null: deleted. */
  readonly value: Uint8Array | null
  readonly untold: boolean
}

const UNTRACKED: PendingReader = { provisional: false }
const WRITE_RETRY_MS = 1000

export class Replica implements RowReader {
  readonly #options: ReplicaOptions
  readonly #visible: VisibleRows
  /** The value of a stored row, so that the same row is always the same bytes. */
  readonly #values = new WeakMap<Uint8Array, Uint8Array>()
  readonly #stopping = new AbortController()
  #state: ReplicaState | undefined
  #revision: Revision = 0
  #through: Revision = 0
  #lastCommit = '' as GroupName
  #unwritten: LoggedCommit[] = []
  #hasUnwritten = false
  #writing: Promise<void> | undefined
  #writtenWanted = false
  #trouble: string | undefined
  #wakeWriter: (() => void) | undefined
  #roomWaiters: (() => void)[] = []

  constructor(options: ReplicaOptions) {
    this.#options = options
    this.#visible = new VisibleRows(options.backend)
  }

  get revision(): Revision {
    return this.#revision
  }

  get through(): Revision {
    return this.#through
  }

  /** Name of the commit at `revision`, as the row `clock` has it. */
  get lastCommit(): GroupName {
    return this.#lastCommit
  }

  /** Why the engine does not take what is visible, at present. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Opens the engine. @throws Unavailable when what is in it is no replica */
  async open(): Promise<void> {
    const { backend, log } = this.#options
    await backend.open()
    try {
      this.#state = decodeReplicaState(backend.get(REPLICA_KEY))
      if (this.#state === undefined && decodeState(backend.get(STATE_KEY)).revision > 0)
        throw new TidegateError(
          'Unavailable',
          'the metadata directory holds metadata of its own, which must be moved to etcd first',
        )
      await log.open()
      this.#revision = log.durableRevision
      this.#through = this.#state?.through ?? 0
      this.#lastCommit = this.#state?.lastCommit ?? this.#lastCommit
    } catch (error) {
      await backend.close()
      throw error
    }
  }

  /** Whether it may go on from where it stands, for these metadata, which are at that revision. */
  isOf(clusterId: ByteString, revision: Revision): boolean {
    return this.#state?.loaded === true && this.#state.clusterId === clusterId && this.#through <= revision
  }

  get(key: ByteString): Uint8Array | undefined {
    const row = this.#visible.get(key, UNTRACKED)
    return row && this.#valueOf(row)
  }

  scan(range: KeyRange, limit: number, reverse: boolean): Row[] {
    const rows = this.#visible.scan({ range, limit, reverse }, undefined, UNTRACKED)
    return rows.map(({ key, value }) => ({ key, value: value.subarray(REVISION_BYTES) }))
  }

  /** 0: there is no such row. */
  modRevision(key: ByteString): Revision {
    const row = this.#visible.get(key, UNTRACKED)
    return row === undefined ? 0 : uint64At(row, 0)
  }

  keys(range: KeyRange): ByteString[] {
    return this.#visible.scan({ range, limit: Infinity, reverse: false }, undefined, UNTRACKED).map(({ key }) => key)
  }

  /** All that one revision of etcd changed. `commit`: its name, if it is one of ours. */
  apply(through: Revision, rows: readonly AppliedRow[], commit: GroupName | undefined): void {
    assert(through > this.#through, 'revisions come in order')
    this.#through = through
    if (commit !== undefined) {
      this.#revision = through
      this.#lastCommit = commit
    }
    if (rows.length === 0) return
    const layer = new RowLayer()
    const told = new Map<ByteString, Uint8Array | null>()
    const untoldKeys = new Set<ByteString>()
    for (const { key, value, untold } of rows) {
      layer.set(key, value && stored(value, through))
      told.set(key, value)
      if (untold || isCounterKey(key)) untoldKeys.add(key)
    }
    this.#visible.apply(layer)
    const changes = this.#options.log.watched(told, untoldKeys)
    if (changes !== undefined) this.#unwritten.push({ revision: through, changes })
    this.#hasUnwritten = true
    this.#write()
  }

  /** Resolves when more may be applied. */
  async room(): Promise<void> {
    while (this.#isFull() && !this.#stopping.signal.aborted)
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve))
  }

  /** Resolves when the engine has all that is visible now. */
  async written(): Promise<void> {
    while (this.#hasUnwritten || this.#writing !== undefined) {
      this.#writtenWanted = true
      this.#wakeWriter?.()
      this.#write()
      await this.#writing
    }
  }

  readDurable<T>(fn: (rows: DurableRows) => T): T {
    const { backend, log } = this.#options
    const { revision } = decodeState(backend.get(STATE_KEY))
    const values = (range: KeyRange, limit: number): Row[] =>
      backend
        .scan(range, limit, false)
        .map(({ key, value }) => ({ key, value: isBookkeeping(key) ? value : value.subarray(REVISION_BYTES) }))
    return fn({
      revision,
      get: (key) => {
        const row = backend.get(key)
        if (row !== undefined) return isBookkeeping(key) ? row : row.subarray(REVISION_BYTES)
        return sumOfParts(values(partsRange(deltaKey(key)), Infinity).map(({ value }) => value))
      },
      scan: values,
      changedKeys: (after, groups) => log.keys.changed(backend, after, { through: revision, groups }),
    })
  }

  /** For who loads all rows anew (replica-load.ts): nothing is applied until `loaded`. */
  async beginLoad(clusterId: ByteString): Promise<void> {
    await this.written()
    this.#state = { loaded: false, through: 0, clusterId, lastCommit: '' as GroupName }
    await this.#options.backend.commit([new Map([[REPLICA_KEY, encodeReplicaState(this.#state)]])])
  }

  /** The stored keys of a range with their mod revisions. */
  storedRevisions(range: KeyRange, limit: number): { key: ByteString; modRevision: Revision }[] {
    return this.#options.backend
      .scan(range, limit, false)
      .map(({ key, value }) => ({ key, modRevision: isBookkeeping(key) ? 0 : uint64At(value, 0) }))
  }

  async load(rows: readonly { key: ByteString; value: Uint8Array | null; modRevision: Revision }[]): Promise<void> {
    const changes = new Map(rows.map(({ key, value, modRevision }) => [key, value && stored(value, modRevision)]))
    await this.#options.backend.commit([changes])
    this.#visible.forget(changes)
  }

  async loaded(through: Revision, { revision, name }: { revision: Revision; name: GroupName }): Promise<void> {
    const { backend, log } = this.#options
    this.#state = { ...must(this.#state, 'a load that was begun'), loaded: true, through, lastCommit: name }
    const restarted = log.restart(revision)
    await backend.commit([restarted.rows, new Map([[REPLICA_KEY, encodeReplicaState(this.#state)]])])
    restarted.committed()
    this.#through = through
    this.#revision = revision
    this.#lastCommit = name
  }

  async stop(): Promise<void> {
    await Promise.race([this.written(), this.#options.clock.sleep(WRITE_RETRY_MS).catch(() => {})])
    this.#stopping.abort(new TidegateError('Unavailable', 'the metadata store has stopped'))
    this.#wakeWriter?.()
    this.#makeRoom()
    this.#options.log.stop()
    await this.#writing
    await this.#options.backend.close()
  }

  #valueOf(row: Uint8Array): Uint8Array {
    let value = this.#values.get(row)
    if (value === undefined) this.#values.set(row, (value = row.subarray(REVISION_BYTES)))
    return value
  }

  #isFull(): boolean {
    const { unwrittenRowsMax, unwrittenBytesMax } = this.#options
    return this.#visible.pendingRows >= unwrittenRowsMax || this.#visible.pendingBytes >= unwrittenBytesMax
  }

  #makeRoom(): void {
    for (const resolve of this.#roomWaiters.splice(0)) resolve()
  }

  #write(): void {
    if (this.#writing !== undefined || !this.#hasUnwritten || this.#stopping.signal.aborted) return
    this.#writing = this.#writeAll().finally(() => (this.#writing = undefined))
  }

  async #writeAll(): Promise<void> {
    await Promise.resolve()
    while (this.#hasUnwritten && !this.#stopping.signal.aborted) {
      await this.#writeBatch()
      if (!this.#hasUnwritten) this.#writtenWanted = false
      else if (!this.#writtenWanted && !this.#isFull()) await this.#pause(this.#options.writePauseMs)
    }
  }

  async #writeBatch(): Promise<void> {
    const { backend, log } = this.#options
    const rows = this.#visible.closeGroup()
    const commits = this.#unwritten
    this.#unwritten = []
    this.#hasUnwritten = false
    this.#state = { ...must(this.#state, 'a loaded replica'), through: this.#through, lastCommit: this.#lastCommit }
    const prepared = log.prepare(this.#revision, { commits, changes: keysToLog(rows) })
    const state = new Map([[REPLICA_KEY, encodeReplicaState(this.#state)]])
    for (;;) {
      try {
        await backend.commit([rows, prepared.rows, state])
        this.#trouble = undefined
        break
      } catch (error) {
        this.#trouble = (error as Error).message
        // A full disk, most likely. What is visible stays so, and once there is too much of it nothing more is applied: then reads fail in words.
        await this.#pause(WRITE_RETRY_MS)
        if (this.#stopping.signal.aborted) return
      }
    }
    this.#visible.groupCommitted()
    prepared.committed()
    this.#makeRoom()
  }

  async #pause(ms: number): Promise<void> {
    const awake = new Promise<void>((resolve) => (this.#wakeWriter = resolve))
    await Promise.race([awake, this.#options.clock.sleep(ms, this.#stopping.signal).catch(() => {})])
    this.#wakeWriter = undefined
  }
}

function stored(value: Uint8Array, modRevision: Revision): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(REVISION_BYTES + value.length)
  writeUint64(bytes, modRevision, 0)
  bytes.set(value, REVISION_BYTES)
  return bytes
}

/** Rows of the logs and of the state are in the engine as they are. */
export function isBookkeeping(key: ByteString): boolean {
  return key.startsWith('M\x01') || key.startsWith('J\x01') || key.startsWith('Y\x01')
}

/** By the key that the namespace knows: of a part, its counter's. */
function keysToLog(rows: RowChanges): RowChanges {
  const logged = new Map<ByteString, Uint8Array | null>()
  for (const [key, value] of rows) logged.set(isCounterKey(key) ? counterOf(key) : key, value)
  return logged
}
