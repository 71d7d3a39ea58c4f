/** Making files and directories. */
import { must } from '../../../common/assert.ts'
import { TidegateError, isTidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { createBucket } from '../buckets.ts'
import { leaseInodes, type Commit, type NamespaceContext, type Step } from '../context.ts'
import { inodeKey } from '../keys.ts'
import { decodeInode, encodeInode, type DirectoryInode } from '../records-objects.ts'
import { findDirectory, makeChild, revive, type Place } from '../tree.ts'
import { beginInDirectory, checkDepth, placeIn, resolveName, type FileDirectory } from './directory.ts'
import { checkNewName, nameExists } from './names.ts'
import { plainNode, touchDirectory } from './nodes.ts'
import { newPosixPart, posixOf, timeOfMs } from './posix-part.ts'
import type { FileKind, FileNode } from '../../../common/file-model.ts'
import { MOUNT_ROOT, type NewFile } from './types.ts'
import { IDS_FOR_CHANGE, changeDirectory, ended, writeMarker, writeObject } from './write-object.ts'
import { transactVisible } from './visible.ts'

/** Linux, PATH_MAX with its NUL. */
const TARGET_BYTES_MAX = 4095
const SET_GROUP_ID = 0o2000

export async function makeFile(
  context: NamespaceContext,
  parent: InodeId,
  name: ByteString,
  made: NewFile & {
    readonly kind: Exclude<FileKind, 'directory'>
    readonly target?: ByteString | undefined
    readonly device?: number | undefined
    /** Told which inode it will be, in the transaction (so perhaps more than once; the last one counts), before anybody can find it. */
    readonly willBe?: ((inode: InodeId, bucket: string) => void) | undefined
  },
): Promise<Commit<FileNode>> {
  checkNewName(name)
  const bytes = Buffer.from(made.kind === 'symlink' ? (made.target ?? '') : '', 'latin1')
  if (bytes.length > TARGET_BYTES_MAX) throw new TidegateError('KeyTooLong', `a target of ${bytes.length} bytes`)
  if (parent === MOUNT_ROOT) throw new TidegateError('MethodNotAllowed', 'there are only buckets in the root')
  const ids = await leaseInodes(context, 1 + IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory } = await beginInDirectory(context, tx, { parent, ids })
    await checkFree(step, directory, name)
    await changeDirectory(step, directory, made.owner)
    const posix = newPosixPart(made.kind, { ...inherited(context, directory, made), time: timeOfMs(step.nowMs) })
    const written = await writeObject(step, placeIn(directory, name), { owner: made.owner, posix, bytes })
    made.willBe?.(written.id, directory.bucket)
    return ended(step, plainNode(context, written))
  })
}

/** In a directory with set-gid all belongs to its group, and directories hand that on, as on ext4 (inode_init_owner of the kernel). */
function inherited<Made extends NewFile & { readonly kind: FileKind }>(
  context: NamespaceContext,
  directory: FileDirectory,
  made: Made,
): Made {
  const { mode, gid } = posixOf(directory.record, context.files)
  if ((mode & SET_GROUP_ID) === 0) return made
  return { ...made, gid, mode: made.kind === 'directory' ? made.mode | SET_GROUP_ID : made.mode }
}

/** @throws FileExists, KeyTooLong */
async function checkFree(step: Step, directory: FileDirectory, name: ByteString): Promise<void> {
  checkDepth(step.context, directory, name)
  const sought = { parent: directory.inode, name, nowMs: step.nowMs }
  if (await resolveName(step.tx, sought)) throw nameExists(name)
}

export async function makeDirectory(
  context: NamespaceContext,
  parent: InodeId,
  name: ByteString,
  made: NewFile,
): Promise<Commit<FileNode>> {
  checkNewName(name)
  if (parent === MOUNT_ROOT) return makeBucket(context, name, made)
  const ids = await leaseInodes(context, 2 + IDS_FOR_CHANGE)
  return transactVisible(context, async (tx) => {
    const { step, directory } = await beginInDirectory(context, tx, { parent, ids })
    await checkFree(step, directory, name)
    await changeDirectory(step, directory, made.owner)
    const place = await directoryPlace(step, directory, name)
    const fresh = newPosixPart('directory', {
      ...inherited(context, directory, { ...made, kind: 'directory' }),
      time: timeOfMs(step.nowMs),
    })
    const inode: DirectoryInode = {
      kind: 'directory',
      parent,
      name: `${name}/`,
      createdMs: step.nowMs,
      posix: { ...fresh, attributesBytes: place.isNew ? 0 : await attributesBytesOf(step, place.parent) },
    }
    step.tx.put(inodeKey(place.parent), encodeInode(inode))
    touchDirectory(step, place.parent)
    await writeMarker(step, place, made.owner)
    return ended(step, plainNode(context, { id: place.parent, inode }))
  })
}

/** A hidden directory comes back with its extended attributes, as it does when S3 makes an object in it. */
async function attributesBytesOf(step: Step, id: InodeId): Promise<number> {
  const { posix } = decodeInode(must(await step.tx.get(inodeKey(id)), `inode ${id}`))
  return posix?.attributesBytes ?? 0
}

/** The place of the new directory's marker: a hidden directory of that name comes back (C25). */
async function directoryPlace(step: Step, directory: FileDirectory, name: string): Promise<Place> {
  const { inode: parent, directories } = directory
  const full = `${name}/`
  const hidden = await findDirectory(step.tx, { bucket: step.bucket, parent, name: full, under: 'live' })
  if (!hidden) {
    const made = makeChild(step, { parent, name: full, state: 'live' })
    return { parent: made.inode, name: '', directories: [...directories, made], isNew: true }
  }
  return revive(step, { parent: hidden.inode, name: '', directories: [...directories, hidden], isNew: false })
}

async function makeBucket(context: NamespaceContext, name: ByteString, made: NewFile): Promise<Commit<FileNode>> {
  const time = timeOfMs(context.clock.nowMs())
  const posix = newPosixPart('directory', { ...made, time })
  const request = { ...context.newBuckets, name, owner: made.owner, posix }
  const committed = await createBucket(context, request).catch((error: unknown) => {
    const exists = isTidegateError(error, 'BucketAlreadyExists') || isTidegateError(error, 'BucketAlreadyOwnedByYou')
    throw exists ? nameExists(name) : error
  })
  const { root, createdMs } = committed.value
  const inode = { kind: 'directory', parent: MOUNT_ROOT, name, createdMs, posix } as const
  return { ...committed, value: plainNode(context, { id: root, inode }) }
}
