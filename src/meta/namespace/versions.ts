/**
 * The versions of one name, over two tables: D holds the newest version exactly if it is live; V holds all others, and every
 * delete marker, the newest included. So a listing of objects reads D alone and never meets a marker.
 *
 * The null version is whichever has `isNull`; there is at most one. While it lies in V, a pointer row names it.
 */
import { assert, must } from '../../common/assert.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { ReadView } from '../ports.ts'
import type { Step } from './context.ts'
import { armExpiry, disarmExpiry } from './expiry-rows.ts'
import {
  entryKey,
  inodeKey,
  nullPointerKey,
  parseVersionKey,
  prefixRange,
  versionKey,
  versionsOfNamePrefix,
} from './keys.ts'
import {
  decodeEntry,
  decodeInode,
  encodeEntry,
  type ObjectEntry,
  type ObjectInode,
  type VersionEntry,
} from './records-objects.ts'
import { removeName } from './files/links.ts'
import { currentEntry, keepsVersions, type Place } from './tree.ts'
import { NULL_VERSION_ID, nextVersion, parseVersionId } from './version-ids.ts'

const VERSIONS_PER_SCAN = 100

export interface FoundVersion {
  readonly entry: VersionEntry
  /** Whether it is the one in D. */
  readonly isCurrent: boolean
}

export function decodeVersion(row: Uint8Array): VersionEntry {
  const entry = decodeEntry(row)
  assert(entry.kind === 'object' || entry.kind === 'marker', 'a version is an object or a delete marker')
  return entry
}

/** The newest version that lies in V. */
export async function newestInV(view: ReadView, place: Place): Promise<VersionEntry | undefined> {
  if (place.isNew) return undefined
  const [row] = await view.scan(prefixRange(versionsOfNamePrefix(place.parent, place.name)), 1)
  if (!row) return undefined
  assert(parseVersionKey(row.key).slot === 'version', 'a null pointer points to a version')
  return decodeVersion(row.value)
}

/** Every version that lies in V, newest first. */
export async function* versionsInV(view: ReadView, place: Place): AsyncGenerator<VersionEntry> {
  const range = prefixRange(versionsOfNamePrefix(place.parent, place.name))
  let { start } = range
  for (;;) {
    const rows = await view.scan({ start, end: range.end }, VERSIONS_PER_SCAN)
    for (const row of rows) if (parseVersionKey(row.key).slot === 'version') yield decodeVersion(row.value)
    const last = rows.at(-1)
    if (!last || rows.length < VERSIONS_PER_SCAN) return
    start = `${last.key}\0` as ByteString
  }
}

async function nullInV(view: ReadView, place: Place): Promise<VersionEntry | undefined> {
  if (place.isNew) return undefined
  const pointer = await view.get(nullPointerKey(place.parent, place.name))
  if (!pointer) return undefined
  const target = decodeEntry(pointer)
  assert(target.kind === 'pointer', 'the null slot holds a pointer')
  const row = await view.get(versionKey(place.parent, place.name, target.version))
  return decodeVersion(must(row, 'version that the null pointer names'))
}

/** A version by its id. @throws InvalidArgument */
export async function findVersion(view: ReadView, place: Place, versionId: string): Promise<FoundVersion | undefined> {
  const wanted = parseVersionId(versionId)
  const current = await currentEntry(view, place)
  if (wanted === NULL_VERSION_ID) {
    if (current?.isNull) return { entry: current, isCurrent: true }
    const entry = await nullInV(view, place)
    return entry && { entry, isCurrent: false }
  }
  if (current && current.version === wanted.version) {
    // The null version is addressed as `null` only.
    return current.inode === wanted.inode && !current.isNull ? { entry: current, isCurrent: true } : undefined
  }
  const row = await view.get(versionKey(place.parent, place.name, wanted.version))
  if (!row) return undefined
  const entry = decodeVersion(row)
  return entry.inode === wanted.inode && !entry.isNull ? { entry, isCurrent: false } : undefined
}

export function putVersion(step: Step, place: Place, entry: VersionEntry): void {
  step.tx.put(versionKey(place.parent, place.name, entry.version), encodeEntry(entry))
  if (entry.isNull) {
    const pointer = encodeEntry({ kind: 'pointer', version: entry.version })
    step.tx.put(nullPointerKey(place.parent, place.name), pointer)
  }
}

/** Takes a version's row out of V and leaves its inode alone. */
export function takeOutOfV(step: Step, place: Place, entry: VersionEntry): void {
  step.tx.delete(versionKey(place.parent, place.name, entry.version))
  if (entry.isNull) step.tx.delete(nullPointerKey(place.parent, place.name))
}

export async function removeFromV(step: Step, place: Place, entry: VersionEntry): Promise<void> {
  takeOutOfV(step, place, entry)
  if (entry.kind === 'object') await discardInode(step, place, entry)
}

/** Removes what the current version refers to; its row in D is the caller's to delete or replace. */
export async function discardCurrent(step: Step, place: Place, entry: ObjectEntry): Promise<void> {
  disarmExpiry(step, entry)
  await discardInode(step, place, entry)
}

/** Removes an object's inode record and its reference to the content, unless it has another name or is open. */
async function discardInode(step: Step, place: Place, entry: ObjectEntry): Promise<void> {
  await removeName(step, { id: entry.inode, inode: await readObjectInode(step.tx, entry.inode), place })
}

export async function readObjectInode(view: ReadView, inode: InodeId): Promise<ObjectInode> {
  const record = decodeInode(must(await view.get(inodeKey(inode)), `inode ${inode}`))
  assert(record.kind === 'object', `inode ${inode} is an object`)
  return record
}

/**
 * Makes way for a new newest version, as the bucket's versioning says, and returns its number and whether it is the null
 * version. The caller then writes it to D (an object; replacing what is there) or to V (a marker; it deletes what is in D).
 *
 * `current` is what lies in D, expired or not.
 */
export async function makeWay(
  step: Step,
  place: Place,
  current: ObjectEntry | undefined,
): Promise<{ version: number; isNull: boolean }> {
  const { bucket } = step
  const previous = current ?? (keepsVersions(bucket) ? await newestInV(step.tx, place) : undefined)
  const version = nextVersion(previous?.version ?? 0, step.nowMs)
  const isNull = bucket.versioning !== 'enabled'
  if (current && isNull && current.isNull) {
    await discardCurrent(step, place, current)
    return { version, isNull }
  }
  if (isNull && keepsVersions(bucket)) {
    const replaced = await nullInV(step.tx, place)
    if (replaced) await removeFromV(step, place, replaced)
  }
  if (current) {
    disarmExpiry(step, current)
    putVersion(step, place, current)
  }
  return { version, isNull }
}

/**
 * After the newest version was removed for good: the next one, if it is live, becomes current. Returns whether one did.
 * If its time has passed it is current only until the expirer comes, and is not served meanwhile.
 */
export async function promote(step: Step, place: Place): Promise<boolean> {
  const next = await newestInV(step.tx, place)
  if (next?.kind !== 'object') return false
  takeOutOfV(step, place, next)
  step.tx.put(entryKey(place.parent, place.name), encodeEntry(next))
  armExpiry(step, next)
  return true
}
