/**
 * What of a listing is believed, in one transaction, where it says something else than the mirror. A key is
 *
 *   ours      not touched: it is dirty, so what was done here is to be done outside yet ("dirty wins"); or an unfinished rename holds it, so it
 *             lies outside still, and here under its new name
 *   unknown   not touched: it was written here, or came into step, since the listing was asked for; which of the two is newer outside, nothing
 *             tells. The next listing does. Or a listing that was asked for later has told of it already
 *   theirs    made what the listing says
 *
 * A directory that only a common prefix tells of is ours when anything below it is: what the store shows may be only what was deleted or
 * renamed here.
 */
import { utf8Bytes, type ByteString, type Revision } from '../../../common/ids.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { prefixRange } from '../keys.ts'
import type { ObjectInode } from '../records-objects.ts'
import { SCOPE_END } from './coverage.ts'
import { lastOutside } from './bodies.ts'
import type { MirrorContext } from './mirror-context.ts'
import { isHeld, originsOf, readMoves, type Origin } from './moves.ts'
import type { Noter } from './recent-changes.ts'
import { tellsOf, type ToldRange } from './recent-pages.ts'
import { dirtyKey, dirtyPrefix } from './rows.ts'

/** Dirty keys that are read at once; among more, each is looked up. */
const DIRTY_KEYS_MAX = 256

export type Belief = 'ours' | 'unknown' | 'theirs'

export interface AskedRange {
  readonly bucketId: number
  readonly askedAt: Revision
  /** What notes its own changes so (recent-changes.ts). */
  readonly asker: Noter
  /** Keys in question, both inclusive, in bytes. */
  readonly from: string
  readonly through: string
  /** What was told of them since it was asked for, and merged already. */
  readonly newer?: readonly ToldRange[]
}

export class Beliefs {
  readonly #recent: MirrorContext['recent']
  readonly #view: ReadView
  readonly #asked: AskedRange
  /** All of the range, in bytes; undefined: too many. */
  readonly #dirty: ReadonlySet<string> | undefined
  readonly #origins: readonly Origin[]

  private constructor(
    made: { readonly recent: MirrorContext['recent']; readonly view: ReadView; readonly asked: AskedRange },
    known: { readonly dirty: ReadonlySet<string> | undefined; readonly origins: readonly Origin[] },
  ) {
    this.#recent = made.recent
    this.#view = made.view
    this.#asked = made.asked
    this.#dirty = known.dirty
    this.#origins = known.origins
  }

  static async begin({ recent }: MirrorContext, view: Transaction, asked: AskedRange): Promise<Beliefs> {
    const { bucketId, from, through } = asked
    const prefix = dirtyPrefix(bucketId)
    const isToEnd = through.endsWith(SCOPE_END)
    // A page that ends with a common prefix tells of all below it.
    const { end } =
      isToEnd || through.endsWith('/')
        ? prefixRange(prefix + (isToEnd ? through.slice(0, -SCOPE_END.length) : through))
        : { end: `${prefix}${through}\0` as ByteString }
    const rows = await view.scan({ start: (prefix + from) as ByteString, end }, DIRTY_KEYS_MAX)
    const dirty = rows.length < DIRTY_KEYS_MAX ? new Set(rows.map((row) => row.key.slice(prefix.length))) : undefined
    return new Beliefs({ recent, view, asked }, { dirty, origins: originsOf(await readMoves(view, bucketId)) })
  }

  /** Of every key that the mirror does not have. */
  isAllTheirs(): boolean {
    if (this.#dirty?.size !== 0 || this.#origins.length > 0 || this.#isToldAnew()) return false
    return !this.#recent.isAnySince(this.#asked.askedAt)
  }

  /** Of a key that the mirror does not have; undefined: `ofKey` has to look. */
  ofNewKeyAtOnce(key: string): Belief | undefined {
    if (!this.#dirty || this.#origins.length > 0) return undefined
    if (this.#dirty.has(key)) return 'ours'
    return this.#isOfNow(key) ? 'theirs' : 'unknown'
  }

  /** `entry`: what the mirror has at the key. */
  async ofKey(key: string, entry?: { readonly revision: Revision }): Promise<Belief> {
    const { bucketId, askedAt } = this.#asked
    if (this.#dirty ? this.#dirty.has(key) : await this.#view.get(dirtyKey(bucketId, key))) return 'ours'
    if (await isHeld(this.#view, this.#origins, key)) return 'ours'
    return this.#isOfNow(key) && (entry?.revision ?? 0) <= askedAt ? 'theirs' : 'unknown'
  }

  /** Whether an object here, whose key is believed, is what lies outside at its own key, and not one that came with its directory. */
  isInPlace(key: string, inode: Pick<ObjectInode, 'body' | 'twin'>): boolean {
    const outside = lastOutside(inode)
    return outside !== undefined && utf8Bytes(outside.key) === key
  }

  /** Of a directory that the mirror does not have, and of which a common prefix tells. */
  async ofNewDirectory(key: string): Promise<Belief> {
    if (this.#origins.some(({ prefix }) => prefix.startsWith(key) || key.startsWith(prefix))) return 'ours'
    if (await this.#isAnyDirtyBelow(key)) return 'ours'
    return this.ofOldDirectory(key)
  }

  /** Of a directory that the mirror has, and of which the listing does not tell. What is dirty below it is found below it. */
  ofOldDirectory(key: string): Belief {
    const { bucketId, askedAt, asker } = this.#asked
    if (this.#isToldAnew(key)) return 'unknown'
    return this.#recent.isDirectorySince(bucketId, key, { at: askedAt, by: asker }) ? 'unknown' : 'theirs'
  }

  async #isAnyDirtyBelow(key: string): Promise<boolean> {
    if (this.#dirty) {
      for (const dirty of this.#dirty) if (dirty.startsWith(key)) return true
      return false
    }
    const below = await this.#view.scan(prefixRange(dirtyPrefix(this.#asked.bucketId) + key), 1)
    return below.length > 0
  }

  #isOfNow(key: string): boolean {
    const { bucketId, askedAt, asker } = this.#asked
    return !this.#isToldAnew(key) && !this.#recent.isKeySince(bucketId, key, { at: askedAt, by: asker })
  }

  /** By a listing that was asked for later; of this key, or of any. */
  #isToldAnew(key?: string): boolean {
    const { newer = [] } = this.#asked
    return newer.length > 0 && (key === undefined || newer.some((range) => tellsOf(range, key)))
  }
}
