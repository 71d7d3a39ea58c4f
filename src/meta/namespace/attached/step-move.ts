/**
 * A rename of a directory, written down key by key. The rename itself was one row; now each object below the directory gets the dirty rows that a
 * rename of its own would have left: its new key, where nothing lies outside yet, and the key where its bytes lie outside still,
 * which must not go before they have arrived.
 *
 * In bounded steps, in the order of the keys below the directory, wherever it lies by now; the row of the rename says how far. What
 * comes into the directory or changes in it meanwhile leaves traces of its own (tracing.ts). A step that is done twice does nothing more.
 *
 * The row goes when all is written down and no later rename took a directory out of this one's target: those find through it where
 * their objects lie outside (moves.ts). Until then a step of this rename is one of theirs.
 */
import { assert } from '../../../common/assert.ts'
import { utf8Bytes, utf8Text, type InodeId } from '../../../common/ids.ts'
import type { Transaction } from '../../ports.ts'
import type { Commit } from '../context.ts'
import { inodeKey } from '../keys.ts'
import { decodeInode, encodeInode, type ObjectInode } from '../records-objects.ts'
import { pathOf } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { ObjectWalk } from '../walk.ts'
import { lastOutside, objectsOutside } from './bodies.ts'
import type { MirrorContext } from './mirror-context.ts'
import { findBelow, originsOf, readMoves, type Origin, type StoredMove } from './moves.ts'
import { decodeDirty, dirtyKey, encodeDirty, encodeMove, moveKey, type BaseRecord, type DirtyRecord } from './rows.ts'
import type { DirtyChange } from './types.ts'

/** Of one step: some milliseconds of the event loop. */
const OBJECTS_MAX = 256
/** Its new key, the key of its directory before, where a body in pieces may lie, and its inode. */
const OPERATIONS_PER_OBJECT = 7
const OPERATIONS_RESERVED = 8

interface Stepped {
  readonly done: boolean
  /** Keys written down by this step. */
  readonly keys: number
  readonly changes: readonly DirtyChange[]
}

const GONE: Stepped = { done: true, keys: 0, changes: [] }

export async function stepMove(
  context: MirrorContext,
  bucketId: number,
  id: number,
): Promise<Commit<{ readonly done: boolean; readonly keys: number }>> {
  const committed = await context.store.transact(async (tx) => {
    const moves = await readMoves(tx, bucketId)
    const move = moves.find((one) => one.id === id)
    return move ? step(new MoveWriter(context, tx, { bucketId, moves }), { moves, move }) : GONE
  })
  const { done, keys, changes } = committed.value
  context.tracked.tell(changes)
  return { ...committed, value: { done, keys } }
}

async function step(
  writer: MoveWriter,
  { moves, move }: { readonly moves: readonly StoredMove[]; readonly move: StoredMove },
): Promise<Stepped> {
  if (!move.isWalked) return writer.walk(move)
  const later = moves.find((one) => one.id > move.id && one.from.startsWith(move.to))
  if (later) return { ...(await step(writer, { moves, move: later })), done: false }
  writer.finish(move)
  return GONE
}

class MoveWriter {
  readonly #context: MirrorContext
  readonly #tx: Transaction
  readonly #bucketId: number
  readonly #origins: readonly Origin[]
  readonly #changes: DirtyChange[] = []
  readonly #nowMs: number
  #operations = 0

  constructor(
    context: MirrorContext,
    tx: Transaction,
    { bucketId, moves }: { readonly bucketId: number; readonly moves: readonly StoredMove[] },
  ) {
    this.#context = context
    this.#tx = tx
    this.#bucketId = bucketId
    this.#origins = originsOf(moves)
    this.#nowMs = context.clock.nowMs()
  }

  finish(move: StoredMove): void {
    this.#tx.delete(moveKey(this.#bucketId, move.id))
  }

  async walk(move: StoredMove): Promise<Stepped> {
    const path = await this.#pathNow(move.inode)
    const from = move.position === '' ? '' : `${move.position}\0`
    let position = move.position
    let keys = 0
    let isWalked = true
    if (path !== undefined) {
      const start = { inode: move.inode, path: '', namePrefix: '', from, enter: true, nowMs: 0 }
      const walk = await ObjectWalk.begin(this.#tx, start, OBJECTS_MAX)
      for (let item = await walk.next(); item; item = await walk.next()) {
        if (keys >= OBJECTS_MAX || this.#isFull(keys)) {
          isWalked = false
          break
        }
        assert(item.entry.kind === 'object', 'a walk that enters directories shows objects')
        await this.#writeDown(path + item.key, item.entry.inode)
        position = item.key
        keys++
      }
    }
    const { id, ...record } = move
    const stepped = { ...record, position, keys: move.keys + keys, isWalked }
    this.#tx.put(moveKey(this.#bucketId, id), encodeMove(stepped))
    return { done: false, keys, changes: this.#changes }
  }

  /** One object is always done. */
  #isFull(keys: number): boolean {
    const left = this.#context.store.limits.operationsMax - this.#operations - OPERATIONS_RESERVED
    return keys > 0 && left < OPERATIONS_PER_OBJECT
  }

  /** Key of the directory in its bucket; undefined when it is gone. */
  async #pathNow(inode: InodeId): Promise<string | undefined> {
    const row = await this.#tx.get(inodeKey(inode))
    const record = row && decodeInode(row)
    if (record?.kind !== 'directory') return undefined
    return (await pathOf(this.#tx, record)).key
  }

  async #writeDown(key: string, id: InodeId): Promise<void> {
    const inode = await readObjectInode(this.#tx, id)
    const outside = await objectsOutside(this.#tx, inode.body)
    // It came back to where it lies outside.
    if (utf8Bytes(lastOutside(inode)?.key ?? '') === key) return
    await this.#dirtyThere(key)
    await this.#dirtyBefore(id, inode)
    for (const object of outside) {
      const at = utf8Bytes(object.key)
      if (at !== key) await this.#needed(at, { base: { kind: 'etag', etag: object.etag, size: object.size }, id })
    }
  }

  /** The key that it has now. */
  async #dirtyThere(key: string): Promise<void> {
    const known = await this.#row(key)
    const revision = this.#tx.revision + 1
    if (known) return this.#put(key, { ...known, revision })
    const held = await this.#heldAt(key)
    const neededBy = held ? [held.id] : []
    this.#put(key, { ...this.#fresh(key, held?.base ?? { kind: 'absent' }), neededBy })
  }

  /** A body that is kept here, and was clean under its directory's former name, lies there outside: which that key's row says from now on. */
  async #dirtyBefore(id: InodeId, inode: ObjectInode): Promise<void> {
    const { twin } = inode
    if (!twin) return
    const before = utf8Bytes(twin.key)
    const base = { kind: 'etag', etag: twin.etag, size: twin.size } as const
    if (!(await this.#row(before))) this.#put(before, this.#fresh(before, base))
    this.#tx.rewrite(inodeKey(id), encodeInode({ ...inode, twin: undefined }))
    this.#operations++
  }

  /** What lies outside at this key is the only copy of the inode's bytes, or may be. */
  async #needed(key: string, { base, id }: { readonly base: BaseRecord; readonly id: InodeId }): Promise<void> {
    const known = await this.#row(key)
    if (known?.neededBy.includes(id)) return
    const dirty = known ?? this.#fresh(key, base)
    this.#put(key, { ...dirty, neededBy: [...dirty.neededBy, id] })
  }

  /** What another object, renamed with its directory, has left at the key outside. */
  async #heldAt(key: string): Promise<{ readonly base: BaseRecord; readonly id: InodeId } | undefined> {
    for (const { prefix, inode: directory } of this.#origins) {
      if (!key.startsWith(prefix)) continue
      const found = await findBelow(this.#tx, directory, key.slice(prefix.length))
      const outside = found && lastOutside(found.inode)
      if (!outside || utf8Bytes(outside.key) !== key) continue
      return { id: found.id, base: { kind: 'etag', etag: outside.etag, size: outside.size } }
    }
    return undefined
  }

  async #row(key: string): Promise<DirtyRecord | undefined> {
    const rowKey = dirtyKey(this.#bucketId, key)
    const row = await this.#tx.get(rowKey)
    return row && decodeDirty(rowKey, row)
  }

  #fresh(key: string, base: BaseRecord): DirtyRecord {
    const revision = this.#tx.revision + 1
    return { key: utf8Text(key), base, sinceMs: this.#nowMs, revision, neededBy: [], conflict: undefined }
  }

  #put(key: string, dirty: DirtyRecord): void {
    this.#tx.put(dirtyKey(this.#bucketId, key), encodeDirty(dirty))
    this.#operations++
    this.#changes.push({ bucketId: this.#bucketId, key: dirty.key })
  }
}
