/** Single objects of the mirror: made, replaced and removed as the outside says. Whether it is believed is the caller's to know. */
import { utf8Text } from '../../../common/ids.ts'
import type { ObjectAttributes } from '../../../common/model.ts'
import { revisionMade, type Step } from '../context.ts'
import type { PosixPart } from '../files/posix-part.ts'
import { entryKey, inodeKey } from '../keys.ts'
import { inheritedPosix } from '../publish.ts'
import { encodeEntry, encodeInode, type NamedPlace, type ObjectEntry, type ObjectInode } from '../records-objects.ts'
import { makePlace, type Place } from '../tree.ts'
import { discardCurrent, makeWay } from '../versions.ts'
import { nextVersion } from '../version-ids.ts'
import { NO_VALUE, unlistedKey } from './rows.ts'
import type { DescribedObject, SeenObject } from './types.ts'

/** Rows that making, replacing or removing one may write. */
export const OPERATIONS_PER_OBJECT = 8

export type Outside = SeenObject & Partial<Pick<DescribedObject, 'attributes' | 'partsCount'>>

const STANDARD: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }

interface Made {
  /** In bytes. */
  readonly key: string
  readonly outside: Outside
  readonly version: number
  readonly isNull: boolean
  readonly posix: PosixPart | undefined
}

/** At a name that has no entry. */
export function makeObject(
  step: Step,
  place: NamedPlace,
  made: { readonly key: string; readonly outside: Outside },
): void {
  write(step, place, { ...made, version: nextVersion(0, step.nowMs), isNull: true, posix: undefined })
}

/** At a key that has none. Directories that are new by it are not wholly known. */
export async function makeObjectAt(
  step: Step,
  made: { readonly key: string; readonly outside: Outside },
): Promise<void> {
  const first = step.ids.next
  const place = await makePlace(step, made.key, 'live')
  for (const { inode } of place.directories) if (inode >= first) step.tx.put(unlistedKey(inode), NO_VALUE)
  makeObject(step, place, made)
}

/** As a PUT does it (C27): who has the old one open goes on with that. */
export async function replaceObject(
  step: Step,
  place: Place,
  made: { readonly key: string; readonly outside: Outside; readonly current: ObjectEntry },
): Promise<void> {
  const posix = await inheritedPosix(step, made.current)
  write(step, place, { ...made, posix, ...(await makeWay(step, place, made.current)) })
}

/** The entry and what it refers to; its directories are the caller's to settle. */
export async function removeObject(step: Step, place: Place, current: ObjectEntry): Promise<void> {
  step.tx.delete(entryKey(place.parent, place.name))
  await discardCurrent(step, place, current)
}

function write(step: Step, { parent, name }: NamedPlace, { key, outside, version, isNull, posix }: Made): void {
  const { size, etag } = outside
  const attributes = outside.attributes ?? unknownAttributes(outside.storageClass)
  const mtimeMs = Math.max(0, Math.floor(outside.modifiedMs)) || 0
  const common = { size, mtimeMs, revision: revisionMade(step), etag, owner: step.bucket.owner, expiresMs: undefined }
  const inode = step.ids.next++
  const entry: ObjectEntry = {
    kind: 'object',
    ...common,
    inode,
    version,
    isNull,
    storageClass: attributes.storageClass,
    checksumAlgorithm: undefined,
    checksumType: undefined,
    isFile: posix !== undefined,
  }
  const record: ObjectInode = {
    kind: 'object',
    ...common,
    parent,
    name,
    // The store outside has it.
    ack: 'persisted',
    attributes,
    checksum: undefined,
    partsCount: outside.partsCount,
    uploadId: undefined,
    posix,
    body: {
      kind: 'external',
      // The same text, if it is ASCII: almost all are.
      external: {
        key: outside.key === key ? key : utf8Text(key),
        etag,
        size,
        isDescribed: outside.attributes !== undefined,
      },
    },
  }
  step.tx.put(entryKey(parent, name), encodeEntry(entry))
  step.tx.put(inodeKey(inode), encodeInode(record))
  step.objectsDelta += 1
  step.bytesDelta += size
}

function unknownAttributes(storageClass: string): ObjectAttributes {
  // Almost all are of this one.
  if (storageClass === STANDARD.storageClass || storageClass === '') return STANDARD
  return { ...STANDARD, storageClass }
}
