/** From the records of an object to what a door is shown of it. */
import { TidegateError } from '../../common/errors.ts'
import { utf8Text } from '../../common/ids.ts'
import type { BucketRecord, ListedObject, ObjectVersion } from '../../common/model.ts'
import type { MarkerEntry, ObjectEntry, ObjectInode } from './records-objects.ts'
import { shownMetadata } from './files/shown-metadata.ts'
import { formatVersionId, shownVersionId } from './version-ids.ts'

export function objectVersion(
  bucket: BucketRecord,
  key: string,
  entry: ObjectEntry,
  inode: ObjectInode,
): ObjectVersion {
  return {
    bucket: bucket.name,
    key,
    inode: entry.inode,
    versionId: shownVersionId(bucket, entry),
    size: inode.size,
    mtimeMs: inode.mtimeMs,
    etag: inode.etag,
    owner: inode.owner,
    attributes: inode.attributes,
    ...(inode.posix && { fileMetadata: shownMetadata(inode.posix, inode.body) }),
    checksum: inode.checksum,
    partsCount: inode.partsCount,
    body: inode.body,
    revision: inode.revision,
    expiresMs: inode.expiresMs,
  }
}

/** `key` in bytes. */
export function listedObject(key: string, entry: ObjectEntry): ListedObject {
  return {
    key: utf8Text(key),
    size: entry.size,
    mtimeMs: entry.mtimeMs,
    etag: entry.etag,
    storageClass: entry.storageClass,
    owner: entry.owner,
    checksumAlgorithm: entry.checksumAlgorithm,
    checksumType: entry.checksumType,
    revision: entry.revision,
    expiresMs: entry.expiresMs,
  }
}

export function noSuchKey(key: string, marker?: MarkerEntry): TidegateError {
  const details = marker ? { key, deleteMarker: true, versionId: formatVersionId(marker) } : { key }
  return new TidegateError('NoSuchKey', `no object ${JSON.stringify(key)}`, { details })
}

export function noSuchVersion(key: string, versionId: string): TidegateError {
  return new TidegateError('NoSuchVersion', `no version ${JSON.stringify(versionId)} of ${JSON.stringify(key)}`, {
    details: { key, versionId },
  })
}

/** S3: GET and HEAD of a delete marker named by its version id. */
export function markerNamed(key: string, marker: MarkerEntry): TidegateError {
  return new TidegateError('MethodNotAllowed', `the named version of ${JSON.stringify(key)} is a delete marker`, {
    details: { key, deleteMarker: true, versionId: formatVersionId(marker), mtimeMs: marker.mtimeMs },
  })
}
