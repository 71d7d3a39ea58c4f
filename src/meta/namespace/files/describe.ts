/** What S3 and KV know of a file and stat(2) does not say. */
import { utf8Text, type InodeId } from '../../../common/ids.ts'
import type { FileDescription } from '../../../common/file-model.ts'
import type { NamespaceContext } from '../context.ts'
import { pathOf } from '../tree.ts'
import { readInode } from './directory.ts'
import { linksOf } from './links.ts'
import { MOUNT_ROOT } from './types.ts'
import { readVisible } from './visible.ts'

/** Of the published content. @throws StaleFile */
export function describeFile(context: NamespaceContext, id: InodeId): Promise<FileDescription> {
  if (id === MOUNT_ROOT) return Promise.resolve({ place: undefined, object: undefined })
  return readVisible(context, async (view) => {
    const inode = await readInode(view, id)
    if (inode.kind === 'directory') {
      if (inode.parent === 0) return { place: { bucket: inode.name, key: '' }, object: undefined }
      const { bucket, key } = await pathOf(view, inode)
      return { place: { bucket, key: utf8Text(key) }, object: undefined }
    }
    const { etag, revision, ack } = inode
    const object = { etag, revision, ack }
    if (linksOf(inode) === 0) return { place: undefined, object }
    const { bucket, key } = await pathOf(view, inode)
    return { place: { bucket, key: utf8Text(key) }, object }
  })
}
