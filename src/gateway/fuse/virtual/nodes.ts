/**
 * The virtual directory `.tidegate` at the root of a mount, and the numbers of its nodes.
 *
 *     .tidegate/             0555   name of no bucket, for those begin with a letter or digit
 *     .tidegate/stats        0444   figures of the mount and of the gateway, made at each open
 *     .tidegate/kv/          0700   only who mounted: below it no directory of a bucket stands in the way of who may not pass it
 *     .tidegate/kv/BUCKET/          every key of the bucket as one name (key-names.ts)
 *
 * Inodes are counted from 1 and live in the range of numbers that doubles hold exactly, so the upper half of it is free: virtual
 * inodes begin at 2^52. The flat view of a bucket is numbered by the bucket's root directory, so there is no table to keep. The files
 * in it are the real ones under their own numbers: the kernel keeps their pages and attributes once.
 */
import { assert } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { FileNode, FileTime } from '../../../common/file-model.ts'
import { nodeIdOf } from '../nodes.ts'

const VIRTUAL_INODE_MIN: InodeId = 2 ** 52
export const ROOT: InodeId = 0
export const VIRTUAL_ROOT: InodeId = VIRTUAL_INODE_MIN
export const STATISTICS: InodeId = VIRTUAL_INODE_MIN + 1
export const FLAT_VIEWS: InodeId = VIRTUAL_INODE_MIN + 2
/** Plus the inode of a bucket's root. */
const FLAT_VIEW_MIN: InodeId = VIRTUAL_INODE_MIN + 16

export const VIRTUAL_ROOT_NAME = '.tidegate' as ByteString
export const STATISTICS_NAME = 'stats' as ByteString
export const FLAT_VIEWS_NAME = 'kv' as ByteString

const VIRTUAL_NODE_ID_MIN: number = nodeIdOf(VIRTUAL_INODE_MIN)

export function isVirtualNodeId(nodeId: number): boolean {
  return nodeId >= VIRTUAL_NODE_ID_MIN
}

export function isVirtualName(parent: InodeId, name: ByteString): boolean {
  return parent === ROOT && name === VIRTUAL_ROOT_NAME
}

/** The flat view of the bucket with this root directory. */
export function flatViewOf(bucketRoot: InodeId): InodeId {
  assert(bucketRoot < VIRTUAL_INODE_MIN - 16, 'inodes are counted from 1')
  return FLAT_VIEW_MIN + bucketRoot
}

/** Undefined when it is no flat view. */
export function bucketRootOf(inode: InodeId): InodeId | undefined {
  return inode >= FLAT_VIEW_MIN ? inode - FLAT_VIEW_MIN : undefined
}

/** As the bucket's root shows, under another number. */
export function flatViewNode(bucketRoot: FileNode): FileNode {
  return { ...bucketRoot, inode: flatViewOf(bucketRoot.inode) }
}

/** The three that are always there. */
export type FixedNodes = Readonly<Record<'root' | 'statistics' | 'flatViews', FileNode>>

export function fixedNodes(owner: { readonly uid: number; readonly gid: number }, made: FileTime): FixedNodes {
  const common = {
    ...owner,
    size: 0,
    links: 1,
    device: 0,
    accessed: made,
    modified: made,
    changed: made,
    storedBytes: 0,
  }
  return {
    root: { ...common, inode: VIRTUAL_ROOT, kind: 'directory', mode: 0o555 },
    statistics: { ...common, inode: STATISTICS, kind: 'file', mode: 0o444 },
    flatViews: { ...common, inode: FLAT_VIEWS, kind: 'directory', mode: 0o700 },
  }
}
