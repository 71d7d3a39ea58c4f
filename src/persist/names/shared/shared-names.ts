/**
 * Names of a namespace that several nodes share, in one remote store (docs/decisions/0018). One node at a time is the *names holder*: it runs a stream of names
 * (names-stream.ts) over its copy of the rows, for all. The others know from its row in the metadata (holder-row.ts) how far it has come.
 *
 * What each node does itself: it carries its own segments, and puts the *records* of what was acknowledged through it as `persisted`; those need no stream, only that the
 * bytes have arrived. What no record tells waits until the holder has shipped so far; it is asked for that by a row.
 *
 * **Why two holders do no harm.** A holder that is paused finds another in its place when it wakes, and may not have learned it yet.
 *
 * - What it *puts* is true. A delta says what the rows were at one revision of the metadata, of which there is one history; it does not matter who says so. Names of objects are
 *   random, so nothing is overwritten; there is no object that says which of them count: a restore takes whatever reaches furthest (chain.ts), and what comes late reaches less far,
 *   or as truly. No pointer, so no stale pointer. The bytes that it names had arrived, and go only when a state that does without them has arrived and was told; that state reaches further.
 * - What it *removes* is superfluous. A holder removes only what is not part of a state that it has told, and tells by compare-and-swap, so never after another has taken over. That
 *   one goes on from the very objects that were told last, whatever else it finds (loading.ts). So what the paused one still removes is nothing that its successor counts on.
 * - *Backups* are told before their manifest is put, and what they need is kept by every node from its next look on; by an older look too, since what may go by that was gone
 *   from the state before the backup was made.
 * - *Acknowledgements* rest on what has arrived, and on a look at the marker afterwards, as ever.
 *
 * **Segments** go when their owner finds, in the row, that the names have left that do not know them. A row that is older than it should be says less may go. A capture waits for bytes on all
 * nodes; while the row says that there is one (`isHolding`), no node drops what has not arrived. The row is seen a moment late, so a segment may still go: then it is captured anew.
 *
 * **Taking over**: the row says nobody, or this node, or a process that has not been among the nodes for a while. No names are lost by it: the successor's copy of the rows has the keys
 * that have changed since (stage/key-log.ts), or, if it was loaded anew meanwhile, the successor writes a base.
 *
 * **Metadata put back from a backup of etcd**: the newest delta in the remote store is then none that the row has a note of (../intents.ts), nothing is shipped, and that is said.
 *
 * Known gap: a holder that lives, and cannot reach the remote store while others can, stays the holder. `status` says what fails, on every node.
 */
import type { BackgroundJob } from '../../../common/background.ts'
import { TidegateError } from '../../../common/errors.ts'
import { segmentCreatedMs, type Revision, type SegmentId } from '../../../common/ids.ts'
import type { RemoteStore } from '../../remote/ports.ts'
import type { BackupSummary } from '../backups.ts'
import { CLOCKS_DIFFER_MS } from '../cleaning.ts'
import { NamesStream, type MadeBackup } from '../names-stream.ts'
import type { NamesKeeper } from '../keeper.ts'
import type { PublishedName } from '../ports.ts'
import { RecordShipper } from '../records.ts'
import type { NamesStatus } from '../status.ts'
import type { NamesStreamOptions } from '../stream-options.ts'
import { NOBODY, decodeHolderRow, rowLetsGo, type HolderRow } from './holder-row.ts'
import type { HolderRows, LivingNodes, SharedNamesSource } from './ports.ts'
import { StoodDown, Tenure } from './tenure.ts'

export interface SharedNamesOptions extends Omit<NamesStreamOptions, 'source' | 'turns'> {
  readonly source: SharedNamesSource
  readonly rows: HolderRows
  readonly nodes: LivingNodes
}

const ROUND_PAUSE_MS = 200
/** How often a node looks that neither ships nor waits. */
const LOOK_EVERY_MS = 1000
/** The nodes that there are may be known late. */
const TAKEN_AFTER_MS = 3000
const POLL_MS = 50
/** Without it another takes over a little later. */
const RELEASE_MS_MAX = 2000

export class SharedNames implements NamesKeeper {
  readonly #options: SharedNamesOptions
  readonly #records: RecordShipper
  readonly #ready = Promise.withResolvers<void>()
  #row: HolderRow | undefined
  #wanted: Revision = 0
  #lookedAtMs = -Infinity
  #tenure: Tenure | undefined
  #stream: NamesStream | undefined
  /** Since when the holder is not among the nodes, and which tenure that was. */
  #gone: { readonly token: string; readonly sinceMs: number } | undefined
  /** Something here waits for a delta. */
  #isDeltaWanted = false
  /** By this node, while it is the holder. */
  #wantedHere: Revision = 0
  /** What this node has asked the holder for. */
  #askedFor: Revision = -1
  #lastError: string | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #stopped = false

  constructor(options: SharedNamesOptions) {
    this.#options = options
    this.#records = new RecordShipper({
      source: options.source,
      put: ({ name, bytes }) => this.#putRecords(options.remote, name, bytes),
      ready: this.#ready.promise,
      held: options.held,
      clock: options.clock,
      lineage: options.lineage,
      newRandom: () => this.#newRandom(),
      waitMsMax: options.waitMsMax,
      wantDelta: () => (this.#isDeltaWanted = true),
      onFailure: options.onFailure,
    })
  }

  readonly job: BackgroundJob = { name: 'names', pauseMs: ROUND_PAUSE_MS, round: () => this.round() }

  /** Before somebody has looked whether the store is that of these metadata nothing is put there. */
  async #putRecords(remote: RemoteStore, name: string, bytes: Uint8Array): Promise<void> {
    if (!this.#row?.isLoaded) throw new TidegateError('Unavailable', 'no node ships names at present')
    await remote.put(name, bytes)
  }

  #newRandom(): string {
    const bytes = Buffer.alloc(8)
    this.#options.fillRandom(bytes)
    return bytes.toString('hex')
  }

  get isHolder(): boolean {
    return this.#stream !== undefined
  }

  /** Number of the node that ships; undefined: none does, as far as is known here. */
  get holder(): number | undefined {
    return this.#row && this.#row.node !== NOBODY ? this.#row.node : undefined
  }

  get #covered(): Revision {
    return this.#row?.shippedThrough ?? -1
  }

  named(published: PublishedName): Promise<void> {
    return published.revision <= this.#covered ? Promise.resolve() : this.#records.named(published)
  }

  covered(revision: Revision): Promise<void> {
    return revision <= this.#covered ? Promise.resolve() : this.#records.covering(revision)
  }

  holds(segment: SegmentId): boolean {
    return this.#row?.isHolding !== false || this.#stream?.holds(segment) === true
  }

  mayRemove(segment: SegmentId, emptiedAt: Revision): boolean {
    const row = this.#row
    if (!rowLetsGo(row, segment, emptiedAt) || this.#stream?.holds(segment)) return false
    const { heldSinceMs } = this.#options
    return row?.isFormerKept !== true || segmentCreatedMs(segment) > (heldSinceMs() ?? Infinity) + CLOCKS_DIFFER_MS
  }

  /** Of one that the metadata do not know; only the holder says that it may go. */
  needsUnknown(segment: SegmentId): boolean {
    return this.#stream?.needsUnknown(segment) ?? true
  }

  /** One bounded step. @returns whether there is more to do at once */
  round(): Promise<boolean> {
    const turn = this.#turn.then(() => (this.#stopped ? false : this.#round()))
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  async #round(): Promise<boolean> {
    const { clock } = this.#options
    const isQuiet = !this.#stream && this.#records.waiting === 0
    if (isQuiet && clock.monotonicMs() - this.#lookedAtMs < LOOK_EVERY_MS) return false
    try {
      await this.#look()
      if (!this.#stream && this.#mayTake()) await this.#take()
      const more = this.#stream ? await this.#ship(this.#stream) : await this.#ask()
      this.#lastError = undefined
      return more
    } catch (error) {
      if (this.#tenure?.isOver) await this.#standDown()
      if (error instanceof StoodDown) return false
      this.#lastError = (error as Error).message
      throw error
    }
  }

  async #look(): Promise<void> {
    const { rows, source, clock } = this.#options
    const { row: bytes, wanted } = await rows.look()
    this.#lookedAtMs = clock.monotonicMs()
    const row = decodeHolderRow(bytes)
    this.#wanted = wanted
    if (this.#tenure && row?.token !== this.#tenure.row.token) await this.#standDown()
    this.#noteRow(row)
    // This node may have to go on from there.
    if (!this.#stream && row?.state) source.shipped(row.state.revision)
  }

  #noteRow(row: HolderRow | undefined): void {
    this.#row = row
    if (row?.isLoaded) this.#ready.resolve()
    this.#records.covered(this.#covered)
  }

  #mayTake(): boolean {
    const { rows, nodes, clock } = this.#options
    const row = this.#row
    if (!row || row.node === NOBODY || row.node === rows.node) return true
    if (nodes.isAlive(row.node, row.incarnation)) {
      this.#gone = undefined
      return false
    }
    if (this.#gone?.token !== row.token) this.#gone = { token: row.token, sinceMs: clock.monotonicMs() }
    return clock.monotonicMs() - this.#gone.sinceMs >= TAKEN_AFTER_MS
  }

  async #take(): Promise<void> {
    const { rows, nodes, clock, source } = this.#options
    const parts = { rows, clock, incarnation: nodes.incarnation, token: this.#newRandom() }
    const tenure = await Tenure.take(parts, this.#row)
    this.#tenure = tenure
    this.#noteRow(tenure.row)
    // What was shipped was known to who shipped it, and has to be known here before it is gone on from.
    await source.flush()
    this.#stream = new NamesStream({
      ...this.#options,
      source: { ...source, intents: () => tenure.notes(), noteIntent: (intent) => this.#noted(tenure.note(intent)) },
      turns: {
        told: tenure.row.state,
        unchangedThrough: (after) => source.unchangedThrough(after),
        publish: (standing) => this.#noted(tenure.publish(standing, Math.max(this.#wanted, this.#wantedHere))),
        refused: (reason) => this.#records.refuse(reason),
      },
      mayDelete: async () => (await this.#isOurs(tenure)) && (await this.#options.mayDelete()),
    })
  }

  /** The row is as this node has made it. */
  async #noted(change: Promise<void>): Promise<void> {
    await change
    if (this.#tenure && !this.#tenure.isOver) this.#noteRow(this.#tenure.row)
  }

  async #isOurs(tenure: Tenure): Promise<boolean> {
    if (tenure.isOver) return false
    const { row } = await this.#options.rows.look()
    return decodeHolderRow(row)?.token === tenure.row.token
  }

  async #ship(stream: NamesStream): Promise<boolean> {
    if (this.#isDeltaWanted) this.#wantedHere = this.#options.source.revision()
    if (Math.max(this.#wanted, this.#wantedHere) > this.#covered) stream.ask()
    this.#isDeltaWanted = false
    return await stream.round()
  }

  /** What waits here for a delta is told to the holder; not again as long as that is enough. */
  async #ask(): Promise<boolean> {
    const { source, rows } = this.#options
    if (!this.#isDeltaWanted || this.#askedFor > this.#covered) return false
    const revision = source.revision()
    await rows.want(revision)
    this.#askedFor = revision
    this.#isDeltaWanted = false
    return false
  }

  async #standDown(): Promise<void> {
    const stream = this.#stream
    this.#stream = undefined
    this.#tenure = undefined
    await stream?.stop()
  }

  readonly backups: { list(): readonly BackupSummary[] } = { list: () => this.#stream?.backups.list() ?? [] }

  /** @throws Unavailable with `details.node` where another node makes them */
  async backUp(deadlineMs: number): Promise<MadeBackup> {
    return await (await this.#ownStream()).backUp(deadlineMs)
  }

  async dropBackup(id: string): Promise<void> {
    await (await this.#ownStream()).dropBackup(id)
  }

  async #ownStream(): Promise<NamesStream> {
    if (!this.#stream) await this.round()
    if (this.#stream) return this.#stream
    const { holder } = this
    const where = holder === undefined ? 'no node does at present' : `ask node ${holder}`
    throw new TidegateError('Unavailable', `backups are made by the node that ships the names: ${where}`, {
      details: { node: holder },
    })
  }

  /** Waits until the names of what is durable now have left, whoever ships them. Gives up at the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    const { source, clock } = this.#options
    await source.flush()
    const revision = source.durableRevision()
    while (this.#covered < revision && clock.monotonicMs() < deadlineMs && !this.#stopped) {
      this.#isDeltaWanted = true
      this.#lookedAtMs = -Infinity
      if (this.#stream) await this.#stream.drain(deadlineMs)
      await this.round().catch(() => undefined)
      if (this.#covered < revision) await clock.sleep(POLL_MS)
    }
  }

  status(): NamesStatus {
    const { source } = this.#options
    const own = this.#stream?.status()
    const covered = this.#covered
    const durableRevision = source.durableRevision()
    return {
      ...(own ?? { ...NOT_HERE, behindMs: this.#behindMs() }),
      shippedThrough: covered,
      durableRevision,
      stateMs: this.#row?.stateMs ?? 0,
      writesWaiting: this.#records.waiting,
      deltas: this.#row?.state?.deltas.length ?? 0,
      backups: own?.backups ?? this.#row?.pins.length ?? 0,
      lastError: own?.lastError ?? this.#lastError,
      holder: this.holder,
    }
  }

  /** As the holder would say it. */
  #behindMs(): number {
    const { source, clock } = this.#options
    if (!this.#row || this.#covered < 0 || this.#stopped) return 0
    const isBehind = source.unchangedThrough(this.#covered) === undefined
    return isBehind ? Math.max(0, clock.nowMs() - this.#row.stateMs) : 0
  }

  /** The job's runner has stopped. Another node may go on at once. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#ready.resolve()
    await this.#records.stop()
    await this.#turn
    const tenure = this.#tenure
    await this.#standDown()
    if (!tenure || tenure.isOver) return
    const patience = new AbortController()
    const released = tenure.release().catch(() => undefined)
    await Promise.race([released, this.#options.clock.sleep(RELEASE_MS_MAX, patience.signal).catch(() => undefined)])
    patience.abort(new Error('it was released'))
  }
}

const NOT_HERE = {
  heldThrough: undefined,
  heldBytes: 0,
  heldUpBy: [],
  baseBytes: 0,
  deltaBytes: 0,
  baseDueBytes: 0,
  baseBytesWritten: undefined,
  unreadableBackups: [],
  nextBackupMs: undefined,
} as const satisfies Partial<NamesStatus>
