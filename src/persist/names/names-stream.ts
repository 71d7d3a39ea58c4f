/**
 * Keeps the remote store in possession of a consistent past of the namespace (docs/decisions/0013): decides when to capture a delta, when to
 * write a base, when to make a backup, and what may go.
 *
 * One round does one bounded thing at a time; rounds never overlap, so there is one shipper. All that it knows it learns at the start by
 * listing the remote store; a crash anywhere loses what was not shipped and nothing else, because each object is whole or absent and none
 * changes the meaning of those before it:
 *
 *   killed before an upload          the next life captures anew from where the remote store stands
 *   after it, before it is noted     the next life finds it in the listing
 *   between the parts of a delta     parts without the others mean nothing, and are removed
 *   within a base                    the same; the base before and its deltas are still there
 *   before superfluous ones go       the next life removes them
 *
 * Removing follows the same order everywhere: first what makes a thing superfluous has arrived, then it goes. `mayDelete` asks right
 * before whether this gateway still is the holder: one that was replaced by a restore must not remove what its successor needs.
 *
 * A remote store that is further than the data directory holds what a later life of it wrote: the directory was put back from an
 * older copy. Going on would mix two pasts. Nothing is shipped or removed then until somebody decides (`tidegate restore`).
 */
import type { BackgroundJob } from '../../common/background.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import type { RemoteStore } from '../remote/ports.ts'
import { Backups, type BackupSummary } from './backups.ts'
import { BaseWriter } from './base-writer.ts'
import {
  beginOfNext,
  mergedFrom,
  newestState,
  objectsOfState,
  stateWith,
  wholeBases,
  type NamesState,
  type WholeBase,
} from './chain.ts'
import { DeltaShipper, type Shipped } from './delta-shipper.ts'
import type { Capture } from './encode-parts.ts'
import { encodedRowBytesMax } from './format.ts'
import type { Lineage, NamesObject } from './object-names.ts'
import type { Names, NamesDelta, NamesSource, PublishedName } from './ports.ts'
import { RecordShipper } from './records.ts'
import { RemoteNames } from './remote-names.ts'
import type { NamesStatus } from './status.ts'

export interface NamesStreamOptions {
  readonly source: NamesSource
  readonly remote: RemoteStore
  /** Who holds the remote store: `holder` of its marker. */
  readonly lineage: Lineage
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  /** Changes are shipped about this often. */
  readonly intervalMs: number
  readonly backupIntervalMs: number
  readonly backupsKept: number
  /** How long `named` waits. */
  readonly waitMsMax: number
  readonly mayDelete: () => Promise<boolean>
  /** Somebody waits for these segments to arrive. */
  readonly hurry?: (segments: readonly SegmentId[]) => void
  /** What failed and is tried again, but for rounds, whose failures the job's runner tells. */
  readonly onFailure: (cause: unknown) => void
  readonly deltaBytesMax?: number
  readonly basedOnBytesMin?: number
}

export interface MadeBackup extends BackupSummary {
  /** Whether it has all that was durable when it was asked for. */
  readonly complete: boolean
}

const MIB = 1024 * 1024
/** A capture lies in memory until it is shipped. */
const DELTA_BYTES_MAX = 64 * MIB
/** Deltas may grow to this, or to the size of their base if that is more, before a new base is written. */
const DELTAS_BYTES_MIN = 64 * MIB
/** Deltas up to this are merged with those before them. */
const MERGED_BYTES_MAX = MIB / 4
const ROUND_PAUSE_MS = 200
const CLEANED_EVERY_MS = 60_000
/** What a former holder left stays for so long: for whoever finds that the restore was a mistake. */
const ANCESTRAL_KEPT_MS = 86_400_000
const BACKUP_POLL_MS = 50
const RETRY_MS_MAX = 15_000

export class NamesStream implements Names {
  readonly #options: NamesStreamOptions
  readonly #remote: RemoteNames
  readonly #deltas: DeltaShipper
  readonly #records: RecordShipper
  readonly backups: Backups
  /** Where the remote store stands; undefined: it holds no state of this lineage. */
  #state: NamesState | undefined
  /** Where the next delta begins. Undefined: nowhere yet, or the key log does not reach back; a base comes first. */
  #position: Revision | undefined
  /** What the state names is what there was at this revision too, which is at or after its own. */
  #covered: Revision = -1
  #coveredMs = 0
  #base: BaseWriter | undefined
  #askedFor = false
  #capturedAtMs = -Infinity
  /** Since when something waits to be shipped. */
  #behindSinceMs: number | undefined
  #cleanedAtMs = -Infinity
  #lastError: string | undefined
  #failures = 0
  #notBeforeMs = -Infinity
  #turn: Promise<unknown> = Promise.resolve()
  #stopped = false

  constructor(options: NamesStreamOptions) {
    this.#options = options
    const { source, lineage, clock, fillRandom, mayDelete } = options
    const nowMs = (): number => clock.nowMs()
    const remote = new RemoteNames({ remote: options.remote, lineage, nowMs })
    this.#remote = remote
    this.#deltas = new DeltaShipper({ source, remote, clock, newCapture: () => this.#newCapture() })
    this.#records = new RecordShipper({
      source,
      put: (object) => remote.put(object),
      clock,
      lineage,
      newRandom: () => this.#newRandom(),
      waitMsMax: options.waitMsMax,
      wantDelta: () => (this.#askedFor = true),
      onFailure: options.onFailure,
    })
    this.backups = new Backups({
      source,
      remote,
      lineage,
      nowMs,
      fillRandom,
      mayDelete,
      intervalMs: options.backupIntervalMs,
      keep: options.backupsKept,
    })
  }

  readonly job: BackgroundJob = { name: 'names', pauseMs: ROUND_PAUSE_MS, round: () => this.round() }

  named(published: PublishedName): Promise<void> {
    return published.revision <= this.#covered ? Promise.resolve() : this.#records.named(published)
  }

  holds(segment: SegmentId): boolean {
    return this.#deltas.holds(segment)
  }

  mayRemove(segment: SegmentId, emptiedAt: Revision): boolean {
    return this.#covered >= emptiedAt && !this.holds(segment) && !this.backups.pins(segment, emptiedAt)
  }

  /** Whether a former holder's backup may need a segment that metadata here does not know; true also as long as that is not known. */
  needsUnknown(segment: SegmentId): boolean {
    return this.#state === undefined || this.backups.pinsUnknown(segment)
  }

  /** One bounded step. @returns whether there is more to do at once */
  round(): Promise<boolean> {
    const turn = this.#turn.then(() => (this.#stopped ? false : this.#round()))
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  async #round(): Promise<boolean> {
    const { clock } = this.#options
    if (clock.monotonicMs() < this.#notBeforeMs) return false
    try {
      if (!this.#remote.loaded) await this.#load()
      this.#refuseOlderDirectory()
      await this.backups.settle()
      await this.#deltaStep()
      const more = await this.#baseStep()
      if (this.#state) await this.#backUpWhenDue(this.#state)
      if (clock.monotonicMs() - this.#cleanedAtMs >= CLEANED_EVERY_MS) await this.#clean()
      this.#lastError = undefined
      this.#failures = 0
      return more
    } catch (error) {
      this.#lastError = (error as Error).message
      this.#notBeforeMs =
        clock.monotonicMs() + Math.min(RETRY_MS_MAX, ROUND_PAUSE_MS * 2 ** Math.min(this.#failures++, 16))
      throw error
    }
  }

  async #load(): Promise<void> {
    await this.#remote.load()
    this.#state = newestState(this.#remote.own())
    if (!this.#state) return
    this.#position = this.#state.revision
    this.#cover(this.#state.revision, storedMs(this.#state))
  }

  #refuseOlderDirectory(): void {
    if (this.#covered <= this.#options.source.durableRevision()) return
    this.#covered = -1
    this.#remote.loaded = false
    throw new TidegateError(
      'InvalidRequest',
      'the remote store holds a later state than this data directory, which seems to have been put back from an older copy: ' +
        'nothing is shipped to it or removed from it',
    )
  }

  async #deltaStep(): Promise<void> {
    const { source, clock } = this.#options
    // A base begins where it is begun; the first delta on top of it may not begin later.
    this.#position ??= this.#beginAnew()
    const nowMs = clock.monotonicMs()
    const behind = source.durableRevision() > this.#covered || !this.#state
    if (!behind) this.#behindSinceMs = undefined
    else this.#behindSinceMs ??= nowMs
    if (!this.#deltas.holding) {
      const due = this.#askedFor || nowMs - this.#capturedAtMs >= this.#options.intervalMs
      if (!due || !behind) return
      this.#askedFor = false
      this.#capturedAtMs = nowMs
      await this.#capture(this.#position)
    }
    const shipped = await this.#deltas.ship()
    if (shipped) this.#noteShipped(shipped)
  }

  #beginAnew(): Revision {
    this.#base = this.#newBase()
    return this.#base.begin
  }

  async #capture(position: Revision): Promise<void> {
    const { source, clock } = this.#options
    const bytesMax = this.#options.deltaBytesMax ?? DELTA_BYTES_MAX
    const delta = await source.delta(position, bytesMax)
    if (!delta) {
      // What has changed since cannot be told, or is too much: a new base, and a new chain on top of it.
      this.#position = this.#beginAnew()
      return
    }
    if (delta.rows.length === 0 && this.#state && this.#state.revision === position) {
      this.#cover(delta.through, clock.nowMs())
      return
    }
    await this.#deltas.hold((await this.#merged(delta, bytesMax)) ?? delta)
  }

  /** The same, begun further back, so that it takes the place of small deltas before it. */
  async #merged(delta: NamesDelta, bytesMax: number): Promise<NamesDelta | undefined> {
    const deltas = this.#state?.deltas ?? []
    if (deltas.at(-1)?.through !== delta.after) return undefined
    const bytes = delta.rows.reduce((sum, row) => sum + encodedRowBytesMax(row), 0)
    const begin = beginOfNext(deltas, bytes, MERGED_BYTES_MAX)
    if (begin === undefined || begin === delta.after) return undefined
    return this.#options.source.delta(begin, bytesMax)
  }

  #noteShipped({ delta, capturedMs, capturedAtMs }: Shipped): void {
    const { source } = this.#options
    this.#position = delta.through
    const goesOn = this.#state !== undefined && delta.after <= this.#state.revision
    if (this.#state && goesOn) this.#state = stateWith(this.#state, delta)
    else this.#state = newestState(this.#remote.own())
    if (this.#state?.revision === delta.through) this.#cover(delta.through, capturedMs)
    if (this.#behindSinceMs !== undefined) this.#behindSinceMs = Math.max(this.#behindSinceMs, capturedAtMs)
    const deltas = this.#state?.deltas ?? []
    const goesBack = deltas.at(-1)?.through === delta.through ? mergedFrom(deltas, MERGED_BYTES_MAX) : undefined
    source.shipped(goesBack ?? delta.through)
  }

  #cover(revision: Revision, stateMs: number): void {
    this.#covered = revision
    this.#coveredMs = stateMs
    this.#records.covered(revision)
  }

  async #baseStep(): Promise<boolean> {
    if (!this.#base) {
      if (!this.#state || !this.#outgrown(this.#state)) return false
      this.#base = this.#newBase()
    }
    if (!(await this.#base.step())) return true
    this.#base = undefined
    // A delta must cover the time in which it was read; at the latest the next one does.
    this.#askedFor = true
    this.#state = newestState(this.#remote.own()) ?? this.#state
    if (this.#state && this.#state.revision > this.#covered) this.#cover(this.#state.revision, storedMs(this.#state))
    this.#cleanedAtMs = -Infinity
    return true
  }

  #outgrown({ base, deltas }: NamesState): boolean {
    const deltaBytes = deltas.reduce((sum, { bytes }) => sum + bytes, 0)
    if (deltaBytes <= Math.max(this.#options.basedOnBytesMin ?? DELTAS_BYTES_MIN, base.bytes)) return false
    // One may have been completed and wait for its delta.
    return this.#waitingBases(base).length === 0
  }

  /** Complete, and not covered by a delta yet. */
  #waitingBases(base: WholeBase): WholeBase[] {
    return wholeBases(this.#remote.own()).filter(({ begin }) => begin > base.begin)
  }

  #newBase(): BaseWriter {
    const { source, clock } = this.#options
    return new BaseWriter({ source, remote: this.#remote, clock }, this.#newCapture())
  }

  #newCapture(): Capture {
    const { lineage, clock } = this.#options
    return { lineage, random: this.#newRandom(), capturedMs: clock.nowMs() }
  }

  #newRandom(): string {
    const bytes = Buffer.alloc(8)
    this.#options.fillRandom(bytes)
    return bytes.toString('hex')
  }

  async #backUpWhenDue(state: NamesState): Promise<void> {
    const { dueMs } = this.backups
    if (dueMs === undefined || this.#options.clock.nowMs() < dueMs) return
    await this.backups.make(this.#withRecords(state), this.#coveredMs)
  }

  #withRecords(state: NamesState): NamesState {
    const records = this.#remote.own().filter((object) => object.kind === 'records')
    return { ...state, records: records.filter(({ through }) => through > this.#covered) }
  }

  /** Removes what neither the state nor a backup needs, nor a base or delta that is being written. */
  async #clean(): Promise<void> {
    const { clock, mayDelete } = this.#options
    this.#cleanedAtMs = clock.monotonicMs()
    if (!this.#state || this.#remote.unreadable.size > 0) return
    const needed = this.#remote.pinned()
    for (const { name } of objectsOfState(this.#state)) needed.add(name)
    const { base, revision } = this.#state
    const written = new Set([this.#base?.random, ...this.#waitingBases(base).map(({ random }) => random)])
    const superfluous = this.#remote
      .own()
      .filter((object) => !needed.has(object.name) && this.#isPast(object, { revision, written }))
    const leftBefore = clock.nowMs() - ANCESTRAL_KEPT_MS
    const ancestral = this.#remote
      .ancestral()
      .filter(({ name, modifiedMs }) => !needed.has(name) && modifiedMs < leftBefore)
    const removed = [...superfluous, ...ancestral]
    if (removed.length > 0 && (await mayDelete())) await this.#remote.remove(removed)
  }

  #isPast(
    object: NamesObject,
    { revision, written }: { revision: Revision; written: ReadonlySet<string | undefined> },
  ): boolean {
    switch (object.kind) {
      case 'records':
        return object.through <= this.#covered
      case 'base-part':
      case 'base-whole':
        return !written.has(object.random)
      case 'delta':
        return object.through <= revision
    }
  }

  /**
   * Makes a backup of what is durable now, or by the deadline of what has arrived by then. `hurry` asks for the segments it waits for.
   * @throws Unavailable when the remote store holds no state by then
   */
  async backUp(deadlineMs: number): Promise<MadeBackup> {
    const { source } = this.#options
    await source.flush()
    const wantedRevision = source.durableRevision()
    await this.#shipThrough(wantedRevision, deadlineMs)
    const making = this.#turn.then(() => {
      if (!this.#state) throw new TidegateError('Unavailable', 'the remote store holds no state of the namespace yet')
      return this.backups.make(this.#withRecords(this.#state), this.#coveredMs)
    })
    this.#turn = making.catch(() => undefined)
    const made = await making
    return { ...made, complete: this.#covered >= wantedRevision }
  }

  dropBackup(id: string): Promise<void> {
    const dropping = this.#turn.then(async () => {
      if (!this.#remote.loaded) await this.#load()
      await this.backups.drop(id)
    })
    this.#turn = dropping.catch(() => undefined)
    return dropping
  }

  /** Ships what is there, so that a node that is drained leaves nothing behind. Gives up at the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    await this.#shipThrough(this.#options.source.durableRevision(), deadlineMs)
  }

  async #shipThrough(revision: Revision, deadlineMs: number): Promise<void> {
    const { clock, hurry } = this.#options
    while (this.#covered < revision && clock.monotonicMs() < deadlineMs && !this.#stopped) {
      if (!this.#deltas.holding) this.#askedFor = true
      // What fails is tried again until the deadline, and then told by what is missing.
      const more = await this.round().catch(() => false)
      const heldUpBy = this.#deltas.heldUpBy()
      if (heldUpBy.length > 0) hurry?.(heldUpBy)
      if (!more) await clock.sleep(BACKUP_POLL_MS)
    }
  }

  status(): NamesStatus {
    const { source, clock } = this.#options
    const state = this.#state
    const deltaBytes = state?.deltas.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
    const baseBytes = state?.base.bytes ?? 0
    return {
      shippedThrough: this.#covered,
      durableRevision: source.durableRevision(),
      behindMs: this.#behindSinceMs === undefined ? 0 : clock.monotonicMs() - this.#behindSinceMs,
      stateMs: this.#coveredMs,
      heldThrough: this.#deltas.heldThrough,
      heldBytes: this.#deltas.heldBytes,
      heldUpBy: this.#deltas.heldUpBy(),
      writesWaiting: this.#records.waiting,
      baseBytes,
      deltas: state?.deltas.length ?? 0,
      deltaBytes,
      baseDueBytes: Math.max(this.#options.basedOnBytesMin ?? DELTAS_BYTES_MIN, baseBytes),
      baseBytesWritten: this.#base?.bytesWritten,
      backups: this.backups.list().length,
      unreadableBackups: [...this.#remote.unreadable],
      nextBackupMs: this.backups.dueMs,
      lastError: this.#lastError,
    }
  }

  /** The job's runner has stopped. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#records.stop()
    await this.#turn
  }
}

function storedMs({ deltas }: NamesState): number {
  return deltas.at(-1)?.parts.at(-1)?.modifiedMs ?? 0
}
