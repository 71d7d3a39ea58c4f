/**
 * Who holds what: the rows of all segments, counted by node and by state for `tidegate status`. Looked through in pages, each of which is one short read, up to
 * a number of rows; kept for some seconds, however many ask; and counted once at a time.
 */
import type { Clock } from './common/clock.ts'
import type { ByteString } from './common/ids.ts'
import { SEGMENT_STATE_ROWS, prefixEnd, segmentLiveKey } from './meta/namespace/keys.ts'
import { decodeSegment, type SegmentRow } from './meta/namespace/records-contents.ts'
import { segmentOfKey } from './meta/namespace/segments.ts'
import type { OrderedStore, ReadView, Row } from './meta/ports.ts'

export interface SegmentCount {
  readonly segments: number
  readonly bytes: number
}

export interface SegmentTotals {
  /** When they were counted, by the monotonic clock. */
  readonly countedMs: number
  readonly isComplete: boolean
  readonly byNode: readonly (SegmentCount & { readonly node: number; readonly state: string })[]
  readonly unreachable: readonly (SegmentCount & { readonly node: number })[]
}

export interface SegmentTotalsOptions {
  readonly store: Pick<OrderedStore, 'read'>
  readonly clock: Clock
  /** Nodes that answer. */
  readonly alive: () => ReadonlySet<number>
  /** What is persisted lies where all nodes reach it. */
  readonly isRemoteShared: boolean
}

const PAGE_ROWS = 1000
/** Some 25 TiB of segments of 128 MiB. */
const ROWS_MAX = 200_000
const KEPT_MS = 5000
/** Whoever asks is told what was counted before, if this takes longer. */
const WAIT_MS_MAX = 3000

export class SegmentTotalsCounter {
  readonly #options: SegmentTotalsOptions
  #last: SegmentTotals | undefined
  #trouble: string | undefined
  #counting: Promise<void> | undefined

  constructor(options: SegmentTotalsOptions) {
    this.#options = options
  }

  /** Never rejects, and never takes longer than some seconds. */
  async look(): Promise<{ readonly totals: SegmentTotals | undefined; readonly trouble: string | undefined }> {
    const { clock } = this.#options
    if (this.#last === undefined || clock.monotonicMs() - this.#last.countedMs >= KEPT_MS) {
      this.#counting ??= this.#count().finally(() => (this.#counting = undefined))
      const timer = new AbortController()
      const overdue = clock.sleep(WAIT_MS_MAX, timer.signal).then(
        () => void (this.#trouble ??= 'they are still being counted'),
        () => undefined,
      )
      await Promise.race([this.#counting, overdue])
      timer.abort()
    }
    return { totals: this.#last, trouble: this.#trouble }
  }

  async #count(): Promise<void> {
    try {
      this.#last = await countSegments(this.#options)
      this.#trouble = undefined
    } catch (error) {
      this.#trouble = error instanceof Error ? error.message : String(error)
    }
  }
}

async function countSegments(options: SegmentTotalsOptions): Promise<SegmentTotals> {
  const { store, clock } = options
  const tally = new Tally(options)
  const end = prefixEnd(SEGMENT_STATE_ROWS)
  let start: ByteString | undefined = SEGMENT_STATE_ROWS as ByteString
  for (let rows = 0; start !== undefined && rows < ROWS_MAX; rows += PAGE_ROWS) {
    const from: ByteString = start
    const page: readonly Row[] = await store.read(async (view) => {
      const found = await view.scan({ start: from, end }, PAGE_ROWS)
      for (const row of found) await tally.add(view, row)
      return found
    })
    const last = page.length < PAGE_ROWS ? undefined : page.at(-1)?.key
    start = last && (`${last}\0` as ByteString)
  }
  return { countedMs: clock.monotonicMs(), isComplete: start === undefined, ...tally.result() }
}

class Tally {
  readonly #alive: ReadonlySet<number>
  readonly #isRemoteShared: boolean
  readonly #byNode = new Map<string, { node: number; state: string; segments: number; bytes: number }>()
  readonly #unreachable = new Map<number, { node: number; segments: number; bytes: number }>()

  constructor({ alive, isRemoteShared }: SegmentTotalsOptions) {
    this.#alive = alive()
    this.#isRemoteShared = isRemoteShared
  }

  async add(view: ReadView, { key, value }: Row): Promise<void> {
    const row = decodeSegment(value)
    const { state, node = 0 } = row
    // An open one's length is known when it is sealed; until then what is referred to in it.
    const bytes = state === 'open' ? await liveBytes(view, key) : row.bytes
    const own = this.#byNode.get(`${node} ${state}`) ?? { node, state, segments: 0, bytes: 0 }
    this.#byNode.set(`${node} ${state}`, counted(own, bytes))
    if (this.#isReachable(row)) return
    this.#unreachable.set(node, counted(this.#unreachable.get(node) ?? { node, segments: 0, bytes: 0 }, bytes))
  }

  result(): Pick<SegmentTotals, 'byNode' | 'unreachable'> {
    const byState = (a: { node: number; state: string }, b: { node: number; state: string }): number =>
      a.node - b.node || (a.state < b.state ? -1 : 1)
    return {
      byNode: [...this.#byNode.values()].toSorted(byState),
      unreachable: [...this.#unreachable.values()].toSorted((a, b) => a.node - b.node),
    }
  }

  #isReachable({ state, node = 0, copies = [] }: SegmentRow): boolean {
    if (state === 'persisted' && this.#isRemoteShared) return true
    return [node, ...copies].some((holder) => this.#alive.has(holder))
  }
}

async function liveBytes(view: ReadView, key: ByteString): Promise<number> {
  const [bytes = 0] = await view.counters(segmentLiveKey(segmentOfKey(key)), 1)
  return bytes
}

function counted<Count extends { segments: number; bytes: number }>(count: Count, bytes: number): Count {
  count.segments++
  count.bytes += bytes
  return count
}
