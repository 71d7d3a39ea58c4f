/**
 * What an object's bytes are made of. A *leaf* content is one run in one segment, as the journal wrote it. A *composite* is a
 * list of pieces, each a range of another content: a completed upload refers to its parts, a part that was copied from
 * several runs refers to those. So it is at most two composites deep: what is copied is flattened to leaves.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, ContentId, SegmentId } from '../../common/ids.ts'
import type { Extent, StoredRun, UploadPart } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import type { Commit, NamespaceContext } from './context.ts'
import { contentKey, droppedContentKey, piecesKey, piecesPrefix, prefixEnd, segmentLiveKey } from './keys.ts'
import {
  decodeContent,
  decodeDropped,
  decodePieceRow,
  encodeContent,
  encodeDropped,
  lastPartOfRow,
  type Content,
  type LeafContent,
  type Piece,
  type PieceRow,
} from './records-contents.ts'
import { readContent } from './references.ts'

const ROWS_PER_SCAN = 16

/** `[from, to)` of a content, which begins at `base` of what is asked for. */
interface Wanted {
  readonly from: number
  readonly to: number
  readonly base: number
}

/** A range of one leaf, and where it lies in what was asked for. */
export interface LeafRange {
  readonly content: ContentId
  readonly leaf: LeafContent
  readonly contentOffset: number
  readonly length: number
  readonly offset: number
}

export function extents(
  context: NamespaceContext,
  content: ContentId,
  offset: number,
  length: number,
): Promise<Extent[]> {
  const wanted = { from: offset, to: offset + length, base: 0 }
  const key = contentKey(content)
  const hot = context.cache.get(key) as LeafContent | undefined
  if (hot) return Promise.resolve(extentsOf(leafRange(content, hot, wanted)))
  return context.store.read(async (view) => {
    const fill = context.cache.beginFill(view)
    const record = await knownContent(view, content)
    const row = record.kind === 'leaf' ? await view.get(key) : undefined
    if (row) context.cache.put(key, record, { recordBytes: row.length, fill })
    return extentsOf(await leafRanges(view, { content, record, wanted }, Infinity))
  })
}

function extentsOf(ranges: readonly LeafRange[]): Extent[] {
  return ranges.map(({ leaf, contentOffset, length, offset }) => ({
    offset,
    length,
    segment: leaf.segment,
    segmentOffset: leaf.segmentOffset + contentOffset,
  }))
}

async function knownContent(view: ReadView, content: ContentId): Promise<Content> {
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

/** The leaves that cover a range of a content, in order; at least `limit` of them, if there are so many, and few more. */
export async function leafRanges(
  view: ReadView,
  source: { content: ContentId; record: Content; wanted: Wanted },
  limit: number,
): Promise<LeafRange[]> {
  const { record, wanted } = source
  if (record.kind === 'leaf') return leafRange(source.content, record, wanted)
  const found: LeafRange[] = []
  for await (const row of pieceRows(view, source.content, wanted.from)) {
    if (row.firstOffset >= wanted.to || found.length >= limit) break
    const pieces = overlapping(row, wanted)
    const records = await view.getMany(pieces.map(({ piece }) => contentKey(must(piece.content, 'content of a piece'))))
    for (const [index, { piece, start }] of pieces.entries()) {
      if (found.length >= limit) break
      const content = must(piece.content, 'content of a piece')
      const bytes = records[index]
      const inPiece = {
        from: piece.contentOffset + Math.max(wanted.from - start, 0),
        to: piece.contentOffset + Math.min(wanted.to - start, piece.length),
        base: wanted.base + start - piece.contentOffset,
      }
      const below = {
        content,
        record: bytes ? decodeContent(bytes) : await knownContent(view, content),
        wanted: inPiece,
      }
      found.push(...(await leafRanges(view, below, limit - found.length)))
    }
  }
  return found
}

function overlapping(row: PieceRow, wanted: Wanted): { piece: Piece; start: number }[] {
  const pieces: { piece: Piece; start: number }[] = []
  let start = row.firstOffset
  for (const piece of row.pieces) {
    if (piece.length > 0 && start < wanted.to && start + piece.length > wanted.from) pieces.push({ piece, start })
    start += piece.length
  }
  return pieces
}

/** Rows of a composite from the one that holds `fromOffset` on. */
export async function* pieceRows(view: ReadView, content: ContentId, fromOffset: number): AsyncGenerator<PieceRow> {
  for await (const row of rawPieceRows(view, content, fromOffset)) yield decodePieceRow(row.value)
}

async function* rawPieceRows(
  view: ReadView,
  content: ContentId,
  fromOffset: number,
): AsyncGenerator<{ key: ByteString; value: Uint8Array }> {
  const prefix = piecesPrefix(content)
  const end = prefixEnd(prefix)
  const before = { start: prefix as ByteString, end: piecesKey(content, fromOffset + 1, 0) }
  const [first] = fromOffset === 0 ? [] : await view.scan(before, 1, true)
  let start = first?.key ?? (prefix as ByteString)
  for (;;) {
    const rows = await view.scan({ start, end }, ROWS_PER_SCAN)
    yield* rows
    const last = rows.at(-1)
    if (!last || rows.length < ROWS_PER_SCAN) return
    start = `${last.key}\0` as ByteString
  }
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
    segments.add(record.segment)
    return
  }
  for await (const { pieces } of pieceRows(view, content, 0)) {
    const contents = [...new Set(pieces.flatMap((piece) => piece.content ?? []))]
    const rows = await view.getMany(contents.map(contentKey))
    for (const [index, row] of rows.entries()) {
      if (row) await collectSegments(view, must(contents[index], 'content'), decodeContent(row), segments)
    }
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
