/**
 * The rows of metadata as they are copied to the remote store (docs/decisions/0013): which rows those are, what changed since a revision,
 * page after page of all of them, and single objects. Satisfies `NamesSource` of persist/names/ports.ts.
 *
 * Only what is durable here is given out. Names are all rows but
 *
 *   J, M, Y      the logs and the state of the store itself
 *   01           parts of counters, where nodes share the rows (raft/counter-parts.ts)
 *   N            how far readers of the nodes have come
 *   R            who of the nodes ships names
 *   Q, A n       counters of usage and of tokens, and
 *   S 01         the live bytes of segments: all of them follow from the other rows, and are counted anew on a restore
 *   Z c          what of an attached bucket has been listed: who restores an older state must list again
 *
 * Rows of a table that is added to the schema are names unless it says otherwise here.
 */
import { TidegateError } from '../../common/errors.ts'
import { Turns } from '../../common/turns.ts'
import type { Clock } from '../../common/clock.ts'
import type { ByteString, InodeId, Revision, SegmentId } from '../../common/ids.ts'
import type { DurableRows, EmbeddedStore } from '../stage/ports.ts'
import { decodeCounters } from '../stage/counters.ts'
import {
  COVERAGE,
  SEGMENT_LIVE_ROWS,
  SEGMENT_STATE_ROWS,
  TOKEN_COUNT_KEY,
  USAGE,
  bytesHex,
  prefixEnd,
  segmentLiveKey,
} from './keys.ts'
import type { NamespaceContext } from './context.ts'
import { describePublished, type DescribedName } from './names-describe.ts'
import { readChangedRows, sortedInTurns, type ChangedRows } from './names-delta.ts'
import { createNamesHolding, type NamesHolding } from './names-holder.ts'
import { noteIntent, notedIntents, type NotedIntent } from './names-intents.ts'
import { decodeSegment } from './records-contents.ts'
import { newestSegment, segmentRecord, type SegmentRecord } from './segments.ts'

/** What a store must offer, so that its rows can be copied. */
export type CopiedStore = Pick<EmbeddedStore, 'readDurable' | 'neededAfter'>

export interface CopiedRow {
  readonly key: ByteString
  readonly value: Uint8Array | undefined
}

export interface NamesOfNamespace {
  readonly revision: () => Revision
  readonly durableRevision: () => Revision
  readonly flush: () => Promise<void>
  readonly segment: (segment: SegmentId) => Promise<SegmentRecord | undefined>
  readonly delta: (
    after: Revision,
    bytesMax: number,
    captured?: (unpersisted: readonly SegmentId[]) => void,
  ) => Promise<CopiedDelta | undefined>
  readonly reachesBack: (after: Revision) => boolean
  /** The revision that is durable, if no name has changed since that one; undefined when one has, or when that cannot be told. */
  readonly unchangedThrough: (after: Revision) => Revision | undefined
  readonly basePage: (after: ByteString | undefined, bytesMax: number) => Promise<CopiedPage>
  readonly describe: (
    published: readonly { bucket: string; key: string; inode: InodeId; revision: Revision }[],
  ) => Promise<(DescribedName | undefined)[]>
  readonly newestSegment: () => Promise<SegmentId | undefined>
  /** What changed up to this revision need not be told any more. */
  readonly shipped: (revision: Revision) => void
  /** names-intents.ts */
  readonly noteIntent: (intent: NotedIntent, forgotten: readonly string[]) => Promise<void>
  readonly intents: () => readonly NotedIntent[]
  /** Where nodes share the namespace: which of them ships (names-holder.ts). */
  readonly holding: NamesHolding
}

export interface CopiedDelta {
  readonly after: Revision
  readonly through: Revision
  readonly rows: readonly CopiedRow[]
  readonly unpersisted: readonly SegmentId[]
}

export interface CopiedPage {
  readonly rows: readonly CopiedRow[]
  readonly next: ByteString | undefined
  readonly revision: Revision
}

/** Ascending, and none within another. */
const NOT_NAMES: readonly string[] = [
  '\x01',
  TOKEN_COUNT_KEY,
  'H',
  'J',
  'M',
  'N',
  USAGE,
  'R',
  SEGMENT_LIVE_ROWS,
  'Y',
  COVERAGE,
]

/** Times the extents of one (names-describe.ts): some thousands of rows are read in one go at most. */
const DESCRIBED_AT_ONCE = 8
const ORDERED_AT_ONCE = 1024
const PAGE_ROWS = 128
const SEGMENT_ROWS = 256

export function isName(key: ByteString): boolean {
  return !NOT_NAMES.some((prefix) => key.startsWith(prefix))
}

/** What the store must log so that `delta` knows (stage/key-log.ts). */
export const NAMES_KEY_LOG: { readonly includes: (key: ByteString) => boolean; readonly bytesMax: number } = {
  includes: isName,
  // An hour of 3,000 changes a second; a base takes its place when it is not enough.
  bytesMax: 512 * 1024 * 1024,
}

export function createNamesSource(context: NamespaceContext, offered: Partial<CopiedStore>): NamesOfNamespace {
  const store = copied(offered)
  const { clock } = context
  const unpersisted = new UnpersistedSegments(store, clock)
  return {
    revision: () => context.store.revision(),
    durableRevision: () => durableRevision(context, store),
    flush: () => context.store.flush(),
    segment: (segment) => segmentRecord(context, segment),
    async delta(after, bytesMax, captured) {
      await unpersisted.know(after)
      const capture = (view: DurableRows, changed: ChangedRows): SegmentId[] => {
        const awaited = unpersisted.atCapture(view, changed)
        captured?.(awaited)
        return awaited
      }
      const read = await readChangedRows(
        { readDurable: (fn) => store.readDurable(fn), clock },
        { after, bytesMax, apart: SEGMENT_STATE_ROWS },
        capture,
      )
      if (!read) return undefined
      const { through, rows } = read.changed
      return { after, through, rows: await inOrder(rows, clock), unpersisted: read.finished }
    },
    reachesBack: (after) => store.readDurable((view) => view.changedKeys(after, 1) !== undefined),
    unchangedThrough: (after) =>
      store.readDurable((view) => (view.changedKeys(after, 1)?.keys.length === 0 ? view.revision : undefined)),
    basePage: (after, bytesMax) => Promise.resolve(store.readDurable((view) => basePage(view, after, bytesMax))),
    async describe(published) {
      const described: (DescribedName | undefined)[] = []
      const turns = new Turns(clock)
      for (let at = 0; at < published.length; at += DESCRIBED_AT_ONCE) {
        const some = published.slice(at, at + DESCRIBED_AT_ONCE)
        const found = await context.store.read((view) => describePublished(view, some, context.limits))
        described.push(...found.map((one) => one && asOfDurable(one, context.store.durableRevision())))
        await turns.pass()
      }
      return described
    },
    newestSegment: () => newestSegment(context),
    shipped: (revision) => store.neededAfter(revision),
    noteIntent: (intent, forgotten) => noteIntent(context, intent, forgotten),
    intents: () => store.readDurable(notedIntents),
    holding: createNamesHolding(context),
  }
}

/**
 * What captures and bases see. Where nodes share the rows everything that is visible is durable, in etcd, but the copy of it here that is read
 * lies behind.
 */
function durableRevision({ store }: NamespaceContext, copiedStore: CopiedStore): Revision {
  const visible = store.durableRevision()
  if (store.isShared !== true) return visible
  try {
    return copiedStore.readDurable((view) => view.revision)
  } catch {
    // It has stopped, and whoever asks for a revision only shows it.
    return visible
  }
}

/**
 * Rows that are told are durable, and so were the same at the last durable revision; the one at which they were read may be that of other rows, which a power cut could take
 * back. Told with that, the remote store would be ahead of a directory that lost it, and be taken for a later life's (persist/names/intents.ts).
 */
function asOfDurable(described: DescribedName, durableRevision: Revision): DescribedName {
  return { ...described, revision: Math.min(described.revision, durableRevision) }
}

/** Ascending by key, in turns. */
async function inOrder(rows: ChangedRows['rows'], clock: Clock): Promise<CopiedRow[]> {
  const keys = await sortedInTurns(rows.keys(), clock)
  const turns = new Turns(clock)
  const ordered: CopiedRow[] = []
  for (const key of keys) {
    ordered.push({ key, value: rows.get(key) })
    if (ordered.length % ORDERED_AT_ONCE === 0) await turns.pass()
  }
  return ordered
}

function basePage(view: DurableRows, after: ByteString | undefined, bytesMax: number): CopiedPage {
  const { revision } = view
  const rows: CopiedRow[] = []
  let bytes = 0
  let start = (after === undefined ? '\0' : `${after}\0`) as ByteString
  for (const prefix of [...NOT_NAMES, undefined]) {
    const stop = (prefix ?? '\xff\xff') as ByteString
    if (start < stop) {
      const found = view.scan({ start, end: stop }, PAGE_ROWS - rows.length)
      for (const row of found) {
        rows.push(row)
        bytes += row.key.length + row.value.length
        if (bytes >= bytesMax || rows.length >= PAGE_ROWS) return { rows, next: row.key, revision }
      }
    }
    if (prefix !== undefined && start < prefixEnd(prefix)) start = prefixEnd(prefix)
  }
  return { rows, next: undefined, revision }
}

function copied(store: Partial<CopiedStore>): CopiedStore {
  const { readDurable, neededAfter } = store
  if (readDurable && neededAfter) return store as CopiedStore
  const refuse = (): never => {
    throw new TidegateError('NotImplemented', 'the metadata store does not offer to copy its rows')
  }
  return { readDurable: refuse, neededAfter: refuse }
}

/**
 * Which segments are not in the remote store. Read once from all rows, then kept in step with each delta, which names every segment whose
 * row changed; so a delta need not look at the rows of millions that have long been there.
 */
class UnpersistedSegments {
  readonly #store: CopiedStore
  readonly #clock: Clock
  readonly #segments = new Set<SegmentId>()
  /** The set is exact once every change after this revision is applied to it; undefined: it says nothing. */
  #knownAt: Revision | undefined

  constructor(store: CopiedStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Makes the set one to which a delta that begins there can be applied. */
  async know(after: Revision): Promise<void> {
    if (this.#knownAt !== undefined && after <= this.#knownAt) return
    this.#segments.clear()
    this.#knownAt = undefined
    const end = prefixEnd(SEGMENT_STATE_ROWS)
    let start = SEGMENT_STATE_ROWS as ByteString
    let begun: Revision | undefined
    const turns = new Turns(this.#clock)
    for (;;) {
      const { revision, rows } = this.#store.readDurable((view) => ({
        revision: view.revision,
        rows: view.scan({ start, end }, SEGMENT_ROWS),
      }))
      begun ??= revision
      for (const { key, value } of rows) this.#apply(key, value)
      const last = rows.at(-1)
      if (!last || rows.length < SEGMENT_ROWS) break
      start = `${last.key}\0` as ByteString
      await turns.pass()
    }
    this.#knownAt = begun
  }

  /** Those with live bytes, at the revision of the capture. */
  atCapture(view: DurableRows, { through, apart }: ChangedRows): SegmentId[] {
    for (const [key, value] of apart) this.#apply(key, value)
    this.#knownAt = through
    return [...this.#segments].filter((segment) => {
      const [liveBytes = 0] = decodeCounters(view.get(segmentLiveKey(segment)), 1)
      return liveBytes > 0
    })
  }

  #apply(key: ByteString, value: Uint8Array | undefined): void {
    const segment = bytesHex(key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId
    if (value === undefined || decodeSegment(value).state === 'persisted') this.#segments.delete(segment)
    else this.#segments.add(segment)
  }
}
