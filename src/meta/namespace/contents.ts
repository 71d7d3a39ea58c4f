/**
 * What an object's bytes are made of. A *leaf* content is one run in one segment, as the journal wrote it. A *composite* is a
 * list of pieces, each a range of another content: a completed upload refers to its parts, a part that was copied from
 * several runs refers to those. What an UploadPartCopy takes is flattened to leaves, so an upload is at most two composites deep.
 * A *file* is a list of pieces that the mount changes in place (files/contents-publish.ts, which also says how deep it may be).
 *
 * A piece without a content is a hole: it reads as zeros and has no extent.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { isExternalSegment } from '../../common/external.ts'
import type { ContentId, SegmentId } from '../../common/ids.ts'
import type { Extent, StoredRun, UploadPart } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import type { Commit, NamespaceContext } from './context.ts'
import { contentKey, droppedContentKey, segmentLiveKey } from './keys.ts'
import { pieceRanges, rawPieceRows, type ByteSpan, type PieceRange } from './piece-rows.ts'
import {
  decodeContent,
  decodeDropped,
  decodePieceRow,
  encodeContent,
  encodeDropped,
  lastPartOfRow,
  type Content,
  type LeafContent,
} from './records-contents.ts'
import { readContent } from './references.ts'

/** `[from, to)` of a content whose first byte lies at `base` of what is asked for. */
interface Wanted extends ByteSpan {
  readonly base: number
}

/** A range of one leaf, or a hole, and where it lies in what was asked for. */
export type BodyRange = LeafRange | HoleRange

export interface LeafRange {
  readonly content: ContentId
  readonly leaf: LeafContent
  readonly contentOffset: number
  readonly length: number
  readonly offset: number
}

export interface HoleRange {
  readonly content: undefined
  readonly leaf: undefined
  readonly contentOffset: 0
  readonly length: number
  readonly offset: number
}

/** In order; what lies between two of them, or between the last and the end of the content, is a hole. */
export function extents(
  context: NamespaceContext,
  content: ContentId,
  offset: number,
  length: number,
): Promise<Extent[]> {
  const wanted = { from: offset, to: offset + length, base: 0 }
  const key = contentKey(content)
  const { answersAtOnce } = context.cache
  const hot = answersAtOnce ? (context.cache.get(key) as LeafContent | undefined) : undefined
  if (hot) return Promise.resolve(extentsOf(leafRange(content, hot, wanted)))
  return context.store.read(async (view) => {
    const warm = answersAtOnce ? undefined : (context.cache.get(key) as LeafContent | undefined)
    if (warm) return extentsOf(leafRange(content, warm, wanted))
    const fill = context.cache.beginFill(view)
    const record = await knownContent(view, content)
    const row = record.kind === 'leaf' ? await view.get(key) : undefined
    if (row) context.cache.put(key, record, { recordBytes: row.length, fill })
    return extentsOf(await bodyRanges(view, { content, record, wanted }, Infinity))
  })
}

export function extentsOf(ranges: readonly BodyRange[]): Extent[] {
  const found: Extent[] = []
  for (const { leaf, contentOffset, length, offset } of ranges) {
    if (leaf) found.push({ offset, length, segment: leaf.segment, segmentOffset: leaf.segmentOffset + contentOffset })
  }
  return found
}

export async function knownContent(view: ReadView, content: ContentId): Promise<Content> {
  const record = await readContent(view, content)
  if (!record) throw new TidegateError('DataLost', `content ${content} is not recorded (any more)`)
  return record
}

function leafRange(content: ContentId, leaf: LeafContent, wanted: Wanted): LeafRange[] {
  const to = Math.min(wanted.to, leaf.length)
  if (to <= wanted.from) return []
  const { from, base } = wanted
  return [{ content, leaf, contentOffset: from, length: to - from, offset: base + from }]
}

/** The leaves and holes that cover a range of a content, in order; at least `limit` of them, if there are so many, and few more. */
export async function bodyRanges(
  view: ReadView,
  source: { content: ContentId; record: Content; wanted: Wanted },
  limit: number,
): Promise<BodyRange[]> {
  const { content, record, wanted } = source
  if (record.kind === 'leaf') return leafRange(content, record, wanted)
  const found: BodyRange[] = []
  for await (const ranges of pieceRanges(view, { content, record }, wanted)) {
    await addRanges(view, { ranges, wanted, limit }, found)
    if (found.length >= limit) break
  }
  return found
}

async function addRanges(
  view: ReadView,
  batch: { readonly ranges: readonly PieceRange[]; readonly wanted: Wanted; readonly limit: number },
  found: BodyRange[],
): Promise<void> {
  const { ranges, wanted, limit } = batch
  const records = await contentRecords(view, ranges)
  for (const range of ranges) {
    if (found.length >= limit) return
    const { content, contentOffset, length, start } = range
    const offset = wanted.base + start
    if (content === undefined) {
      found.push({ content, leaf: undefined, contentOffset: 0, length, offset })
      continue
    }
    const inPiece = { from: contentOffset, to: contentOffset + length, base: offset - contentOffset }
    const below = { content, record: must(records.get(content), 'content of a piece'), wanted: inPiece }
    found.push(...(await bodyRanges(view, below, limit - found.length)))
  }
}

async function contentRecords(view: ReadView, ranges: readonly PieceRange[]): Promise<Map<ContentId, Content>> {
  const contents = [...new Set(ranges.flatMap(({ content }) => content ?? []))]
  const rows = await view.getMany(contents.map(contentKey))
  const records = new Map<ContentId, Content>()
  for (const [index, content] of contents.entries()) {
    const row = rows[index]
    records.set(content, row ? decodeContent(row) : await knownContent(view, content))
  }
  return records
}

export function contentParts(
  context: NamespaceContext,
  content: ContentId,
  after: number,
  limit: number,
): Promise<{ parts: UploadPart[]; truncated: boolean }> {
  return context.store.read(async (view) => {
    const parts: UploadPart[] = []
    for await (const row of rawPieceRows(view, content, 0)) {
      if (lastPartOfRow(row.value) <= after) continue
      for (const { part, length } of decodePieceRow(row.value).pieces) {
        if (!part || part.partNumber <= after) continue
        if (parts.length >= limit) return { parts, truncated: true }
        parts.push({ ...part, size: length })
      }
    }
    return { parts, truncated: false }
  })
}

export function partRange(
  context: NamespaceContext,
  content: ContentId,
  partNumber: number,
): Promise<{ offset: number; length: number } | undefined> {
  return context.store.read(async (view) => {
    for await (const row of rawPieceRows(view, content, 0)) {
      if (lastPartOfRow(row.value) < partNumber) continue
      const { firstOffset, pieces } = decodePieceRow(row.value)
      let offset = firstOffset
      for (const piece of pieces) {
        if (piece.part?.partNumber === partNumber) return { offset, length: piece.length }
        offset += piece.length
      }
      return undefined
    }
    return undefined
  })
}

/** Those of ours: an external one is where it shall be. */
export function contentSegments(context: NamespaceContext, content: ContentId): Promise<SegmentId[]> {
  return context.store.read(async (view) => {
    const segments = new Set<SegmentId>()
    const record = await readContent(view, content)
    if (record) await collectSegments(view, content, record, segments)
    return [...segments]
  })
}

async function collectSegments(
  view: ReadView,
  content: ContentId,
  record: Content,
  segments: Set<SegmentId>,
): Promise<void> {
  if (record.kind === 'leaf') {
    if (!isExternalSegment(record.segment)) segments.add(record.segment)
    return
  }
  for await (const ranges of pieceRanges(view, { content, record }, { from: 0, to: record.length })) {
    for (const [below, found] of await contentRecords(view, ranges)) await collectSegments(view, below, found, segments)
  }
}

/** Dropped contents count until they are taken apart: a reader may hold them, and the drop may yet be undone (C12). */
export function contentLiesAt(context: NamespaceContext, run: StoredRun): Promise<boolean> {
  return context.store.read(async (view) => liesAt(await readContent(view, run.content), run))
}

function liesAt(record: Content | undefined, run: StoredRun): record is LeafContent {
  return (
    record?.kind === 'leaf' &&
    record.segment === run.segment &&
    record.segmentOffset === run.segmentOffset &&
    record.length === run.length
  )
}

/** Compaction has written the same bytes to `to`. */
export async function contentMoved(
  context: NamespaceContext,
  from: StoredRun,
  to: StoredRun,
): Promise<Commit<boolean>> {
  const key = contentKey(from.content)
  const droppedKey = droppedContentKey(from.content)
  return context.store.transact(async (tx) => {
    const row = await tx.get(key)
    const droppedRow = row ? undefined : await tx.get(droppedKey)
    const dropped = droppedRow && decodeDropped(droppedRow)
    const record = row ? decodeContent(row) : dropped?.content
    if (!liesAt(record, from)) return false
    const moved: LeafContent = { ...record, segment: to.segment, segmentOffset: to.segmentOffset }
    if (dropped) tx.put(droppedKey, encodeDropped({ ...dropped, content: moved }))
    else tx.put(key, encodeContent(moved))
    tx.add(segmentLiveKey(from.segment), [-from.length])
    tx.add(segmentLiveKey(to.segment), [to.length])
    return true
  })
}
