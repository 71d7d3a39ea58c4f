/**
 * Renames of directories that are not written down as dirty keys yet (`Z m`). Outside, what lay below still lies under its old keys, and no dirty row
 * says that it went from here: until the rename is written down, such a key is *held* by the object that was renamed with its directory.
 *
 * A directory may be renamed again, or out of one that was renamed: then keys lie outside under what its name was before all that. So the
 * row of a rename stays until those that came out of its target are written down too (step-move.ts).
 */
import { utf8Text, type InodeId } from '../../../common/ids.ts'
import type { ReadView } from '../../ports.ts'
import { entryKey, prefixRange } from '../keys.ts'
import { splitKey } from '../names.ts'
import { decodeEntry, type ObjectInode } from '../records-objects.ts'
import { directoryInode } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { lastOutside } from './bodies.ts'
import type { MirrorContext } from './mirror-context.ts'
import { decodeMove, moveIdOf, movesPrefix, type MoveRecord } from './rows.ts'
import type { DirectoryMove } from './types.ts'

const MOVES_PER_SCAN = 256

export interface StoredMove extends MoveRecord {
  readonly id: number
}

/** In the order in which they were made. */
export async function readMoves(view: ReadView, bucketId: number): Promise<StoredMove[]> {
  const moves: StoredMove[] = []
  const { start, end } = prefixRange(movesPrefix(bucketId))
  for (let from = start; ;) {
    const rows = await view.scan({ start: from, end }, MOVES_PER_SCAN)
    for (const { key, value } of rows) moves.push({ id: moveIdOf(key), ...decodeMove(value) })
    const last = rows.at(-1)
    if (!last || rows.length < MOVES_PER_SCAN) return moves
    from = `${last.key}\0` as typeof start
  }
}

export function moves(context: MirrorContext, bucketId: number): Promise<readonly DirectoryMove[]> {
  return context.store.read(async (view) => {
    const stored = await readMoves(view, bucketId)
    return stored.map(({ id, from, to, startedMs, keys }) => {
      return { id, from: utf8Text(from), to: utf8Text(to), startedMs, keys }
    })
  })
}

/** A prefix under which keys lie outside, and the directory that they were renamed with, wherever it is now. */
export interface Origin {
  readonly prefix: string
  readonly inode: InodeId
}

export function originsOf(stored: readonly StoredMove[]): Origin[] {
  const origins: (Origin & { readonly to: string })[] = []
  for (const { from, to, inode } of stored) {
    const before = origins.filter((origin) => from.startsWith(origin.to))
    const prefixes = [from, ...before.map((origin) => origin.prefix + from.slice(origin.to.length))]
    for (const prefix of prefixes) origins.push({ prefix, inode, to })
  }
  return origins
}

/** Whether a key outside is what an object here was renamed from. */
export async function isHeld(view: ReadView, origins: readonly Origin[], key: string): Promise<boolean> {
  for (const { prefix, inode } of origins) {
    if (!key.startsWith(prefix)) continue
    const found = await findBelow(view, inode, key.slice(prefix.length))
    if (found && lastOutside(found.inode)?.key === utf8Text(key)) return true
  }
  return false
}

/** The object at a path below a directory, wherever that is. */
export async function findBelow(
  view: ReadView,
  directory: InodeId,
  path: string,
): Promise<{ readonly id: InodeId; readonly inode: ObjectInode } | undefined> {
  const { directories, name } = splitKey(path)
  let parent = directory
  for (const component of directories) {
    const row = await view.get(entryKey(parent, component))
    if (!row) return undefined
    parent = directoryInode(row)
  }
  const row = await view.get(entryKey(parent, name))
  const entry = row && decodeEntry(row)
  if (entry?.kind !== 'object') return undefined
  return { id: entry.inode, inode: await readObjectInode(view, entry.inode) }
}
