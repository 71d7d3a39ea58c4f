/**
 * The names of an inode (C10, C28): the first lies in its record, further ones in table L, and `links` counts them. An inode
 * whose last name goes is deleted with its content, or, when somebody has it open, kept as an orphan (table O).
 */
import { assert, must } from '../../../common/assert.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { Step } from '../context.ts'
import {
  LINK_NAME_AT,
  LINK_PARENT_AT,
  inodeKey,
  integerAt,
  leftAttributesKey,
  linkKey,
  linksPrefix,
  orphanKey,
  prefixRange,
} from '../keys.ts'
import { decodeInode, encodeInode, type NamedPlace, type ObjectInode } from '../records-objects.ts'
import { dropReference } from '../references.ts'
import { posixOf, timeOfMs } from './posix-part.ts'

const NO_VALUE = new Uint8Array(0)

/** C28. */
export const LINKS_MAX = 64

export function linksOf(inode: ObjectInode): number {
  return inode.posix?.links ?? 1
}

/** An entry of the inode at this place goes, and its row is the caller's to delete: what becomes of the inode. */
export async function removeName(
  step: Step,
  named: { readonly id: InodeId; readonly inode: ObjectInode; readonly place: NamedPlace },
): Promise<void> {
  const { id, inode, place } = named
  if (linksOf(inode) > 1) return removeFurtherName(step, named)
  assert(isFirstName(inode, place), `inode ${id} knows its only name`)
  step.objectsDelta -= 1
  step.bytesDelta -= inode.size
  if (!step.keepInode(id)) return deleteInode(step, id, inode)
  const posix = posixOf(inode, step.context.files)
  const changed = timeOfMs(step.nowMs)
  // What an external body is, its bucket says: so the orphan stays in that.
  const parent = step.bucket.isAttached ? step.bucket.root : 0
  step.tx.put(inodeKey(id), encodeInode({ ...inode, parent, name: '', posix: { ...posix, links: 0, changed } }))
  step.tx.put(orphanKey(id, step.context.node), NO_VALUE)
}

async function removeFurtherName(
  step: Step,
  { id, inode, place }: { readonly id: InodeId; readonly inode: ObjectInode; readonly place: NamedPlace },
): Promise<void> {
  const old = posixOf(inode, step.context.files)
  const posix = { ...old, links: old.links - 1, changed: timeOfMs(step.nowMs) }
  if (!isFirstName(inode, place)) {
    step.tx.delete(linkKey(id, place.parent, place.name))
    step.tx.put(inodeKey(id), encodeInode({ ...inode, posix }))
    return
  }
  const [promoted] = await step.tx.scan(prefixRange(linksPrefix(id)), 1)
  const row = must(promoted, `a further name of inode ${id}`)
  step.tx.delete(row.key)
  step.tx.put(inodeKey(id), encodeInode({ ...inode, ...linkedPlace(row.key), posix }))
}

/** Nothing refers to it any more. */
export async function deleteInode(step: Pick<Step, 'tx'>, id: InodeId, inode: ObjectInode): Promise<void> {
  step.tx.delete(inodeKey(id))
  if (inode.body.kind === 'content') await dropReference(step.tx, inode.body.content)
  if (inode.posix && inode.posix.attributesBytes > 0) step.tx.put(leftAttributesKey(id), NO_VALUE)
}

/** One of its names is another from now on; the entries are the caller's to move. */
export async function moveName(step: Step, id: InodeId, move: { from: NamedPlace; to: NamedPlace }): Promise<void> {
  const inode = decodeInode(must(await step.tx.get(inodeKey(id)), `inode ${id}`))
  const changed = timeOfMs(step.nowMs)
  const posix = inode.posix && { ...inode.posix, changed }
  const { parent, name } = move.to
  if (inode.kind === 'directory') {
    step.tx.put(inodeKey(id), encodeInode({ ...inode, parent, name, posix }))
    return
  }
  if (isFirstName(inode, move.from)) {
    step.tx.put(inodeKey(id), encodeInode({ ...inode, parent, name, posix }))
    return
  }
  step.tx.delete(linkKey(id, move.from.parent, move.from.name))
  step.tx.put(linkKey(id, parent, name), NO_VALUE)
  step.tx.put(inodeKey(id), encodeInode({ ...inode, posix }))
}

export function addLinkRow(step: Step, id: InodeId, place: NamedPlace): void {
  step.tx.put(linkKey(id, place.parent, place.name), NO_VALUE)
}

function isFirstName(inode: NamedPlace, place: NamedPlace): boolean {
  return inode.parent === place.parent && inode.name === place.name
}

/** What a key of table L names. */
export function linkedPlace(key: string): NamedPlace {
  return { parent: integerAt(key, LINK_PARENT_AT), name: key.slice(LINK_NAME_AT) }
}
