/** An object of a bucket found by its whole key, as KV knows it: also where the tree of the mount has no name for it. */
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString } from '../../../common/ids.ts'
import type { FileNode } from '../../../common/file-model.ts'
import { readBucket, type NamespaceContext } from '../context.ts'
import { findPlace, liveEntry } from '../tree.ts'
import { readInode } from './directory.ts'
import { nodeOf } from './nodes.ts'
import { readVisible } from './visible.ts'

/** The current version; of `a/` the marker, not the directory. @throws NoSuchBucket, NoSuchKey */
export function findKey(context: NamespaceContext, bucketName: string, key: ByteString): Promise<FileNode> {
  return readVisible(context, async (view) => {
    const bucket = await readBucket(view, bucketName)
    const place = await findPlace(view, bucket, key)
    const entry = place && (await liveEntry(view, place, context.clock.nowMs()))
    if (!entry) throw new TidegateError('NoSuchKey', `no key ${JSON.stringify(key)}`)
    return nodeOf(context, view, { id: entry.inode, inode: await readInode(view, entry.inode) })
  })
}
