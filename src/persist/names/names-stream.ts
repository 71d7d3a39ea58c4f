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
 * Removing follows the same order everywhere: first what makes a thing superfluous has arrived, then it goes (cleaning.ts). `mayDelete` asks
 * right before whether this gateway still is the holder: one that was replaced by a restore must not remove what its successor needs. What was
 * put counts only once `held` has asked again, after it had arrived: a restore takes the store over and looks for names then.
 *
 * A remote store that holds what a later life of the data directory wrote: the directory was put back from an older copy (intents.ts). Going
 * on would mix two pasts. Nothing is shipped, removed, acknowledged or backed up then until somebody decides (`tidegate restore`).
 *
 * Three revisions, each at or before the next: of the state that the objects make (`#state`); up to which nothing has changed since it
 * (`#covered`); durable here. The next delta begins at `#position`: where the state ends, or, when it could not be told from there on, where
 * the base begins that is being written.
 */
import type { BackgroundJob } from '../../common/background.ts'
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import { Backups, type BackupSummary } from './backups.ts'
import type { BackupManifest } from './manifest.ts'
import { BaseWriter } from './base-writer.ts'
import { mergedFrom, newestState, stateWith, type NamesState } from './chain.ts'
import { FormerHolders, superfluousNames, waitingBases } from './cleaning.ts'
import { DeltaShipper, type Shipped } from './delta-shipper.ts'
import type { Capture } from './encode-parts.ts'
import { Intents } from './intents.ts'
import { NO_STRAYS, checkCaughtUp, toldState } from './loading.ts'
import { MERGED_BYTES_MAX, mergedBegin } from './merging.ts'
import type { NamesObject } from './object-names.ts'
import type { NamesKeeper } from './keeper.ts'
import type { PublishedName } from './ports.ts'
import { RecordShipper } from './records.ts'
import { RemoteNames } from './remote-names.ts'
import { standingOf } from './shared/standing.ts'
import type { NamesStatus } from './status.ts'
import type { NamesStreamOptions } from './stream-options.ts'

export interface MadeBackup extends BackupSummary {
  /** Whether it has all that was durable when it was asked for. */
  readonly complete: boolean
}

const MIB = 1024 * 1024
/** A capture lies in memory until it is shipped. */
const DELTA_BYTES_MAX = 64 * MIB
/** By how much a capture may be larger when more has changed than fits: before all that was shipped is given up for a new base. */
const DELTA_GROWTH_MAX = 8
/** Deltas may grow to this, or to the size of their base if that is more, before a new base is written. */
const DELTAS_BYTES_MIN = 64 * MIB
const ROUND_PAUSE_MS = 200
const CLEANED_EVERY_MS = 60_000
const BACKUP_POLL_MS = 50
const RETRY_MS_MAX = 15_000

export class NamesStream implements NamesKeeper {
  readonly #options: NamesStreamOptions
  readonly #remote: RemoteNames
  readonly #deltas: DeltaShipper
  readonly #records: RecordShipper
  readonly #intents: Intents
  readonly #formerHolders: FormerHolders
  readonly backups: Backups
  /** Where the remote store stands; undefined: it holds no state of this lineage. */
  #state: NamesState | undefined
  /** Where the next delta begins. Undefined: nowhere yet, or the key log does not reach back; a base comes first. */
  #position: Revision | undefined
  /** What the state names is what there was at this revision too, which is at or after its own. */
  #covered: Revision = -1
  #coveredMs = 0
  #base: BaseWriter | undefined
  #strays = NO_STRAYS
  #askedFor = false
  #deltaBytesMax: number
  /** What the remote store holds is known, or never will be. */
  readonly #ready = Promise.withResolvers<void>()
  /** It holds what another life of the data directory wrote. */
  #refused: Error | undefined
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
    const { source, lineage, clock, fillRandom, mayDelete, held } = options
    const nowMs = (): number => clock.nowMs()
    const remote = new RemoteNames({ remote: options.remote, lineage, nowMs })
    this.#remote = remote
    this.#deltaBytesMax = this.#deltaBytesMin
    this.#deltas = new DeltaShipper({ source, remote, clock, held })
    this.#intents = new Intents(source)
    this.#formerHolders = new FormerHolders({ remote, nowMs, sinceMs: options.heldSinceMs })
    this.#records = new RecordShipper({
      source,
      put: (object) => remote.put(object),
      ready: this.#ready.promise,
      held,
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
      announce: (manifest) => this.#publish(manifest),
    })
  }

  readonly job: BackgroundJob = { name: 'names', pauseMs: ROUND_PAUSE_MS, round: () => this.round() }

  named(published: PublishedName): Promise<void> {
    return published.revision <= this.#covered ? Promise.resolve() : this.#records.named(published)
  }

  covered(revision: Revision): Promise<void> {
    return revision <= this.#covered ? Promise.resolve() : this.#records.covering(revision)
  }

  holds(segment: SegmentId): boolean {
    return this.#deltas.holds(segment)
  }

  mayRemove(segment: SegmentId, emptiedAt: Revision): boolean {
    if (this.#covered < emptiedAt || this.holds(segment) || this.#formerHolders.mayNeed(segment)) return false
    return !this.backups.pins(segment, emptiedAt)
  }

  /** Whether a former holder's names may need a segment that metadata here does not know; true also as long as that is not known. */
  needsUnknown(segment: SegmentId): boolean {
    return this.#state === undefined || this.#formerHolders.kept || this.backups.pinsUnknown(segment)
  }

  /** A delta is wanted now. */
  ask(): void {
    this.#askedFor = true
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
      await this.#load()
      await this.#deltaStep()
      const more = await this.#baseStep()
      await this.#publish()
      // After what must not wait for it: a manifest that the store refuses would stop all shipping.
      await this.backups.settle()
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

  /** Learns once what the remote store holds. @throws InvalidRequest, from then on for good, when that is of another life */
  async #load(): Promise<void> {
    if (this.#refused) throw this.#refused
    if (this.#remote.loaded) return
    const { held, mayDelete, turns, source } = this.#options
    await held()
    this.#intents.load()
    await this.#remote.load()
    // Until the rest is done nothing may be shipped that could make a state of what was found.
    this.#remote.loaded = false
    if (turns) checkCaughtUp(this.#remote.own(), source)
    try {
      this.#intents.refuseOlderDirectory(this.#remote.own())
    } catch (error) {
      this.#refused = error as Error
      this.#records.refuse(this.#refused.message)
      turns?.refused(this.#refused.message)
      throw error
    }
    const own = this.#remote.own()
    const { state, strays } = turns ? toldState(own, turns.told) : { state: newestState(own), strays: NO_STRAYS }
    this.#strays = strays
    const strange = this.#intents.strangeBases(strays.without(own), state)
    if (strange.length > 0) {
      if (!(await mayDelete())) throw new TidegateError('Unavailable', 'the remote store is not known to be ours')
      await this.#remote.remove(strange)
    }
    this.#remote.loaded = true
    if (state) {
      this.#state = state
      this.#position = state.revision
      this.#cover(state.revision, storedMs(state))
    }
    this.#ready.resolve()
  }

  /** Of this lineage, and all that a state may be made of. */
  #own(): NamesObject[] {
    return this.#strays.without(this.#remote.own())
  }

  async #deltaStep(): Promise<void> {
    const { source, clock } = this.#options
    // A base begins where it is begun; the first delta on top of it may not begin later.
    this.#position ??= await this.#beginAnew()
    const nowMs = clock.monotonicMs()
    this.#coverUnchanged()
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

  /** Other nodes, and what they say of themselves, move the revision on without changing a name. */
  #coverUnchanged(): void {
    const { turns, clock } = this.#options
    if (!turns || !this.#state || this.#deltas.holding || this.#position !== this.#state.revision) return
    const through = turns.unchangedThrough(this.#covered)
    if (through !== undefined && through > this.#covered) this.#cover(through, clock.nowMs())
  }

  async #publish(announced?: BackupManifest): Promise<void> {
    const { turns } = this.#options
    if (!turns) return
    const standing = standingOf({
      state: this.#state,
      covered: this.#covered,
      stateMs: this.#coveredMs,
      isHolding: this.#deltas.holding,
      remote: this.#remote,
      announced,
      isFormerKept: this.#formerHolders.kept,
    })
    await turns.publish(standing)
  }

  async #beginAnew(): Promise<Revision> {
    this.#base = await this.#newBase()
    return this.#base.begin
  }

  async #capture(position: Revision): Promise<void> {
    const { source, clock } = this.#options
    const capture = await this.#newCapture()
    const protect = (segments: readonly SegmentId[]): void => this.#deltas.protect(segments)
    try {
      const delta = await source.delta(position, this.#deltaBytesMax, protect)
      if (!delta) return await this.#captureOtherwise(position)
      if (delta.rows.length === 0 && this.#state && this.#state.revision === position) {
        this.#cover(delta.through, clock.nowMs())
        return
      }
      const begin = mergedBegin(this.#state?.deltas ?? [], delta)
      const merged = begin === undefined ? undefined : await source.delta(begin, this.#deltaBytesMax, protect)
      await this.#deltas.hold(merged ?? delta, capture)
    } finally {
      this.#deltas.forget()
    }
  }

  /**
   * When the log does not reach back to the position, what has changed cannot be told: a new base, and a new chain on top of it. When too much
   * has changed, that would not help: by the time a base is complete more has changed still. So captures may grow, and a base that is being
   * written goes on; the delta that covers it may be as large.
   */
  async #captureOtherwise(position: Revision): Promise<void> {
    if (this.#options.source.reachesBack(position)) {
      const largest = this.#deltaBytesMin * DELTA_GROWTH_MAX
      if (this.#deltaBytesMax < largest) {
        this.#deltaBytesMax = Math.min(largest, this.#deltaBytesMax * 2)
        this.#askedFor = true
        return
      }
      if (this.#base) return
    }
    this.#position = await this.#beginAnew()
  }

  get #deltaBytesMin(): number {
    return this.#options.deltaBytesMax ?? DELTA_BYTES_MAX
  }

  #noteShipped({ delta, capturedMs, capturedAtMs }: Shipped): void {
    const { source } = this.#options
    this.#position = delta.through
    this.#deltaBytesMax = Math.max(this.#deltaBytesMin, this.#deltaBytesMax / 2)
    const goesOn = this.#state !== undefined && delta.after <= this.#state.revision
    if (this.#state && goesOn) this.#state = stateWith(this.#state, delta)
    else this.#state = newestState(this.#own())
    if (this.#state?.revision === delta.through) this.#cover(delta.through, capturedMs)
    if (this.#behindSinceMs !== undefined) this.#behindSinceMs = Math.max(this.#behindSinceMs, capturedAtMs)
    const deltas = this.#state?.deltas ?? []
    const goesBack = deltas.at(-1)?.through === delta.through ? mergedFrom(deltas, MERGED_BYTES_MAX) : undefined
    source.shipped(goesBack ?? delta.through)
  }

  #cover(revision: Revision, stateMs: number): void {
    assert(this.#state !== undefined && this.#state.revision <= revision, 'nothing is covered beyond the state')
    assert(revision <= this.#options.source.durableRevision(), 'only what is durable here is shipped')
    this.#covered = revision
    this.#coveredMs = stateMs
    this.#records.covered(revision)
  }

  async #baseStep(): Promise<boolean> {
    if (!this.#base) {
      if (!this.#state || !this.#outgrown(this.#state)) return false
      this.#base = await this.#newBase()
    }
    if (!(await this.#base.step())) return true
    // A delta may have arrived whose arrival was not asked about again yet.
    await this.#options.held()
    this.#base = undefined
    // A delta must cover the time in which it was read; at the latest the next one does.
    this.#askedFor = true
    this.#state = newestState(this.#own()) ?? this.#state
    if (this.#state && this.#state.revision > this.#covered) this.#cover(this.#state.revision, storedMs(this.#state))
    this.#cleanedAtMs = -Infinity
    return true
  }

  #outgrown({ base, deltas }: NamesState): boolean {
    const deltaBytes = deltas.reduce((sum, { bytes }) => sum + bytes, 0)
    if (deltaBytes <= Math.max(this.#options.basedOnBytesMin ?? DELTAS_BYTES_MIN, base.bytes)) return false
    // One may have been completed and wait for its delta.
    return waitingBases(this.#own(), base).length === 0
  }

  async #newBase(): Promise<BaseWriter> {
    const { source, clock } = this.#options
    const capture = await this.#newCapture()
    return new BaseWriter({ source, remote: this.#remote, clock }, capture)
  }

  /** Noted before anything of it can be put, and before it is captured: so it is durable that the directory knows it. */
  async #newCapture(): Promise<Capture> {
    const { lineage, clock } = this.#options
    const random = this.#newRandom()
    const waiting = waitingBases(this.#own(), this.#state?.base)
    const bases = new Set([this.#base?.random, ...waiting.map((base) => base.random)])
    await this.#intents.note(random, { state: this.#state, bases })
    return { lineage, random, capturedMs: clock.nowMs() }
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

  async #clean(): Promise<void> {
    const { clock, mayDelete, turns } = this.#options
    this.#cleanedAtMs = clock.monotonicMs()
    if (!this.#state || this.#remote.unreadable.size > 0) return
    // Those of the other nodes.
    if (turns) await this.#remote.lookForRecords()
    const removed = superfluousNames(this.#remote, {
      state: this.#state,
      covered: this.#covered,
      writing: this.#base?.random,
      formerHolders: this.#formerHolders,
      strays: this.#strays,
    })
    if (removed.length > 0 && (await mayDelete())) await this.#remote.remove(removed)
  }

  /**
   * Makes a backup of what is durable now, or by the deadline of what has arrived by then. `hurry` asks for the segments it waits for.
   * @throws Unavailable when the remote store holds no state by then; InvalidRequest when what it holds is of another life
   */
  async backUp(deadlineMs: number): Promise<MadeBackup> {
    const { source } = this.#options
    await source.flush()
    const wantedRevision = source.durableRevision()
    await this.#shipThrough(wantedRevision, deadlineMs)
    const making = this.#turn.then(() => {
      if (this.#refused) throw this.#refused
      if (!this.#state) throw new TidegateError('Unavailable', 'the remote store holds no state of the namespace yet')
      return this.backups.make(this.#withRecords(this.#state), this.#coveredMs)
    })
    this.#turn = making.catch(() => undefined)
    const made = await making
    return { ...made, complete: this.#covered >= wantedRevision }
  }

  dropBackup(id: string): Promise<void> {
    const dropping = this.#turn.then(async () => {
      await this.#load()
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
    while (this.#covered < revision && clock.monotonicMs() < deadlineMs && !this.#stopped && !this.#refused) {
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
    this.#ready.resolve()
    await this.#records.stop()
    await this.#turn
  }
}

function storedMs({ deltas }: NamesState): number {
  return deltas.at(-1)?.parts.at(-1)?.modifiedMs ?? 0
}
