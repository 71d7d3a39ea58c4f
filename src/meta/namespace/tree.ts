/**
 * The directories of a key: finding them, making them, and letting them go.
 *
 * A directory is *live* (a D row: there is a live object below), *hidden* (a V row: only older versions and delete markers below,
 * C25) or gone. What it should be follows from what it holds: live if it has a D row, else hidden if it has a V row, else
 * gone. Every transaction that takes something out of a directory re-establishes that upwards (`settle`), comparing one surviving
 * child at each level (C8), and stops at the first level where nothing changes. A hidden directory has only hidden ones
 * below it, so its descendants are looked up in V alone.
 *
 * There is no special case for a marker object: it is the entry with the empty name, so a directory that has one is not empty.
 */
import { assert, must } from '../../common/assert.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { BucketRecord } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import { unlistedKey } from './attached/rows.ts'
import type { Step } from './context.ts'
import {
  entriesPrefix,
  entryKey,
  hiddenDirectoryKey,
  formerPlaceKey,
  inodeKey,
  prefixRange,
  versionsOfNamePrefix,
  versionsPrefix,
} from './keys.ts'
import { splitKey } from './names.ts'
import { decodeEntry, decodeInode, encodeEntry, encodeInode, encodePlace, type ObjectEntry } from './records-objects.ts'

export interface Directory {
  readonly parent: InodeId
  /** With its slash. */
  readonly name: string
  readonly inode: InodeId
  readonly state: DirectoryState
}

export type DirectoryState = 'live' | 'hidden'

/** Where an object's entries lie. */
export interface Place {
  readonly parent: InodeId
  readonly name: string
  /** From the root's child down to the parent. */
  readonly directories: readonly Directory[]
  /** The parent was made by this transaction: nothing can lie there yet. */
  readonly isNew: boolean
}

/** Whether older versions and delete markers may exist: never in a bucket that was never versioned. */
export function keepsVersions(bucket: BucketRecord): boolean {
  return bucket.versioning !== 'off'
}

/** The place of a key; undefined when a directory on the way does not exist. */
export async function findPlace(view: ReadView, bucket: BucketRecord, key: string): Promise<Place | undefined> {
  const path = splitKey(key)
  const directories: Directory[] = []
  let parent = bucket.root
  let state: DirectoryState = 'live'
  for (const name of path.directories) {
    const found: Directory | undefined = await findDirectory(view, { bucket, parent, name, under: state })
    if (!found) return undefined
    directories.push(found)
    parent = found.inode
    state = found.state
  }
  return { parent, name: path.name, directories, isNew: false }
}

export async function findDirectory(
  view: ReadView,
  where: { bucket: BucketRecord; parent: InodeId; name: string; under: DirectoryState },
): Promise<Directory | undefined> {
  const { parent, name } = where
  if (where.under === 'live') {
    const row = await view.get(entryKey(parent, name))
    if (row) return { parent, name, inode: directoryInode(row), state: 'live' }
  }
  if (!keepsVersions(where.bucket)) return undefined
  const row = await view.get(hiddenDirectoryKey(parent, name))
  return row && { parent, name, inode: directoryInode(row), state: 'hidden' }
}

/** Of the row of a name with a slash. */
export function directoryInode(row: Uint8Array): InodeId {
  const entry = decodeEntry(row)
  assert(entry.kind === 'directory', 'a name with a slash is a directory')
  return entry.inode
}

/**
 * The place of a key, its directories made or brought back as need be. `as` is what a missing one becomes: live for an
 * object, hidden for a delete marker. Existing ones are made live too when `as` is live.
 */
export async function makePlace(step: Step, key: string, as: DirectoryState): Promise<Place> {
  const path = splitKey(key)
  const directories: Directory[] = []
  let parent = step.bucket.root
  let under: DirectoryState = 'live'
  let isNew = false
  for (const name of path.directories) {
    const found: Directory | undefined = isNew
      ? undefined
      : await findDirectory(step.tx, { bucket: step.bucket, parent, name, under })
    isNew ||= found === undefined
    const directory: Directory = found ?? makeChild(step, { parent, name, state: as })
    under = directory.state
    directories.push(directory)
    parent = directory.inode
  }
  const place = { parent, name: path.name, directories, isNew }
  return as === 'live' ? revive(step, place) : place
}

export function makeChild(step: Step, made: { parent: InodeId; name: string; state: DirectoryState }): Directory {
  const inode = step.ids.next++
  assert(inode < step.ids.end, 'a transaction has taken enough ids')
  const directory: Directory = { ...made, inode }
  writeEntry(step, directory, directory.state)
  step.tx.put(
    inodeKey(inode),
    encodeInode({ kind: 'directory', parent: made.parent, name: made.name, createdMs: step.nowMs }),
  )
  return directory
}

/** Makes every directory of the place live. */
export function revive(step: Step, place: Place): Place {
  if (place.directories.every((directory) => directory.state === 'live')) return place
  const directories = place.directories.map((directory): Directory => {
    if (directory.state === 'live') return directory
    eraseEntry(step, directory)
    writeEntry(step, directory, 'live')
    return { ...directory, state: 'live' }
  })
  return { ...place, directories }
}

/** Brings the directories of a place, from the parent upwards, into the state that follows from what they hold. */
export async function settle(step: Step, place: Place): Promise<void> {
  for (let level = place.directories.length - 1; level >= 0; level--) {
    const directory = place.directories[level]
    assert(directory, 'a directory at every level')
    const left = place.directories[level + 1]?.name ?? place.name
    const wanted = await stateByContents(step, directory.inode, left)
    if (wanted === directory.state) return
    if (wanted === undefined && (await isUnlisted(step, directory.inode))) return
    eraseEntry(step, directory)
    if (wanted !== undefined) {
      writeEntry(step, directory, wanted)
      continue
    }
    step.tx.delete(inodeKey(directory.inode))
    // Watchers of what was in it need its path still (changes.ts).
    step.tx.put(formerPlaceKey(directory.inode), encodePlace(directory))
  }
}

/** Whether it looks empty only because not all that it has outside is known here (docs/decisions/0015). */
export async function isUnlisted(step: Pick<Step, 'tx' | 'bucket'>, directory: InodeId): Promise<boolean> {
  return step.bucket.isAttached === true && (await step.tx.get(unlistedKey(directory))) !== undefined
}

async function stateByContents(step: Step, inode: InodeId, left: string): Promise<DirectoryState | undefined> {
  if (await hasRow(step, entriesPrefix(inode), entryKey(inode, left))) return 'live'
  if (!keepsVersions(step.bucket)) return undefined
  return (await hasRow(step, versionsPrefix(inode), versionsOfNamePrefix(inode, left))) ? 'hidden' : undefined
}

/**
 * Whether there is a row with the prefix: the nearest one after `near`, or else before it. Who deletes a directory's
 * objects in order would make a scan from its start pass over all that were deleted a moment ago.
 */
async function hasRow(step: Step, prefix: string, near: string): Promise<boolean> {
  const { start, end } = prefixRange(prefix)
  const after = await step.tx.scan({ start: near as ByteString, end }, 1)
  if (after.length > 0) return true
  const before = await step.tx.scan({ start, end: near as ByteString }, 1, true)
  return before.length > 0
}

function writeEntry(step: Step, directory: Directory, state: DirectoryState): void {
  step.tx.put(entryKeyOf(directory, state), encodeEntry({ kind: 'directory', inode: directory.inode }))
}

function eraseEntry(step: Step, directory: Directory): void {
  step.tx.delete(entryKeyOf(directory, directory.state))
}

function entryKeyOf(directory: Directory, state: DirectoryState): ReturnType<typeof entryKey> {
  const { parent, name } = directory
  return state === 'live' ? entryKey(parent, name) : hiddenDirectoryKey(parent, name)
}

/** Bucket and key (in bytes) of an inode, through its parents (C10). */
export async function pathOf(
  view: ReadView,
  inode: { readonly parent: InodeId; readonly name: string },
): Promise<{ bucket: string; key: string }> {
  let key = inode.name
  for (let { parent } = inode; ;) {
    const record = decodeInode(must(await view.get(inodeKey(parent)), `inode ${parent}`))
    assert(record.kind === 'directory', 'a parent is a directory')
    if (record.parent === 0) return { bucket: record.name, key }
    key = record.name + key
    parent = record.parent
  }
}

/** A bucket's id is its root's inode. */
export async function bucketIdOf(view: ReadView, directory: InodeId): Promise<number> {
  for (let id = directory; ;) {
    const record = decodeInode(must(await view.get(inodeKey(id)), `inode ${id}`))
    assert(record.kind === 'directory', 'a parent is a directory')
    if (record.parent === 0) return id
    id = record.parent
  }
}

/** Whether its time has passed: then its key names nothing, although it is there until the expirer comes (expire.ts). */
export function isExpired(entry: { readonly expiresMs: number | undefined }, nowMs: number): boolean {
  return entry.expiresMs !== undefined && entry.expiresMs <= nowMs
}

/** What the key names: the current version, unless it has expired. */
export async function liveEntry(view: ReadView, place: Place, nowMs: number): Promise<ObjectEntry | undefined> {
  return unexpired(await currentEntry(view, place), nowMs)
}

export function unexpired(entry: ObjectEntry | undefined, nowMs: number): ObjectEntry | undefined {
  return entry && !isExpired(entry, nowMs) ? entry : undefined
}

/** The row in D, expired or not: what a write replaces. What a key names is `liveEntry`. */
export async function currentEntry(view: ReadView, place: Place): Promise<ObjectEntry | undefined> {
  if (place.isNew) return undefined
  const row = await view.get(entryKey(place.parent, place.name))
  if (!row) return undefined
  const entry = decodeEntry(row)
  assert(entry.kind === 'object', 'a name without a slash is an object')
  return entry
}
