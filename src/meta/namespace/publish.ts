/**
 * Putting a new version of an object in its place, in one transaction. Plain publishes, copies and completed uploads all end
 * in `writeVersion`; they differ in where the content's reference comes from.
 *
 * In an existing directory of an unversioned bucket it reads B, the D rows of the path, and the old D and I; it writes D, I
 * and the usage counters, deletes the old I, and for a body outside the inode adds K and the segment's counter.
 */
import type {
  AckLevel,
  Conditions,
  ObjectAttributes,
  ObjectBody,
  ObjectChecksum,
  ObjectVersion,
} from '../../common/model.ts'
import type { StoredRun } from '../../common/model.ts'
import { checkConditions } from '../../common/conditions.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  revisionMade,
  versionMade,
  withRevision,
  type Commit,
  type NamespaceContext,
  type Step,
} from './context.ts'
import { armExpiry, expiryAfter } from './expiry-rows.ts'
import { inheritedPosixPart, type PosixPart } from './files/posix-part.ts'
import { entryKey, inodeKey } from './keys.ts'
import { validateNewKey } from './names.ts'
import { objectVersion } from './object-version.ts'
import { encodeEntry, encodeInode, type ObjectEntry, type ObjectInode } from './records-objects.ts'
import { addRun } from './references.ts'
import { currentEntry, makePlace, unexpired } from './tree.ts'
import { makeWay, readObjectInode } from './versions.ts'

export interface PublishRequest {
  readonly bucket: string
  readonly key: string
  readonly body:
    | { readonly kind: 'inline'; readonly bytes: Uint8Array }
    | { readonly kind: 'run'; readonly run: StoredRun }
  readonly size: number
  readonly etag: string
  readonly owner: string
  readonly attributes: ObjectAttributes
  readonly checksum: ObjectChecksum | undefined
  readonly conditions: Conditions
  readonly ack: AckLevel
  /** The key names it for so long after the publish; undefined: for ever. Positive, whole. */
  readonly ttlMs?: number | undefined
}

export interface NewVersion {
  readonly key: string
  readonly keyBytes: string
  readonly conditions: Conditions
  readonly size: number
  readonly etag: string
  readonly owner: string
  readonly ack: AckLevel
  readonly attributes: ObjectAttributes
  readonly checksum: ObjectChecksum | undefined
  readonly partsCount: number | undefined
  readonly uploadId: string | undefined
  /** From `expiryAfter`, or that of what it replaces. */
  readonly expiresMs: number | undefined
  /** The reference to its content is already counted. */
  readonly body: ObjectBody
}

/** Inode ids that making a version of this key may need: its own, and one for each directory. */
export function inodesForKey(keyBytes: string): number {
  let count = 1
  for (let slash = keyBytes.indexOf('/'); slash >= 0; slash = keyBytes.indexOf('/', slash + 1)) count++
  return count
}

export async function publish(context: NamespaceContext, request: PublishRequest): Promise<Commit<ObjectVersion>> {
  const keyBytes = validateNewKey(request.key, context.limits)
  const ids = await leaseInodes(context, inodesForKey(keyBytes))
  const { body } = request
  const committed = context.store.transact(async (tx) => {
    const step = await beginStep(context, tx, request.bucket, ids)
    if (body.kind === 'run') addRun(tx, body.run, request.ack)
    const version = await writeVersion(step, {
      ...request,
      keyBytes,
      partsCount: undefined,
      uploadId: undefined,
      expiresMs: expiryAfter(step, request.ttlMs),
      body: body.kind === 'inline' ? body : { kind: 'content', content: body.run.content },
    })
    endStep(step)
    return version
  })
  return withRevision(context, committed, versionMade)
}

/**
 * An expired current version is absent to the conditions, and is replaced like any other.
 * @throws NoSuchKey, PreconditionFailed as the conditions say; nothing is written then
 */
export async function writeVersion(step: Step, made: NewVersion): Promise<ObjectVersion> {
  const place = await makePlace(step, made.keyBytes, 'live')
  const current = await currentEntry(step.tx, place)
  checkConditions('write', made.conditions, unexpired(current, step.nowMs))
  const posix = await inheritedPosix(step, unexpired(current, step.nowMs))
  const { version, isNull } = await makeWay(step, place, current)
  const id = step.ids.next++
  const entry: ObjectEntry = {
    kind: 'object',
    inode: id,
    version,
    isNull,
    size: made.size,
    mtimeMs: step.nowMs,
    revision: revisionMade(step),
    etag: made.etag,
    owner: made.owner,
    storageClass: made.attributes.storageClass,
    checksumAlgorithm: made.checksum?.algorithm,
    checksumType: made.checksum?.type,
    expiresMs: made.expiresMs,
    isFile: posix !== undefined,
  }
  const inode: ObjectInode = {
    kind: 'object',
    parent: place.parent,
    name: place.name,
    size: made.size,
    mtimeMs: step.nowMs,
    revision: entry.revision,
    etag: made.etag,
    owner: made.owner,
    ack: made.ack,
    attributes: made.attributes,
    checksum: made.checksum,
    partsCount: made.partsCount,
    uploadId: made.uploadId,
    expiresMs: made.expiresMs,
    posix,
    body: made.body,
  }
  step.tx.put(entryKey(place.parent, place.name), encodeEntry(entry))
  step.tx.put(inodeKey(id), encodeInode(inode))
  armExpiry(step, entry)
  step.objectsDelta += 1
  step.bytesDelta += made.size
  return objectVersion(step.bucket, made.key, entry, inode)
}

/** C27. What was never a file to the mount costs no read. */
export async function inheritedPosix(step: Step, replaced: ObjectEntry | undefined): Promise<PosixPart | undefined> {
  if (!replaced?.isFile) return undefined
  const { posix } = await readObjectInode(step.tx, replaced.inode)
  return posix && inheritedPosixPart(posix, step.context.files, step.nowMs)
}
