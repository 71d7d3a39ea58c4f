/**
 * Which segment goes to the remote store next. Pure state: no clock, nothing is carried here.
 *
 *   1. what somebody waits for, in the order in which they came (`ack=persisted`);
 *   2. what has waited longer than the age limit, the oldest first;
 *   3. else in turn by bytes over the parties, and within one the oldest first. A party is a bucket, as far as its bodies have
 *      segments of their own; the shared segments, which belong to all, are one more.
 *
 * Turns are start-time fair queueing: each party has a virtual time that moves on by the bytes it was served, and the one that is
 * furthest behind is next. A party that had nothing to send begins at the present virtual time, so that it neither saves up a claim nor is
 * made to pay for the time in which it sent nothing. A bucket with a thousand segments thus takes as much as the others take, and all of
 * it when there are no others.
 *
 * What rests is in no line, holds no slot and holds up nobody.
 */
import { assert } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { FlushItem } from './item.ts'
import { concernsTheStore } from './reachability.ts'

interface Party {
  /** Ready ones, the oldest first. */
  readonly line: FlushItem[]
  virtualBytes: number
}

/** Of shared segments. No bucket can be named so. */
const SHARED = ''

export class FlushQueue {
  readonly #items = new Map<SegmentId, FlushItem>()
  readonly #parties = new Map<string, Party>()
  /** Ready or resting ones for which somebody waits, in that order. */
  readonly #urgent = new Set<FlushItem>()
  readonly #resting = new Set<FlushItem>()
  /** Ready ones that are to be mended. */
  readonly #toMend = new Set<FlushItem>()
  #virtualBytes = 0
  #bytes = 0

  get size(): number {
    return this.#items.size
  }

  /** Of all items, whatever they do. */
  get bytes(): number {
    return this.#bytes
  }

  get(segment: SegmentId): FlushItem | undefined {
    return this.#items.get(segment)
  }

  all(): IterableIterator<FlushItem> {
    return this.#items.values()
  }

  /** A copy: waking one of them takes it out. */
  resting(): FlushItem[] {
    return [...this.#resting]
  }

  /** Whether one could be started at once. */
  get hasReady(): boolean {
    for (const { line } of this.#parties.values()) if (line.length > 0) return true
    return false
  }

  add(item: FlushItem): void {
    assert(!this.#items.has(item.segment), `segment ${item.segment} is queued once`)
    this.#items.set(item.segment, item)
    this.#bytes += item.bytes
    this.#join(item)
  }

  remove(item: FlushItem): void {
    if (this.#items.get(item.segment) !== item) return
    this.#leave(item)
    this.#urgent.delete(item)
    this.#items.delete(item.segment)
    this.#bytes -= item.bytes
  }

  setBytes(item: FlushItem, bytes: number): void {
    this.#bytes += bytes - item.bytes
    item.bytes = bytes
  }

  /** Somebody waits for it from now on. */
  hurry(item: FlushItem): void {
    item.urgent = true
    this.#urgent.add(item)
  }

  /** Nobody waits for it any more. */
  calm(item: FlushItem): void {
    item.urgent = false
    this.#urgent.delete(item)
  }

  /** The next one, as above; undefined when nothing is ready. */
  next(options: { readonly nowMs: number; readonly ageMsMax: number }): FlushItem | undefined {
    return this.nextUrgent() ?? this.#aged(options.nowMs - options.ageMsMax) ?? this.#inTurn()
  }

  nextUrgent(): FlushItem | undefined {
    for (const item of this.#urgent) if (item.state === 'ready') return item
    return undefined
  }

  /** One that is to be mended and ready: that is work on the local disk. */
  nextToMend(): FlushItem | undefined {
    for (const item of this.#toMend) return item
    return undefined
  }

  /**
   * The one whose last try lies furthest back: so that no single item decides whether the remote store answers. Its rest does not count,
   * unless it rests for a fault of its own, which would say nothing of the store.
   */
  longestUntried(): FlushItem | undefined {
    let found: FlushItem | undefined
    for (const item of this.#items.values()) {
      if (item.state === 'running' || item.dead || item.action === 'mend' || restsForItself(item)) continue
      if (!found || item.triedMs < found.triedMs || (item.triedMs === found.triedMs && item.urgent && !found.urgent))
        found = item
    }
    return found
  }

  /** It is carried from now on, and charged to its party. */
  run(item: FlushItem): void {
    this.#leave(item)
    item.state = 'running'
    const party = this.#parties.get(partyOf(item))
    if (!party) return
    // Time goes on with those who are furthest behind: somebody who was preferred must not make it leap for newcomers.
    let behind = party.virtualBytes
    for (const { line, virtualBytes } of this.#parties.values()) {
      if (line.length > 0) behind = Math.min(behind, virtualBytes)
    }
    this.#virtualBytes = Math.max(this.#virtualBytes, behind)
    party.virtualBytes += item.bytes
    this.#forgetIdleParties()
  }

  /** Back in line. */
  ready(item: FlushItem): void {
    this.#leave(item)
    this.#join(item)
  }

  rest(item: FlushItem, untilMs: number): void {
    this.#leave(item)
    item.state = 'resting'
    item.nextTryMs = untilMs
    this.#resting.add(item)
  }

  /** Those whose rest is over are ready again. */
  wake(nowMs: number): void {
    for (const item of this.#resting) if (item.nextTryMs <= nowMs) this.ready(item)
  }

  /** When the first rest is over; undefined when nothing rests. */
  nextWakeMs(): number | undefined {
    let first: number | undefined
    for (const { nextTryMs } of this.#resting) if (first === undefined || nextTryMs < first) first = nextTryMs
    return first
  }

  #join(item: FlushItem): void {
    item.state = 'ready'
    item.dead = false
    if (item.action === 'mend') this.#toMend.add(item)
    const name = partyOf(item)
    let party = this.#parties.get(name)
    if (!party) {
      party = { line: [], virtualBytes: this.#virtualBytes }
      this.#parties.set(name, party)
    }
    if (party.line.length === 0) party.virtualBytes = Math.max(party.virtualBytes, this.#virtualBytes)
    // Nearly always the youngest: sought from the end.
    let at = party.line.length
    while (at > 0 && isOlder(item, party.line[at - 1] as FlushItem)) at--
    party.line.splice(at, 0, item)
  }

  #leave(item: FlushItem): void {
    if (item.state === 'resting') this.#resting.delete(item)
    if (item.state !== 'ready') return
    this.#toMend.delete(item)
    const line = this.#parties.get(partyOf(item))?.line ?? []
    const at = line.indexOf(item)
    if (at >= 0) line.splice(at, 1)
  }

  #aged(sealedBeforeMs: number): FlushItem | undefined {
    let oldest: FlushItem | undefined
    for (const { line } of this.#parties.values()) {
      const first = line[0]
      if (first && first.sealedMs <= sealedBeforeMs && (!oldest || isOlder(first, oldest))) oldest = first
    }
    return oldest
  }

  #inTurn(): FlushItem | undefined {
    let next: Party | undefined
    for (const party of this.#parties.values()) {
      if (party.line.length > 0 && (!next || party.virtualBytes < next.virtualBytes)) next = party
    }
    return next?.line[0]
  }

  /** One that is behind or level would begin there anyway; one that is ahead has had its share, and that is remembered. */
  #forgetIdleParties(): void {
    for (const [name, { line, virtualBytes }] of this.#parties) {
      if (line.length === 0 && virtualBytes <= this.#virtualBytes) this.#parties.delete(name)
    }
  }
}

function restsForItself({ state, lastError }: FlushItem): boolean {
  return state === 'resting' && lastError !== undefined && !concernsTheStore(lastError.code)
}

function partyOf({ bucket }: FlushItem): string {
  return bucket ?? SHARED
}

function isOlder(a: FlushItem, b: FlushItem): boolean {
  return a.sealedMs < b.sealedMs || (a.sealedMs === b.sealedMs && a.sequence < b.sequence)
}
