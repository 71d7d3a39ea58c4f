/** Reading directories. */
import type { ByteString } from '../../../common/ids.ts'
import { FIRST_NAME_POSITION } from '../directory-cursors.ts'
import { inodeOf, modeOf, nodeIdOf } from '../nodes.ts'
import type { DirectoryEntry } from '../protocol/directory-reply.ts'
import { FILE_TYPE } from '../protocol/flags.ts'
import type { ReaddirplusRequest, ReaddirRequest } from '../protocol/requests.ts'
import { entryOf, type MountState, type Operations } from './operation.ts'

type DirectoryOperation = 'OPENDIR' | 'READDIR' | 'READDIRPLUS' | 'RELEASEDIR' | 'FSYNCDIR'

/** fuse_direntplus and the shortest name: what a READDIRPLUS can hold is asked of the store, and no more. */
const PLUS_ENTRY_BYTES_MIN = 160

export const DIRECTORY_OPERATIONS: Operations<DirectoryOperation> = {
  async OPENDIR({ header }, mount) {
    const inode = inodeOf(header.nodeId)
    const { handle } = await mount.files.open(inode, { write: false, truncate: false })
    mount.cursors.open(handle, inode)
    const sent = mount.answers.send(header, (encoder, unique) => encoder.opened(unique, { handle, flags: 0 }))
    if (!sent) await close(mount, handle)
  },

  async READDIR(request, mount) {
    const { header, handle, offset, sizeBytes } = request
    const cursor = mount.cursors.get(handle)
    const dots = await dotsOf(request, mount)
    const { entries, position } = await cursor.from(Math.max(offset, FIRST_NAME_POSITION))
    const { listing } = mount
    listing.begin(sizeBytes)
    let nextOffset = position
    for (const dot of dots) if (!listing.add(dot)) break
    for (const { name, node } of entries) {
      nextOffset += 1
      if (!listing.add({ name, inode: nodeIdOf(node.inode), mode: modeOf(node), nextOffset })) break
    }
    mount.answers.directory(header, listing)
  },

  async READDIRPLUS(request, mount) {
    const { header, handle, offset, sizeBytes } = request
    const cursor = mount.cursors.get(handle)
    const point = mount.coherence.point()
    const dots = await dotsOf(request, mount)
    const limit = Math.max(1, Math.floor(sizeBytes / PLUS_ENTRY_BYTES_MIN))
    const { entries, position } = await cursor.freshFrom(Math.max(offset, FIRST_NAME_POSITION), limit)
    const { listing } = mount
    listing.begin(sizeBytes)
    let nextOffset = position
    for (const dot of dots) if (!listing.addPlus(dot, undefined)) break
    const sentInodes: number[] = []
    for (const { name, node } of entries) {
      nextOffset += 1
      const entry = { name, inode: nodeIdOf(node.inode), mode: modeOf(node), nextOffset }
      const cacheTimes = mount.coherence.timesSince(point, cursor.inode, node.inode)
      if (!listing.addPlus(entry, entryOf(node, cacheTimes))) break
      sentInodes.push(node.inode)
    }
    if (!mount.answers.directory(header, listing)) return
    for (const inode of sentInodes) mount.coherence.known(inode)
  },

  async RELEASEDIR({ header, handle }, mount) {
    await close(mount, handle)
    mount.answers.done(header)
  },

  async FSYNCDIR({ header, handle }, mount) {
    await mount.files.sync(handle)
    mount.answers.done(header)
  },
}

async function close(mount: MountState, handle: number): Promise<void> {
  mount.cursors.close(handle)
  await mount.files.release(handle)
}

/** `.` and `..`, as far as the reader has not got them yet. */
async function dotsOf(
  { header, offset }: ReaddirRequest | ReaddirplusRequest,
  { files }: MountState,
): Promise<DirectoryEntry[]> {
  if (offset >= FIRST_NAME_POSITION) return []
  const inode = inodeOf(header.nodeId)
  // The kernel replaces what the root of a mount says here.
  const parent = inode === 0 ? inode : await files.parentOf(inode)
  const mode = FILE_TYPE.DIRECTORY
  const dots = [
    { name: '.' as ByteString, inode: nodeIdOf(inode), mode, nextOffset: 1 },
    { name: '..' as ByteString, inode: nodeIdOf(parent), mode, nextOffset: FIRST_NAME_POSITION },
  ]
  return dots.slice(offset)
}
