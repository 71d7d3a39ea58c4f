/** Open files and their content. */
import { isTidegateError } from '../../../common/errors.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { FilePiece, HandleId, OpenedFile } from '../../../common/file-model.ts'
import { REPLY_PIECES_MAX } from '../channel/ports.ts'
import { inodeOf } from '../nodes.ts'
import { FuseError } from '../protocol/errno.ts'
import { accessModeOf, FALLOCATE_MODE, OPEN_FLAGS, OPEN_REPLY } from '../protocol/flags.ts'
import type { CreateRequest, RequestHeader, WriteRequest } from '../protocol/requests.ts'
import { dropPrivileges } from './attributes.ts'
import { checkName, newFile } from './names.ts'
import { entryOf, type MountState, type Operations } from './operation.ts'

type DataOperation =
  | 'OPEN'
  | 'CREATE'
  | 'TMPFILE'
  | 'READ'
  | 'WRITE'
  | 'FLUSH'
  | 'RELEASE'
  | 'FSYNC'
  | 'FALLOCATE'
  | 'LSEEK'

/** How a file is opened. Pages stay where the kernel was told when content changed. */
export function openReply(
  handle: HandleId,
  mayKeepPages: boolean,
): { readonly handle: HandleId; readonly flags: number } {
  return { handle, flags: OPEN_REPLY.PARALLEL_DIRECT_WRITES | (mayKeepPages ? OPEN_REPLY.KEEP_CACHE : 0) }
}

export const DATA_OPERATIONS: Operations<DataOperation> = {
  async OPEN({ header, flags, killSuidGid }, mount) {
    const inode = inodeOf(header.nodeId)
    const point = mount.coherence.point()
    const opened = await open(mount, inode, flags)
    if (killSuidGid) await dropPrivileges(mount, inode, opened.handle)
    const isCut = (flags & OPEN_FLAGS.TRUNCATE) !== 0
    const isTold = isCut || (await mount.coherence.toldOf(inode))
    // What another node changed before this one was asked may have become known only now: the kernel may be told of it after this answer.
    const reply = openReply(opened.handle, isTold && mount.coherence.isAsKnown(point, inode))
    const sent = mount.answers.send(header, (encoder, unique) => encoder.opened(unique, reply))
    if (!sent) await close(mount, opened.handle)
  },

  async CREATE(request, mount) {
    const { header, name } = request
    checkName(name)
    const parent = inodeOf(header.nodeId)
    const point = mount.coherence.point()
    const { opened, isMade } = await created(request, mount)
    const { node } = opened
    const cacheTimes = isMade
      ? mount.coherence.timesOfMade(point, { parent, made: node.inode })
      : mount.coherence.timesSince(point, parent, node.inode)
    // What was there already may have changed without the kernel being told yet, and this answer cannot wait for that: the kernel holds the directory.
    const reply = openReply(opened.handle, isMade || mount.isAlone())
    const sent = mount.answers.send(header, (encoder, unique) =>
      encoder.created(unique, entryOf(node, cacheTimes), reply),
    )
    if (sent) mount.coherence.known(node.inode)
    else await close(mount, opened.handle)
  },

  // A file without a name would need an inode without one; programs fall back to a name that they remove.
  TMPFILE() {
    throw new FuseError('ENOSYS')
  },

  READ({ header, handle, offset, sizeBytes }, mount) {
    const pieces = mount.files.readNow(handle, offset, sizeBytes)
    if (pieces) return answerPieces(mount, header, pieces)
    return mount.files.read(handle, offset, sizeBytes).then((read) => answerPieces(mount, header, read))
  },

  WRITE(request, mount) {
    const { header, handle, offset, killSuidGid, data } = request
    if (!killSuidGid || mount.openFiles.isPlain(handle)) {
      if (mount.files.writeNow(handle, offset, data, isAppend(request))) return answerWritten(mount, header, data)
    }
    return writeLater(request, mount)
  },

  async FLUSH({ header, handle, lockOwner }, mount) {
    const release = (): void | Promise<void> =>
      mount.locks.releaseOwner({ nodeId: header.nodeId, sort: 'posix', owner: lockOwner })
    await publishedUnderLock(mount, release, () =>
      published(mount, { header, handle }, () => mount.files.flush(handle)),
    )
    mount.answers.done(header)
  },

  async RELEASE({ header, handle, lockOwner, flockUnlock }, mount) {
    const release = (): void | Promise<void> => {
      if (flockUnlock) return mount.locks.releaseOwner({ nodeId: header.nodeId, sort: 'flock', owner: lockOwner })
    }
    await publishedUnderLock(mount, release, () => published(mount, { header, handle }, () => close(mount, handle)))
    mount.answers.done(header)
  },

  async FSYNC({ header, handle }, mount) {
    await published(mount, { header, handle }, () => mount.files.sync(handle))
    mount.answers.done(header)
  },

  async FALLOCATE({ header, handle, offset, lengthBytes, mode }, mount) {
    const what = ALLOCATIONS.get(mode)
    if (what === undefined) throw new FuseError('EOPNOTSUPP')
    await mount.files.allocate(handle, { offset, length: lengthBytes }, what)
    mount.answers.done(header)
  },

  async LSEEK({ header, handle, offset, whence }, mount) {
    const found = await mount.files.seek(handle, offset, whence)
    if (found === undefined) throw new FuseError('ENXIO')
    mount.answers.send(header, (encoder, unique) => encoder.position(unique, found))
  },
}

/** Who has the lock next, on another node, finds what was written under it. On this node it is found without being published. */
async function publishedUnderLock(
  mount: MountState,
  release: () => void | Promise<void>,
  publish: () => Promise<void>,
): Promise<void> {
  if (!mount.locks.areShared) {
    await release()
    return await publish()
  }
  try {
    await publish()
  } finally {
    await release()
  }
}

/** What this mount wrote, and now publishes, is nothing new to the kernel. */
export function published(
  mount: MountState,
  { header, handle }: { readonly header: RequestHeader; readonly handle: HandleId },
  publish: () => Promise<void>,
): Promise<void> {
  const inode = inodeOf(header.nodeId)
  // Where there is another mount, its users may have written what is published now.
  const isOwn = mount.isAlone() && mount.openFiles.isWritten(inode) && mount.files.isUnpublished(handle)
  return isOwn ? mount.coherence.during({ nodes: [inode] }, publish) : publish()
}

function answerPieces(mount: MountState, header: RequestHeader, pieces: readonly FilePiece[]): void {
  try {
    const views = pieces.map((piece) => viewOf(mount, piece))
    let length = 0
    for (const view of views) length += view.length
    mount.answers.data(header, views.length <= REPLY_PIECES_MAX ? views : [Buffer.concat(views, length)], length)
  } finally {
    for (const piece of pieces) if (piece.kind === 'slab') mount.reading.release(piece.lease)
  }
}

/** What comes from the page cache has its place; a program's append goes to the end as the store knows it. */
function isAppend({ flags, fromPageCache }: WriteRequest): boolean {
  return (flags & OPEN_FLAGS.APPEND) !== 0 && !fromPageCache
}

async function writeLater(request: WriteRequest, mount: MountState): Promise<void> {
  const { header, handle, offset, killSuidGid, data } = request
  if (killSuidGid) await dropPrivileges(mount, inodeOf(header.nodeId), handle)
  await mount.files.write(handle, offset, data, isAppend(request))
  answerWritten(mount, header, data)
}

function answerWritten(mount: MountState, header: RequestHeader, data: Uint8Array): void {
  mount.answers.send(header, (encoder, unique) => encoder.written(unique, data.length))
}

const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FALLOCATE_MODE
const ALLOCATIONS = new Map([
  [0, { kind: 'allocate', keepSize: false }],
  [KEEP_SIZE, { kind: 'allocate', keepSize: true }],
  [PUNCH_HOLE | KEEP_SIZE, { kind: 'punch', keepSize: true }],
  [ZERO_RANGE, { kind: 'zero', keepSize: false }],
  [ZERO_RANGE | KEEP_SIZE, { kind: 'zero', keepSize: true }],
] as const)

export async function open(mount: MountState, inode: InodeId, flags: number): Promise<OpenedFile> {
  const write = accessModeOf(flags) !== 'read'
  const truncate = (flags & OPEN_FLAGS.TRUNCATE) !== 0
  const opened = await (truncate
    ? mount.coherence.during({ nodes: [inode] }, () => mount.files.open(inode, { write, truncate }))
    : mount.files.open(inode, { write, truncate }))
  mount.openFiles.opened(opened.handle, inode, write)
  return opened
}

export async function close(mount: MountState, handle: number): Promise<void> {
  try {
    await mount.files.release(handle)
  } finally {
    mount.openFiles.closed(handle)
  }
}

/** The kernel asks for CREATE when it knows of no such name; by now there may be one, which is opened unless O_EXCL forbids it. */
async function created(
  { header, name, mode, flags }: CreateRequest,
  mount: MountState,
): Promise<{ readonly opened: OpenedFile; readonly isMade: boolean }> {
  const parent = inodeOf(header.nodeId)
  const write = accessModeOf(flags) !== 'read'
  try {
    const opened = await mount.coherence.during({ entries: [[parent, name]], nodes: [parent] }, () =>
      mount.files.create(parent, name, newFile(header, mode), { write }),
    )
    mount.openFiles.opened(opened.handle, opened.node.inode, write)
    return { opened, isMade: true }
  } catch (error) {
    if (!isTidegateError(error, 'FileExists') || (flags & OPEN_FLAGS.EXCLUSIVE) !== 0) throw error
    return { opened: await open(mount, (await mount.files.find(parent, name)).inode, flags), isMade: false }
  }
}

/** As large as a request can be. */
const ZEROS = new Uint8Array(1024 * 1024)

/** A view of the piece's bytes, valid until its lease is released. A hole is as long as one request at most. */
export function viewOf({ reading }: Pick<MountState, 'reading'>, piece: FilePiece): Uint8Array {
  switch (piece.kind) {
    case 'bytes':
      return piece.bytes
    case 'slab':
      return reading.view(piece)
    case 'hole':
      return piece.length <= ZEROS.length ? ZEROS.subarray(0, piece.length) : new Uint8Array(piece.length)
  }
}
