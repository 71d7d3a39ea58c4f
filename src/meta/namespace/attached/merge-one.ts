/**
 * Taking over what a look at one key has found: with its attributes, which no listing tells. The directories of an object that is new are not wholly
 * known by that.
 */
import { utf8Bytes } from '../../../common/ids.ts'
import type { ObjectAttributes } from '../../../common/model.ts'
import type { Transaction } from '../../ports.ts'
import { endStep, nothingWritten, revisionMade, type Commit, type Step } from '../context.ts'
import { entryKey, inodeKey } from '../keys.ts'
import { inodesForKey } from '../publish.ts'
import { encodeEntry, encodeInode, type ObjectEntry, type ObjectInode } from '../records-objects.ts'
import { currentEntry, findPlace, makePlace, settle, type Place } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { areSameAttributes } from './attributes.ts'
import { Beliefs } from './beliefs.ts'
import { mirrorStep, readAttached, type MirrorContext } from './mirror-context.ts'
import { makeObject, removeObject, replaceObject } from './mirror-entries.ts'
import { isHeld } from './page-items.ts'
import type { Noter } from './recent-changes.ts'
import { NO_VALUE, unlistedKey } from './rows.ts'
import type { DescribedObject, MergedOne, SeenOne } from './types.ts'

interface SeenKey extends SeenOne {
  readonly keyBytes: string
}

export async function mergeOne(context: MirrorContext, seen: SeenOne): Promise<Commit<MergedOne>> {
  const { key } = seen
  const keyBytes = key.isWellFormed() ? utf8Bytes(key) : ''
  if (keyBytes === '' || keyBytes.length > context.limits.keyBytesMax) return nothingWritten(context, 'kept')
  // As a listing's are, or it would come by the one and go by the other.
  if (seen.found && !isHeld(seen.found)) return nothingWritten(context, 'kept')
  const ids = await context.ids.take(inodesForKey(keyBytes))
  const done = await context.store.transact(async (tx) => {
    const merged = await mergeKey(context, tx, { seen: { ...seen, keyBytes }, asker: seen, ids })
    if (typeof merged === 'string') return { merged, left: { next: ids.first, end: ids.first + ids.count } }
    return { merged: 'changed' as const, left: merged.ids }
  })
  context.ids.giveBack(done.value.left)
  return { ...done, value: done.value.merged }
}

/** The step, if it wrote anything; else why not. */
async function mergeKey(
  context: MirrorContext,
  tx: Transaction,
  {
    seen,
    asker,
    ids,
  }: { readonly seen: SeenKey; readonly asker: Noter; readonly ids: { first: number; count: number } },
): Promise<Step | Exclude<MergedOne, 'changed'>> {
  const { bucketId, askedAt, keyBytes } = seen
  const attached = await readAttached(tx, bucketId)
  if (!attached) return 'kept'
  if (context.recent.isForgotten(bucketId, { at: askedAt })) return 'late'
  const beliefs = await Beliefs.begin(context, tx, {
    bucketId,
    askedAt,
    asker,
    from: keyBytes,
    through: keyBytes,
  })
  const step = mirrorStep(context, tx, { bucket: attached.bucket, ids })
  const place = await findPlace(tx, step.bucket, keyBytes)
  const current = place && (await currentEntry(tx, place))
  const belief = await beliefs.ofKey(keyBytes, current)
  if (belief === 'ours') return 'kept'
  if (belief === 'unknown') return (await isSaid(step, { seen, current, beliefs })) ? 'same' : 'late'
  const wrote = place && current ? known(step, { seen, place, current, beliefs }) : made(step, seen)
  const merged = await wrote
  if (merged !== 'changed') return merged
  // A look that was asked before must not bring it back.
  if (!seen.found) context.recent.note(bucketId, keyBytes, { revision: revisionMade(step), by: asker })
  endStep(step)
  return step
}

/** Whether the mirror, which knows better, says just that: many who look at once are told one after the other. */
async function isSaid(
  step: Step,
  at: { readonly seen: SeenKey; readonly current: ObjectEntry | undefined; readonly beliefs: Beliefs },
): Promise<boolean> {
  const { seen, current, beliefs } = at
  const { found, keyBytes } = seen
  if (!found || !current) return !found && !current
  if (found.etag !== current.etag || found.size !== current.size) return false
  const inode = await readObjectInode(step.tx, current.inode)
  const isDescribed = inode.body.kind !== 'external' || inode.body.external.isDescribed
  return isDescribed && beliefs.isInPlace(keyBytes, inode)
}

/** The directories of it that are new are not wholly known. */
async function made(step: Step, { found, keyBytes }: SeenKey): Promise<'changed' | 'same'> {
  if (!found) return 'same'
  const first = step.ids.next
  const place = await makePlace(step, keyBytes, 'live')
  for (const { inode } of place.directories) if (inode >= first) step.tx.put(unlistedKey(inode), NO_VALUE)
  makeObject(step, place, { key: keyBytes, outside: found })
  return 'changed'
}

async function known(
  step: Step,
  at: {
    readonly seen: SeenKey
    readonly place: Place
    readonly current: ObjectEntry
    readonly beliefs: Beliefs
  },
): Promise<'changed' | 'same' | 'kept'> {
  const { seen, place, current, beliefs } = at
  const { found, keyBytes } = seen
  const inode = await readObjectInode(step.tx, current.inode)
  if (!beliefs.isInPlace(keyBytes, inode)) return 'kept'
  if (found && found.etag === current.etag && found.size === current.size) {
    return describe(step, { place, current, inode, found })
  }
  if (found) await replaceObject(step, place, { key: keyBytes, outside: found, current })
  else {
    await removeObject(step, place, current)
    await settle(step, place)
  }
  return 'changed'
}

/** The object is the one that is known: what is said of it may be more, or something else. */
function describe(
  step: Step,
  {
    current,
    inode,
    found,
    place,
  }: {
    readonly place: Place
    readonly current: ObjectEntry
    readonly inode: ObjectInode
    readonly found: DescribedObject
  },
): 'changed' | 'same' {
  const { body } = inode
  const attributes = withTags(found.attributes, inode.attributes)
  const isDescribed = body.kind !== 'external' || body.external.isDescribed
  const isSame = areSameAttributes(attributes, inode.attributes)
  if (isDescribed && isSame) return 'same'
  const described: ObjectInode = {
    ...inode,
    attributes,
    partsCount: found.partsCount ?? inode.partsCount,
    body: body.kind === 'external' ? { ...body, external: { ...body.external, isDescribed: true } } : body,
  }
  const key = inodeKey(current.inode)
  // To learn what was so all along is no change.
  if (isDescribed) step.tx.put(key, encodeInode(described))
  else step.tx.rewrite(key, encodeInode(described))
  const { storageClass } = attributes
  if (storageClass !== current.storageClass) {
    step.tx.put(entryKey(place.parent, place.name), encodeEntry({ ...current, storageClass }))
  }
  return 'changed'
}

/** A look at an object does not tell its tags; those that are known stay. */
function withTags(found: ObjectAttributes, known: ObjectAttributes): ObjectAttributes {
  return Object.keys(found.tags).length > 0 ? found : { ...found, tags: known.tags }
}
