/** Attributes of nodes, and of the file system. */
import type { InodeId } from '../../../common/ids.ts'
import type { FileChanges } from '../../../common/file-model.ts'
import { attributesOf, inodeOf } from '../nodes.ts'
import { FuseError } from '../protocol/errno.ts'
import type { SetattrRequest } from '../protocol/requests.ts'
import type { MountState, Operations } from './operation.ts'

type AttributeOperation = 'GETATTR' | 'SETATTR' | 'STATX' | 'STATFS' | 'ACCESS'

const PERMISSIONS = 0o7777
/** (uid_t)-1 and (gid_t)-1 mean "leave it" to chown(2); no file can have them. */
const NOBODY = 0xff_ff_ff_ff

export const ATTRIBUTE_OPERATIONS: Operations<AttributeOperation> = {
  async GETATTR({ header }, mount) {
    const inode = inodeOf(header.nodeId)
    const point = mount.coherence.point()
    const node = await mount.files.node(inode)
    const { attributesMs } = mount.coherence.timesSince(point, inode)
    mount.answers.send(header, (encoder, unique) => encoder.attributes(unique, attributesOf(node), attributesMs))
  },

  async SETATTR(request, mount) {
    const { header } = request
    if (request.uid === NOBODY || request.gid === NOBODY) throw new FuseError('EINVAL')
    const inode = inodeOf(header.nodeId)
    const point = mount.coherence.point()
    const node = await mount.coherence.during({ nodes: [inode] }, () => mount.files.change(inode, changesOf(request)))
    mount.openFiles.modeChanged()
    const { attributesMs } = mount.coherence.timesSince(point, inode)
    mount.answers.send(header, (encoder, unique) => encoder.attributes(unique, attributesOf(node), attributesMs))
  },

  // Creation times are not kept, and the kernel falls back to GETATTR.
  STATX() {
    throw new FuseError('ENOSYS')
  },

  async STATFS({ header }, mount) {
    const { blockBytes, blocks, blocksFree, blocksAvailable, files, nameBytesMax } = await mount.files.statistics()
    mount.answers.send(header, (encoder, unique) =>
      encoder.statfs(unique, {
        blocks,
        blocksFree,
        blocksAvailable,
        files: files + blocksFree,
        // A file takes a block at least, near enough; there is no table of inodes to fill.
        filesFree: blocksFree,
        blockBytes,
        fragmentBytes: blockBytes,
        nameBytesMax,
      }),
    )
  },

  // The kernel checks by itself (default_permissions).
  ACCESS() {
    throw new FuseError('ENOSYS')
  },
}

/** chown(2) takes set-uid and set-gid away, whoever calls it (notify_change of the kernel leaves that to us: HANDLE_KILLPRIV_V2). */
function changesOf(request: SetattrRequest): FileChanges {
  const { mode, uid, gid, sizeBytes, atime, mtime, killSuidGid } = request
  return {
    mode: mode === undefined ? undefined : mode & PERMISSIONS,
    uid,
    gid,
    size: sizeBytes,
    accessed: atime,
    modified: mtime,
    dropPrivileges: killSuidGid || uid !== undefined || gid !== undefined,
  }
}

/** For a write by somebody without CAP_FSETID. */
export async function dropPrivileges(mount: MountState, inode: InodeId, handle: number): Promise<void> {
  if (mount.openFiles.isPlain(handle)) return
  const { mode } = await mount.files.node(inode)
  if ((mode & SET_IDS) !== 0) {
    await mount.coherence.during({ nodes: [inode] }, () => mount.files.change(inode, { dropPrivileges: true }))
  }
  mount.openFiles.seenPlain(handle)
}

const SET_IDS = 0o6000
