/** Making an object that is a file, symlink, special file or a directory's marker, without content in the journal. */
import type { InodeId } from '../../../common/ids.ts'
import type { ObjectAttributes } from '../../../common/model.ts'
import { assert } from '../../../common/assert.ts'
import { endStep, revisionMade, type Step } from '../context.ts'
import { entryKey, inodeKey } from '../keys.ts'
import { encodeEntry, encodeInode, type MarkerEntry, type ObjectEntry, type ObjectInode } from '../records-objects.ts'
import { currentEntry, liveEntry, type Place } from '../tree.ts'
import { makeWay, putVersion } from '../versions.ts'
import { placeIn, type FileDirectory } from './directory.ts'
import { fileEtag } from './etags.ts'
import { touchDirectory } from './nodes.ts'
import type { PosixPart } from './posix-part.ts'

const NO_ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const NO_BYTES = new Uint8Array(0)
/** A bare MD5 (C29), as of any empty object that S3 made. */
const EMPTY_ETAG = 'd41d8cd98f00b204e9800998ecf8427e'

export interface MadeObject {
  readonly owner: string
  readonly posix: PosixPart | undefined
  readonly bytes: Uint8Array
}

/** At a place where nothing is current, but for what has expired. */
export async function writeObject(
  step: Step,
  place: Place,
  made: MadeObject,
): Promise<{ id: InodeId; inode: ObjectInode }> {
  const { version, isNull } = await makeWay(step, place, await currentEntry(step.tx, place))
  const id = takeId(step)
  const { owner, posix, bytes } = made
  const revision = revisionMade(step)
  const common = {
    size: bytes.length,
    mtimeMs: Math.floor(step.nowMs),
    revision,
    etag: posix ? fileEtag(step.context, id, revision) : EMPTY_ETAG,
    owner,
    expiresMs: undefined,
  }
  const entry: ObjectEntry = {
    kind: 'object',
    inode: id,
    version,
    isNull,
    ...common,
    storageClass: NO_ATTRIBUTES.storageClass,
    checksumAlgorithm: undefined,
    checksumType: undefined,
    isFile: posix !== undefined,
  }
  const inode: ObjectInode = {
    kind: 'object',
    parent: place.parent,
    name: place.name,
    ...common,
    ack: step.bucket.ack,
    attributes: NO_ATTRIBUTES,
    checksum: undefined,
    partsCount: undefined,
    uploadId: undefined,
    posix,
    body: { kind: 'inline', bytes },
  }
  step.tx.put(entryKey(place.parent, place.name), encodeEntry(entry))
  step.tx.put(inodeKey(id), encodeInode(inode))
  step.objectsDelta += 1
  step.bytesDelta += bytes.length
  return { id, inode }
}

/** Ids that `changeDirectory` may need. */
export const IDS_FOR_CHANGE = 1

/**
 * C25: what every change of a directory through the mount does to it. One that S3 made stays when it becomes empty, and its
 * times say when it changed. To be called before what takes something out of it.
 */
export async function changeDirectory(step: Step, directory: FileDirectory, owner = step.bucket.owner): Promise<void> {
  touchDirectory(step, directory.inode)
  if (directory.directories.length === 0) return
  const marker = placeIn(directory, '')
  if (!(await liveEntry(step.tx, marker, step.nowMs))) await writeMarker(step, marker, owner)
}

/** Decision 5: the object with the empty name makes its directory explicit, and shows to S3 as `a/`. */
export async function writeMarker(step: Step, place: Place, owner: string): Promise<void> {
  await writeObject(step, place, { owner, posix: undefined, bytes: NO_BYTES })
}

/** In a bucket that keeps versions: what is current becomes an older version under a delete marker. */
export async function coverWithMarker(
  step: Step,
  place: Place,
  removed: { readonly current: ObjectEntry | undefined; readonly owner: string },
): Promise<void> {
  const { version, isNull } = await makeWay(step, place, removed.current)
  const marker: MarkerEntry = {
    kind: 'marker',
    inode: takeId(step),
    version,
    isNull,
    mtimeMs: step.nowMs,
    revision: revisionMade(step),
    owner: removed.owner,
  }
  step.tx.delete(entryKey(place.parent, place.name))
  putVersion(step, place, marker)
}

export function takeId(step: Step): InodeId {
  const id = step.ids.next++
  assert(id < step.ids.end, 'a transaction has taken enough ids')
  return id
}

export function ended<T>(step: Step, value: T): T {
  endStep(step)
  return value
}
