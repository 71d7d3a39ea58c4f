/** Taking names away: of files, of directories, and the inode that was kept because it was open. */
import { TidegateError, isTidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { deleteBucket } from '../buckets.ts'
import { leaseInodes, nothingWritten, type Commit, type NamespaceContext, type Step } from '../context.ts'
import { expire } from '../expire.ts'
import {
  ENTRY_NAME_AT,
  ORPHANS,
  entriesPrefix,
  entryKey,
  inodeKey,
  integerAt,
  orphanKey,
  orphansPrefix,
  prefixEnd,
  prefixRange,
} from '../keys.ts'
import { decodeInode, type ObjectEntry } from '../records-objects.ts'
import { currentEntry, isUnlisted, keepsVersions, settle, type Place } from '../tree.ts'
import { discardCurrent } from '../versions.ts'
import { beginInDirectory, mustResolve, placeIn, type FileDirectory } from './directory.ts'
import { deleteInode, linksOf } from './links.ts'
import { isDirectoryError, noSuchName, notDirectoryError, notEmptyError } from './names.ts'
import { MOUNT_ROOT } from './types.ts'
import { IDS_FOR_CHANGE, changeDirectory, coverWithMarker, ended } from './write-object.ts'
import { readVisible, transactVisible } from './visible.ts'

const EXPIRY_STEPS_MAX = 4096

/** `gone`: no name is left, so the inode is, or with `keep` waits for `dropFile`. An older version of a name counts as one. */
export async function removeFile(
  context: NamespaceContext,
  parent: InodeId,
  name: ByteString,
  options: { readonly keep: boolean; readonly owner: string },
): Promise<Commit<{ readonly inode: InodeId; readonly gone: boolean }>> {
  if (parent === MOUNT_ROOT) throw isDirectoryError(name)
  const ids = await leaseInodes(context, 1 + IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory } = await beginInDirectory(context, tx, { parent, ids })
    const found = await mustResolve(tx, { parent, name, nowMs: step.nowMs })
    if (found.kind === 'directory') throw isDirectoryError(name)
    step.keepInode = (inode) => options.keep || context.keepInode(inode)
    await changeDirectory(step, directory, options.owner)
    await removeObject(step, placeIn(directory, found.name), { current: found.entry, owner: options.owner })
    return ended(step, { inode: found.inode, gone: await isUnlinked(step, found.inode) })
  })
}

/** By S3's rules: a bucket that keeps versions keeps this one. */
export async function removeObject(
  step: Step,
  place: Place,
  removed: { readonly current: ObjectEntry; readonly owner: string },
): Promise<void> {
  if (keepsVersions(step.bucket)) return coverWithMarker(step, place, removed)
  step.tx.delete(entryKey(place.parent, place.name))
  await discardCurrent(step, place, removed.current)
}

export async function isUnlinked(step: Step, id: InodeId): Promise<boolean> {
  const row = await step.tx.get(inodeKey(id))
  const inode = row && decodeInode(row)
  return inode?.kind !== 'object' || linksOf(inode) === 0
}

export async function removeDirectory(
  context: NamespaceContext,
  parent: InodeId,
  name: ByteString,
): Promise<Commit<void>> {
  if (parent === MOUNT_ROOT) return removeBucket(context, name)
  try {
    return await removeEmpty(context, parent, name)
  } catch (error) {
    // What has expired is not shown, so it must not hold a directory.
    if (!isTidegateError(error, 'DirectoryNotEmpty') || !(await expireAll(context))) throw error
  }
  return removeEmpty(context, parent, name).catch((error: unknown) => {
    // With the last of what had expired, a directory that S3 made went by itself.
    if (isTidegateError(error, 'NoSuchKey')) return nothingWritten(context, undefined)
    throw error
  })
}

async function expireAll(context: NamespaceContext): Promise<boolean> {
  let steps = 0
  while (steps < EXPIRY_STEPS_MAX && (await expire(context)).value.expired > 0) steps++
  return steps > 0
}

async function removeEmpty(context: NamespaceContext, parent: InodeId, name: ByteString): Promise<Commit<void>> {
  const ids = await leaseInodes(context, 1 + IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory } = await beginInDirectory(context, tx, { parent, ids })
    const found = await mustResolve(tx, { parent, name, nowMs: step.nowMs })
    if (found.kind !== 'directory') throw notDirectoryError(name)
    await changeDirectory(step, directory)
    await removeEmptyDirectory(step, directory, found)
    return ended(step, undefined)
  })
}

/** The parent is explicit already. @throws DirectoryNotEmpty */
async function removeEmptyDirectory(
  step: Step,
  parent: FileDirectory,
  found: { readonly name: string; readonly inode: InodeId },
): Promise<void> {
  const { place, current } = await onlyMarker(step, parent, found)
  await removeObject(step, place, { current, owner: step.bucket.owner })
  await settle(step, place)
}

/** As if it had never been, also where versions are kept: there must be none below it. @throws DirectoryNotEmpty */
export async function discardEmptyDirectory(
  step: Step,
  parent: FileDirectory,
  found: { readonly name: string; readonly inode: InodeId },
): Promise<void> {
  const marker = await onlyMarker(step, parent, found)
  step.tx.delete(entryKey(marker.place.parent, ''))
  await discardCurrent(step, marker.place, marker.current)
  await settle(step, marker.place)
}

/** Nothing but its marker. */
async function onlyMarker(
  step: Step,
  parent: FileDirectory,
  { name, inode }: { readonly name: string; readonly inode: InodeId },
): Promise<{ place: Place; current: ObjectEntry }> {
  const rows = await step.tx.scan(prefixRange(entriesPrefix(inode)), 2)
  const directories = [...parent.directories, { parent: parent.inode, name, inode, state: 'live' } as const]
  const place: Place = { parent: inode, name: '', directories, isNew: false }
  const current = await currentEntry(step.tx, place)
  if (!current || rows.some((row) => row.key.length > ENTRY_NAME_AT)) throw notEmptyError(name)
  if (await isUnlisted(step, inode)) {
    throw new TidegateError('Unavailable', `not all is known of what lies in ${JSON.stringify(name)} outside`)
  }
  return { place, current }
}

async function removeBucket(context: NamespaceContext, name: ByteString): Promise<Commit<void>> {
  try {
    return await deleteBucket(context, name)
  } catch (error) {
    if (isTidegateError(error, 'NoSuchBucket')) throw noSuchName(name)
    if (isTidegateError(error, 'BucketNotEmpty')) throw notEmptyError(name)
    throw error
  }
}

/** Nobody has it open on this node any more. Nothing happens while it has a name. */
export function dropFile(context: NamespaceContext, id: InodeId): Promise<Commit<void>> {
  return transactVisible(context, async (tx) => {
    const [row, own] = await tx.getMany([inodeKey(id), orphanKey(id, context.node)])
    if (!row || !own) return
    tx.delete(orphanKey(id, context.node))
    const inode = decodeInode(row)
    const others = await tx.scan(prefixRange(orphansPrefix(id)), 1)
    if (others.length === 0 && inode.kind === 'object' && linksOf(inode) === 0) await deleteInode({ tx }, id, inode)
  })
}

/** Of this node: who else has it open drops it himself. */
export function orphanedFiles(context: NamespaceContext, limit: number): Promise<readonly InodeId[]> {
  const end = prefixEnd(ORPHANS)
  return readVisible(context, async (view) => {
    const found = new Set<InodeId>()
    for (let start = ORPHANS as ByteString; ;) {
      const rows = await view.scan({ start, end }, limit)
      for (const { key } of rows) {
        const inode = integerAt(key, ORPHANS.length)
        if (key === orphanKey(inode, context.node)) found.add(inode)
      }
      const last = rows.at(-1)
      if (last === undefined || rows.length < limit || found.size >= limit) return [...found]
      start = `${last.key}\0` as ByteString
    }
  })
}
