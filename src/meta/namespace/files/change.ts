/** Changing what a file is, but for its content: mode, owner, times. */
import type { InodeId } from '../../../common/ids.ts'
import type { Transaction } from '../../ports.ts'
import type { Commit, NamespaceContext } from '../context.ts'
import { inodeKey } from '../keys.ts'
import { encodeInode, type DirectoryInode, type ObjectInode } from '../records-objects.ts'
import { readInode } from './directory.ts'
import { entriesOf, rewriteEntries } from './entries-of.ts'
import { forgetTouches, nodeOf, rootNode, touchDirectory } from './nodes.ts'
import { MODE_BITS, msOfTime, posixOf, timeOfMs, type PosixPart } from './posix-part.ts'
import type { FileNode, FileTime } from '../../../common/file-model.ts'
import { MOUNT_ROOT, type FileChanges } from './types.ts'
import { transactVisible } from './visible.ts'

const SET_UID = 0o4000
const SET_GID = 0o2000
const GROUP_EXECUTE = 0o010

export function changeFile(context: NamespaceContext, id: InodeId, changes: FileChanges): Promise<Commit<FileNode>> {
  return transactVisible(context, async (tx) => {
    // The directory above the buckets is what the mount's options say.
    if (id === MOUNT_ROOT) return rootNode(context, tx)
    const inode = await readInode(tx, id)
    const nowMs = context.clock.nowMs()
    const posix = changedPart(posixOf(inode, context.files), changes, timeOfMs(nowMs))
    const changed =
      inode.kind === 'directory'
        ? await changedDirectory(context, tx, { id, inode, posix, changes, nowMs })
        : await changedObject(tx, { id, inode, posix, changes })
    tx.put(inodeKey(id), encodeInode(changed))
    return nodeOf(context, tx, { id, inode: changed })
  })
}

function changedPart(old: PosixPart, changes: FileChanges, now: FileTime): PosixPart {
  const timeOf = (change: FileTime | 'now' | undefined, known: FileTime): FileTime =>
    change === 'now' ? now : (change ?? known)
  const mode = (changes.mode ?? old.mode) & MODE_BITS
  return {
    ...old,
    mode: changes.dropPrivileges && old.kind !== 'directory' ? withoutPrivileges(mode) : mode,
    uid: changes.uid ?? old.uid,
    gid: changes.gid ?? old.gid,
    accessed: timeOf(changes.accessed, old.accessed),
    modified: timeOf(changes.modified, old.modified),
    changed: now,
  }
}

/** As Linux does: set-gid without group execution stands for mandatory locking and stays. */
export function withoutPrivileges(mode: number): number {
  return mode & ~(SET_UID | (mode & GROUP_EXECUTE ? SET_GID : 0))
}

/** A time that is set replaces what was changed in it before; else the later one counts. */
async function changedDirectory(
  context: NamespaceContext,
  tx: Transaction,
  change: { id: InodeId; inode: DirectoryInode; posix: PosixPart; changes: FileChanges; nowMs: number },
): Promise<DirectoryInode> {
  if (change.changes.modified === 'now') touchDirectory({ tx, context, nowMs: change.nowMs }, change.id)
  else if (change.changes.modified) await forgetTouches({ tx }, change.id)
  return { ...change.inode, posix: change.posix }
}

async function changedObject(
  tx: Transaction,
  change: { id: InodeId; inode: ObjectInode; posix: PosixPart; changes: FileChanges },
): Promise<ObjectInode> {
  const { id, inode, posix, changes } = change
  const mtimeMs = changes.modified ? msOfTime(posix.modified) : inode.mtimeMs
  if (!inode.posix || mtimeMs !== inode.mtimeMs) {
    rewriteEntries(tx, await entriesOf(tx, id, inode), { mtimeMs, isFile: true })
  }
  return { ...inode, mtimeMs, posix }
}
