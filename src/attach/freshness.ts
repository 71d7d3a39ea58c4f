/**
 * What the mirror of an attached bucket needs to know before it is asked (docs/decisions/0015, Freshness): keys (fresh-keys.ts), listings
 * (fresh-listings.ts), and names in a directory, as the mount asks for them.
 *
 * A name in a directory that was not listed is a file, a directory or nothing. Both are asked for at the same time: the key itself, and whether anything begins with
 * it and a slash. So a file deep inside is found in one round trip for each directory above it, and no directory is listed for that, however large it is.
 */
import type { Clock } from '../common/clock.ts'
import type { ListPage, ListRequest } from '../common/model.ts'
import type { Attached } from './attached.ts'
import { FreshKeys, type FreshKeysParts, type LookOptions } from './fresh-keys.ts'
import { FreshListings, type ListedRange, type LocalPage } from './fresh-listings.ts'
import { KEY_BYTES_MAX, predecessor, reaches } from './key-order.ts'
import type { AttachedNames } from './ports.ts'
import { Reachable } from './reachable.ts'
import { Recent } from './recent.ts'

export interface FreshnessParts {
  readonly names: Pick<AttachedNames, 'covered' | 'merge' | 'mergeOne' | 'dirtyState' | 'revision'>
  /** The namespace itself. */
  readonly mirror: FreshKeysParts['mirror'] & { list(request: ListRequest): Promise<Pick<ListPage, 'commonPrefixes'>> }
  readonly clock: Clock
}

export interface FreshnessStatus {
  /** Keys looked at, and pages listed. */
  readonly looks: number
  readonly pages: number
  /** Answers from what was known, since the external store was down. */
  readonly stale: number
}

const NAMES_MAX = 65_536

export class Freshness {
  readonly #parts: FreshnessParts
  readonly #reachable: Reachable
  readonly #keys: FreshKeys
  readonly #listings: FreshListings
  /** When directories were last looked for; on the monotonic clock. */
  readonly #subtrees = new Recent<string, number>(NAMES_MAX)
  readonly #looking = new Map<string, Promise<void>>()
  #looks = 0
  #stale = 0

  constructor(parts: FreshnessParts) {
    this.#parts = parts
    this.#reachable = new Reachable(parts.clock)
    this.#keys = new FreshKeys({ ...parts, reachable: this.#reachable })
    this.#listings = new FreshListings({ ...parts, reachable: this.#reachable })
  }

  get status(): FreshnessStatus {
    return {
      looks: this.#keys.looks + this.#looks,
      pages: this.#listings.pages,
      stale: this.#keys.stale + this.#listings.stale + this.#stale,
    }
  }

  /** @throws Unavailable when the external store does not answer and nothing is known of the key */
  ensureKey(attached: Attached, key: string, options: LookOptions): Promise<void> {
    return this.#keys.ensure(attached, key, options)
  }

  /** A bounded number at a time. */
  ensureKeys(attached: Attached, keys: Iterable<string>, options: LookOptions): Promise<void> {
    return this.#keys.ensureAll(attached, keys, options)
  }

  /** Looks whatever is known. */
  look(attached: Attached, key: string): Promise<void> {
    return this.#keys.look(attached, key)
  }

  /** It has changed outside, whatever a listing said. */
  forget(bucketId: number, key: string): void {
    this.#keys.forget(bucketId, key)
  }

  /** Somebody found that it has: the mirror, and who watches it, is told soon. */
  changedOutside(attached: Attached, key: string): void {
    this.forget(attached.record.bucketId, key)
    // Whoever wants the key looks himself, if this fails.
    this.look(attached, key).catch(() => undefined)
  }

  /**
   * Takes over what a listing did not say of the object (content type, user metadata), if it is still this one. If it is not, the mirror is not told: whoever
   * is about to change what he knows must find that out as a conflict, not lose his change.
   */
  describe(attached: Attached, object: { readonly key: string; readonly etag: string }): Promise<void> {
    return this.#keys.describe(attached, object)
  }

  /** What lies outside has been told to the mirror just now: by a write of ours that has arrived. */
  saw(bucketId: number, key: string): void {
    this.#keys.saw(bucketId, key)
  }

  /** The mirror's page of a listing, once it is fresh. */
  ensureListed<T>(attached: Attached, range: ListedRange, local: LocalPage<T>): Promise<T> {
    return this.#listings.listed(attached, range, local)
  }

  /** Everything that begins with the prefix. */
  ensureWhole(attached: Attached, prefix: string): Promise<void> {
    return this.#listings.whole(attached, prefix)
  }

  /** `directory` is '' or ends in a slash. */
  async ensureName(attached: Attached, directory: string, name: string): Promise<void> {
    const key = directory + name
    if (await this.#isListed(attached, directory, key)) return
    const state = await this.#parts.names.dirtyState(attached.record.bucketId, key)
    // A file that was written here; there is no directory of that name then.
    if (state?.version) return
    await Promise.all([
      this.#keys.ensure(attached, key, { described: false }),
      this.#ensureSubtree(attached, directory, `${key}/`),
    ])
  }

  /** Whether a listing tells of both the file and the directory of that name. */
  async #isListed({ record }: Attached, directory: string, key: string): Promise<boolean> {
    const { names, clock } = this.#parts
    const sinceMs = clock.nowMs() - record.listingTtlMs
    const covered = await names.covered(record.bucketId, { kind: 'shallow', directory }, key, sinceMs)
    return covered?.through !== undefined && reaches(covered.through, `${key}/`)
  }

  async #ensureSubtree(attached: Attached, directory: string, prefix: string): Promise<void> {
    const { bucketId, ttlMs } = attached.record
    if (Buffer.byteLength(prefix) > KEY_BYTES_MAX) return
    const name = `${bucketId} ${prefix}`
    const atMs = this.#subtrees.get(name)
    if (atMs !== undefined && this.#parts.clock.monotonicMs() - atMs < ttlMs) return
    const under = this.#looking.get(name)
    if (under && ttlMs > 0) return await under
    const looking = this.#lookForSubtree(attached, directory, prefix)
    this.#looking.set(name, looking)
    try {
      await looking
    } finally {
      if (this.#looking.get(name) === looking) this.#looking.delete(name)
    }
  }

  async #lookForSubtree(attached: Attached, directory: string, prefix: string): Promise<void> {
    const { names, clock } = this.#parts
    const { bucketId } = attached.record
    const askedAt = names.revision()
    const askedAtMs = clock.nowMs()
    const atMs = clock.monotonicMs()
    const name = `${bucketId} ${prefix}`
    this.#looks++
    const answer = await this.#reachable.ask(attached, () =>
      attached.external.list({ prefix, after: '', delimiter: '', limit: 1 }),
    )
    if ('down' in answer) {
      if (this.#subtrees.get(name) === undefined && !(await this.#isKnown(attached, prefix))) throw answer.down
      this.#stale++
      return
    }
    const isThere = answer.value.objects.length > 0
    // What is nowhere needs no row that says so: names that are looked for and never found are many.
    if (isThere || (await this.#isDirectory(attached, prefix))) {
      await names.merge({
        bucketId,
        scope: { kind: 'shallow', directory },
        prefix,
        after: predecessor(prefix),
        through: prefix,
        objects: [],
        prefixes: isThere ? [prefix] : [],
        askedAt,
        askedAtMs,
      })
    }
    this.#subtrees.set(name, atMs)
  }

  /** Whether the mirror knows a directory of that name. */
  async #isDirectory({ record }: Attached, prefix: string): Promise<boolean> {
    const within = { bucket: record.bucket, prefix: prefix.slice(0, -1), delimiter: '/' }
    const page = await this.#parts.mirror.list({ ...within, after: predecessor(prefix), limit: 1 })
    return page.commonPrefixes[0] === prefix
  }

  async #isKnown(attached: Attached, prefix: string): Promise<boolean> {
    const { present } = await this.#parts.mirror.presence(attached.record.bucket, [prefix.slice(0, -1)], false)
    return present[0] === true || (await this.#isDirectory(attached, prefix))
  }
}
