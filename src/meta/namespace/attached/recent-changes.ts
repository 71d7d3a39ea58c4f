/**
 * What of attached buckets came into step with the outside lately, by key, and at which revision. A listing or a HEAD that was asked before
 * then is older than what the mirror says of that key, and must not bring back what went, or take away what came: no dirty row
 * tells so any more.
 *
 * In memory, since no request outlives its process. Bounded: what is forgotten raises a floor, and an answer that was asked before the
 * floor is taken for too old altogether.
 */
import type { Revision } from '../../../common/ids.ts'
import { RecentPages } from './recent-pages.ts'

const NAMES_MAX = 65_536

/** Who notes, and asks later: what it has changed itself, in a run of its transaction that came to nothing for one, it knows. */
export type Noter = object

interface Asked {
  readonly at: Revision
  readonly by?: Noter | undefined
}

interface Noted {
  readonly revision: Revision
  readonly by: Noter | undefined
  /** The last that another one noted before. */
  readonly before: Revision
}

export class RecentChanges {
  readonly pages: RecentPages = new RecentPages()
  readonly #namesMax: number
  readonly #names = new Map<string, Noted>()
  readonly #buckets = new Map<number, Noted>()
  #floor: Revision = 0
  #newest: Revision = 0

  constructor(namesMax: number = NAMES_MAX) {
    this.#namesMax = namesMax
  }

  /**
   * To be called in the transaction, with the revision that it makes: one that runs next may need it. Noted in vain it costs a look.
   * `key` in bytes; the directories above it are noted with it.
   */
  note(bucketId: number, key: string, change: { readonly revision: Revision; readonly by?: Noter }): void {
    this.#set(keyName(bucketId, key), change)
    for (let slash = key.lastIndexOf('/', key.length - 2); slash >= 0; slash = key.lastIndexOf('/', slash - 1)) {
      this.#set(directoryName(bucketId, key.slice(0, slash + 1)), change)
      if (slash === 0) break
    }
    this.#forget()
  }

  /** Also that a directory was made of which nothing is known but that it is there. */
  noteDirectory(bucketId: number, key: string, change: { readonly revision: Revision; readonly by?: Noter }): void {
    this.#set(directoryName(bucketId, key), change)
    this.#forget()
  }

  /** Says of every key of the bucket that it may have changed. */
  noteAll(bucketId: number, { revision, by }: { readonly revision: Revision; readonly by: Noter }): void {
    this.#buckets.set(bucketId, noted(this.#buckets.get(bucketId), { revision, by }))
    this.#newest = Math.max(this.#newest, revision)
  }

  /** Whether anything at all was noted after the revision. */
  isAnySince(at: Revision): boolean {
    return at < this.#newest
  }

  /** Whether a key changed after the revision at which was asked. */
  isKeySince(bucketId: number, key: string, asked: Asked): boolean {
    // As it mostly is.
    return asked.at < this.#newest && isSince(this.#names.get(keyName(bucketId, key)), asked)
  }

  /** Whether anything in a directory did. */
  isDirectorySince(bucketId: number, key: string, asked: Asked): boolean {
    return asked.at < this.#newest && isSince(this.#names.get(directoryName(bucketId, key)), asked)
  }

  /** Whether so much happened since then that one cannot say of every key. */
  isForgotten(bucketId: number, asked: Asked): boolean {
    return asked.at < this.#floor || isSince(this.#buckets.get(bucketId), asked)
  }

  /** Newest last. */
  #set(name: string, change: { readonly revision: Revision; readonly by?: Noter }): void {
    const known = this.#names.get(name)
    if (known !== undefined) {
      if (known.revision >= change.revision && known.by === change.by) return
      this.#names.delete(name)
    }
    this.#names.set(name, noted(known, change))
    this.#newest = Math.max(this.#newest, change.revision)
  }

  #forget(): void {
    for (const [name, { revision }] of this.#names) {
      if (this.#names.size <= this.#namesMax) return
      this.#names.delete(name)
      this.#floor = Math.max(this.#floor, revision)
    }
  }
}

function noted(
  known: Noted | undefined,
  { revision, by }: { readonly revision: Revision; readonly by?: Noter | undefined },
): Noted {
  if (known === undefined) return { revision, by, before: 0 }
  const before = known.by === by ? known.before : known.revision
  return { revision: Math.max(revision, known.revision), by, before }
}

function isSince(found: Noted | undefined, asked: Asked): boolean {
  if (found === undefined) return false
  const isOwn = found.by !== undefined && found.by === asked.by
  return (isOwn ? found.before : found.revision) > asked.at
}

/** Of an object; a marker's key is that of its directory. */
function keyName(bucketId: number, key: string): string {
  return `${bucketId}/${key}`
}

function directoryName(bucketId: number, key: string): string {
  return `${bucketId}:${key}`
}
