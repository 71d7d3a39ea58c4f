/**
 * Changing the pieces of a file in place, within one transaction: the E rows that the changes touch, and no others.
 *
 * The rows of a file lie without a gap, each under the offset where it begins, at most `PIECES_PER_ROW` pieces in each; holes are
 * pieces too. Changes come in ascending order, so a splice is a stream: pieces before a change are kept, those under it are
 * discarded, the new one is put in between. Adjacent rows that changes touch are one *group*, read once and written once, cut
 * into rows anew; a group that has become small takes a neighbour in.
 *
 * A piece holds one reference. What is discarded goes, reference and all, to rows under the content that this splice
 * replaces, for those who have it open (piece-rows.ts); where the file had none of its own, and where what takes its place holds the
 * same bytes (compaction), the reference is dropped. Cutting a piece in two makes a reference more, joining two makes one less; the
 * sums are settled at the end.
 *
 * The splice counts its operations and stops when no more fit (C2): `apply` says how far it came.
 */
import { assert } from '../../../common/assert.ts'
import type { ByteString, ContentId } from '../../../common/ids.ts'
import type { AckLevel, StoredRun } from '../../../common/model.ts'
import type { Row, Transaction } from '../../ports.ts'
import { PIECES_PER_ROW } from '../composites.ts'
import { piecesKey, piecesPrefix, prefixEnd } from '../keys.ts'
import { rowBefore } from '../piece-rows.ts'
import { decodePieceRow, encodePieceRow } from '../records-contents.ts'
import { addReference, addRunOrReference, dropReference } from '../references.ts'

/** A range of a content, or a hole. */
export interface FilePiece {
  readonly content: ContentId | undefined
  readonly contentOffset: number
  readonly length: number
}

/** `[from, to)` becomes this range of a content, or a hole. */
export interface Change {
  readonly from: number
  readonly to: number
  readonly content: ContentId | undefined
  readonly contentOffset: number
  /** Given for a content that may not be recorded yet. */
  readonly run: StoredRun | undefined
}

/** What the file has before. */
export interface SpliceBase {
  /** The id that the rows bear. */
  readonly rows: ContentId
  readonly areRowsWritten: boolean
  /** The content that is replaced and under which what is discarded goes. Without one its references are dropped. */
  readonly replaced: ContentId | undefined
  /** Its pieces, if the rows are not there yet. */
  readonly pieces: readonly FilePiece[]
  readonly rowsEnd: number
  readonly storedBytes: number
  readonly pieceCount: number
  /** References that come with `pieces`, or go with what is left behind. */
  readonly references: ReadonlyMap<ContentId, number>
}

/** Rows under work: their pieces not yet reached, and what the group shall hold instead. */
interface Group {
  readonly keys: Set<ByteString>
  start: number
  input: FilePiece[]
  next: number
  /** Where `input[next]` begins. */
  position: number
  /** Where the input ends. */
  end: number
  inputCount: number
  readonly output: FilePiece[]
}

interface Discarded {
  readonly start: number
  end: number
  readonly pieces: FilePiece[]
}

const MERGED_BELOW = PIECES_PER_ROW / 4
/** What one change may need at most, beyond the rows that it touches: two cuts, a run, a row more, a neighbour. */
export const OPERATIONS_PER_CHANGE = 12
const OPERATIONS_PER_REFERENCE = 2
const OPERATIONS_PER_RUN = 3
/** A row read is rewritten or deleted, and its pieces go to another. */
const OPERATIONS_PER_ROW = 3
const ROWS_MOVED_MAX = 1024

export class Splice {
  readonly #tx: Transaction
  readonly #base: SpliceBase
  readonly #operationsMax: number
  readonly #references: Map<ContentId, number>
  readonly #runs = new Map<ContentId, StoredRun>()
  #group: Group | undefined
  #discarded: Discarded | undefined
  #operations = 0
  #rowsEnd: number
  #storedBytes: number
  #pieceCount: number

  constructor(tx: Transaction, base: SpliceBase, operationsMax: number) {
    this.#tx = tx
    this.#base = base
    this.#operationsMax = operationsMax
    this.#references = new Map(base.references)
    this.#rowsEnd = base.rowsEnd
    this.#storedBytes = base.storedBytes
    this.#pieceCount = base.pieceCount
    if (!base.areRowsWritten) this.#group = newGroup(0, { pieces: base.pieces, end: base.rowsEnd })
  }

  get rowsEnd(): number {
    return this.#rowsEnd
  }

  get storedBytes(): number {
    return this.#storedBytes
  }

  get pieceCount(): number {
    return this.#pieceCount
  }

  /** Whether one more change fits, and a row for it. */
  get hasRoom(): boolean {
    const group = this.#group
    const inGroup = group ? group.keys.size + rowsFor(group.output.length + group.input.length - group.next) + 1 : 0
    const used =
      this.#operations +
      inGroup +
      rowsFor(this.#discarded?.pieces.length ?? 0) +
      this.#references.size * OPERATIONS_PER_REFERENCE +
      this.#runs.size * OPERATIONS_PER_RUN
    const { areRowsWritten, replaced } = this.#base
    // What a row says is moved with it, or each of its references is dropped.
    const perRow = areRowsWritten && replaced === undefined ? PIECES_PER_ROW * OPERATIONS_PER_REFERENCE : 0
    return used + OPERATIONS_PER_CHANGE + OPERATIONS_PER_ROW + perRow <= this.#operationsMax
  }

  /**
   * Takes whole rows that begin at or after an offset away, from the end, as many as fit. Before any other change. True if none is
   * left; then the row that holds the offset may still reach beyond it.
   */
  async dropRowsFrom(offset: number): Promise<boolean> {
    const { rows, areRowsWritten, replaced } = this.#base
    if (!areRowsWritten) return true
    assert(replaced !== undefined, 'rows that go are kept for a content that is replaced')
    const limit = Math.min(ROWS_MOVED_MAX, Math.floor(this.#operationsMax / 4))
    const range = { start: piecesKey(rows, offset, 0), end: prefixEnd(piecesPrefix(rows)) }
    const found = await this.#tx.scan(range, limit, true)
    for (const { key, value } of found) {
      const { firstOffset, pieces } = decodePieceRow(value)
      this.#tx.delete(key)
      this.#tx.put(piecesKey(replaced, firstOffset, 0), value)
      this.#operations += 2
      this.#rowsEnd = firstOffset
      this.#pieceCount -= pieces.length
      for (const piece of pieces) this.#storedBytes -= storedBytesOf(piece)
    }
    return found.length < limit
  }

  /** Resolves with where it stopped: `to`, or before that when no more rows fit. Call only while there is room. */
  async apply(change: Change): Promise<number> {
    const { from, content, contentOffset, run } = change
    const to = content === undefined ? Math.min(change.to, this.#rowsEnd) : change.to
    if (from >= to) return change.to
    const group = await this.#groupAt(from)
    this.#keepUntil(group, from)
    while (group.position < to && group.position < this.#rowsEnd) {
      if (group.next < group.input.length) this.#discardNext(group, to)
      else if (this.hasRoom) await this.#readNextRow(group)
      else break
    }
    const stoppedAt = group.position < this.#rowsEnd ? Math.min(group.position, to) : to
    if (stoppedAt === from) return from
    const length = stoppedAt - from
    this.#put(group.output, { content, contentOffset, length })
    group.position = Math.max(group.position, stoppedAt)
    group.end = Math.max(group.end, stoppedAt)
    this.#rowsEnd = Math.max(this.#rowsEnd, stoppedAt)
    if (content !== undefined) {
      this.#refer(content, 1)
      this.#storedBytes += length
    }
    if (run) this.#runs.set(run.content, run)
    return stoppedAt === to ? change.to : stoppedAt
  }

  /** Writes what is still to be written. */
  async finish(ack: AckLevel): Promise<void> {
    await this.#closeGroup()
    this.#writeDiscarded()
    for (const run of this.#runs.values()) {
      await addRunOrReference(this.#tx, run, ack)
      this.#refer(run.content, -1)
    }
    for (const [content, count] of this.#references) {
      if (count > 0) await addReference(this.#tx, content, count)
      else if (count < 0) await dropReference(this.#tx, content, -count)
    }
  }

  /** A group that holds the offset, or, beyond the end of the rows, the last row. */
  async #groupAt(offset: number): Promise<Group> {
    const group = this.#group
    if (group && (offset < group.end || group.end === this.#rowsEnd)) return group
    const { rows } = this.#base
    const row = this.#rowsEnd === 0 ? undefined : await rowBefore(this.#tx, rows, Math.min(offset + 1, this.#rowsEnd))
    if (group && row && decodePieceRow(row.value).firstOffset === group.end) {
      this.#addRow(group, row)
      return group
    }
    await this.#closeGroup()
    const made = newGroup(row ? decodePieceRow(row.value).firstOffset : 0)
    if (row) this.#addRow(made, row)
    this.#group = made
    return made
  }

  async #readNextRow(group: Group): Promise<void> {
    const row = await this.#rowAt(group.end)
    assert(row, 'the rows of a file have no gap')
    this.#addRow(group, row)
  }

  async #rowAt(offset: number): Promise<Row | undefined> {
    const key = piecesKey(this.#base.rows, offset, 0)
    const value = await this.#tx.get(key)
    return value && { key, value }
  }

  #addRow(group: Group, row: Row): void {
    const { firstOffset, pieces } = decodePieceRow(row.value)
    assert(firstOffset === group.end, 'rows of a group follow each other')
    group.keys.add(row.key)
    if (group.next === group.input.length) {
      group.input = []
      group.next = 0
    }
    for (const piece of pieces) {
      group.input.push(piece)
      group.end += piece.length
    }
    group.inputCount += pieces.length
  }

  /** Keeps the pieces before an offset; what is missing up to it becomes a hole. */
  #keepUntil(group: Group, offset: number): void {
    while (group.position < offset && group.next < group.input.length)
      this.#put(group.output, this.#take(group, offset))
    if (group.position >= offset) return
    this.#put(group.output, { content: undefined, contentOffset: 0, length: offset - group.position })
    group.position = offset
    group.end = offset
    this.#rowsEnd = offset
  }

  #discardNext(group: Group, to: number): void {
    const start = group.position
    const piece = this.#take(group, to)
    this.#storedBytes -= storedBytesOf(piece)
    if (this.#base.replaced === undefined) {
      if (piece.content !== undefined) this.#refer(piece.content, -1)
      return
    }
    if (this.#discarded?.end !== start) {
      this.#writeDiscarded()
      this.#discarded = { start, end: start, pieces: [] }
    }
    this.#put(this.#discarded.pieces, piece)
    this.#discarded.end += piece.length
  }

  /** The next piece of the input, cut at `to`. */
  #take(group: Group, to: number): FilePiece {
    const piece = group.input[group.next]
    assert(piece, 'a piece is left')
    const length = Math.min(piece.length, to - group.position)
    group.position += length
    if (length === piece.length) {
      group.next++
      return piece
    }
    const { content, contentOffset } = piece
    const restOffset = content === undefined ? 0 : contentOffset + length
    group.input[group.next] = { content, contentOffset: restOffset, length: piece.length - length }
    if (content !== undefined) this.#refer(content, 1)
    return { content, contentOffset, length }
  }

  /** Adds a piece, joined to the last one if it goes on where that ends. */
  #put(pieces: FilePiece[], piece: FilePiece): void {
    const last = pieces.at(-1)
    if (!last || last.content !== piece.content || !continues(last, piece)) {
      pieces.push(piece)
      return
    }
    pieces[pieces.length - 1] = { ...last, length: last.length + piece.length }
    if (piece.content !== undefined) this.#refer(piece.content, -1)
  }

  #refer(content: ContentId, count: number): void {
    this.#references.set(content, (this.#references.get(content) ?? 0) + count)
  }

  async #closeGroup(): Promise<void> {
    const group = this.#group
    if (!group) return
    this.#keepUntil(group, group.end)
    if (group.output.length < Math.min(MERGED_BELOW, group.inputCount)) await this.#mergeNeighbour(group)
    const isLast = group.end === this.#rowsEnd
    if (isLast) this.#trimHole(group)
    const stale = new Set(group.keys)
    let start = group.start
    for (const pieces of cutIntoRows(group.output, isLast)) {
      const key = piecesKey(this.#base.rows, start, 0)
      this.#tx.put(key, encodePieceRow({ firstOffset: start, pieces: pieces.map(recordedPiece) }))
      this.#operations++
      stale.delete(key)
      for (const piece of pieces) start += piece.length
    }
    for (const key of stale) this.#tx.delete(key)
    this.#operations += stale.size
    this.#pieceCount += group.output.length - group.inputCount
    this.#group = undefined
  }

  async #mergeNeighbour(group: Group): Promise<void> {
    if (group.end < this.#rowsEnd) {
      await this.#readNextRow(group)
      this.#keepUntil(group, group.end)
      return
    }
    const before = group.start === 0 ? undefined : await rowBefore(this.#tx, this.#base.rows, group.start)
    if (!before) return
    const { firstOffset, pieces } = decodePieceRow(before.value)
    const after = group.output.splice(0)
    for (const piece of [...pieces, ...after]) this.#put(group.output, piece)
    group.keys.add(before.key)
    group.start = firstOffset
    group.inputCount += pieces.length
  }

  /**
   * The rows need not say that a file ends in a hole. But one that the replaced content had stays, since its readers would find
   * there what comes later; and rows whose bytes stay the same stay as long as they are.
   */
  #trimHole(group: Group): void {
    const last = group.output.at(-1)
    if (!last || last.content !== undefined) return
    let start = group.end - last.length
    if (this.#base.areRowsWritten) {
      if (this.#base.replaced === undefined) return
      const discarded = this.#discarded?.end === group.end ? this.#discarded : undefined
      start = Math.max(start, discarded?.start ?? group.end)
    }
    group.output.pop()
    const kept = last.length - (group.end - start)
    if (kept > 0) group.output.push({ ...last, length: kept })
    this.#rowsEnd = start
  }

  #writeDiscarded(): void {
    const discarded = this.#discarded
    if (!discarded) return
    const { replaced } = this.#base
    assert(replaced !== undefined, 'pieces are kept for a content that is replaced')
    let { start } = discarded
    for (const pieces of cutIntoRows(discarded.pieces, true)) {
      this.#tx.put(
        piecesKey(replaced, start, 0),
        encodePieceRow({ firstOffset: start, pieces: pieces.map(recordedPiece) }),
      )
      this.#operations++
      for (const piece of pieces) start += piece.length
    }
    this.#discarded = undefined
  }
}

function newGroup(start: number, held?: { pieces: readonly FilePiece[]; end: number }): Group {
  const input = held ? [...held.pieces] : []
  const end = held?.end ?? start
  return { keys: new Set(), start, input, next: 0, position: start, end, inputCount: 0, output: [] }
}

function continues(last: FilePiece, piece: FilePiece): boolean {
  return piece.content === undefined || last.contentOffset + last.length === piece.contentOffset
}

function storedBytesOf(piece: { readonly content: ContentId | undefined; readonly length: number }): number {
  return piece.content === undefined ? 0 : piece.length
}

function recordedPiece({ content, contentOffset, length }: FilePiece): FilePiece & { part: undefined } {
  return { content, contentOffset, length, part: undefined }
}

function rowsFor(pieces: number): number {
  return Math.ceil(pieces / PIECES_PER_ROW)
}

/** Rows that are about equally long, or full ones where more will be added behind. */
function cutIntoRows(pieces: readonly FilePiece[], full: boolean): FilePiece[][] {
  const size = full ? PIECES_PER_ROW : Math.ceil(pieces.length / Math.max(rowsFor(pieces.length), 1))
  const rows: FilePiece[][] = []
  for (let at = 0; at < pieces.length; at += size) rows.push(pieces.slice(at, at + size))
  return rows
}
