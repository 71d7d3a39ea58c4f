/**
 * One watcher's way through the metadata's log, from an old revision up to where the recent changes begin. The log is read a
 * batch at a time, when the watcher asks; what it has no room for is held for its next call.
 */
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { WatchBatch } from '../kv-types.ts'
import type { MetadataChangeBatch, MetadataChanges } from '../ports.ts'
import { select, type Cut } from './selection.ts'

export class LogReader {
  readonly #stopping = new AbortController()
  readonly #batches: AsyncIterator<MetadataChangeBatch>
  #held: MetadataChangeBatch | undefined
  #reading = false

  constructor(metadata: MetadataChanges, from: Revision) {
    this.#batches = metadata.watch(from, this.#stopping.signal)[Symbol.asyncIterator]()
  }

  /** A read is under way. */
  get reading(): boolean {
    return this.#reading
  }

  /** @throws RevisionGone when the log does not reach back so far */
  async prepare(): Promise<MetadataChangeBatch> {
    if (this.#held !== undefined) return this.#held
    this.#reading = true
    try {
      const { value, done } = await this.#batches.next()
      if (done === true) throw new TidegateError('Unavailable', 'watching the log of changes has ended')
      this.#held = value
      return value
    } finally {
      this.#reading = false
    }
  }

  /** From one batch of the log: maybe nothing, and then only `next` has moved. @throws RevisionGone */
  async read(cut: Cut): Promise<WatchBatch> {
    const batch = await this.prepare()
    const selected = select(batch.events, batch.through, cut)
    if (selected.next > batch.through) this.#held = undefined
    return selected
  }

  close(): void {
    this.#stopping.abort()
    // Ends a generator that was begun, so that it gives back what it holds.
    this.#batches.return?.().catch(() => undefined)
  }
}
