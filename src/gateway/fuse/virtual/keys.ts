/** Making and removing keys through the flat view of a bucket: as a PUT of an empty body and a DELETE do it. */
import { isTidegateError, type ErrorCode } from '../../../common/errors.ts'
import { utf8Text, type ByteString, type InodeId } from '../../../common/ids.ts'
import type { FileNode } from '../../../common/file-model.ts'
import type { ObjectAttributes } from '../../../common/model.ts'
import { inodeOf } from '../nodes.ts'
import { FuseError } from '../protocol/errno.ts'
import type { RequestHeader } from '../protocol/requests.ts'
import type { MountState } from '../operations/operation.ts'
import { keyOfName } from './key-names.ts'
import { noSuchName } from './tree.ts'

/** S3 owner of what is made here: the id of the root user, for whom the mount acts. */
const OWNER = 'root'
const ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const EMPTY_BODY = {
  kind: 'bytes',
  bytes: new Uint8Array(0),
  digests: { md5: 'd41d8cd98f00b204e9800998ecf8427e', checksums: {} },
} as const
const PERMISSIONS = 0o7777

/** What says that there is no such name. */
export const ABSENT: ReadonlySet<ErrorCode> = new Set([
  'NoSuchKey',
  'NoSuchBucket',
  'InvalidKey',
  'InvalidBucketName',
  'StaleFile',
])

export interface KeyMaking {
  readonly header: RequestHeader
  readonly name: ByteString
  readonly mode: number
  readonly exclusive: boolean
}

/** Resolves with the file that is there when `exclusive` allows that. @throws FileExists, KeyTooLong */
export async function makeKey(mount: MountState, making: KeyMaking): Promise<FileNode> {
  const { virtual } = mount
  const { header, name } = making
  const parent = inodeOf(header.nodeId)
  const bucket = await virtual.bucketOf(parent)
  if (bucket === undefined) throw new FuseError('EPERM')
  const key = keyOfName(name)
  if (key === undefined) throw new FuseError('EINVAL', 'a name that stands for no key')
  try {
    await virtual.objects.put({
      bucket,
      key: utf8Text(key),
      body: EMPTY_BODY,
      attributes: ATTRIBUTES,
      checksum: undefined,
      owner: OWNER,
      conditions: { ifNoneMatch: ['*'] },
      ack: undefined,
    })
  } catch (error) {
    if (!isTidegateError(error, 'PreconditionFailed')) throw error
    if (making.exclusive) throw new FuseError('EEXIST')
    return await mount.files.findKey(bucket, key)
  }
  return await owned(mount, await mount.files.findKey(bucket, key), making)
}

/** Owner and mode as of any file that is made through the mount. */
async function owned(mount: MountState, node: FileNode, { header, mode }: KeyMaking): Promise<FileNode> {
  const wanted = { mode: mode & PERMISSIONS, uid: header.uid, gid: header.gid }
  if (node.mode === wanted.mode && node.uid === wanted.uid && node.gid === wanted.gid) return node
  return await mount.files.change(node.inode, wanted)
}

/** @throws NoSuchKey */
export async function removeKey(mount: MountState, parent: InodeId, name: ByteString): Promise<void> {
  const bucket = await mount.virtual.bucketOf(parent)
  if (bucket === undefined) throw new FuseError('EPERM')
  const key = keyOfName(name)
  if (key === undefined) throw noSuchName(name)
  const { existed } = await mount.virtual.objects.delete({ bucket, key: utf8Text(key) }, {})
  if (!existed) throw noSuchName(name)
}
