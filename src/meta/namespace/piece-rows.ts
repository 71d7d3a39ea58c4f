/**
 * Reading the pieces of a composite or a file.
 *
 * A composite's rows lie under its own id and never change. A file's rows are changed in place, and every publish gives it a new
 * content id; what a publish took out of the rows lies under the id that the content had before (files/contents-publish.ts):
 *
 *   content 7 (dropped, successor 8)   rows under 7: what the publish of 8 replaced
 *   content 8 (dropped, successor 9)   rows under 8: what the publish of 9 replaced
 *   content 9 (the file's)             all pieces, under the id that 7, 8 and 9 share
 *
 * So who opened the file as 7 finds each byte in the first of 7, 8 and the shared rows that has it. That is as many look-ups as
 * there were publishes since; the file as it is now is read from the shared rows alone.
 */
import { assert, must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, ContentId } from '../../common/ids.ts'
import type { ReadView, Row } from '../ports.ts'
import { piecesKey, piecesPrefix, prefixEnd } from './keys.ts'
import {
  decodePieceRow,
  type CompositeContent,
  type Content,
  type FileContent,
  type Piece,
  type PieceRow,
} from './records-contents.ts'
import { readContent } from './references.ts'

const ROWS_PER_SCAN = 16

/** A range of another content, or a hole, and where it lies in the content asked about. */
export interface PieceRange {
  readonly content: ContentId | undefined
  readonly contentOffset: number
  readonly length: number
  readonly start: number
}

export interface ByteSpan {
  readonly from: number
  readonly to: number
}

/** Rows under an id, from the one that holds `fromOffset` on. */
export async function* pieceRows(view: ReadView, rows: ContentId, fromOffset: number): AsyncGenerator<PieceRow> {
  for await (const row of rawPieceRows(view, rows, fromOffset)) yield decodePieceRow(row.value)
}

export async function* rawPieceRows(view: ReadView, rows: ContentId, fromOffset: number): AsyncGenerator<Row> {
  const prefix = piecesPrefix(rows)
  const end = prefixEnd(prefix)
  const holding = fromOffset === 0 ? undefined : await rowBefore(view, rows, fromOffset + 1)
  let start = holding?.key ?? (prefix as ByteString)
  for (;;) {
    const found = await view.scan({ start, end }, ROWS_PER_SCAN)
    yield* found
    const last = found.at(-1)
    if (!last || found.length < ROWS_PER_SCAN) return
    start = `${last.key}\0` as ByteString
  }
}

/** The last row that begins before an offset. */
export async function rowBefore(view: ReadView, rows: ContentId, offset: number): Promise<Row | undefined> {
  const start = piecesPrefix(rows) as ByteString
  const [row] = await view.scan({ start, end: piecesKey(rows, offset, 0) }, 1, true)
  return row
}

/** What covers a span of a composite or a file, in order and cut to it, in batches. Of a file also the hole at its end. */
export async function* pieceRanges(
  view: ReadView,
  source: { readonly content: ContentId; readonly record: CompositeContent | FileContent },
  span: ByteSpan,
): AsyncGenerator<readonly PieceRange[]> {
  const { content, record } = source
  if (record.kind === 'composite') yield* rangesInRows(view, content, span)
  else yield* fileRanges(view, { content, record }, span)
}

async function* fileRanges(
  view: ReadView,
  source: { readonly content: ContentId; readonly record: FileContent },
  span: ByteSpan,
): AsyncGenerator<readonly PieceRange[]> {
  const { record } = source
  const to = Math.min(span.to, record.length)
  const inRows = { from: span.from, to: Math.min(to, record.rowsEnd) }
  if (inRows.from < inRows.to) {
    if (record.successor === undefined) yield* rangesInRows(view, record.rows, inRows)
    else yield await replacedRanges(view, source, inRows)
  }
  const from = Math.max(span.from, record.rowsEnd)
  if (from < to) yield [{ content: undefined, contentOffset: 0, length: to - from, start: from }]
}

async function* rangesInRows(view: ReadView, rows: ContentId, span: ByteSpan): AsyncGenerator<readonly PieceRange[]> {
  for await (const row of pieceRows(view, rows, span.from)) {
    if (row.firstOffset >= span.to) return
    const ranges: PieceRange[] = []
    let start = row.firstOffset
    for (const piece of row.pieces) {
      const range = cutTo(piece, start, span)
      if (range) ranges.push(range)
      start += piece.length
    }
    yield ranges
  }
}

function cutTo(piece: Piece, start: number, span: ByteSpan): PieceRange | undefined {
  const from = Math.max(start, span.from)
  const to = Math.min(start + piece.length, span.to)
  if (from >= to) return undefined
  const { content, contentOffset } = piece
  return {
    content,
    contentOffset: content === undefined ? 0 : contentOffset + from - start,
    length: to - from,
    start: from,
  }
}

/** Of a content that was replaced: from each successor what the ones before it do not say. */
async function replacedRanges(
  view: ReadView,
  source: { readonly content: ContentId; readonly record: FileContent },
  span: ByteSpan,
): Promise<PieceRange[]> {
  const found: PieceRange[] = []
  let missing: ByteSpan[] = [span]
  let { content, record } = source
  while (missing.length > 0) {
    const rows = record.successor === undefined ? record.rows : content
    const stillMissing: ByteSpan[] = []
    for (const wanted of missing) {
      let at = wanted.from
      for await (const ranges of rangesInRows(view, rows, wanted)) {
        for (const range of ranges) {
          if (range.start > at) stillMissing.push({ from: at, to: range.start })
          found.push(range)
          at = range.start + range.length
        }
      }
      if (at < wanted.to) stillMissing.push({ from: at, to: wanted.to })
    }
    missing = stillMissing
    if (record.successor === undefined) break
    content = record.successor
    record = fileContent(await readContent(view, content), content)
  }
  assert(missing.length === 0, `the rows of content ${source.content} have no gap`)
  return found.sort((one, other) => one.start - other.start)
}

function fileContent(record: Content | undefined, content: ContentId): FileContent {
  if (!record) throw new TidegateError('DataLost', `content ${content} is not recorded (any more)`)
  return must(record.kind === 'file' ? record : undefined, `content ${content} is a file's`)
}
