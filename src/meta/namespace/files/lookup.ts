/** Finding files: by inode, by name, and the way back. */
import { TidegateError } from '../../../common/errors.ts'
import { utf8Text, type ByteString, type InodeId } from '../../../common/ids.ts'
import type { ReadView } from '../../ports.ts'
import type { NamespaceContext } from '../context.ts'
import { bucketKey, inodeKey } from '../keys.ts'
import { canNameBucket } from '../names.ts'
import { decodeBucket, decodeInode } from '../records-objects.ts'
import { pathOf } from '../tree.ts'
import { mustResolve, openDirectory, readInode } from './directory.ts'
import { linksOf } from './links.ts'
import { noSuchName } from './names.ts'
import { nodeOf, rootNode } from './nodes.ts'
import type { FileNode } from '../../../common/file-model.ts'
import { MOUNT_ROOT } from './types.ts'
import { readVisible } from './visible.ts'

export function fileNode(context: NamespaceContext, inode: InodeId): Promise<FileNode> {
  return readVisible(context, async (view) =>
    inode === MOUNT_ROOT
      ? rootNode(context, view)
      : nodeOf(context, view, { id: inode, inode: await readInode(view, inode) }),
  )
}

export function findFile(context: NamespaceContext, parent: InodeId, name: ByteString): Promise<FileNode> {
  return readVisible(context, async (view) => {
    const id = parent === MOUNT_ROOT ? await bucketRoot(view, name) : await namedInode(context, view, { parent, name })
    return nodeOf(context, view, { id, inode: await readInode(view, id) })
  })
}

async function bucketRoot(view: ReadView, name: string): Promise<InodeId> {
  const row = canNameBucket(name) ? await view.get(bucketKey(name)) : undefined
  if (!row) throw noSuchName(name)
  return decodeBucket(row).root
}

async function namedInode(
  context: NamespaceContext,
  view: ReadView,
  { parent, name }: { parent: InodeId; name: ByteString },
): Promise<InodeId> {
  const found = await view.get(inodeKey(parent))
  if (!found || decodeInode(found).kind !== 'directory') await openDirectory(view, parent)
  return (await mustResolve(view, { parent, name, nowMs: context.clock.nowMs() })).inode
}

export function parentOf(context: NamespaceContext, directory: InodeId): Promise<InodeId> {
  if (directory === MOUNT_ROOT) return Promise.resolve(MOUNT_ROOT)
  return readVisible(context, async (view) => (await readInode(view, directory)).parent)
}

export async function linkTarget(context: NamespaceContext, id: InodeId): Promise<ByteString> {
  const inode = await readVisible(context, (view) => readInode(view, id))
  if (inode.kind !== 'object' || inode.posix?.kind !== 'symlink' || inode.body.kind !== 'inline') {
    throw new TidegateError('InvalidArgument', `inode ${id} is not a symlink`)
  }
  return Buffer.from(inode.body.bytes).toString('latin1') as ByteString
}

/** Where S3 finds it; undefined when it is unlinked or gone. The key of a directory ends in a slash; of a bucket it is empty. */
export function keyOf(
  context: NamespaceContext,
  id: InodeId,
): Promise<{ readonly bucket: string; readonly key: string } | undefined> {
  return readVisible(context, async (view) => {
    const row = await view.get(inodeKey(id))
    if (!row) return undefined
    const inode = decodeInode(row)
    if (inode.kind === 'object' && linksOf(inode) === 0) return undefined
    if (inode.parent === 0) return { bucket: inode.name, key: '' }
    const { bucket, key } = await pathOf(view, inode)
    return { bucket, key: utf8Text(key) }
  })
}
