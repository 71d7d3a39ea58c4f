/**
 * What of attached buckets came into step with the outside lately, by key, and at which revision. A listing or a HEAD that was asked before
 * then is older than what the mirror says of that key, and must not bring back what went, or take away what came: no dirty row
 * tells so any more.
 *
 * In memory, since no request outlives its process. Bounded: what is forgotten raises a floor, and an answer that was asked before the
 * floor is taken for too old altogether.
 */
import type { Revision } from '../../../common/ids.ts'

const NAMES_MAX = 65_536

/** Who notes so much that it says so of all of a bucket. What it says of itself it knows. */
export type Noter = object

export class RecentChanges {
  readonly #namesMax: number
  readonly #revisions = new Map<string, Revision>()
  readonly #buckets = new Map<number, { readonly revision: Revision; readonly by: Noter | undefined }>()
  #floor: Revision = 0
  #newest: Revision = 0

  constructor(namesMax: number = NAMES_MAX) {
    this.#namesMax = namesMax
  }

  /**
   * To be called in the transaction, with the revision that it makes: one that runs next may need it. Noted in vain it costs a look.
   * `key` in bytes; the directories above it are noted with it.
   */
  note(bucketId: number, key: string, revision: Revision): void {
    this.#set(`${bucketId}/${key}`, revision)
    for (let slash = key.lastIndexOf('/', key.length - 2); slash >= 0; slash = key.lastIndexOf('/', slash - 1)) {
      this.#set(`${bucketId}/${key.slice(0, slash + 1)}`, revision)
      if (slash === 0) break
    }
    this.#forget()
  }

  /** Says of every key of the bucket that it may have changed. */
  noteAll(bucketId: number, revision: Revision, by: Noter): void {
    const known = this.#buckets.get(bucketId)
    this.#buckets.set(bucketId, { revision, by: known === undefined || known.by === by ? by : undefined })
  }

  /** Whether a key changed, or anything below it if it ends in a slash, after the revision at which was asked. */
  isSince(bucketId: number, key: string, askedAt: Revision): boolean {
    // As it mostly is.
    if (askedAt >= this.#newest) return false
    const revision = this.#revisions.get(`${bucketId}/${key}`)
    return revision !== undefined && revision > askedAt
  }

  /** Whether so much happened since then that one cannot say of every key. */
  isForgotten(bucketId: number, askedAt: Revision, asker?: Noter): boolean {
    if (askedAt < this.#floor) return true
    const all = this.#buckets.get(bucketId)
    return all !== undefined && all.revision > askedAt && (all.by === undefined || all.by !== asker)
  }

  /** Newest last. */
  #set(name: string, revision: Revision): void {
    const known = this.#revisions.get(name)
    if (known !== undefined) {
      if (known >= revision) return
      this.#revisions.delete(name)
    }
    this.#revisions.set(name, revision)
    this.#newest = Math.max(this.#newest, revision)
  }

  #forget(): void {
    for (const [name, revision] of this.#revisions) {
      if (this.#revisions.size <= this.#namesMax) return
      this.#revisions.delete(name)
      this.#floor = Math.max(this.#floor, revision)
    }
  }
}
