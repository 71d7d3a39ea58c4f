/** Hard links (C28): a further entry of an inode, which says the same as its others. */
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { attachedBucket } from '../buckets.ts'
import { leaseInodes, type Commit, type NamespaceContext, type Step } from '../context.ts'
import { entryKey, inodeKey } from '../keys.ts'
import { encodeEntry, encodeInode, type ObjectInode } from '../records-objects.ts'
import { currentEntry, keepsVersions, pathOf } from '../tree.ts'
import { makeWay, versionsInV } from '../versions.ts'
import { must } from '../../../common/assert.ts'
import { beginInDirectory, checkDepth, placeIn, readInode, resolveName } from './directory.ts'
import { entriesOf, rewriteEntries } from './entries-of.ts'
import { LINKS_MAX, addLinkRow, linksOf } from './links.ts'
import { checkNewName, isDirectoryError, nameExists, noSuchName } from './names.ts'
import { plainNode } from './nodes.ts'
import { posixOf, timeOfMs } from './posix-part.ts'
import type { FileNode } from '../../../common/file-model.ts'
import { MOUNT_ROOT } from './types.ts'
import { IDS_FOR_CHANGE, changeDirectory, ended } from './write-object.ts'
import { transactVisible } from './visible.ts'

export async function linkFile(
  context: NamespaceContext,
  id: InodeId,
  parent: InodeId,
  name: ByteString,
): Promise<Commit<FileNode>> {
  checkNewName(name)
  if (parent === MOUNT_ROOT) throw new TidegateError('CrossBucket', 'there are only buckets in the root')
  const ids = await leaseInodes(context, IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory } = await beginInDirectory(context, tx, { parent, ids })
    const inode = await linkable(step, id)
    checkDepth(context, directory, name)
    if (await resolveName(tx, { parent, name, nowMs: step.nowMs })) throw nameExists(name)
    await changeDirectory(step, directory)
    const place = placeIn(directory, name)
    await checkNoOlder(step, place, id)
    const entries = await entriesOf(tx, id, inode)
    const { version, isNull } = await makeWay(step, place, await currentEntry(tx, place))
    const { entry } = must(entries[0], 'an entry of a linked inode')
    tx.put(entryKey(parent, name), encodeEntry({ ...entry, version, isNull, isFile: true }))
    if (!inode.posix) rewriteEntries(tx, entries, { isFile: true })
    addLinkRow(step, id, place)
    const old = posixOf(inode, context.files)
    const linked = { ...inode, posix: { ...old, links: old.links + 1, changed: timeOfMs(step.nowMs) } }
    tx.put(inodeKey(id), encodeInode(linked))
    return ended(step, plainNode(context, { id, inode: linked }))
  })
}

async function linkable(step: Step, id: InodeId): Promise<ObjectInode> {
  const inode = await readInode(step.tx, id)
  if (inode.kind !== 'object') throw isDirectoryError(inode.name)
  const links = linksOf(inode)
  if (links === 0) throw noSuchName(`inode ${id}`)
  // What expires goes by one name only (table T).
  if (links >= LINKS_MAX || inode.expiresMs !== undefined) {
    throw new TidegateError('TooManyLinks', `inode ${id} has ${links} names`)
  }
  if (step.bucket.isAttached) throw attachedBucket(step.bucket.name, 'has no hard links')
  const { bucket } = await pathOf(step.tx, inode)
  if (bucket !== step.bucket.name) throw new TidegateError('CrossBucket', `link from ${bucket} to ${step.bucket.name}`)
  return inode
}

/** An inode has one entry under a name: table L could not tell two apart. */
export async function checkNoOlder(step: Step, place: { parent: InodeId; name: string }, id: InodeId): Promise<void> {
  if (!keepsVersions(step.bucket)) return
  for await (const entry of versionsInV(step.tx, { ...place, directories: [], isNew: false })) {
    if (entry.inode === id) {
      throw new TidegateError('InvalidRequest', `an older version of ${JSON.stringify(place.name)} is the same file`)
    }
  }
}
