/**
 * The bucket of a record (apply-record.ts). Ids of buckets grow and are never given out twice, so of two of one name the one with the greater id
 * is the later; and a bucket is only deleted when nothing is in it. Emptying it takes many transactions: the bucket itself goes last,
 * and until the restore has ended nobody serves from it.
 */
import { must } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { BucketRecord } from '../../../common/model.ts'
import { deleteBucket } from '../buckets.ts'
import { beginStep, endStep, type NamespaceContext } from '../context.ts'
import { BUCKET_COUNT_KEY, bucketKey, inodeKey } from '../keys.ts'
import { decodeBucket, encodeBucket, encodeInode } from '../records-objects.ts'
import { removeInode } from '../remove.ts'
import { VersionWalk } from '../version-walk.ts'

const REMOVED_AT_ONCE = 256

/**
 * Makes it as it was when an object was put into it; one of that id that is there stays, with the versioning that it had last.
 * @returns false when it has been deleted since, and made again
 */
export async function ensureBucket(context: NamespaceContext, bucket: BucketRecord): Promise<boolean> {
  const row = await context.store.read((view) => view.get(bucketKey(bucket.name)))
  const known = row && decodeBucket(row)
  if (known && known.id > bucket.id) return false
  if (known && known.id < bucket.id) await removeWithAll(context, known)
  await context.store.transact(async (tx) => {
    const { name, root, createdMs, versioning, ack } = bucket
    const there = await tx.get(bucketKey(name))
    if (there) {
      const same = decodeBucket(there)
      if (same.versioning === versioning && same.ack === ack) return
      tx.put(bucketKey(name), encodeBucket({ ...same, versioning, ack }))
      return
    }
    tx.put(bucketKey(name), encodeBucket(bucket))
    tx.put(inodeKey(root), encodeInode({ kind: 'directory', parent: 0, name, createdMs }))
    tx.add(BUCKET_COUNT_KEY, [1])
  })
  return true
}

/** Directories go with the last that is in them; uploads in progress are the reclaimer's. */
async function removeWithAll(context: NamespaceContext, bucket: BucketRecord): Promise<void> {
  for (;;) {
    const versions = await firstVersions(context, bucket)
    for (const { key, inode } of versions) {
      const { value: removed } = await context.store.transact(async (tx) => {
        const step = await beginStep(context, tx, bucket.name)
        const isRemoved = await removeInode(step, key, inode)
        endStep(step)
        return isRemoved
      })
      must(removed || undefined, 'a version that the walk found')
    }
    if (versions.length < REMOVED_AT_ONCE) break
  }
  await deleteBucket(context, bucket.name)
}

function firstVersions(
  context: NamespaceContext,
  { root }: BucketRecord,
): Promise<{ readonly key: ByteString; readonly inode: InodeId }[]> {
  return context.store.read(async (view) => {
    const found: { key: ByteString; inode: InodeId }[] = []
    const start = { inode: root, path: '', namePrefix: '', state: 'live', from: '', enter: true } as const
    const walk = await VersionWalk.begin(view, start)
    for (let item = await walk.next(); item && found.length < REMOVED_AT_ONCE; item = await walk.next()) {
      if (item.kind === 'version') found.push({ key: item.key as ByteString, inode: item.entry.inode })
    }
    return found
  })
}
