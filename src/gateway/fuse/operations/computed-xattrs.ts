/**
 * Attributes that nobody sets: what the gateway knows of a file, under `user.tidegate.`. They are not listed, so that programs which copy
 * attributes (`cp -a`, `rsync -X`) do not try to, and made anew whenever they are asked for.
 *
 *     user.tidegate.key       bucket/key, as S3 and KV name it
 *     user.tidegate.etag      of what is published, without quotes
 *     user.tidegate.revision  of the commit that published it
 *     user.tidegate.ack       how safe that was when it was acknowledged: memory, journal, replicated, persisted
 *     user.tidegate.cached    memory=N dirty=N journal=N remote=N metadata=N: bytes in this node's memory; of these, bytes that are
 *                             nowhere else; bytes in local segments that are not in the remote store yet; bytes in the remote
 *                             store; bytes that lie with the metadata. Holes count nowhere
 *
 * Directories have a key and nothing else; what is unlinked has no key.
 */
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { FileDescription } from '../../../common/file-model.ts'
import type { Files } from '../../../store/doors.ts'
import { FuseError } from '../protocol/errno.ts'

const PREFIX = 'user.tidegate.'

type Describing = Pick<Files, 'describe' | 'residency'>

const COMPUTED: Readonly<Record<string, (files: Describing, inode: InodeId) => Promise<string | undefined>>> = {
  key: async (files, inode) => {
    const { place } = await files.describe(inode)
    return place && `${place.bucket}/${place.key}`
  },
  etag: async (files, inode) => (await objectOf(files, inode))?.etag,
  revision: async (files, inode) => (await objectOf(files, inode))?.revision.toString(),
  ack: async (files, inode) => (await objectOf(files, inode))?.ack,
  cached: async (files, inode) => {
    if ((await objectOf(files, inode)) === undefined) return undefined
    return Object.entries(await files.residency(inode))
      .map(([where, bytes]) => `${where}=${bytes}`)
      .join(' ')
  },
}

async function objectOf(files: Describing, inode: InodeId): Promise<FileDescription['object']> {
  return (await files.describe(inode)).object
}

export function isComputed(name: ByteString): boolean {
  return name.startsWith(PREFIX)
}

/** @throws FuseError ENODATA when the file has none of that name */
export async function computedAttribute(files: Describing, inode: InodeId, name: ByteString): Promise<Uint8Array> {
  const wanted = name.slice(PREFIX.length)
  const compute = Object.hasOwn(COMPUTED, wanted) ? COMPUTED[wanted] : undefined
  const value = await compute?.(files, inode)
  if (value === undefined) throw new FuseError('ENODATA')
  return Buffer.from(value)
}
