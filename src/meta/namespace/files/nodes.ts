/** From inode records to what the mount shows of them. */
import type { InodeId } from '../../../common/ids.ts'
import { assert, must } from '../../../common/assert.ts'
import type { ReadView } from '../../ports.ts'
import type { NamespaceContext, Step } from '../context.ts'
import { RecordReader, recordWriter } from '../codec.ts'
import { directoryTimeKey, directoryTimesPrefix, prefixRange } from '../keys.ts'
import type { Inode } from '../records-objects.ts'
import { laterOf, posixOf, readTime, timeOfMs, writeTime } from './posix-part.ts'
import type { FileNode, FileTime } from '../../../common/file-model.ts'
import { MOUNT_ROOT } from './types.ts'

/** More nodes than write to one directory. */
const TIME_ROWS_MAX = 1024

export interface KnownInode {
  readonly id: InodeId
  readonly inode: Inode
}

export async function nodeOf(context: NamespaceContext, view: ReadView, known: KnownInode): Promise<FileNode> {
  if (known.inode.kind === 'object') return plainNode(context, known)
  const [node] = await nodesOf(context, view, [known])
  return must(node, 'node of a directory')
}

/** In order. The times of all directories among them are read at once. */
export async function nodesOf(
  context: NamespaceContext,
  view: ReadView,
  known: readonly KnownInode[],
): Promise<FileNode[]> {
  const directories = known.filter(({ inode }) => inode.kind === 'directory')
  const times = new Map<InodeId, FileTime>()
  if (directories.length > 0) {
    const rows = await timeRows(context, view, directories)
    rows.forEach((found, index) => {
      const { id } = must(directories[index], 'directory')
      for (const row of found) times.set(id, latest(times.get(id), readTime(new RecordReader(row))))
    })
  }
  return known.map((one) => {
    const node = plainNode(context, one)
    const touched = times.get(one.id)
    if (!touched) return node
    return { ...node, modified: laterOf(node.modified, touched), changed: laterOf(node.changed, touched) }
  })
}

/** What each node has written of each of these directories. */
async function timeRows(
  { store, node }: NamespaceContext,
  view: ReadView,
  directories: readonly KnownInode[],
): Promise<readonly (readonly Uint8Array[])[]> {
  if (store.isShared) {
    const ranges = directories.map(({ id }) => prefixRange(directoryTimesPrefix(id)))
    return (await view.scanMany(ranges, TIME_ROWS_MAX)).map((rows) => rows.map(({ value }) => value))
  }
  const rows = await view.getMany(directories.map(({ id }) => directoryTimeKey(id, node)))
  return rows.map((row) => (row ? [row] : []))
}

function latest(known: FileTime | undefined, time: FileTime): FileTime {
  return known ? laterOf(known, time) : time
}

/** Of a directory without what was changed in it since its record was written. */
export function plainNode(context: NamespaceContext, { id, inode }: KnownInode): FileNode {
  const posix = posixOf(inode, context.files)
  const size = inode.kind === 'object' ? inode.size : 0
  const { kind, mode, uid, gid, links, device, accessed, modified, changed } = posix
  assert((kind === 'directory') === (inode.kind === 'directory'), `inode ${id} is of one kind`)
  return {
    inode: id,
    kind,
    mode,
    uid,
    gid,
    size,
    links: kind === 'directory' ? 1 : links,
    device,
    accessed,
    modified,
    changed,
    storedBytes: Math.max(0, size - posix.holeBytes),
  }
}

const ROOT_INODE: Inode = { kind: 'directory', parent: 0, name: '', createdMs: 0 }

/** The directory above the buckets. */
export function rootNode(context: NamespaceContext, view: ReadView): Promise<FileNode> {
  return nodeOf(context, view, { id: MOUNT_ROOT, inode: ROOT_INODE })
}

/** C8: something in the directory was changed through the mount. Compared by nobody; the latest row counts. */
export function touchDirectory(step: Pick<Step, 'tx' | 'context' | 'nowMs'>, directory: InodeId): void {
  const writer = recordWriter.begin()
  writeTime(writer, timeOfMs(step.nowMs))
  step.tx.put(directoryTimeKey(directory, step.context.node), writer.finish())
}

/** Its times are what its record says from now on. */
export async function forgetTouches(step: Pick<Step, 'tx'>, directory: InodeId): Promise<void> {
  const rows = await step.tx.scan(prefixRange(directoryTimesPrefix(directory)), TIME_ROWS_MAX)
  for (const row of rows) step.tx.delete(row.key)
}
