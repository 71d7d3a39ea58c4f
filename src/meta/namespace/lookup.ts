/** Finding one version of one object. A hot current version is answered from decoded rows, without a read of the store. */
import { assert } from '../../common/assert.ts'
import type { ByteString } from '../../common/ids.ts'
import type { BucketRecord, ObjectVersion } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import { noSuchBucket, readBucket, type NamespaceContext } from './context.ts'
import type { CachedRecord, Fill } from './decoded-cache.ts'
import { bucketKey, entryKey, inodeKey } from './keys.ts'
import { canNameBucket, splitKey, validateKey } from './names.ts'
import { markerNamed, noSuchKey, noSuchVersion, objectVersion } from './object-version.ts'
import { decodeBucket, type Entry, type Inode, type ObjectEntry, type ObjectInode } from './records-objects.ts'
import { findPlace, isExpired, keepsVersions, liveEntry, type Place } from './tree.ts'
import { findVersion, newestInV, readObjectInode } from './versions.ts'

export function lookup(
  context: NamespaceContext,
  bucketName: string,
  key: string,
  versionId?: string,
): Promise<ObjectVersion> {
  const { answersAtOnce } = context.cache
  const hot = versionId === undefined && answersAtOnce ? lookupDecoded(context, bucketName, key) : undefined
  if (hot) return Promise.resolve(hot)
  return context.store.read(async (view) => {
    const warm = versionId === undefined && !answersAtOnce ? lookupDecoded(context, bucketName, key) : undefined
    if (warm) return warm
    const fill = context.cache.beginFill(view)
    const keyBytes = validateKey(key, context.limits)
    const bucket = await readBucket(view, bucketName)
    const nowMs = context.clock.nowMs()
    const found = await resolveVersion(view, bucket, { key, keyBytes, versionId, nowMs })
    const inode = await readObjectInode(view, found.entry.inode)
    if (found.isCurrent) await remember(context, view, { bucket, place: found.place, entry: found.entry, inode, fill })
    return objectVersion(bucket, key, found.entry, inode)
  })
}

export interface ObjectQuery {
  readonly key: string
  readonly keyBytes: string
  readonly versionId?: string | undefined
  readonly nowMs: number
}

export interface ResolvedVersion {
  readonly place: Place
  readonly entry: ObjectEntry
  readonly isCurrent: boolean
}

/**
 * The current version, if it has not expired, or the one named, expired or not.
 * @throws NoSuchKey, NoSuchVersion, MethodNotAllowed, InvalidArgument as the port's `lookup`
 */
export async function resolveVersion(
  view: ReadView,
  bucket: BucketRecord,
  address: ObjectQuery,
): Promise<ResolvedVersion> {
  const { key, versionId, nowMs } = address
  const place = await findPlace(view, bucket, address.keyBytes)
  if (versionId !== undefined) {
    const found = place && (await findVersion(view, place, versionId))
    if (!place || !found) throw noSuchVersion(key, versionId)
    // Where versions are not kept, the key is the only name there is.
    if (!keepsVersions(bucket) && found.entry.kind === 'object' && isExpired(found.entry, nowMs)) {
      throw noSuchVersion(key, versionId)
    }
    if (found.entry.kind === 'marker') throw markerNamed(key, found.entry)
    return { place, entry: found.entry, isCurrent: found.isCurrent }
  }
  const current = place && (await liveEntry(view, place, nowMs))
  if (place && current) return { place, entry: current, isCurrent: true }
  const marker = place && keepsVersions(bucket) ? await newestInV(view, place) : undefined
  throw noSuchKey(key, marker?.kind === 'marker' ? marker : undefined)
}

/** Undefined when any row on the way is not in the cache, and when the object has expired. */
function lookupDecoded(context: NamespaceContext, bucketName: string, key: string): ObjectVersion | undefined {
  // Only the mount makes such; they are not worth as much memory as they would take.
  if (key.length > context.limits.keyBytesMax) return undefined
  // A bucket's name holds no slash.
  const wayName = `${bucketName}/${key}`
  const way = context.cache.way(wayName) ?? followRows(context, { bucketName, key, wayName })
  if (way === undefined) return undefined
  const entry = way.at(-2) as ObjectEntry
  if (entry.expiresMs !== undefined && isExpired(entry, context.clock.nowMs())) return undefined
  return objectVersion(way[0] as BucketRecord, key, entry, way.at(-1) as ObjectInode)
}

/** From the bucket to the inode of an object, row by row. */
function followRows(
  { cache, limits }: NamespaceContext,
  { bucketName, key, wayName }: { bucketName: string; key: string; wayName: string },
): readonly CachedRecord[] | undefined {
  const rows = [bucketKey(bucketName)]
  const bucket = cache.get(bucketKey(bucketName)) as BucketRecord | undefined
  if (!bucket || !key.isWellFormed()) return undefined
  const keyBytes = validateKey(key, limits)
  const path = splitKey(keyBytes)
  let parent = bucket.root
  for (const name of path.directories) {
    const row = entryKey(parent, name)
    rows.push(row)
    const directory = cache.get(row) as Entry | undefined
    if (directory?.kind !== 'directory') return undefined
    parent = directory.inode
  }
  const entry = cache.get(entryKey(parent, path.name)) as Entry | undefined
  if (entry?.kind !== 'object') return undefined
  const inode = cache.get(inodeKey(entry.inode)) as Inode | undefined
  if (inode?.kind !== 'object') return undefined
  cache.keepWay(wayName, [...rows, entryKey(parent, path.name), inodeKey(entry.inode)])
  return cache.way(wayName)
}

async function remember(
  context: NamespaceContext,
  view: ReadView,
  found: { bucket: BucketRecord; place: Place; entry: ObjectEntry; inode: ObjectInode; fill: Fill },
): Promise<void> {
  const { bucket, place, entry, inode, fill } = found
  const records: (readonly [ByteString, CachedRecord])[] = [
    [bucketKey(bucket.name), bucket],
    ...place.directories.map(
      ({ parent, name, inode: id }) => [entryKey(parent, name), { kind: 'directory', inode: id }] as const,
    ),
    [entryKey(place.parent, place.name), entry],
    [inodeKey(entry.inode), inode],
  ]
  // They were read a moment ago, at the same revision; what is missing is how long they are.
  const rows = await view.getMany(records.map(([key]) => key))
  records.forEach(([key, record], index) => {
    const row = rows[index]
    assert(row !== undefined, 'what was read a moment ago is there at the same revision')
    context.cache.put(key, record, { recordBytes: row.length, fill })
  })
}

export function bucketRecord(context: NamespaceContext, name: string): Promise<BucketRecord> {
  const key = bucketKey(name)
  const { answersAtOnce } = context.cache
  const hot = answersAtOnce ? context.cache.get(key) : undefined
  if (hot) return Promise.resolve(hot as BucketRecord)
  return context.store.read(async (view) => {
    const warm = answersAtOnce ? undefined : context.cache.get(key)
    if (warm) return warm as BucketRecord
    const fill = context.cache.beginFill(view)
    const row = canNameBucket(name) ? await view.get(key) : undefined
    if (!row) throw noSuchBucket(name)
    const bucket = decodeBucket(row)
    context.cache.put(key, bucket, { recordBytes: row.length, fill })
    return bucket
  })
}
