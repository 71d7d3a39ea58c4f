/**
 * The last changes, of all buckets, in memory: all there are from revision `from` up to and including `through`. What is
 * older is in the metadata's log. Bounded in events and bytes; the oldest revisions go first, and whole.
 */
import { assert } from '../../common/assert.ts'
import type { Revision } from '../../common/ids.ts'
import type { WatchBatch } from '../kv-types.ts'
import type { MetadataChange, MetadataChangeBatch } from '../ports.ts'
import { select, type Cut } from './selection.ts'

export interface RecentChangesOptions {
  readonly eventsMax: number
  readonly bytesMax: number
}

/** Of an event's own fields, roughly. */
const EVENT_BYTES = 256

export class RecentChanges {
  readonly #options: RecentChangesOptions
  #changes: MetadataChange[] = []
  /** Index of the oldest that is kept. */
  #head = 0
  #bytes = 0
  #from: Revision = 1
  #through: Revision = 0

  constructor(options: RecentChangesOptions) {
    this.#options = options
  }

  get from(): Revision {
    return this.#from
  }

  get through(): Revision {
    return this.#through
  }

  get count(): number {
    return this.#changes.length - this.#head
  }

  /** Empties it: what comes after `through` will be added. */
  restart(through: Revision): void {
    this.#changes = []
    this.#head = 0
    this.#bytes = 0
    this.#from = through + 1
    this.#through = through
  }

  add(batch: MetadataChangeBatch): void {
    const first = batch.events[0]
    assert(first === undefined || first.revision > this.#through, 'changes come in order, whole revisions at a time')
    for (const change of batch.events) {
      this.#changes.push(change)
      this.#bytes += bytesOf(change)
    }
    this.#through = Math.max(this.#through, batch.through)
    while (this.count > this.#options.eventsMax || this.#bytes > this.#options.bytesMax) this.#dropOldestRevision()
    if (this.#head > 1_024 && this.#head * 2 > this.#changes.length) {
      this.#changes = this.#changes.slice(this.#head)
      this.#head = 0
    }
  }

  /** `cut.from` is not before `from`. */
  select(cut: Cut): WatchBatch {
    assert(cut.from >= this.#from, `revision ${cut.from} is among the recent ones, from ${this.#from} on`)
    return select(this.#changes, this.#through, cut, this.#indexOf(cut.from))
  }

  #dropOldestRevision(): void {
    const revision = this.#changes[this.#head]?.revision
    assert(revision !== undefined, 'what is too much is not empty')
    for (let oldest = this.#changes[this.#head]; oldest?.revision === revision; oldest = this.#changes[this.#head]) {
      this.#bytes -= bytesOf(oldest)
      this.#head++
    }
    this.#from = revision + 1
  }

  /** Of the first change at or after the revision. */
  #indexOf(revision: Revision): number {
    let [low, high] = [this.#head, this.#changes.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#changes[middle] as MetadataChange).revision < revision) low = middle + 1
      else high = middle
    }
    return low
  }
}

function bytesOf(change: MetadataChange): number {
  const names = change.kind === 'renamed' ? change.from.length + change.to.length : change.key.length
  return EVENT_BYTES + 2 * names
}
