/**
 * rename(2) within a bucket (C26), with its three modes. One transaction moves entries; what lies below a directory is keyed by
 * its inode and stays where it is (../rename.ts). The loop check is made in the transaction, by inodes.
 *
 * In a bucket that keeps versions a file takes its older versions along to a name that has none. A name that has some, or a
 * file that is replaced, gets a new version: what was there is covered by it, and what the old name had before
 * stays there under a delete marker. A directory does not replace one that has versions below it: two such cannot be merged.
 *
 * Watchers are told one event, by `former` rows (../changes.ts); of files that were exchanged, that both keys were put.
 */
import { TidegateError } from '../../../common/errors.ts'
import type { InodeId } from '../../../common/ids.ts'
import { leaseInodes, type Commit, type NamespaceContext, type Step } from '../context.ts'
import { entryKey, formerPlaceKey, hiddenDirectoryKey, prefixRange, versionsPrefix } from '../keys.ts'
import { encodeEntry, encodePlace, type ObjectEntry } from '../records-objects.ts'
import { moveVersions, olderVersions } from '../rename.ts'
import { currentEntry, keepsVersions, type Place } from '../tree.ts'
import { discardCurrent, makeWay, newestInV } from '../versions.ts'
import {
  beginInDirectory,
  checkDepth,
  mustResolve,
  openDirectory,
  placeIn,
  resolveName,
  type FileDirectory,
  type FoundName,
} from './directory.ts'
import { checkNoOlder } from './link.ts'
import { moveName } from './links.ts'
import { checkNewName, isDirectoryError, nameExists, notDirectoryError, notEmptyError } from './names.ts'
import { discardEmptyDirectory, isUnlinked } from './remove.ts'
import { MOUNT_ROOT, type FileName } from './types.ts'
import { IDS_FOR_CHANGE, changeDirectory, coverWithMarker, ended } from './write-object.ts'
import { transactVisible } from './visible.ts'

export interface FileRenameOptions {
  readonly mode: 'replace' | 'no-replace' | 'exchange'
  readonly keep: (inode: InodeId) => boolean
}

export interface Replaced {
  readonly replaced: InodeId | undefined
  readonly gone: boolean
}

const NOTHING_REPLACED: Replaced = { replaced: undefined, gone: false }

/** A name and the directory that it is in. */
interface End<Found> {
  readonly directory: FileDirectory
  readonly found: Found
}

type FoundObject = Extract<FoundName, { kind: 'object' }>
type FoundDirectory = Extract<FoundName, { kind: 'directory' }>

export async function renameFile(
  context: NamespaceContext,
  from: FileName,
  to: FileName,
  options: FileRenameOptions,
): Promise<Commit<Replaced>> {
  checkNewName(to.name)
  if (from.parent === MOUNT_ROOT || to.parent === MOUNT_ROOT) throw crossBucket()
  const ids = await leaseInodes(context, 2 + 2 * IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory: source } = await beginInDirectory(context, tx, { parent: from.parent, ids })
    const target = from.parent === to.parent ? source : await openDirectory(tx, to.parent)
    if (source.bucket !== target.bucket) throw crossBucket()
    checkDepth(context, target, to.name)
    step.keepInode = (inode) => options.keep(inode) || context.keepInode(inode)
    const { nowMs } = step
    const moved = { directory: source, found: await mustResolve(tx, { ...from, nowMs }) }
    const existing =
      options.mode === 'exchange' ? await mustResolve(tx, { ...to, nowMs }) : await resolveName(tx, { ...to, nowMs })
    if (existing && options.mode === 'no-replace') throw nameExists(to.name)
    if (existing?.inode === moved.found.inode) return NOTHING_REPLACED
    checkNoLoop(moved.found, target)
    if (options.mode === 'exchange' && existing) {
      checkNoLoop(existing, source)
      return ended(step, await exchange(step, moved, { directory: target, found: existing }))
    }
    return ended(step, await replace(step, moved, { directory: target, found: existing, name: to.name }))
  })
}

function crossBucket(): TidegateError {
  return new TidegateError('CrossBucket', 'a rename stays in its bucket')
}

/** @throws InvalidArgument */
function checkNoLoop(moved: FoundName, target: FileDirectory): void {
  if (target.directories.some(({ inode }) => inode === moved.inode)) {
    throw new TidegateError('InvalidArgument', `${JSON.stringify(moved.name)} would come to lie under itself`)
  }
}

async function changeBoth(step: Step, source: FileDirectory, target: FileDirectory): Promise<void> {
  await changeDirectory(step, source)
  if (target.inode !== source.inode) await changeDirectory(step, target)
}

async function replace(
  step: Step,
  { directory: source, found: moved }: End<FoundName>,
  to: End<FoundName | undefined> & { readonly name: string },
): Promise<Replaced> {
  const { directory: target, found: existing } = to
  if (moved.kind === 'directory') {
    if (existing?.kind === 'object') throw notDirectoryError(to.name)
    const name = `${to.name}/`
    await changeBoth(step, source, target)
    if (existing) await discardReplaced(step, target, existing)
    step.tx.delete(entryKey(source.inode, moved.name))
    await attachDirectory(step, { directory: source, found: moved }, { directory: target, name })
    return existing ? { replaced: existing.inode, gone: true } : NOTHING_REPLACED
  }
  if (existing?.kind === 'directory') throw isDirectoryError(to.name)
  const name = existing?.name ?? to.name
  await changeBoth(step, source, target)
  await moveObject(step, { from: placeIn(source, moved.name), to: placeIn(target, name), entry: moved.entry })
  if (!existing) return NOTHING_REPLACED
  return { replaced: existing.inode, gone: await isUnlinked(step, existing.inode) }
}

async function discardReplaced(step: Step, target: FileDirectory, existing: FoundDirectory): Promise<void> {
  if (keepsVersions(step.bucket)) {
    const versions = await step.tx.scan(prefixRange(versionsPrefix(existing.inode)), 1)
    if (versions.length > 0) throw notEmptyError(existing.name)
  }
  await discardEmptyDirectory(step, target, existing)
}

/** Puts a directory's entry elsewhere; the old one is deleted already. */
async function attachDirectory(
  step: Step,
  moved: End<FoundDirectory>,
  to: { readonly directory: FileDirectory; readonly name: string },
): Promise<void> {
  const { tx } = step
  const { inode, name } = moved.found
  const target = to.directory.inode
  if (keepsVersions(step.bucket) && (await tx.get(hiddenDirectoryKey(target, to.name)))) throw notEmptyError(to.name)
  const from = { parent: moved.directory.inode, name }
  tx.put(entryKey(target, to.name), encodeEntry({ kind: 'directory', inode }))
  await moveName(step, inode, { from, to: { parent: target, name: to.name } })
  tx.put(formerPlaceKey(inode), encodePlace(from))
}

interface ObjectMove {
  readonly from: Place
  readonly to: Place
  readonly entry: ObjectEntry
}

async function moveObject(step: Step, { from, to, entry }: ObjectMove): Promise<void> {
  const { tx } = step
  const covered = await currentEntry(tx, to)
  tx.delete(entryKey(from.parent, from.name))
  if (!keepsVersions(step.bucket)) {
    if (covered) await discardCurrent(step, to, covered)
    tx.put(entryKey(to.parent, to.name), encodeEntry(entry))
  } else if (covered || (await newestInV(tx, to))) {
    await putAsNewest(step, { to, entry, covered })
    await coverIfLive(step, from)
  } else {
    tx.put(entryKey(to.parent, to.name), encodeEntry(entry))
    await moveVersions(step, { source: from, target: to, older: await olderVersions(step, from) })
  }
  await moveName(step, entry.inode, { from, to })
  tx.put(formerPlaceKey(entry.inode), encodePlace(from))
}

/** As a new version of what the place has, where versions are kept. */
async function putAsNewest(
  step: Step,
  { to, entry, covered }: { to: Place; entry: ObjectEntry; covered: ObjectEntry | undefined },
): Promise<void> {
  await checkNoOlder(step, to, entry.inode)
  const { version, isNull } = await makeWay(step, to, covered)
  step.tx.put(entryKey(to.parent, to.name), encodeEntry({ ...entry, version, isNull }))
}

/** A name that has no current version any more, but older ones: a delete marker is the newest. */
async function coverIfLive(step: Step, place: Place): Promise<void> {
  const newest = await newestInV(step.tx, place)
  if (newest?.kind === 'object') await coverWithMarker(step, place, { current: undefined, owner: step.bucket.owner })
}

async function exchange(step: Step, a: End<FoundName>, b: End<FoundName>): Promise<Replaced> {
  const nameAtB = b.found.name.replace(/\/$/, '')
  const nameAtA = a.found.name.replace(/\/$/, '')
  await checkExchange(step, a, { ...b, name: nameAtB })
  await checkExchange(step, b, { ...a, name: nameAtA })
  await changeBoth(step, a.directory, b.directory)
  for (const { directory, found } of [a, b]) step.tx.delete(entryKey(directory.inode, found.name))
  await attach(step, a, { directory: b.directory, name: nameAtB })
  await attach(step, b, { directory: a.directory, name: nameAtA })
  if (keepsVersions(step.bucket) && a.found.kind !== b.found.kind) {
    for (const { directory, found } of [a, b]) {
      if (found.kind === 'object') await coverIfLive(step, placeIn(directory, found.name))
    }
  }
  return NOTHING_REPLACED
}

/** A file and a directory that change places may meet an object or directory that S3 has beside the other (names.ts). */
async function checkExchange(
  step: Step,
  moved: End<FoundName>,
  to: End<FoundName> & { readonly name: string },
): Promise<void> {
  const name = moved.found.kind === 'directory' ? `${to.name}/` : to.name
  if (moved.found.kind === to.found.kind) return
  if (await step.tx.get(entryKey(to.directory.inode, name))) throw nameExists(to.name)
}

async function attach(
  step: Step,
  { directory, found }: End<FoundName>,
  to: { readonly directory: FileDirectory; readonly name: string },
): Promise<void> {
  if (found.kind === 'directory') {
    await attachDirectory(step, { directory, found }, { ...to, name: `${to.name}/` })
    return
  }
  await attachObject(step, { directory, found }, to)
}

async function attachObject(
  step: Step,
  { directory, found }: End<FoundObject>,
  to: { readonly directory: FileDirectory; readonly name: string },
): Promise<void> {
  const place = placeIn(to.directory, to.name)
  if (keepsVersions(step.bucket)) await putAsNewest(step, { to: place, entry: found.entry, covered: undefined })
  else step.tx.put(entryKey(place.parent, place.name), encodeEntry(found.entry))
  await moveName(step, found.inode, { from: { parent: directory.inode, name: found.name }, to: place })
}
