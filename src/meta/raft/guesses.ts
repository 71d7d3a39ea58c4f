/**
 * What transactions of this process have written and etcd has not decided about: over the replica, for those that run after them.
 *
 * *Members* are kept in the order in which they ran, and none of what they read has changed since: whatever changes it, a commit of another node or the end of
 * a member before them, takes them out of here, and in turn those that read what they wrote (`take`). So at any time the rows in sight are those of the
 * replica with the members' transactions run over it one after the other.
 *
 * The first of them may be on their way to etcd (`sent`); the others are gathered for the next group (`open`). Those that are sent stay until they are
 * decided, even when it is known that they will fail: meanwhile what is in sight never was, and nothing may run over it (`isDoomed`).
 */
import { assert } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { lowerBound, RowLayer } from '../stage/row-layer.ts'
import { addDelta, isCounterKey } from './counter-parts.ts'
import type { GuessedRows, RunRecord } from './tracked-view.ts'

export interface Member<Job> {
  readonly job: Job
  /** Grows with every run. */
  readonly number: number
  /** What the function returned. */
  readonly value: unknown
  readonly record: RunRecord
  readonly written: RowLayer
  readonly rewrittenKeys: ReadonlySet<ByteString>
  readonly untoldKeys: ReadonlySet<ByteString>
  readonly stamps: ReadonlyMap<ByteString, number>
  /** What it read has changed while it was sent. */
  isDoomed: boolean
}

/** Rows that members have left, and which of them wait for a stamp. */
class GuessLayer {
  readonly rows = new RowLayer()
  readonly unstamped = new Set<ByteString>()

  add(member: Member<unknown>): void {
    for (const [key, value] of member.written.rows) {
      const isDelta = value !== null && isCounterKey(key)
      this.rows.set(key, isDelta ? addDelta(this.rows.get(key), value) : value)
      if (member.stamps.has(key)) this.unstamped.add(key)
      else if (this.unstamped.size > 0) this.unstamped.delete(key)
    }
  }
}

export class Guesses<Job> implements GuessedRows {
  #open: Member<Job>[] = []
  #sent: Member<Job>[] = []
  #openLayer = new GuessLayer()
  #sentLayer = new GuessLayer()

  get open(): readonly Member<Job>[] {
    return this.#open
  }

  get sent(): readonly Member<Job>[] {
    return this.#sent
  }

  get rows(): number {
    return this.#openLayer.rows.size + this.#sentLayer.rows.size
  }

  get bytes(): number {
    return this.#openLayer.rows.bytes + this.#sentLayer.rows.bytes
  }

  get openRows(): number {
    return this.#openLayer.rows.size
  }

  /** Something is in sight that will not come to be. */
  get isDoomed(): boolean {
    return this.#sent.some((member) => member.isDoomed)
  }

  /** Number of the oldest member; infinite without one. */
  get oldest(): number {
    return this.#sent[0]?.number ?? this.#open[0]?.number ?? Infinity
  }

  get layers(): readonly RowLayer[] {
    return [this.#openLayer.rows, this.#sentLayer.rows]
  }

  isUnstamped(key: ByteString): boolean {
    if (this.#openLayer.rows.get(key) !== undefined) return this.#openLayer.unstamped.has(key)
    return this.#sentLayer.unstamped.has(key)
  }

  holdsUnstamped(range: KeyRange): boolean {
    for (const layer of [this.#openLayer, this.#sentLayer])
      for (const key of layer.unstamped) if (key >= range.start && key < range.end) return true
    return false
  }

  add(member: Member<Job>): void {
    this.#open.push(member)
    this.#openLayer.add(member)
  }

  /** The first `count` of the open ones go. */
  send(count: number): void {
    assert(this.#sent.length === 0 && count > 0, 'one group is on its way at a time')
    this.#sent = this.#open.slice(0, count)
    this.#open = this.#open.slice(count)
    if (this.#open.length === 0) {
      this.#sentLayer = this.#openLayer
      this.#openLayer = new GuessLayer()
    } else {
      this.#sentLayer = layerOf(this.#sent)
      this.#openLayer = layerOf(this.#open)
    }
  }

  /** Those that were sent are decided, or will never be: they are taken out. What it undoes must be passed to `take` at once. */
  clearSent(): readonly Member<Job>[] {
    const members = this.#sent
    this.#sent = []
    this.#sentLayer = new GuessLayer()
    return members
  }

  /** What was sent cannot have happened: it is as if it had not been sent. Those that are doomed, and those that nobody waits for any more, are taken out. */
  takeBack(isOver: (job: Job) => boolean): Member<Job>[] {
    this.#open = [...this.clearSent(), ...this.#open]
    this.#openLayer = layerOf(this.#open)
    return this.take(new RowLayer(), (member) => member.isDoomed || isOver(member.job))
  }

  /**
   * Takes out the open members that `isGone` picks or that read one of the changed rows, and whoever read what those had written. Dooms those among the sent
   * ones that read a changed row.
   */
  take(changed: RowLayer, isGone: (member: Member<Job>) => boolean = () => false): Member<Job>[] {
    for (const member of this.#sent) member.isDoomed ||= member.record.isTouchedBy(changed)
    const taken: Member<Job>[] = []
    let gone: RowLayer | undefined
    for (const member of this.#open) {
      const reads = member.record
      if (!isGone(member) && !reads.isTouchedBy(changed) && !(gone && reads.isTouchedBy(gone))) continue
      taken.push(member)
      gone ??= new RowLayer()
      gone.setAll(member.written)
    }
    if (taken.length > 0) {
      const without = new Set(taken)
      this.#open = this.#open.filter((member) => !without.has(member))
      this.#openLayer = layerOf(this.#open)
    }
    return taken
  }
}

function layerOf(members: readonly Member<unknown>[]): GuessLayer {
  const layer = new GuessLayer()
  for (const member of members) layer.add(member)
  return layer
}

/** The keys of a layer that lie in a range. */
export function keysWithin(layer: RowLayer, range: KeyRange): readonly ByteString[] {
  if (layer.size === 0) return []
  const keys = layer.sortedKeys()
  return keys.slice(lowerBound(keys, range.start), lowerBound(keys, range.end))
}
