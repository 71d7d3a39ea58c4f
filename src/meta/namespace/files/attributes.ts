/** Extended attributes: a row each in table X; how many bytes they take lies in the inode record, which bounds them. */
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { Transaction } from '../../ports.ts'
import type { Commit, NamespaceContext } from '../context.ts'
import { FILE_ATTRIBUTE_NAME_AT, fileAttributeKey, fileAttributesPrefix, inodeKey, prefixRange } from '../keys.ts'
import { encodeInode } from '../records-objects.ts'
import { readInode } from './directory.ts'
import { entriesOf, rewriteEntries } from './entries-of.ts'
import { posixOf, timeOfMs } from './posix-part.ts'
import { readVisible, transactVisible } from './visible.ts'

/** Linux: XATTR_NAME_MAX, XATTR_SIZE_MAX. */
const NAME_BYTES_MAX = 255
export const ATTRIBUTE_BYTES_MAX = 64 * 1024
/** Of one inode, names and values; a listing reads them all. */
export const ATTRIBUTES_BYTES_MAX = 256 * 1024
/** What each counts beside its name and value, so that there are not too many empty ones. */
const ROW_BYTES = 64
const ATTRIBUTES_MAX = ATTRIBUTES_BYTES_MAX / ROW_BYTES

export function fileAttribute(context: NamespaceContext, id: InodeId, name: ByteString): Promise<Uint8Array> {
  return readVisible(context, async (view) => {
    const value = await view.get(fileAttributeKey(id, name))
    if (value) return value
    await readInode(view, id)
    throw noSuchAttribute(name)
  })
}

export function fileAttributeNames(context: NamespaceContext, id: InodeId): Promise<readonly ByteString[]> {
  return readVisible(context, async (view) => {
    const { posix } = await readInode(view, id)
    if (!posix || posix.attributesBytes === 0) return []
    const rows = await view.scan(prefixRange(fileAttributesPrefix(id)), ATTRIBUTES_MAX)
    return rows.map((row) => row.key.slice(FILE_ATTRIBUTE_NAME_AT) as ByteString)
  })
}

/** @throws FileExists, NoSuchAttribute as `mode` says; EntityTooLarge, InvalidArgument */
export async function setFileAttribute(
  context: NamespaceContext,
  id: InodeId,
  name: ByteString,
  value: Uint8Array,
  mode: 'set' | 'create' | 'replace',
): Promise<Commit<void>> {
  if (name === '' || name.length > NAME_BYTES_MAX) {
    throw new TidegateError('InvalidArgument', `an attribute name of ${name.length} bytes`)
  }
  if (value.length > ATTRIBUTE_BYTES_MAX) throw tooLarge(value.length, ATTRIBUTE_BYTES_MAX)
  return transactVisible(context, async (tx) => {
    const key = fileAttributeKey(id, name)
    const old = await tx.get(key)
    const bytes = rowBytes(name, value) - (old ? rowBytes(name, old) : 0)
    await countBytes(context, tx, { id, bytes })
    if (old && mode === 'create') throw new TidegateError('FileExists', `attribute ${JSON.stringify(name)} exists`)
    if (!old && mode === 'replace') throw noSuchAttribute(name)
    tx.put(key, value)
  })
}

export function removeFileAttribute(context: NamespaceContext, id: InodeId, name: ByteString): Promise<Commit<void>> {
  return transactVisible(context, async (tx) => {
    const key = fileAttributeKey(id, name)
    const old = await tx.get(key)
    if (!old) {
      await readInode(tx, id)
      throw noSuchAttribute(name)
    }
    await countBytes(context, tx, { id, bytes: -rowBytes(name, old) })
    tx.delete(key)
  })
}

export function rowBytes(name: string, value: Uint8Array): number {
  return ROW_BYTES + name.length + value.length
}

async function countBytes(
  context: NamespaceContext,
  tx: Transaction,
  { id, bytes }: { id: InodeId; bytes: number },
): Promise<void> {
  const inode = await readInode(tx, id)
  const old = posixOf(inode, context.files)
  const attributesBytes = old.attributesBytes + bytes
  if (bytes > 0 && attributesBytes > ATTRIBUTES_BYTES_MAX) throw tooLarge(attributesBytes, ATTRIBUTES_BYTES_MAX)
  if (inode.kind === 'object' && !inode.posix) {
    rewriteEntries(tx, await entriesOf(tx, id, inode), { isFile: true })
  }
  const posix = { ...old, attributesBytes, changed: timeOfMs(context.clock.nowMs()) }
  tx.put(inodeKey(id), encodeInode({ ...inode, posix }))
}

function tooLarge(size: number, maxSizeAllowed: number): TidegateError {
  return new TidegateError('EntityTooLarge', `attributes of ${size} bytes`, { details: { size, maxSizeAllowed } })
}

function noSuchAttribute(name: string): TidegateError {
  return new TidegateError('NoSuchAttribute', `no attribute ${JSON.stringify(name)}`)
}
