/**
 * A directory of the mount, found by its inode, and what its names lead to.
 *
 * The way up goes through the inode records (C10); that the deepest directory has its row in D says that all above it have
 * theirs, since a hidden directory holds only hidden ones (tree.ts). A directory that is gone or hidden has no names.
 */
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { beginStep, type NamespaceContext, type Step } from '../context.ts'
import { entryKey, inodeKey } from '../keys.ts'
import { decodeEntry, decodeInode, type DirectoryInode, type Inode, type ObjectEntry } from '../records-objects.ts'
import { directoryInode, isExpired, type Directory, type Place } from '../tree.ts'
import { keyTooLong } from '../names.ts'
import { OBJECT_SUFFIX, checkNameLength, isShownName, noSuchName, notDirectoryError } from './names.ts'

export interface FileDirectory {
  readonly inode: InodeId
  readonly bucket: string
  /** Its key in bytes: empty for a bucket's root, else ending in a slash. */
  readonly key: string
  /** From the root's child down to itself. */
  readonly directories: readonly Directory[]
  readonly record: DirectoryInode
}

export type FoundName =
  | { readonly kind: 'object'; readonly name: string; readonly inode: InodeId; readonly entry: ObjectEntry }
  /** The name ends in a slash. */
  | { readonly kind: 'directory'; readonly name: string; readonly inode: InodeId }

/** @throws StaleFile */
export async function readInode(view: ReadView, id: InodeId): Promise<Inode> {
  const row = await view.get(inodeKey(id))
  if (!row) throw new TidegateError('StaleFile', `inode ${id} is gone`)
  return decodeInode(row)
}

/** @throws NoSuchKey when it is gone or hidden, NotADirectory */
export async function openDirectory(view: ReadView, inode: InodeId): Promise<FileDirectory> {
  const directories: Directory[] = []
  let key = ''
  let own: DirectoryInode | undefined
  for (let id = inode; ;) {
    const row = await view.get(inodeKey(id))
    if (!row) throw noSuchName(key)
    const record = decodeInode(row)
    if (record.kind !== 'directory') throw notDirectoryError(record.name)
    own ??= record
    if (record.parent === 0) {
      await checkLive(view, directories.at(-1))
      return { inode, bucket: record.name, key, directories, record: own }
    }
    directories.unshift({ parent: record.parent, name: record.name, inode: id, state: 'live' })
    key = record.name + key
    id = record.parent
  }
}

async function checkLive(view: ReadView, deepest: Directory | undefined): Promise<void> {
  if (!deepest) return
  const row = await view.get(entryKey(deepest.parent, deepest.name))
  if (!row || directoryInode(row) !== deepest.inode) throw noSuchName(deepest.name)
}

/** A step in the bucket of a directory. */
export async function beginInDirectory(
  context: NamespaceContext,
  tx: Transaction,
  where: { readonly parent: InodeId; readonly ids?: { first: InodeId; count: number } },
): Promise<{ step: Step; directory: FileDirectory }> {
  const directory = await openDirectory(tx, where.parent)
  return { step: await beginStep(context, tx, directory.bucket, where.ids), directory }
}

export function placeIn(directory: FileDirectory, name: string): Place {
  return { parent: directory.inode, name, directories: directory.directories, isNew: false }
}

/** `name` as the mount knows it. @throws KeyTooLong */
export async function resolveName(
  view: ReadView,
  sought: { readonly parent: InodeId; readonly name: ByteString; readonly nowMs: number },
): Promise<FoundName | undefined> {
  const { parent, name, nowMs } = sought
  checkNameLength(name)
  if (!isShownName(name)) return undefined
  const found = await bothNamed(view, sought)
  if (found.directory !== undefined) return { kind: 'directory', name: `${name}/`, inode: found.directory }
  if (found.object) return { kind: 'object', name, inode: found.object.inode, entry: found.object }
  if (!name.endsWith(OBJECT_SUFFIX)) return undefined
  const shadowed = name.slice(0, -OBJECT_SUFFIX.length)
  const { directory, object } = await bothNamed(view, { parent, name: shadowed, nowMs })
  if (directory === undefined || !object) return undefined
  return { kind: 'object', name: shadowed, inode: object.inode, entry: object }
}

async function bothNamed(
  view: ReadView,
  { parent, name, nowMs }: { parent: InodeId; name: string; nowMs: number },
): Promise<{ directory: InodeId | undefined; object: ObjectEntry | undefined }> {
  const [directory, object] = await view.getMany([entryKey(parent, `${name}/`), entryKey(parent, name)])
  const entry = object && decodeEntry(object)
  const live = entry?.kind === 'object' && !isExpired(entry, nowMs) ? entry : undefined
  return { directory: directory && directoryInode(directory), object: live }
}

/**
 * Linux bounds paths and not depth. Here a key is one string to the other doors: one without bound would make listings that nobody can
 * go on with. @throws KeyTooLong
 */
export function checkDepth({ limits }: NamespaceContext, directory: FileDirectory, name: string): void {
  const bytes = directory.key.length + name.length + 1
  if (bytes > limits.fileKeyBytesMax) throw keyTooLong(bytes, limits.fileKeyBytesMax)
}

/** @throws NoSuchKey */
export async function mustResolve(
  view: ReadView,
  sought: { readonly parent: InodeId; readonly name: ByteString; readonly nowMs: number },
): Promise<FoundName> {
  const found = await resolveName(view, sought)
  if (!found) throw noSuchName(sought.name)
  return found
}
