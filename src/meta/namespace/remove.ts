/**
 * Deleting, by S3's rules. Without a version id: removal where the bucket was never versioned, else a delete marker on top (in a
 * suspended bucket it is the null version and takes the old one's place). With a version id: that version or marker
 * goes for good, and the newest that is left becomes current.
 */
import type { Conditions } from '../../common/model.ts'
import type { InodeId } from '../../common/ids.ts'
import { checkConditions, hasConditions } from '../../common/conditions.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  revisionMade,
  type Commit,
  type NamespaceContext,
  type Step,
} from './context.ts'
import { entryKey } from './keys.ts'
import { keyTooLong, validateKey } from './names.ts'
import { inodesForKey } from './publish.ts'
import type { MarkerEntry } from './records-objects.ts'
import { currentEntry, findPlace, keepsVersions, makePlace, revive, settle, unexpired, type Place } from './tree.ts'
import { NULL_VERSION_ID, formatVersionId, parseVersionId } from './version-ids.ts'
import {
  discardCurrent,
  findVersion,
  makeWay,
  newestInV,
  promote,
  putVersion,
  removeFromV,
  versionsInV,
  type FoundVersion,
} from './versions.ts'

export interface RemoveRequest {
  readonly bucket: string
  readonly key: string
  readonly versionId?: string | undefined
  readonly conditions: Conditions
  readonly owner: string
}

export type Removal = Omit<RemoveRequest, 'bucket'> & { readonly keyBytes: string }

export interface RemoveResult {
  readonly versionId: string | undefined
  readonly deleteMarker: boolean
  /** Whether the key named an object, or the version was there. */
  readonly existed: boolean
}

export async function remove(context: NamespaceContext, request: RemoveRequest): Promise<Commit<RemoveResult>> {
  const keyBytes = validateKey(request.key, context.limits)
  const { versionId } = request
  if (versionId !== undefined) parseVersionId(versionId)
  const ids = await leaseInodes(context, inodesForKey(keyBytes))
  return context.store.transact(async (tx) => {
    const step = await beginStep(context, tx, request.bucket, ids)
    const result = await removeIn(step, { ...request, keyBytes })
    endStep(step)
    return result
  })
}

/** `remove` as part of a larger step, which takes ids for it (`inodesForKey`) and ends itself. */
export async function removeIn(step: Step, request: Removal): Promise<RemoveResult> {
  const { versionId } = request
  if (!keepsVersions(step.bucket)) {
    const addressed = versionId === undefined || versionId === NULL_VERSION_ID
    const existed = addressed && (await removeCurrent(step, request))
    return { versionId, deleteMarker: false, existed }
  }
  return versionId === undefined ? addMarker(step, request) : removeVersion(step, { ...request, versionId })
}

/** In a bucket that was never versioned. Returns whether the key named an object; one that has expired goes unnoticed. */
async function removeCurrent(step: Step, request: Removal): Promise<boolean> {
  const place = await findPlace(step.tx, step.bucket, request.keyBytes)
  const current = place && (await currentEntry(step.tx, place))
  const live = unexpired(current, step.nowMs)
  checkConditions('delete', request.conditions, live)
  if (!place || !current) return false
  step.tx.delete(entryKey(place.parent, place.name))
  await discardCurrent(step, place, current)
  await settle(step, place)
  return live !== undefined
}

async function addMarker(step: Step, request: Removal): Promise<RemoveResult> {
  await checkMarkerKey(step, request.keyBytes)
  const place = await makePlace(step, request.keyBytes, 'hidden')
  const current = await currentEntry(step.tx, place)
  const live = unexpired(current, step.nowMs)
  checkConditions('delete', request.conditions, live)
  if (!live && hasConditions(request.conditions)) {
    // Nothing to delete, and the caller cared: no marker, and no directory for one. What has expired is the expirer's.
    await settle(step, place)
    return { versionId: undefined, deleteMarker: false, existed: false }
  }
  const { version, isNull } = await makeWay(step, place, current)
  const inode = step.ids.next++
  const made = { mtimeMs: step.nowMs, revision: revisionMade(step), owner: request.owner }
  const marker: MarkerEntry = { kind: 'marker', inode, version, isNull, ...made }
  if (current) step.tx.delete(entryKey(place.parent, place.name))
  putVersion(step, place, marker)
  if (current) await settle(step, place)
  return { versionId: formatVersionId(marker), deleteMarker: true, existed: live !== undefined }
}

/**
 * A delete marker makes its key if nothing lies there yet, and so many directories with it: as little as S3 makes a longer object.
 * @throws KeyTooLong
 */
async function checkMarkerKey(step: Step, keyBytes: string): Promise<void> {
  const { keyBytesMax } = step.context.limits
  if (keyBytes.length <= keyBytesMax) return
  const place = await findPlace(step.tx, step.bucket, keyBytes)
  if (place && ((await currentEntry(step.tx, place)) || (await newestInV(step.tx, place)))) return
  throw keyTooLong(keyBytes.length, keyBytesMax)
}

async function removeVersion(step: Step, request: Removal & { readonly versionId: string }): Promise<RemoveResult> {
  const { versionId } = request
  const place = await findPlace(step.tx, step.bucket, request.keyBytes)
  const found = place && (await findVersion(step.tx, place, versionId))
  checkConditions('delete', request.conditions, found?.entry.kind === 'object' ? found.entry : undefined)
  if (!place || !found) return { versionId, deleteMarker: false, existed: false }
  await removeFound(step, place, found)
  return { versionId, deleteMarker: found.entry.kind === 'marker', existed: true }
}

/** Takes one version away for good. */
async function removeFound(step: Step, place: Place, found: FoundVersion): Promise<void> {
  if (found.isCurrent && found.entry.kind === 'object') {
    step.tx.delete(entryKey(place.parent, place.name))
    await discardCurrent(step, place, found.entry)
    return afterNewestWent(step, place)
  }
  const covered = (await currentEntry(step.tx, place)) !== undefined
  const wasNewest = !covered && (await newestInV(step.tx, place))?.version === found.entry.version
  await removeFromV(step, place, found.entry)
  await (wasNewest ? afterNewestWent(step, place) : settle(step, place))
}

/** Takes the version with this inode away for good, whichever it is. False when the key has none. */
export async function removeInode(step: Step, keyBytes: string, inode: InodeId): Promise<boolean> {
  const place = await findPlace(step.tx, step.bucket, keyBytes)
  if (!place) return false
  const current = await currentEntry(step.tx, place)
  if (current?.inode === inode) {
    await removeFound(step, place, { entry: current, isCurrent: true })
    return true
  }
  for await (const entry of versionsInV(step.tx, place)) {
    if (entry.inode !== inode) continue
    await removeFound(step, place, { entry, isCurrent: false })
    return true
  }
  return false
}

async function afterNewestWent(step: Step, place: Place): Promise<void> {
  const promoted = await promote(step, place)
  await settle(step, promoted ? revive(step, place) : place)
}
