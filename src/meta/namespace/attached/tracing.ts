/**
 * The traces of one transaction (traces.ts): what it has written is compared with what was there before, and each key of an attached bucket
 * that was changed gets its dirty row.
 *
 * What counts is what the external bucket is to be told: another object at the key, another content (its revision), other attributes. Times, mode
 * and owner that a file system sets do not count by themselves: they go along when the bytes or the attributes do.
 *
 * Keys are those right after the transaction; of what is gone, those right before. The *base* of a new dirty row is what the external bucket holds at the
 * key as far as is known:
 *
 *   the key was clean                            what the entry said: that is what lies outside
 *   nothing was here                             nothing
 *   what was here came with its directory,       nothing; and the key where it lies outside gets a dirty row too, with
 *   which was renamed (its body says so)         what lies there as its base: nobody would find it there any more
 *   an object that went elsewhere so lies        that; and the row says who needs it
 *   outside at this key
 *
 * An object that is renamed needs what lies outside at its old key, if its bytes do, whole or in part: that row says so (`neededBy`). So does a file that
 * was removed or replaced while somebody has it open.
 */
import { assert } from '../../../common/assert.ts'
import { utf8Bytes, utf8Text, type ByteString, type InodeId } from '../../../common/ids.ts'
import type { Limits } from '../../../common/limits.ts'
import type { Transaction } from '../../ports.ts'
import { linksOf } from '../files/links.ts'
import {
  ENTRIES,
  ENTRY_NAME_AT,
  FORMER_PLACES,
  INODES,
  RECLAIM_ID_AT,
  entryKey,
  inodeKey,
  integerAt,
  prefixRange,
} from '../keys.ts'
import { keyTooLong } from '../names.ts'
import {
  decodeEntry,
  decodeInode,
  encodeInode,
  type Inode,
  type NamedPlace,
  type ObjectEntry,
  type ObjectInode,
} from '../records-objects.ts'
import { areSameAttributes } from './attributes.ts'
import { lastOutside, objectsOutside } from './bodies.ts'
import { findBelow, originsOf, readMoves, type Origin } from './moves.ts'
import {
  decodeDirty,
  dirtyKey,
  encodeDirty,
  encodeMove,
  moveIdOf,
  moveKey,
  movesPrefix,
  type BaseRecord,
  type DirtyRecord,
} from './rows.ts'
import type { DirtyChange } from './types.ts'

export interface TracedBuckets {
  /** Roots of the attached buckets, which are their ids. */
  readonly roots: ReadonlySet<InodeId>
  readonly nowMs: number
  readonly limits: Limits
}

const ABSENT: BaseRecord = { kind: 'absent' }

/** `key` in bytes. */
interface Path {
  readonly bucketId: number
  readonly key: string
}

/** An object at a place, with what its inode said at the same time. */
interface Named {
  readonly path: Path
  readonly id: InodeId
  readonly inode: ObjectInode
}

interface ChangedPlace {
  readonly before: Named | undefined
  readonly now: Named | undefined
}

type Side = 'before' | 'now'

export class Tracing {
  readonly #tx: Transaction
  readonly #buckets: TracedBuckets
  /** Directories whose path is known; null: not in an attached bucket. */
  readonly #directories: Readonly<Record<Side, Map<InodeId, Path | null>>> = { before: new Map(), now: new Map() }
  readonly #rows = new Map<ByteString, { bucketId: number; dirty: DirtyRecord; isChanged: boolean }>()
  readonly #origins = new Map<number, readonly Origin[]>()

  constructor(tx: Transaction, buckets: TracedBuckets) {
    this.#tx = tx
    this.#buckets = buckets
  }

  /** Resolves with the keys that are dirty by this transaction. */
  async run(): Promise<DirtyChange[]> {
    const written = [...this.#tx.writtenKeys()]
    const changed: ChangedPlace[] = []
    for (const place of await this.#placesOf(written)) {
      const change = await this.#changeAt(place)
      if (change) changed.push(change)
    }
    const nowAt = new Map<InodeId, Named>()
    for (const { now } of changed) if (now) nowAt.set(now.id, now)
    for (const change of changed) await this.#mark(change, nowAt)
    const changes: DirtyChange[] = []
    for (const [key, { bucketId, dirty, isChanged }] of this.#rows) {
      if (!isChanged) continue
      this.#tx.put(key, encodeDirty(dirty))
      changes.push({ bucketId, key: dirty.key })
    }
    for (const key of written) {
      const moved = key.startsWith(FORMER_PLACES) ? await this.#traceMove(integerAt(key, RECLAIM_ID_AT)) : undefined
      if (moved) changes.push(moved)
    }
    return changes
  }

  /** Places of objects of which the entry or the inode was written. */
  async #placesOf(written: readonly ByteString[]): Promise<Iterable<NamedPlace>> {
    const places = new Map<ByteString, NamedPlace>()
    for (const key of written) {
      if (isObjectEntryKey(key)) {
        places.set(key, { parent: integerAt(key, ENTRIES.length), name: key.slice(ENTRY_NAME_AT) })
      } else if (key.startsWith(INODES)) {
        // Of one that is new or gone the entry was written too.
        const inode = await this.#inode(integerAt(key, INODES.length), 'now')
        if (inode?.kind !== 'object' || linksOf(inode) === 0) continue
        places.set(entryKey(inode.parent, inode.name), { parent: inode.parent, name: inode.name })
      }
    }
    return places.values()
  }

  async #changeAt(place: NamedPlace): Promise<ChangedPlace | undefined> {
    const key = entryKey(place.parent, place.name)
    const [old, present] = [objectEntry(await this.#tx.before(key)), objectEntry(await this.#tx.get(key))]
    if (!old && !present) return undefined
    const before = old && (await this.#named(place, old, 'before'))
    const now = present && (await this.#named(place, present, 'now'))
    if (!before && !now) return undefined
    if (old && present && old.inode === present.inode && old.revision === present.revision) {
      if (before && now && areSameAttributes(before.inode.attributes, now.inode.attributes)) return undefined
    }
    return { before, now }
  }

  async #named(place: NamedPlace, entry: ObjectEntry, side: Side): Promise<Named | undefined> {
    const parent = await this.#pathOf(place.parent, side)
    if (!parent) return undefined
    const inode = await this.#inode(entry.inode, side)
    assert(inode?.kind === 'object', `inode ${entry.inode} of an entry`)
    return { path: { bucketId: parent.bucketId, key: parent.key + place.name }, id: entry.inode, inode }
  }

  async #inode(id: InodeId, side: Side): Promise<Inode | undefined> {
    const key = inodeKey(id)
    const row = side === 'before' ? await this.#tx.before(key) : await this.#tx.get(key)
    return row && decodeInode(row)
  }

  /** Of a directory; undefined when it is not in an attached bucket. */
  async #pathOf(directory: InodeId, side: Side): Promise<Path | undefined> {
    const known = this.#directories[side].get(directory)
    if (known !== undefined) return known ?? undefined
    const found = await this.#findPath(directory, side)
    this.#directories[side].set(directory, found ?? null)
    return found
  }

  async #findPath(directory: InodeId, side: Side): Promise<Path | undefined> {
    const inode = await this.#inode(directory, side)
    if (inode?.kind !== 'directory') return undefined
    if (inode.parent === 0) {
      return this.#buckets.roots.has(directory) ? { bucketId: directory, key: '' } : undefined
    }
    const above = await this.#pathOf(inode.parent, side)
    return above && { bucketId: above.bucketId, key: above.key + inode.name }
  }

  async #mark({ before, now }: ChangedPlace, nowAt: ReadonlyMap<InodeId, Named>): Promise<void> {
    if (before) {
      const outside = outsideOf(before.inode)
      const clean = outside?.key === before.path.key ? outside.base : ABSENT
      await this.#touch(before.path, clean)
      // Where it lies outside, if it was renamed with its directory.
      if (outside && outside.key !== before.path.key) {
        await this.#ensure({ bucketId: before.path.bucketId, key: outside.key }, outside.base)
      }
      await this.#needs(before, nowAt.get(before.id), outside?.key)
      if (before.inode.twin) await this.#forgetTwin(before.id)
    }
    if (!now || (before && before.path.key === now.path.key)) return
    const { keyBytesMax } = this.#buckets.limits
    if (now.path.key.length > keyBytesMax) throw keyTooLong(now.path.key.length, keyBytesMax)
    await this.#touch(now.path, undefined)
  }

  /**
   * The dirty row of the key where it lies says so from now on, and goes when nothing lies there any more: nobody needs that, so it may go long before this is
   * carried out under another name.
   */
  async #forgetTwin(id: InodeId): Promise<void> {
    const inode = await this.#inode(id, 'now')
    if (inode?.kind !== 'object' || !inode.twin) return
    this.#tx.rewrite(inodeKey(id), encodeInode({ ...inode, twin: undefined }))
  }

  /** What an object needs that is not where its bytes lie outside. One that stays where it was has said so when it came there. */
  async #needs(before: Named, now: Named | undefined, outsideKey: string | undefined): Promise<void> {
    const isAtHome = outsideKey === undefined || outsideKey === before.path.key
    if (isAtHome && now?.path.key === before.path.key) return
    // Without a name it is kept while somebody has it open.
    const inode = now?.inode ?? (await this.#inode(before.id, 'now'))
    if (inode?.kind !== 'object') return
    const { bucketId } = before.path
    for (const { key: text, etag, size } of await objectsOutside(this.#tx, inode.body)) {
      const key = utf8Bytes(text)
      if (key === now?.path.key) continue
      await this.#ensure({ bucketId, key }, { kind: 'etag', etag, size })
      await this.#needed({ bucketId, key }, before.id)
    }
  }

  /** `base`: what lies outside, of a key that was clean; undefined: nothing was here. */
  async #touch(path: Path, base: BaseRecord | undefined): Promise<void> {
    const row = await this.#row(path)
    if (row) {
      this.#set(path, { ...row, revision: this.#tx.revision + 1 })
      return
    }
    const held = base ?? ABSENT
    const by = held.kind === 'absent' ? await this.#heldAt(path) : undefined
    this.#set(path, this.#fresh(path, by?.base ?? held, by ? [by.id] : []))
  }

  async #ensure(path: Path, base: BaseRecord): Promise<void> {
    if (!(await this.#row(path))) this.#set(path, this.#fresh(path, base, []))
  }

  async #needed(path: Path, inode: InodeId): Promise<void> {
    const row = await this.#row(path)
    assert(row, 'a key that something went from is dirty')
    if (!row.neededBy.includes(inode)) this.#set(path, { ...row, neededBy: [...row.neededBy, inode] })
  }

  /** The object that went with its directory, and lies outside at this key still. */
  async #heldAt({ bucketId, key }: Path): Promise<{ id: InodeId; base: BaseRecord } | undefined> {
    const origins = await this.#originsOf(bucketId)
    for (const { prefix, inode: directory } of origins) {
      if (!key.startsWith(prefix)) continue
      const found = await findBelow(this.#tx, directory, key.slice(prefix.length))
      const outside = found && outsideOf(found.inode)
      if (found && outside?.key === key) return { id: found.id, base: outside.base }
    }
    return undefined
  }

  async #originsOf(bucketId: number): Promise<readonly Origin[]> {
    const known = this.#origins.get(bucketId)
    if (known) return known
    const origins = originsOf(await readMoves(this.#tx, bucketId))
    this.#origins.set(bucketId, origins)
    return origins
  }

  #fresh({ key }: Path, base: BaseRecord, neededBy: readonly InodeId[]): DirtyRecord {
    const { nowMs } = this.#buckets
    const revision = this.#tx.revision + 1
    return { key: utf8Text(key), base, sinceMs: nowMs, revision, neededBy, conflict: undefined }
  }

  async #row({ bucketId, key }: Path): Promise<DirtyRecord | undefined> {
    const rowKey = dirtyKey(bucketId, key)
    const known = this.#rows.get(rowKey)
    if (known) return known.dirty
    const row = await this.#tx.get(rowKey)
    if (!row) return undefined
    const dirty = decodeDirty(rowKey, row)
    this.#rows.set(rowKey, { bucketId, dirty, isChanged: false })
    return dirty
  }

  #set({ bucketId, key }: Path, dirty: DirtyRecord): void {
    this.#rows.set(dirtyKey(bucketId, key), { bucketId, dirty, isChanged: true })
  }

  /** A row of table `Z m` for a directory that is elsewhere now. */
  async #traceMove(id: InodeId): Promise<DirtyChange | undefined> {
    const [before, now] = [await this.#inode(id, 'before'), await this.#inode(id, 'now')]
    if (before?.kind !== 'directory' || now?.kind !== 'directory') return undefined
    if (before.parent === now.parent && before.name === now.name) return undefined
    const [from, to] = [await this.#pathOf(id, 'before'), await this.#pathOf(id, 'now')]
    if (!from || !to) return undefined
    assert(from.bucketId === to.bucketId, 'a directory stays in its bucket')
    const [last] = await this.#tx.scan(prefixRange(movesPrefix(to.bucketId)), 1, true)
    const number = Math.max(this.#tx.revision + 1, last ? moveIdOf(last.key) + 1 : 0)
    const { nowMs } = this.#buckets
    const move = { inode: id, startedMs: nowMs, keys: 0, from: from.key, to: to.key, position: '', isWalked: false }
    this.#tx.put(moveKey(to.bucketId, number), encodeMove(move))
    return { bucketId: to.bucketId, key: utf8Text(to.key) }
  }
}

/** A directory's name ends in a slash; a name of no bytes is a marker object, whose parent's bytes may end in one by chance. */
function isObjectEntryKey(key: string): boolean {
  return key.startsWith(ENTRIES) && (key.length === ENTRY_NAME_AT || !key.endsWith('/'))
}

/** Its key in bytes. */
function outsideOf(inode: ObjectInode): { readonly key: string; readonly base: BaseRecord } | undefined {
  const outside = lastOutside(inode)
  return outside && { key: utf8Bytes(outside.key), base: { kind: 'etag', etag: outside.etag, size: outside.size } }
}

function objectEntry(row: Uint8Array | undefined): ObjectEntry | undefined {
  const entry = row && decodeEntry(row)
  return entry?.kind === 'object' ? entry : undefined
}
