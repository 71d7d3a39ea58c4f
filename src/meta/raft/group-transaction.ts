/**
 * The transaction of etcd that a group becomes.
 *
 * Of several components:   compares: the session row
 *                          success:  for each component a transaction: its compares -> its writes and its mark; then the clock
 * Of one member alone:     compares: the session row and the member's own
 *                          success:  its writes, cut into nested transactions if they are many, its mark, the clock
 *                          failure:  the clock, and a word to the other nodes if it was exclusive (see below)
 *
 * Every group writes the clock with its name, whatever becomes of it (but for a lone one of a process that was fenced, no reader minds). So the watch says when it was decided, and
 * the marks in the same revision say which components took effect: nothing needs the answer of the call.
 *
 * etcd counts operations by level: those of a transaction, and of the largest nested in it, must be at most its limit together. Writes can therefore be cut into nested transactions
 * without compares, and be about the square of half the limit. Compares cannot. A member that read more than that compares the clock instead: nobody has committed anything since the
 * revision that it stands on. That is as true as the single compares, only that others' commits disturb it whatever they are about. So when it fails it says so in etcd, and the other nodes
 * send nothing for some tens of milliseconds.
 *
 * Over its quota etcd takes no puts, but it counts only those at the outermost level (server/storage/quota.go, costTxnReq). Transactions that mostly delete must pass
 * then, or nobody could make room: those are sent with all their puts nested (`isUnmetered`).
 */
import { must } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import { addCounters } from '../stage/counters.ts'
import { cutGroup, loneComponent, type Component, type GroupLimits } from './components.ts'
import { addDelta, decodeDelta, isCounterKey, partKey, partsRange } from './counter-parts.ts'
import type { Member } from './guesses.ts'
import { encodeRow, onlyKey, type EtcdLayout, type GroupName } from './layout.ts'
import type { Compare, EtcdOperation, EtcdTransaction } from './ports.ts'
import type { Replica } from './replica.ts'

/** Above this the writes of a lone member are put into etcd's transaction with nothing else to spare. */
const LONE_BYTES_OVERHEAD = 40

export interface Group {
  readonly taken: number
  readonly transaction: EtcdTransaction
  readonly components: readonly Component[]
  readonly isNested: boolean
  /** The compares of its one member were too many, and the clock stands for them. */
  readonly isExclusive: boolean
}

export interface GroupParts {
  readonly replica: Replica
  readonly layout: EtcdLayout
  readonly node: number
  readonly name: GroupName
  readonly session: Compare
  /** etcd is not to hold it against its quota. */
  readonly isUnmetered: boolean
}

/** Undefined when the first member alone is more than etcd takes. */
export function makeGroup(
  members: readonly Member<unknown>[],
  limits: GroupLimits,
  parts: GroupParts,
): Group | undefined {
  const { components, taken } = cutGroup(members, limits)
  if (taken > 0)
    return { taken, components, transaction: nested(components, parts), isNested: true, isExclusive: false }
  return lone(must(members[0], 'a member to commit'), limits, parts)
}

function nested(components: readonly Component[], parts: GroupParts): EtcdTransaction {
  const slots = new Slots()
  const success = components.map((component, index): EtcdOperation => {
    const { writes, compares } = writesOf(component, slots, parts)
    const success = [...writes, markOf(index, parts)]
    const transaction = { compares: [...comparesOf(component, parts), ...compares], success, failure: [] }
    return { kind: 'transaction', transaction }
  })
  return { compares: [parts.session], success: [...success, ...ends([clockOf(parts)], parts)], failure: [] }
}

function lone(member: Member<unknown>, limits: GroupLimits, parts: GroupParts): Group | undefined {
  const component = loneComponent(member)
  const { writes, compares: ofCounters } = writesOf(component, new Slots(), parts)
  const own = [...comparesOf(component, parts), ...ofCounters]
  const { replica, layout } = parts
  const exclusive: Compare[] = [{ kind: 'unchanged', key: layout.clock, modRevision: replica.revision }]
  for (const compares of [own, exclusive]) {
    const bytes = bytesOf(compares) + member.written.bytes + writes.length * (limits.prefixBytes + LONE_BYTES_OVERHEAD)
    const isExclusive = compares === exclusive
    const chunked = inChunks(writes, { compares: compares.length + 1, operationsMax: limits.operationsMax, ...parts })
    if (chunked === undefined || bytes > limits.bytesMax) continue
    const transaction = {
      compares: [parts.session, ...compares],
      success: [...chunked, ...ends([markOf(0, parts), clockOf(parts)], parts)],
      failure: ends(isExclusive ? [clockOf(parts), pauseOf(parts)] : [clockOf(parts)], parts),
    }
    return { taken: 1, components: [component], transaction, isNested: false, isExclusive }
  }
  return undefined
}

/** As many writes as can go with that many compares, or undefined. */
function inChunks(
  writes: readonly EtcdOperation[],
  { compares, operationsMax, isUnmetered }: { compares: number; operationsMax: number; isUnmetered: boolean },
): EtcdOperation[] | undefined {
  if (!isUnmetered && Math.max(compares, writes.length + 2) <= operationsMax) return [...writes]
  for (let outside = Math.max(compares, 3); outside < operationsMax; outside++) {
    const chunkMax = operationsMax - outside
    if (Math.ceil(writes.length / chunkMax) + 2 > outside) continue
    const chunks: EtcdOperation[] = []
    for (let at = 0; at < writes.length; at += chunkMax) {
      const success = writes.slice(at, at + chunkMax)
      chunks.push({ kind: 'transaction', transaction: { compares: [], success, failure: [] } })
    }
    return chunks
  }
  return undefined
}

/** Writes of a transaction that reads little: as many as etcd takes at that limit. */
export function writesMax(operationsMax: number): number {
  const outside = Math.floor((operationsMax + 2) / 2)
  return Math.max(operationsMax - 2, (outside - 2) * (operationsMax - outside))
}

function comparesOf({ keys, ranges }: Component, { replica, layout }: GroupParts): Compare[] {
  const compares: Compare[] = []
  const addRow = (key: ByteString): void => {
    compares.push({ kind: 'unchanged', key: layout.rowKey(key), modRevision: replica.modRevision(key) })
  }
  for (const key of keys) addRow(key)
  for (const range of ranges) {
    compares.push({ kind: 'none younger', range: layout.rowRange(range), revision: replica.through })
    if (isCounterKey(range.start)) for (const key of replica.keys(range)) addRow(key)
  }
  return compares
}

interface Writes {
  readonly writes: readonly EtcdOperation[]
  /** That parts of counters are what was added to. */
  readonly compares: readonly Compare[]
}

function writesOf(component: Component, slots: Slots, parts: GroupParts): Writes {
  const { layout } = parts
  const writes: EtcdOperation[] = []
  const compares: Compare[] = []
  for (const [key, final] of finalRows(component.members)) {
    if (isCounterKey(key)) {
      const ofCounter = counterWrites(key, must(final.value, 'a delta'), slots, parts)
      writes.push(...ofCounter.writes)
      compares.push(...ofCounter.compares)
    } else if (final.value === null) writes.push({ kind: 'delete', range: onlyKey(layout.rowKey(key)) })
    else writes.push({ kind: 'put', key: layout.rowKey(key), value: encodeRow(final.value, final) })
  }
  return { writes, compares }
}

interface FinalRow {
  readonly value: Uint8Array | null
  readonly stampAt: number | undefined
  readonly rewritten: boolean
  readonly untold: boolean
}

/** What the members leave together. */
function finalRows(members: readonly Member<unknown>[]): Map<ByteString, FinalRow> {
  const rows = new Map<ByteString, FinalRow>()
  for (const { written, stamps, rewrittenKeys, untoldKeys } of members) {
    for (const [key, value] of written.rows) {
      const before = rows.get(key)
      const isDelta = value !== null && isCounterKey(key)
      rows.set(key, {
        value: isDelta ? addDelta(before?.value, value) : value,
        stampAt: stamps.get(key),
        rewritten: rewrittenKeys.has(key) && before?.rewritten !== false,
        untold: untoldKeys.has(key) && before?.untold !== false,
      })
    }
  }
  return rows
}

function counterWrites(key: ByteString, row: Uint8Array, slots: Slots, parts: GroupParts): Writes {
  const { replica, layout, node } = parts
  const { removed, deltas } = decodeDelta(row)
  const all = layout.rowRange(partsRange(key))
  if (deltas.length === 0) return { writes: [{ kind: 'delete', range: all }], compares: [] }
  const part = partKey(key, node, slots.next(key))
  const before = removed ? undefined : replica.get(part)
  const value = encodeRow(addCounters(before, deltas), { rewritten: false, untold: true })
  const put: EtcdOperation = { kind: 'put', key: layout.rowKey(part), value }
  if (!removed) {
    const modRevision = replica.modRevision(part)
    return { writes: [put], compares: [{ kind: 'unchanged', key: layout.rowKey(part), modRevision }] }
  }
  // etcd takes no transaction that puts and deletes a key.
  const { start, end } = onlyKey(layout.rowKey(part))
  const others: EtcdOperation[] = [
    { kind: 'delete', range: { start: all.start, end: start } },
    { kind: 'delete', range: { start: end, end: all.end } },
  ]
  return { writes: [...others, put], compares: [] }
}

/** Hands out the slots of counters in one group. */
class Slots {
  readonly #next = new Map<ByteString, number>()

  next(delta: ByteString): number {
    const slot = this.#next.get(delta) ?? 0
    this.#next.set(delta, slot + 1)
    return slot
  }
}

/** The last operations of the outermost level. */
function ends(operations: readonly EtcdOperation[], { isUnmetered }: GroupParts): readonly EtcdOperation[] {
  if (!isUnmetered) return operations
  return [{ kind: 'transaction', transaction: { compares: [], success: operations, failure: [] } }]
}

function pauseOf({ layout, node }: GroupParts): EtcdOperation {
  return { kind: 'put', key: layout.pause(node), value: new Uint8Array(0) }
}

function markOf(index: number, { layout, node, name }: GroupParts): EtcdOperation {
  return { kind: 'put', key: layout.mark(node, index), value: Buffer.from(name, 'latin1') }
}

function clockOf({ layout, name }: GroupParts): EtcdOperation {
  return { kind: 'put', key: layout.clock, value: Buffer.from(name, 'latin1') }
}

function bytesOf(compares: readonly Compare[]): number {
  let bytes = 0
  for (const compare of compares)
    bytes +=
      40 + (compare.kind === 'unchanged' ? compare.key.length : compare.range.start.length + compare.range.end.length)
  return bytes
}
