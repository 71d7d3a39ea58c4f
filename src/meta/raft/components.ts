/**
 * Cuts a group off the guessed transactions: as many of them, in their order, as fit into one transaction of etcd, in *components*.
 *
 * Two transactions are in one component when the later one read or wrote what the earlier one has written. Each component becomes a nested transaction: it compares what its members read
 * and no member before them has written, and writes what they leave. etcd evaluates the compares of all components before it applies any (C4). So of those that take effect,
 * each member read what it would have read had they run one after the other in their order:
 *
 * - What another member has written before it, that one is in the same component, and takes effect with it.
 * - What another member writes after it, it has not seen, and its compare has not either.
 * - What is outside the group is as the compares say, for all of them at the same moment.
 *
 * ("Delete x if y exists" and "delete y if x exists" run one after the other here, so the second one sees what the first has done, and is in its component.)
 * Parts of counters are in no two components, because each has slots of its own (counter-parts.ts); who reads a counter, or removes it, is in one component with all who added to it before.
 */
import { must } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { RowLayer } from '../stage/row-layer.ts'
import { decodeDelta, isCounterKey } from './counter-parts.ts'
import { keysWithin, type Member } from './guesses.ts'

/** Slots of a counter are a byte. */
const COMPONENTS_MAX = 250
/** Of a compare or an operation, as encoded, besides its key and value; a little more than it is. */
const OPERATION_BYTES = 40

export interface GroupLimits {
  /** As etcd counts: on each level the longest of compares, successes and failures; of all levels together. */
  readonly operationsMax: number
  readonly bytesMax: number
  readonly membersMax: number
  /** Every key is longer by so much in etcd. */
  readonly prefixBytes: number
}

export interface Component {
  /** In their order. */
  readonly members: readonly Member<unknown>[]
  /** Rows to compare: read, and not written before by one of the group. */
  readonly keys: ReadonlySet<ByteString>
  readonly ranges: readonly KeyRange[]
}

class Draft implements Component {
  members: Member<unknown>[] = []
  readonly keys = new Set<ByteString>()
  readonly rangesByText = new Map<string, KeyRange>()
  readonly writes = new Set<ByteString>()
  counters = 0
  bytes = 0

  get ranges(): readonly KeyRange[] {
    return [...this.rangesByText.values()]
  }

  get compares(): number {
    return this.keys.size + this.rangesByText.size + this.counters
  }

  /** As etcd counts it, at most; one write more for the mark, and two for a counter that is removed and added to. */
  get operations(): number {
    return Math.max(this.compares, this.writes.size + 2 * this.counters + 1)
  }

  takeOver(other: Draft): void {
    this.members.push(...other.members)
    for (const key of other.keys) this.keys.add(key)
    for (const [text, range] of other.rangesByText) this.rangesByText.set(text, range)
    for (const key of other.writes) this.writes.add(key)
    this.counters += other.counters
    this.bytes += other.bytes
  }
}

/** What a member read from outside the group, and the drafts that it belongs with. */
interface Reads {
  readonly drafts: ReadonlySet<Draft>
  readonly keys: readonly ByteString[]
  readonly ranges: readonly KeyRange[]
}

/** Components of the first so many members; none when the first one alone does not fit. */
export function cutGroup(
  members: readonly Member<unknown>[],
  limits: GroupLimits,
): { components: readonly Component[]; taken: number } {
  const cutter = new Cutter(limits)
  let taken = 0
  while (taken < members.length && taken < limits.membersMax && cutter.add(must(members[taken], 'a member'))) taken++
  return { components: cutter.components(), taken }
}

/** One member as a component of its own. */
export function loneComponent(member: Member<unknown>): Component {
  const draft = new Draft()
  const { keys, ranges } = new Cutter({ operationsMax: 0, bytesMax: 0, membersMax: 0, prefixBytes: 0 }).reads(member)
  draft.members.push(member)
  for (const key of keys) draft.keys.add(key)
  for (const range of ranges) draft.rangesByText.set(textOf(range), range)
  return draft
}

class Cutter {
  readonly #limits: GroupLimits
  readonly #drafts = new Set<Draft>()
  readonly #written = new RowLayer()
  readonly #writers = new Map<ByteString, Draft>()
  /** By delta key. */
  readonly #adders = new Map<ByteString, Set<Draft>>()
  /** Delta keys of counters that one of the group removes. */
  readonly #removed = new Set<ByteString>()
  #bytes = 0
  #operations = 0

  constructor(limits: GroupLimits) {
    this.#limits = limits
  }

  components(): readonly Component[] {
    for (const draft of this.#drafts) draft.members.sort((a, b) => a.number - b.number)
    return [...this.#drafts]
  }

  /** False when it does not fit any more; then nothing has changed. */
  add(member: Member<unknown>): boolean {
    const reads = this.reads(member)
    const bytes = this.#bytesOf(member, reads)
    if (!this.#fits(member, reads, bytes)) return false
    const [first = new Draft(), ...others] = [...reads.drafts].sort((a, b) => b.keys.size - a.keys.size)
    this.#drafts.add(first)
    for (const other of others) this.#merge(first, other)
    first.members.push(member)
    for (const key of reads.keys) first.keys.add(key)
    for (const range of reads.ranges) first.rangesByText.set(textOf(range), range)
    for (const [key, value] of member.written.rows) {
      first.writes.add(key)
      this.#written.set(key, value)
      if (!isCounterKey(key)) this.#writers.set(key, first)
      else {
        first.counters++
        if (isRemoval(value)) this.#removed.add(key)
        this.#addersOf(key).add(first)
      }
    }
    first.bytes += bytes
    this.#bytes += bytes
    this.#operations = Math.max(this.#operations, first.operations)
    return true
  }

  reads({ record, written }: Member<unknown>): Reads {
    const drafts = new Set<Draft>()
    const keys: ByteString[] = []
    const ranges: KeyRange[] = []
    const readKey = (key: ByteString): void => {
      const writer = this.#writers.get(key)
      if (writer === undefined) keys.push(key)
      else drafts.add(writer)
    }
    for (const key of record.keys) readKey(key)
    for (const scan of record.scans) {
      ranges.push(scan.range)
      for (const key of scan.keys) readKey(key)
      for (const key of keysWithin(this.#written, scan.range)) this.#addWriters(key, drafts)
    }
    for (const key of record.counters) this.#addWriters(key, drafts)
    for (const [key, value] of written.rows) {
      if (!isCounterKey(key)) this.#addWriters(key, drafts)
      else if (isRemoval(value) || this.#removed.has(key)) this.#addWriters(key, drafts)
    }
    return { drafts, keys, ranges }
  }

  #addWriters(key: ByteString, drafts: Set<Draft>): void {
    const writer = this.#writers.get(key)
    if (writer !== undefined) drafts.add(writer)
    for (const adder of this.#adders.get(key) ?? []) drafts.add(adder)
  }

  #addersOf(key: ByteString): Set<Draft> {
    let adders = this.#adders.get(key)
    if (adders === undefined) this.#adders.set(key, (adders = new Set()))
    return adders
  }

  #fits(member: Member<unknown>, { drafts, keys, ranges }: Reads, bytes: number): boolean {
    const components = this.#drafts.size - drafts.size + 1
    if (components > COMPONENTS_MAX || this.#bytes + bytes > this.#limits.bytesMax) return false
    let compares = 0
    let writes = 0
    // What two of them have in common is counted twice: then the group is cut a little early.
    for (const draft of drafts) {
      compares += draft.compares
      writes += draft.writes.size + 2 * draft.counters
    }
    const isNew = (has: (draft: Draft) => boolean): boolean => ![...drafts].some(has)
    for (const key of new Set(keys)) if (isNew((draft) => draft.keys.has(key))) compares++
    for (const range of ranges) if (isNew((draft) => draft.rangesByText.has(textOf(range)))) compares++
    for (const key of member.written.rows.keys()) {
      if (isNew((draft) => draft.writes.has(key))) writes++
      if (!isCounterKey(key)) continue
      compares++
      writes += 2
    }
    const operations = Math.max(this.#operations, compares, writes + 1)
    // Outside lie the components and the clock.
    return components + 1 + operations <= this.#limits.operationsMax
  }

  #bytesOf(member: Member<unknown>, { keys, ranges }: Reads): number {
    const { prefixBytes } = this.#limits
    let bytes = OPERATION_BYTES + prefixBytes
    for (const key of keys) bytes += key.length + prefixBytes + OPERATION_BYTES
    for (const { start, end } of ranges) bytes += start.length + end.length + 2 * prefixBytes + OPERATION_BYTES
    return bytes + member.written.bytes + member.written.size * (2 * prefixBytes + OPERATION_BYTES)
  }

  #merge(into: Draft, other: Draft): void {
    into.takeOver(other)
    this.#drafts.delete(other)
    for (const key of other.writes) {
      if (this.#writers.get(key) === other) this.#writers.set(key, into)
      const adders = this.#adders.get(key)
      if (adders?.delete(other) === true) adders.add(into)
    }
  }
}

function isRemoval(delta: Uint8Array | null): boolean {
  return delta !== null && decodeDelta(delta).removed
}

function textOf({ start, end }: KeyRange): string {
  return `${start.length}:${start}${end}`
}
