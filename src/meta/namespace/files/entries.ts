/**
 * One page of a directory. A page costs what it holds: rows of D from a name on, their inodes in one read, and the times of the
 * directories among them in another.
 *
 * Rows lie in the byte order of what S3 calls the name, where a directory's ends in a slash. What POSIX has no name for, the
 * marker and what has expired are passed over. For an object `a` the page must know whether there is a directory `a/`, which
 * may lie further on (`a-b` lies between): only names whose slash form lies beyond the rows at hand are looked up.
 */
import type { ByteString, InodeId } from '../../../common/ids.ts'
import { must } from '../../../common/assert.ts'
import type { ReadView, Row } from '../../ports.ts'
import type { NamespaceContext } from '../context.ts'
import { BUCKETS, ENTRY_NAME_AT, entriesPrefix, entryKey, inodeKey, prefixEnd } from '../keys.ts'
import { decodeBucket, decodeEntry, decodeInode } from '../records-objects.ts'
import { isExpired } from '../tree.ts'
import { openDirectory } from './directory.ts'
import { NAME_BYTES_MAX, OBJECT_SUFFIX, isShownName } from './names.ts'
import { nodesOf } from './nodes.ts'
import type { FileEntry } from '../../../common/file-model.ts'
import { MOUNT_ROOT } from './types.ts'
import { readVisible } from './visible.ts'

export interface FileEntryPage {
  readonly entries: readonly FileEntry[]
  readonly more: boolean
}

export const FILE_ENTRIES_MAX = 4096

interface Named {
  readonly name: string
  readonly inode: InodeId
}

/** `after` is the name of the last entry, that of a directory with a slash behind it. */
export function fileEntries(
  context: NamespaceContext,
  directory: InodeId,
  after: ByteString | undefined,
  limit: number,
): Promise<FileEntryPage> {
  const most = Math.min(limit, FILE_ENTRIES_MAX)
  return readVisible(context, async (view) => {
    const { named, more } =
      directory === MOUNT_ROOT
        ? await bucketNames(view, after, most)
        : await entryNames(view, { directory, after, limit: most, nowMs: context.clock.nowMs() })
    const rows = await view.getMany(named.map(({ inode }) => inodeKey(inode)))
    const known = named.map(({ inode }, index) => ({
      id: inode,
      inode: decodeInode(must(rows[index], `inode ${inode} of an entry`)),
    }))
    const nodes = await nodesOf(context, view, known)
    const entries = named.map(({ name }, index) => ({
      name: name as ByteString,
      node: must(nodes[index], 'node of an entry'),
    }))
    return { entries, more }
  })
}

async function bucketNames(
  view: ReadView,
  after: string | undefined,
  limit: number,
): Promise<{ named: Named[]; more: boolean }> {
  const name = after?.endsWith('/') ? after.slice(0, -1) : after
  const start = (name === undefined ? BUCKETS : `${BUCKETS}${name}\0`) as ByteString
  const rows = await view.scan({ start, end: prefixEnd(BUCKETS) }, limit + 1)
  const named = rows.slice(0, limit).map((row) => {
    const bucket = decodeBucket(row.value)
    return { name: bucket.name, inode: bucket.root }
  })
  return { named, more: rows.length > limit }
}

interface PageRequest {
  readonly directory: InodeId
  readonly after: string | undefined
  readonly limit: number
  readonly nowMs: number
}

async function entryNames(view: ReadView, request: PageRequest): Promise<{ named: Named[]; more: boolean }> {
  const { directory, limit } = request
  await openDirectory(view, directory)
  const prefix = entriesPrefix(directory)
  const end = prefixEnd(prefix)
  let start = await pageStart(view, request)
  const named: Named[] = []
  for (;;) {
    const wanted = limit - named.length + 1
    const rows = await view.scan({ start, end }, wanted)
    const atEnd = rows.length < wanted
    const shown = await shownNames(view, { rows, atEnd, request })
    if (named.length + shown.length > limit) {
      named.push(...shown.slice(0, limit - named.length))
      return { named, more: true }
    }
    named.push(...shown)
    const last = rows.at(-1)
    if (atEnd || !last) return { named, more: false }
    start = `${last.key}\0` as ByteString
  }
}

async function pageStart(view: ReadView, { directory, after }: PageRequest): Promise<ByteString> {
  if (after === undefined) return entriesPrefix(directory) as ByteString
  const isAlias = after.endsWith(OBJECT_SUFFIX) && (await view.get(entryKey(directory, after))) === undefined
  // That is the object's name for the mount; it lies where its own name is.
  const name = isAlias ? after.slice(0, -OBJECT_SUFFIX.length) : after
  return `${entryKey(directory, name)}\0` as ByteString
}

async function shownNames(
  view: ReadView,
  page: { readonly rows: readonly Row[]; readonly atEnd: boolean; readonly request: PageRequest },
): Promise<Named[]> {
  const { rows, request } = page
  const directories = await directoriesBeside(view, page)
  const shown: Named[] = []
  for (const row of rows) {
    const name = row.key.slice(ENTRY_NAME_AT)
    const entry = decodeEntry(row.value)
    if (entry.kind === 'directory') {
      const plain = name.slice(0, -1)
      if (isShownName(plain)) shown.push({ name: plain, inode: entry.inode })
      continue
    }
    if (entry.kind !== 'object' || isExpired(entry, request.nowMs) || !isShownName(name)) continue
    if (!directories.has(name)) shown.push({ name, inode: entry.inode })
    else if (await isAliasFree(view, request.directory, name)) {
      shown.push({ name: name + OBJECT_SUFFIX, inode: entry.inode })
    }
  }
  return shown
}

/** Of the names on the page those that a directory has too. */
async function directoriesBeside(
  view: ReadView,
  { rows, atEnd, request }: { rows: readonly Row[]; atEnd: boolean; request: PageRequest },
): Promise<Set<string>> {
  const found = new Set<string>()
  const lastName = rows.at(-1)?.key.slice(ENTRY_NAME_AT) ?? ''
  const beyond: string[] = []
  for (const row of rows) {
    const name = row.key.slice(ENTRY_NAME_AT)
    if (name.endsWith('/')) found.add(name.slice(0, -1))
    else if (!atEnd && `${name}/` > lastName) beyond.push(name)
  }
  const further = await view.getMany(beyond.map((name) => entryKey(request.directory, `${name}/`)))
  beyond.forEach((name, index) => {
    if (further[index]) found.add(name)
  })
  return found
}

async function isAliasFree(view: ReadView, directory: InodeId, name: string): Promise<boolean> {
  const alias = name + OBJECT_SUFFIX
  if (alias.length > NAME_BYTES_MAX) return false
  const taken = await view.getMany([entryKey(directory, alias), entryKey(directory, `${alias}/`)])
  return taken.every((row) => row === undefined)
}
