/**
 * How the store's nodes are called in the protocol. The kernel's name for an inode is its id plus one, so that the root of the
 * mount, inode 0, is node 1 as the protocol demands. stat(2) shows the same number. Inode ids are never reused, so neither are these.
 */
import type { InodeId } from '../../common/ids.ts'
import type { FileKind, FileNode } from '../../common/file-model.ts'
import type { FileAttributes } from './protocol/attributes.ts'
import { FILE_TYPE } from './protocol/flags.ts'

export function nodeIdOf(inode: InodeId): number {
  return inode + 1
}

export function inodeOf(nodeId: number): InodeId {
  return nodeId - 1
}

const TYPE_OF_KIND = {
  file: FILE_TYPE.REGULAR,
  directory: FILE_TYPE.DIRECTORY,
  symlink: FILE_TYPE.SYMLINK,
  fifo: FILE_TYPE.FIFO,
  socket: FILE_TYPE.SOCKET,
  'character-device': FILE_TYPE.CHARACTER,
  'block-device': FILE_TYPE.BLOCK,
} as const satisfies Readonly<Record<FileKind, number>>

const KIND_OF_TYPE: ReadonlyMap<number, FileKind> = new Map(
  Object.entries(TYPE_OF_KIND).map(([kind, type]) => [type, kind as FileKind]),
)

/** Undefined for no type at all. mknod(2) takes that for a regular file, and the kernel says so before it asks us. */
export function kindOfMode(mode: number): FileKind | undefined {
  return KIND_OF_TYPE.get(mode & FILE_TYPE.MASK)
}

/** stat(2) counts in these, whatever the block size is. */
const STAT_BLOCK_BYTES = 512
/** The unit of checksum (C14): smaller reads fetch as much. */
const IO_BLOCK_BYTES = 65_536

export function attributesOf(node: FileNode): FileAttributes {
  return {
    inode: nodeIdOf(node.inode),
    sizeBytes: node.size,
    blocks: Math.ceil(node.storedBytes / STAT_BLOCK_BYTES),
    atime: node.accessed,
    mtime: node.modified,
    ctime: node.changed,
    btime: undefined,
    mode: modeOf(node),
    linkCount: node.links,
    uid: node.uid,
    gid: node.gid,
    device: node.device,
    blockBytes: IO_BLOCK_BYTES,
  }
}

/** With the type, as st_mode has it. */
export function modeOf(node: Pick<FileNode, 'kind' | 'mode'>): number {
  return TYPE_OF_KIND[node.kind] | node.mode
}
