/**
 * Every operation on virtual nodes (nodes.ts). What is in a flat view are real files, so reading, writing and truncating them comes
 * by their own numbers and not here: here are their names. The kernel keeps no such name, since other doors change keys without
 * knowing of it; attributes and pages of the files are kept as anywhere.
 */
import { isTidegateError } from '../../../common/errors.ts'
import type { FileNode } from '../../../common/file-model.ts'
import { FIRST_NAME_POSITION } from '../directory-cursors.ts'
import { attributesOf, inodeOf, kindOfMode, modeOf, nodeIdOf } from '../nodes.ts'
import { ATTRIBUTE_OPERATIONS } from '../operations/attributes.ts'
import { CONNECTION_OPERATIONS } from '../operations/connection.ts'
import { close as closeFile, open as openFile, openReply } from '../operations/data.ts'
import { LOCK_OPERATIONS } from '../operations/locks.ts'
import { NAME_OPERATIONS, checkName } from '../operations/names.ts'
import { answerEntry, entryOf, type MountState, type Operations } from '../operations/operation.ts'
import type { CacheTimes } from '../protocol/attributes.ts'
import type { DirectoryEntry } from '../protocol/directory-reply.ts'
import { FuseError, type ErrnoName } from '../protocol/errno.ts'
import { FILE_TYPE, OPEN_FLAGS, OPEN_REPLY, accessModeOf } from '../protocol/flags.ts'
import type { OperationName } from '../protocol/opcodes.ts'
import type { ReaddirplusRequest, ReaddirRequest } from '../protocol/requests.ts'
import { ABSENT, makeKey, removeKey } from './keys.ts'
import { STATISTICS, isVirtualNodeId } from './nodes.ts'
import { statisticsText } from './statistics.ts'

/** Of what is always there. */
const FIXED_TIMES: CacheTimes = { entryMs: 60_000, attributesMs: 60_000 }
const NO_TIMES: CacheTimes = { entryMs: 0, attributesMs: 0 }

/** Answered with an errno. Never with ENOSYS, which would end the operation for the whole mount. */
function refused(errno: ErrnoName): () => never {
  return () => {
    throw new FuseError(errno)
  }
}

export const VIRTUAL_OPERATIONS: Operations<OperationName> = {
  ...CONNECTION_OPERATIONS,
  ...LOCK_OPERATIONS,
  FORGET: NAME_OPERATIONS.FORGET,
  BATCH_FORGET: NAME_OPERATIONS.BATCH_FORGET,
  STATFS: ATTRIBUTE_OPERATIONS.STATFS,
  STATX: ATTRIBUTE_OPERATIONS.STATX,
  ACCESS: ATTRIBUTE_OPERATIONS.ACCESS,

  async LOOKUP({ header, name }, mount) {
    checkName(name)
    const parent = inodeOf(header.nodeId)
    const fixed = mount.virtual.fixedChild(parent, name)
    if (fixed) return answerEntry(mount, header, { node: fixed, cacheTimes: FIXED_TIMES })
    const point = mount.coherence.point()
    try {
      const node = await mount.virtual.child(parent, name)
      answerEntry(mount, header, { node, cacheTimes: timesOf(mount, point, node) })
    } catch (error) {
      if (!isTidegateError(error) || !ABSENT.has(error.code)) throw error
      mount.answers.send(header, (encoder, unique) => encoder.negativeEntry(unique, NO_TIMES.entryMs))
    }
  },

  async GETATTR({ header }, mount) {
    const node = await mount.virtual.node(inodeOf(header.nodeId))
    mount.answers.send(header, (encoder, unique) => encoder.attributes(unique, attributesOf(node), 0))
  },

  SETATTR: refused('EPERM'),
  READLINK: refused('EINVAL'),
  SYMLINK: refused('EPERM'),
  MKDIR: refused('EPERM'),
  RMDIR: refused('EPERM'),
  // What stands here cannot be moved or linked to; mv then copies.
  RENAME: refused('EXDEV'),
  RENAME2: refused('EXDEV'),
  LINK: refused('EXDEV'),
  TMPFILE: refused('EOPNOTSUPP'),

  async MKNOD({ header, name, mode }, mount) {
    checkName(name)
    if (kindOfMode(mode) !== 'file') throw new FuseError('EPERM')
    const point = mount.coherence.point()
    const node = await makeKey(mount, { header, name, mode, exclusive: true })
    answerEntry(mount, header, { node, cacheTimes: timesOf(mount, point, node) })
  },

  async CREATE({ header, name, mode, flags }, mount) {
    checkName(name)
    const point = mount.coherence.point()
    const made = await makeKey(mount, { header, name, mode, exclusive: (flags & OPEN_FLAGS.EXCLUSIVE) !== 0 })
    const { handle, node } = await openFile(mount, made.inode, flags)
    const entry = entryOf(node, timesOf(mount, point, node))
    // A key that was there already: as in the tree.
    const reply = openReply(handle, mount.isAlone())
    const sent = mount.answers.send(header, (encoder, unique) => encoder.created(unique, entry, reply))
    if (sent) mount.coherence.known(node.inode)
    else await closeFile(mount, handle)
  },

  async UNLINK({ header, name }, mount) {
    checkName(name)
    await removeKey(mount, inodeOf(header.nodeId), name)
    mount.answers.done(header)
  },

  OPEN({ header, flags }, mount) {
    if (inodeOf(header.nodeId) !== STATISTICS) throw new FuseError('EISDIR')
    if (accessModeOf(flags) !== 'read') throw new FuseError('EPERM')
    const handle = mount.virtual.openText(statisticsText(mount.metrics, mount.statistics))
    // Read to its end whatever size stat(2) says.
    const reply = { handle, flags: OPEN_REPLY.DIRECT_IO }
    if (!mount.answers.send(header, (encoder, unique) => encoder.opened(unique, reply))) mount.virtual.close(handle)
  },

  READ({ header, handle, offset, sizeBytes }, mount) {
    const bytes = mount.virtual.text(handle).subarray(offset, offset + sizeBytes)
    mount.answers.data(header, [bytes], bytes.length)
  },

  LSEEK({ header, handle, offset, whence }, mount) {
    const { length } = mount.virtual.text(handle)
    if (offset >= length) throw new FuseError('ENXIO')
    mount.answers.send(header, (encoder, unique) => encoder.position(unique, whence === 'data' ? offset : length))
  },

  WRITE: refused('EPERM'),
  FALLOCATE: refused('EPERM'),
  // Programs then read and write.
  COPY_FILE_RANGE: refused('EXDEV'),
  COPY_FILE_RANGE_64: refused('EXDEV'),

  async FLUSH({ header, lockOwner }, mount) {
    await mount.locks.releaseOwner({ nodeId: header.nodeId, sort: 'posix', owner: lockOwner })
    mount.answers.done(header)
  },

  FSYNC({ header }, mount) {
    mount.answers.done(header)
  },

  async RELEASE({ header, handle, lockOwner, flockUnlock }, mount) {
    if (flockUnlock) await mount.locks.releaseOwner({ nodeId: header.nodeId, sort: 'flock', owner: lockOwner })
    mount.virtual.close(handle)
    mount.answers.done(header)
  },

  OPENDIR({ header }, mount) {
    const handle = mount.virtual.openDirectory(inodeOf(header.nodeId))
    const sent = mount.answers.send(header, (encoder, unique) => encoder.opened(unique, { handle, flags: 0 }))
    if (!sent) mount.virtual.close(handle)
  },

  READDIR: (request, mount) => list(request, mount, (entry) => mount.listing.add(entry)),
  // But names: attributes are asked for with the look-up that each name needs anyway.
  READDIRPLUS: (request, mount) => list(request, mount, (entry) => mount.listing.addPlus(entry, undefined)),

  RELEASEDIR({ header, handle }, mount) {
    mount.virtual.close(handle)
    mount.answers.done(header)
  },

  FSYNCDIR({ header }, mount) {
    mount.answers.done(header)
  },

  GETXATTR: refused('ENODATA'),
  LISTXATTR({ header, sizeBytes }, mount) {
    mount.answers.send(header, (encoder, unique) =>
      sizeBytes === 0 ? encoder.xattrSize(unique, 0) : encoder.data(unique, new Uint8Array(0)),
    )
  },
  SETXATTR: refused('EPERM'),
  REMOVEXATTR: refused('EPERM'),
}

/** Names are looked up each time; attributes of real files are kept as anywhere. */
function timesOf({ coherence }: MountState, point: number, node: FileNode): CacheTimes {
  if (isVirtualNodeId(nodeIdOf(node.inode))) return NO_TIMES
  return { entryMs: 0, attributesMs: coherence.timesSince(point, node.inode).attributesMs }
}

async function list(
  { header, handle, offset, sizeBytes }: ReaddirRequest | ReaddirplusRequest,
  mount: MountState,
  add: (entry: DirectoryEntry) => boolean,
): Promise<void> {
  const { virtual, listing } = mount
  const cursor = virtual.cursor(handle)
  const { entries, position } = await cursor.from(Math.max(offset, FIRST_NAME_POSITION))
  const names = entries.map(({ name, node }, index) => ({
    name,
    inode: nodeIdOf(node.inode),
    mode: modeOf(node),
    nextOffset: position + index + 1,
  }))
  const mode = FILE_TYPE.DIRECTORY
  const dots = [
    { name: '.', inode: nodeIdOf(cursor.inode), mode, nextOffset: 1 },
    { name: '..', inode: nodeIdOf(virtual.parentOf(cursor.inode)), mode, nextOffset: FIRST_NAME_POSITION },
  ] as DirectoryEntry[]
  // Built and sent in one turn.
  listing.begin(sizeBytes)
  for (const entry of [...dots.slice(offset), ...names]) if (!add(entry)) break
  mount.answers.directory(header, listing)
}
