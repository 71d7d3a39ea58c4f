/**
 * copy_file_range(2) by reference: a range of one file's content becomes part of another's, and no byte is copied.
 *
 * What lies in the range is flattened to the runs and holes that it is made of, as UploadPartCopy does: the target refers to those,
 * never to the source's content. So copies do not nest, and source and target go their own ways from then on. One transaction takes
 * as many pieces as fit (C2); the call says how far it came, and copy_file_range(2) lets callers go on from there.
 */
import { TidegateError } from '../../../common/errors.ts'
import { isExternalSegment } from '../../../common/external.ts'
import type { ContentId, InodeId, SegmentId } from '../../../common/ids.ts'
import type { CloneRangeRequest, ClonedRange } from '../../../common/file-contents.ts'
import type { Transaction } from '../../ports.ts'
import { bodyRanges, knownContent, type BodyRange } from '../contents.ts'
import type { Commit, NamespaceContext } from '../context.ts'
import type { ObjectInode } from '../records-objects.ts'
import { beginPublish, fileEditsMax, publishChanges, takeContents, type PublishStep } from './contents-publish.ts'
import type { Change } from './contents-splice.ts'
import { readInode } from './directory.ts'
import { plainNode } from './nodes.ts'
import { transactVisible } from './visible.ts'

/** Pieces that one call takes at most. */
const PIECES_MAX = 512

/**
 * Undefined when it cannot be done so: the source lies inline or in an external object, or the target does and keeps some of that. In one file the ranges must
 * not overlap. @throws StaleFile, IsADirectory, InvalidArgument
 */
export async function cloneRange(
  context: NamespaceContext,
  request: CloneRangeRequest,
): Promise<Commit<ClonedRange | undefined>> {
  const { source, target, length } = request
  if (source.inode === target.inode && Math.abs(source.offset - target.offset) < length) {
    throw new TidegateError('InvalidArgument', `${length} bytes at ${source.offset} and ${target.offset} overlap`)
  }
  for (;;) {
    const first = await takeContents(context)
    const commit = await transactVisible(context, (tx) => cloneStep(context, tx, { request, first }))
    const { value } = commit
    if (value !== 'again') return { ...commit, value }
  }
}

async function cloneStep(
  context: NamespaceContext,
  tx: Transaction,
  { request, first }: { readonly request: CloneRangeRequest; readonly first: ContentId },
): Promise<ClonedRange | 'again' | undefined> {
  const { source, target, modified, ack } = request
  const from = await readFile(tx, source.inode)
  const length = Math.min(request.length, from.size - source.offset)
  const size = Math.max(target.offset + length, 0)
  const begun = await beginPublish(context, tx, {
    inode: target.inode,
    edits: [],
    inline: undefined,
    size,
    modified,
    ack,
  })
  if (length <= 0)
    return { node: plainNode(context, { id: target.inode, inode: begun.inode }), length: 0, segments: [] }
  if (from.body.kind !== 'content') return undefined
  const wanted = { from: source.offset, to: source.offset + length, base: 0 }
  const { content } = from.body
  const piecesMax = Math.min(PIECES_MAX, fileEditsMax(context.store.limits))
  const known = { content, record: await knownContent(tx, content), wanted }
  const ranges = (await bodyRanges(tx, known, piecesMax)).slice(0, piecesMax)
  // The external object that these bytes lie in may be overwritten as soon as its own key is carried out.
  if (ranges.some(({ leaf }) => leaf && isExternalSegment(leaf.segment))) return undefined
  const changes = changesOf(ranges, target.offset - source.offset)
  const end = changes.at(-1)?.to ?? target.offset
  if (keepsInline(begun.inode, target.offset, end)) return undefined
  const step: PublishStep = { ...begun, request: { ...begun.request, size: Math.max(begun.inode.size, end) } }
  const { node, reached } = await publishChanges(step, { changes, from: 0, first })
  // Dead rows had to go first.
  if (reached <= target.offset) return 'again'
  return { node, length: reached - target.offset, segments: segmentsOf(ranges, reached, target.offset - source.offset) }
}

async function readFile(tx: Transaction, id: InodeId): Promise<ObjectInode> {
  const inode = await readInode(tx, id)
  if (inode.kind === 'directory') throw new TidegateError('IsADirectory', `inode ${id} is a directory`)
  return inode
}

/** Whether bytes of the target that lie in its inode would have to stay there, beside pieces. */
function keepsInline({ body }: ObjectInode, offset: number, end: number): boolean {
  return body.kind === 'inline' && body.bytes.length > 0 && (offset > 0 || body.bytes.length > end)
}

function changesOf(ranges: readonly BodyRange[], shift: number): Change[] {
  return ranges.map(({ content, contentOffset, offset, length }) => {
    const from = offset + shift
    return { from, to: from + length, content, contentOffset, run: undefined }
  })
}

function segmentsOf(ranges: readonly BodyRange[], reached: number, shift: number): SegmentId[] {
  const segments = new Set<SegmentId>()
  for (const { leaf, offset } of ranges) if (leaf && offset + shift < reached) segments.add(leaf.segment)
  return [...segments]
}
