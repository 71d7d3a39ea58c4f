/** Extended attributes: those of users. The other name spaces mean something to the kernel that is not kept here. */
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { inodeOf } from '../nodes.ts'
import { ERRNO, FuseError } from '../protocol/errno.ts'
import type { GetxattrRequest, RequestHeader } from '../protocol/requests.ts'
import { computedAttribute, isComputed } from './computed-xattrs.ts'
import type { MountState, Operations } from './operation.ts'

type XattrOperation = 'GETXATTR' | 'SETXATTR' | 'LISTXATTR' | 'REMOVEXATTR'

const USER_PREFIX = 'user.'

/** The directory of the buckets is no inode of the namespace, so nothing is kept of it. */
const ROOT: InodeId = 0

export const XATTR_OPERATIONS: Operations<XattrOperation> = {
  /** Linux asks for security.capability before it writes to a file for the first time: that costs no more than the answer. */
  GETXATTR(request, mount) {
    if (!request.name.startsWith(USER_PREFIX)) return void mount.answers.error(request.header, ERRNO.EOPNOTSUPP)
    return answerAttribute(request, mount)
  },

  async SETXATTR({ header, name, value, create, replace }, mount) {
    checkName(name)
    const inode = inodeOf(header.nodeId)
    if (inode === ROOT || isComputed(name)) throw new FuseError('EPERM')
    const mode = create ? 'create' : replace ? 'replace' : 'set'
    // The value lies in the slot, and the store keeps what it is given.
    const bytes = Uint8Array.from(value)
    await mount.coherence.during({ nodes: [inode] }, () => mount.files.setAttribute(inode, name, bytes, mode))
    mount.answers.done(header)
  },

  async LISTXATTR({ header, sizeBytes }, mount) {
    const inode = inodeOf(header.nodeId)
    const names = inode === ROOT ? [] : await mount.files.attributeNames(inode)
    const bytes = Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1')
    answerBytes(mount, header, { bytes, sizeBytes })
  },

  async REMOVEXATTR({ header, name }, mount) {
    checkName(name)
    const inode = inodeOf(header.nodeId)
    if (inode === ROOT || isComputed(name)) throw new FuseError('EPERM')
    await mount.coherence.during({ nodes: [inode] }, () => mount.files.removeAttribute(inode, name))
    mount.answers.done(header)
  },
}

async function answerAttribute({ header, name, sizeBytes }: GetxattrRequest, mount: MountState): Promise<void> {
  const inode = inodeOf(header.nodeId)
  if (inode === ROOT) throw new FuseError('ENODATA')
  const value = isComputed(name)
    ? await computedAttribute(mount.files, inode, name)
    : await mount.files.attribute(inode, name)
  answerBytes(mount, header, { bytes: value, sizeBytes })
}

/** @throws FuseError EOPNOTSUPP, and not ENOSYS, after which the kernel would not ask for any attribute again */
function checkName(name: ByteString): void {
  if (!name.startsWith(USER_PREFIX)) throw new FuseError('EOPNOTSUPP')
}

/** Size 0 asks how long it is. */
function answerBytes(
  mount: MountState,
  header: RequestHeader,
  { bytes, sizeBytes }: { bytes: Uint8Array; sizeBytes: number },
): void {
  if (sizeBytes === 0) {
    mount.answers.send(header, (encoder, unique) => encoder.xattrSize(unique, bytes.length))
    return
  }
  if (bytes.length > sizeBytes) throw new FuseError('ERANGE')
  mount.answers.send(header, (encoder, unique) => encoder.data(unique, bytes))
}
