/** Where the bytes of a file lie, and where it has none. Of the content that is published. */
import { TidegateError } from '../../../common/errors.ts'
import type { ExternalBody } from '../../../common/external.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { FileExtents } from '../../../common/file-contents.ts'
import type { ReadView } from '../../ports.ts'
import { extentOfExternal } from '../attached/bodies.ts'
import { bodyRanges, extentsOf, knownContent } from '../contents.ts'
import type { NamespaceContext } from '../context.ts'
import { inodeKey } from '../keys.ts'
import type { Inode, ObjectInode } from '../records-objects.ts'
import { bucketIdOf } from '../tree.ts'
import { readInode } from './directory.ts'
import { readVisible } from './visible.ts'

const SOUGHT_RANGES = 1024

/**
 * `[offset, offset + length)`, clipped to the size; of an inline content all of it. The extents are those of one moment: who reads
 * their bytes later must have registered as a reader before the call (C12). @throws StaleFile, IsADirectory
 */
export function fileExtents(
  context: NamespaceContext,
  inode: InodeId,
  offset: number,
  length: number,
): Promise<FileExtents> {
  return readVisible(context, async (view) => {
    const { size, body, parent } = await readFile(context, view, inode)
    if (body.kind === 'inline') return { inline: body.bytes, extents: [], size }
    const wanted = { from: offset, to: Math.min(offset + length, size), base: 0 }
    if (wanted.from >= wanted.to) return { inline: undefined, extents: [], size }
    if (body.kind === 'external') return externalExtents(view, body.external, { wanted, size, parent })
    const source = { content: body.content, record: await knownContent(view, body.content), wanted }
    return { inline: undefined, extents: extentsOf(await bodyRanges(view, source, Infinity)), size }
  })
}

async function externalExtents(
  view: ReadView,
  external: ExternalBody,
  of: { readonly wanted: { from: number; to: number }; readonly size: number; readonly parent: InodeId },
): Promise<FileExtents> {
  const { wanted, size, parent } = of
  const bucketId = await bucketIdOf(view, parent)
  const extents = extentOfExternal(bucketId, external, wanted)
  return { inline: undefined, extents, size, external: { bucketId, body: external } }
}

/**
 * SEEK_DATA and SEEK_HOLE in the published content: the first offset at or after this one that has bytes, or that has none; the end of the
 * file is a hole. Undefined when there is none, and for an offset at or beyond the end. @throws StaleFile, IsADirectory
 */
export async function seekFile(
  context: NamespaceContext,
  inode: InodeId,
  offset: number,
  what: 'data' | 'hole',
): Promise<number | undefined> {
  for (let from = offset; ;) {
    const at = from
    const found = await readVisible(context, async (view) =>
      seekFrom(view, await readFile(context, view, inode), at, what),
    )
    if (found.kind !== 'not yet') return found.offset
    from = found.offset
  }
}

type Sought =
  | { readonly kind: 'found' | 'none'; readonly offset: number | undefined }
  | { readonly kind: 'not yet'; readonly offset: number }

/** A bounded number of pieces. */
async function seekFrom(
  view: ReadView,
  { size, body }: ObjectInode,
  from: number,
  what: 'data' | 'hole',
): Promise<Sought> {
  if (from >= size) return { kind: 'none', offset: undefined }
  if (body.kind !== 'content') return { kind: 'found', offset: what === 'data' ? from : size }
  const wanted = { from, to: size, base: 0 }
  const source = { content: body.content, record: await knownContent(view, body.content), wanted }
  const ranges = await bodyRanges(view, source, SOUGHT_RANGES)
  for (const { leaf, offset } of ranges)
    if ((leaf !== undefined) === (what === 'data')) return { kind: 'found', offset }
  const last = ranges.at(-1)
  const reached = last ? last.offset + last.length : size
  if (reached < size) return { kind: 'not yet', offset: reached }
  return what === 'hole' ? { kind: 'found', offset: size } : { kind: 'none', offset: undefined }
}

async function readFile(context: NamespaceContext, view: ReadView, id: InodeId): Promise<ObjectInode> {
  const key = inodeKey(id)
  const hot = context.cache.get(key) as Inode | undefined
  return fileInode(id, hot ?? (await readInode(view, id)))
}

function fileInode(id: InodeId, inode: Inode): ObjectInode {
  if (inode.kind === 'directory') throw new TidegateError('IsADirectory', `inode ${id} is a directory`)
  return inode
}
