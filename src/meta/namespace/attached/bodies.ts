/**
 * Bodies that lie in an external bucket, whole or in part (docs/decisions/0015).
 *
 *   external   body kind of an inode: all of an external object. No content, no segment row
 *   leaf       content of an external segment, once a part of the body is changed or it is referred to: then a row `Z x` says what the
 *              segment is, for as long as it has live bytes
 *
 * Bytes that lie outside are there for as long as the external object is: so nothing but the inode that the object's key named may refer to
 * them, and where that inode goes by another key now, a dirty row of the object's key says that it is needed (traces.ts).
 */
import { unreachable } from '../../../common/assert.ts'
import { TidegateError } from '../../../common/errors.ts'
import { externalSegment, isExternalSegment, type ExternalBody } from '../../../common/external.ts'
import type { ContentId, SegmentId } from '../../../common/ids.ts'
import type { AckLevel, Extent, ObjectBody } from '../../../common/model.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { bodyRanges, knownContent } from '../contents.ts'
import { segmentLiveKey } from '../keys.ts'
import type { ObjectInode } from '../records-objects.ts'
import { addRun } from '../references.ts'
import { bucketIdOf } from '../tree.ts'
import { decodeExternalSegment, encodeExternalSegment, externalSegmentKey } from './rows.ts'

/** A body in more pieces than this is taken to lie outside in part, unlooked. */
const RANGES_LOOKED_AT_MAX = 1024

/** Where the bytes `[from, to)` of an external body lie. */
export function extentOfExternal(
  bucketId: number,
  external: ExternalBody,
  { from, to }: { readonly from: number; readonly to: number },
): Extent[] {
  if (from >= to) return []
  return [{ offset: from, length: to - from, segment: externalSegment(bucketId, external), segmentOffset: from }]
}

/** A leaf content with one reference that is all of an external body. */
export async function referToExternal(
  tx: Transaction,
  of: { readonly inode: { readonly parent: number }; readonly request: { readonly ack: AckLevel } },
  made: { readonly external: ExternalBody; readonly content: ContentId },
): Promise<void> {
  const { external, content } = made
  const { key, etag, size } = external
  const bucketId = await bucketIdOf(tx, of.inode.parent)
  const segment = externalSegment(bucketId, external)
  addRun(tx, { content, segment, segmentOffset: 0, length: size }, of.request.ack)
  tx.put(externalSegmentKey(segment), encodeExternalSegment({ bucketId, key, etag, size }))
}

/** After live bytes of it went. */
export async function forgetIfEmpty(tx: Transaction, segment: SegmentId): Promise<void> {
  const [live = 0] = await tx.counters(segmentLiveKey(segment), 1)
  if (live > 0) return
  tx.delete(segmentLiveKey(segment))
  tx.delete(externalSegmentKey(segment))
}

/** An external object at a key of the bucket. */
export type ObjectOutside = Pick<ExternalBody, 'key' | 'etag' | 'size'>

/** The external objects that bytes of this body lie in. */
export async function objectsOutside(view: ReadView, body: ObjectBody): Promise<readonly ObjectOutside[]> {
  switch (body.kind) {
    case 'inline':
      return []
    case 'external':
      return [body.external]
    case 'content':
      return objectsUnder(view, body.content)
    default:
      return unreachable(body, 'body')
  }
}

async function objectsUnder(view: ReadView, content: ContentId): Promise<readonly ObjectOutside[]> {
  const segments = new Set<SegmentId>()
  const record = await knownContent(view, content)
  const wanted = { from: 0, to: record.length, base: 0 }
  for (const { leaf } of await bodyRanges(view, { content, record, wanted }, Infinity)) {
    if (leaf && isExternalSegment(leaf.segment)) segments.add(leaf.segment)
  }
  const rows = await view.getMany([...segments].map(externalSegmentKey))
  return rows.flatMap((row) => (row ? [decodeExternalSegment(row)] : []))
}

/** Whether a copy may refer to these bytes. @throws ConditionalRequestConflict */
export async function checkReferable(view: ReadView, body: ObjectBody): Promise<void> {
  if (body.kind === 'inline') return
  if (body.kind === 'external' || (await liesOutside(view, body.content))) {
    throw new TidegateError(
      'ConditionalRequestConflict',
      'the source lies in an external bucket: it is copied by its bytes',
    )
  }
}

async function liesOutside(view: ReadView, content: ContentId): Promise<boolean> {
  const record = await knownContent(view, content)
  const wanted = { from: 0, to: record.length, base: 0 }
  const ranges = await bodyRanges(view, { content, record, wanted }, RANGES_LOOKED_AT_MAX + 1)
  return ranges.length > RANGES_LOOKED_AT_MAX || ranges.some(({ leaf }) => leaf && isExternalSegment(leaf.segment))
}

/** A symlink's target stays here when it has been carried out: who follows it does not wait for the store outside. */
export function isKeptHere({ body, posix }: ObjectInode): boolean {
  return body.kind === 'inline' && posix?.kind === 'symlink'
}

/**
 * The external object that an inode was when it was clean last, wherever its key is by now. Undefined: it never was, or the body is kept here and a dirty row says what
 * lies there.
 */
export function lastOutside({ body, twin }: Pick<ObjectInode, 'body' | 'twin'>): ExternalBody | undefined {
  return body.kind === 'external' ? body.external : twin
}
