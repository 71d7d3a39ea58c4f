/** Operations on names in directories. */
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { isTidegateError, type ErrorCode } from '../../../common/errors.ts'
import type { FileNode, NewFile } from '../../../common/file-model.ts'
import { inodeOf, kindOfMode } from '../nodes.ts'
import { FuseError } from '../protocol/errno.ts'
import type { RenameRequest, RequestHeader } from '../protocol/requests.ts'
import { isVirtualName, isVirtualNodeId } from '../virtual/nodes.ts'
import { answerEntry, type MountState, type Operations } from './operation.ts'

/** NAME_MAX of Linux. */
export const NAME_BYTES_MAX = 255
/** PATH_MAX less its NUL. */
const TARGET_BYTES_MAX = 4095
const PERMISSIONS = 0o7777

type NameOperation =
  | 'LOOKUP'
  | 'FORGET'
  | 'BATCH_FORGET'
  | 'MKNOD'
  | 'MKDIR'
  | 'SYMLINK'
  | 'READLINK'
  | 'LINK'
  | 'UNLINK'
  | 'RMDIR'
  | 'RENAME'
  | 'RENAME2'

/** What a look-up of a name that cannot be throws: then there is no such name. */
const ABSENT: ReadonlySet<ErrorCode> = new Set(['NoSuchKey', 'NoSuchBucket', 'InvalidKey', 'InvalidBucketName'])

export const NAME_OPERATIONS: Operations<NameOperation> = {
  async LOOKUP({ header, name }, mount) {
    checkName(name)
    const parent = inodeOf(header.nodeId)
    const point = mount.coherence.point()
    let node: FileNode
    try {
      node = await mount.files.find(parent, name)
    } catch (error) {
      if (!isTidegateError(error) || !ABSENT.has(error.code)) throw error
      // Here, where it costs real names nothing.
      const fixed = mount.virtual.fixedChild(parent, name)
      if (fixed) return answerEntry(mount, header, { node: fixed, cacheTimes: mount.coherence.timesSince(point) })
      const { entryMs } = mount.coherence.timesSince(point, parent)
      mount.answers.send(header, (encoder, unique) => encoder.negativeEntry(unique, entryMs))
      return
    }
    answerEntry(mount, header, { node, cacheTimes: mount.coherence.timesSince(point, parent, node.inode) })
  },

  FORGET({ nodeId, lookupCount }, mount) {
    mount.coherence.forget(inodeOf(nodeId), lookupCount)
  },

  BATCH_FORGET({ nodes }, mount) {
    for (const { nodeId, lookupCount } of nodes) mount.coherence.forget(inodeOf(nodeId), lookupCount)
  },

  async MKNOD({ header, name, mode, device }, mount) {
    const kind = kindOfMode(mode)
    if (kind === undefined || kind === 'directory' || kind === 'symlink') throw new FuseError('EINVAL')
    await makeEntry(mount, { header, name, mode }, (parent, made) =>
      mount.files.makeFile(parent, name, { ...made, kind, device }),
    )
  },

  async MKDIR({ header, name, mode }, mount) {
    await makeEntry(mount, { header, name, mode }, (parent, made) => mount.files.makeDirectory(parent, name, made))
  },

  async SYMLINK({ header, name, target }, mount) {
    if (target.length > TARGET_BYTES_MAX) throw new FuseError('ENAMETOOLONG')
    await makeEntry(mount, { header, name, mode: 0o777 }, (parent, made) =>
      mount.files.makeFile(parent, name, { ...made, kind: 'symlink', target }),
    )
  },

  async READLINK({ header }, mount) {
    const target = await mount.files.linkTarget(inodeOf(header.nodeId))
    mount.answers.send(header, (encoder, unique) => encoder.text(unique, target))
  },

  async LINK({ header, name, target }, mount) {
    checkName(name)
    if (isVirtualNodeId(target)) throw new FuseError('EXDEV')
    const [parent, inode] = [inodeOf(header.nodeId), inodeOf(target)]
    const point = mount.coherence.point()
    const node = await mount.coherence.during({ entries: [[parent, name]], nodes: [parent, inode] }, () =>
      mount.files.link(inode, parent, name),
    )
    answerEntry(mount, header, { node, cacheTimes: mount.coherence.timesSince(point, parent, inode) })
  },

  async UNLINK({ header, name }, mount) {
    checkName(name)
    const parent = inodeOf(header.nodeId)
    await mount.coherence.during({ entries: [[parent, name]], nodes: [parent] }, () => mount.files.remove(parent, name))
    mount.answers.done(header)
  },

  async RMDIR({ header, name }, mount) {
    checkName(name)
    const parent = inodeOf(header.nodeId)
    if (isVirtualName(parent, name)) throw new FuseError('EPERM')
    await mount.coherence.during({ entries: [[parent, name]], nodes: [parent] }, () =>
      mount.files.removeDirectory(parent, name),
    )
    mount.answers.done(header)
  },

  RENAME: rename,
  RENAME2: rename,
}

interface Making {
  readonly header: RequestHeader
  readonly name: ByteString
  readonly mode: number
}

async function makeEntry(
  mount: MountState,
  { header, name, mode }: Making,
  make: (parent: InodeId, made: NewFile) => Promise<FileNode>,
): Promise<void> {
  checkName(name)
  const parent = inodeOf(header.nodeId)
  const made = newFile(header, mode)
  const point = mount.coherence.point()
  const node = await mount.coherence.during({ entries: [[parent, name]], nodes: [parent] }, () => make(parent, made))
  answerEntry(mount, header, { node, cacheTimes: mount.coherence.timesOfMade(point, { parent, made: node.inode }) })
}

async function rename(request: RenameRequest, mount: MountState): Promise<void> {
  const { header, name, newName, noReplace, exchange, whiteout } = request
  // Whiteouts are for overlayfs, which cannot lie over a mount like this one.
  if (whiteout || (noReplace && exchange)) throw new FuseError('EINVAL')
  checkName(name)
  checkName(newName)
  const from = { parent: inodeOf(header.nodeId), name }
  const to = { parent: inodeOf(request.newParent), name: newName }
  if (isVirtualNodeId(request.newParent)) throw new FuseError('EXDEV')
  if (isVirtualName(from.parent, name) || isVirtualName(to.parent, newName)) throw new FuseError('EPERM')
  const own = {
    entries: [
      [from.parent, from.name],
      [to.parent, to.name],
    ] as const,
    nodes: [from.parent, to.parent],
  }
  const mode = exchange ? 'exchange' : noReplace ? 'no-replace' : 'replace'
  await mount.coherence.during(own, () => mount.files.rename(from, to, mode))
  mount.answers.done(header)
}

/** @throws FuseError ENAMETOOLONG */
export function checkName(name: ByteString): void {
  if (name.length > NAME_BYTES_MAX) throw new FuseError('ENAMETOOLONG')
}

/** Owner and mode of what the caller makes; the kernel has applied the umask. */
export function newFile(header: RequestHeader, mode: number): NewFile {
  return { mode: mode & PERMISSIONS, uid: header.uid, gid: header.gid }
}
