/**
 * What of a listing is believed, in one transaction. A key is not touched when
 *
 *   it is dirty                         what was done here to it is to be done outside yet ("dirty wins")
 *   it came into step here since        the listing was asked before; so is it with an entry that was written since
 *   an unfinished rename holds it       it lies outside still, and here under its new name
 *
 * and a directory that only a common prefix tells of is not made when anything below it is in one of these states: what the store shows may be only
 * what was deleted or renamed here.
 */
import { utf8Bytes, type ByteString, type Revision } from '../../../common/ids.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { prefixRange } from '../keys.ts'
import type { ObjectInode } from '../records-objects.ts'
import { SCOPE_END } from './coverage.ts'
import { lastOutside } from './bodies.ts'
import type { MirrorContext } from './mirror-context.ts'
import { isHeld, originsOf, readMoves, type Origin } from './moves.ts'
import { dirtyKey, dirtyPrefix } from './rows.ts'

/** Dirty keys that are read at once; among more, each is looked up. */
const DIRTY_KEYS_MAX = 256

export interface AskedRange {
  readonly bucketId: number
  readonly askedAt: Revision
  /** Keys in question, both inclusive, in bytes. */
  readonly from: string
  readonly through: string
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
    const { end } = isToEnd
      ? prefixRange(prefix + through.slice(0, -SCOPE_END.length))
      : { end: `${prefix}${through}\0` as ByteString }
    const rows = await view.scan({ start: (prefix + from) as ByteString, end }, DIRTY_KEYS_MAX)
    const dirty = rows.length < DIRTY_KEYS_MAX ? new Set(rows.map((row) => row.key.slice(prefix.length))) : undefined
    return new Beliefs({ recent, view, asked }, { dirty, origins: originsOf(await readMoves(view, bucketId)) })
  }

  /** Whether a key may be made what the listing says; undefined: `ofKey` has to look. */
  ofKeyAtOnce(key: string): boolean | undefined {
    const { bucketId, askedAt } = this.#asked
    if (this.#recent.isSince(bucketId, key, askedAt) || this.#dirty?.has(key)) return false
    return this.#dirty && this.#origins.length === 0 ? true : undefined
  }

  async ofKey(key: string): Promise<boolean> {
    const known = this.ofKeyAtOnce(key)
    if (known !== undefined) return known
    if (!this.#dirty && (await this.#view.get(dirtyKey(this.#asked.bucketId, key)))) return false
    return !(await isHeld(this.#view, this.#origins, key))
  }

  /** Whether an object here, whose key is believed, is what lies outside at its own key, and not one that came with its directory. */
  isInPlace(key: string, inode: Pick<ObjectInode, 'body' | 'twin'>): boolean {
    const outside = lastOutside(inode)
    return outside !== undefined && utf8Bytes(outside.key) === key
  }

  /** Whether a directory may be made of a common prefix. */
  async ofDirectory(key: string): Promise<boolean> {
    const { bucketId } = this.#asked
    if (!this.isOfNow(key)) return false
    if (this.#origins.some(({ prefix }) => prefix.startsWith(key) || key.startsWith(prefix))) return false
    if (this.#dirty) {
      for (const dirty of this.#dirty) if (dirty.startsWith(key)) return false
      return true
    }
    const below = await this.#view.scan(prefixRange(dirtyPrefix(bucketId) + key), 1)
    return below.length === 0
  }

  /** Whether nothing in a directory came into step since it was asked. */
  isOfNow(directory: string): boolean {
    return !this.#recent.isSince(this.#asked.bucketId, directory, this.#asked.askedAt)
  }
}
