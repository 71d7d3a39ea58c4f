/**
 * Records of contents, uploads, segments and the reclaim table, field by field (primitives: codec.ts).
 *
 * K  content    byte kind, then
 *   1 leaf        integer references; byte ack; 16 bytes segment; integer segment offset, length
 *   2 composite   integer references; byte owns pieces; integer length
 *   3 file        integer references; integer rows (the id that its E rows bear), successor (0: none), length, end of rows,
 *                 stored bytes, number of pieces; [nesting, if it is not 0]
 * E  pieces     integer first offset, count, part number of the first and of the last; then per piece: byte flags (1 has checksum, 2
 *               is a part); integer content (0: none, for an empty part and for a hole), offset in it, length; of a part also: integer part
 *               number, mtime ms; etag; [checksum]
 * U  upload     integer initiated ms, token (0: none); text owner; byte checksum (255: none, else algorithm * 2 + type), byte
 *               whether a type was given; integer mask; attributes (as in I)
 * P  part       one piece, as in E
 * S  segment    byte state; integer bytes; [integer node whose it is, if not 0 or more follows; [integer count of copies, then integer node
 *               of each; absent: it was never copied]]
 * G  content    byte state (0 dropped, 1 being built); text node that builds it; then the content record
 *    upload     the numbers of the parts whose references moved into the object, as a bitmap: bit n & 7 of byte n >> 3
 *    bucket     empty
 * N  horizon    integer revision; [8 bytes: life of the node]
 * C  sequence   integer: the first id not yet given away
 *
 * A composite that does not own its pieces is being built from an upload's parts: until it is published the parts' own
 * rows hold the references, so taking it apart gives none back.
 */
import { must, unreachable } from '../../common/assert.ts'
import type { ContentId, SegmentId } from '../../common/ids.ts'
import {
  ACK_LEVELS,
  type AckLevel,
  type ChecksumAlgorithm,
  type ChecksumType,
  type ObjectAttributes,
  type ObjectChecksum,
} from '../../common/model.ts'
import { RecordReader, recordWriter, type RecordWriter } from './codec.ts'
import {
  attributesMask,
  checksumByte,
  checksumOfByte,
  readAttributes,
  readChecksum,
  readEtag,
  writeAttributes,
  writeChecksum,
  writeEtag,
} from './records-fields.ts'

export interface LeafContent {
  readonly kind: 'leaf'
  readonly references: number
  readonly ack: AckLevel
  readonly segment: SegmentId
  readonly segmentOffset: number
  readonly length: number
}

export interface CompositeContent {
  readonly kind: 'composite'
  readonly references: number
  readonly ownsPieces: boolean
  readonly length: number
}

/** Of a file that is written in place (files/contents-publish.ts). */
export interface FileContent {
  readonly kind: 'file'
  readonly references: number
  /** Its pieces lie under this id, which no content has. The contents that a file had one after another share it. */
  readonly rows: ContentId
  /** The content that took its place, once one has: what is not under this one's own id is as that one has it. */
  readonly successor: ContentId | undefined
  readonly length: number
  /** The pieces lie without a gap from 0 to here. Up to `length` follows a hole; pieces after `length` are to be removed. */
  readonly rowsEnd: number
  /** Of the pieces: bytes that are not holes, and how many pieces there are. */
  readonly storedBytes: number
  readonly pieceCount: number
  /** How many contents of files may lie one in the other below it. */
  readonly nesting: number
}

export type Content = LeafContent | CompositeContent | FileContent

/** A range of another content. */
export interface Piece {
  /** Undefined for a part of no bytes, and for a hole. */
  readonly content: ContentId | undefined
  /** Where the range begins in that content. */
  readonly contentOffset: number
  readonly length: number
  /** Present in completed objects and in uploads, absent in what copyPart assembled. */
  readonly part: PiecePart | undefined
}

export interface PiecePart {
  readonly partNumber: number
  readonly etag: string
  readonly mtimeMs: number
  readonly checksum: ObjectChecksum | undefined
}

export interface PieceRow {
  /** Offset of the first piece in the composite. */
  readonly firstOffset: number
  readonly firstPart: number
  readonly lastPart: number
  readonly pieces: readonly Piece[]
}

export interface Upload {
  readonly initiatedMs: number
  /** Set while a Complete is under way; a part that is put meanwhile clears it, and the Complete starts over. */
  readonly token: number
  readonly owner: string
  readonly checksumAlgorithm: ChecksumAlgorithm | undefined
  readonly checksumType: ChecksumType | undefined
  readonly attributes: ObjectAttributes
}

export const SEGMENT_STATES = ['open', 'sealed', 'persisted'] as const
export type SegmentState = (typeof SEGMENT_STATES)[number]

export interface SegmentRow {
  readonly state: SegmentState
  readonly bytes: number
  /** The node that has it, where several share the namespace. */
  readonly node?: number
  /** Nodes that hold the same bytes. Absent: it was never copied; empty: it was, and wants another partner. */
  readonly copies?: readonly number[]
}

export interface DroppedContent {
  /** The node that builds it; undefined for one that was dropped. */
  readonly builder: string | undefined
  readonly content: Content
}

const LEAF = 1
const COMPOSITE = 2
const FILE = 3
const PIECE_CHECKSUM = 1
const PIECE_PART = 2
const NO_CHECKSUM = 255

export function encodeContent(content: Content): Uint8Array {
  const writer = recordWriter.begin()
  writeContent(writer, content)
  return writer.finish()
}

export function decodeContent(record: Uint8Array): Content {
  return readContent(new RecordReader(record))
}

function writeContent(writer: RecordWriter, content: Content): void {
  switch (content.kind) {
    case 'leaf':
      writer.byte(LEAF)
      writer.integer(content.references)
      writer.byte(ACK_LEVELS.indexOf(content.ack))
      writer.hex(content.segment)
      writer.integer(content.segmentOffset)
      writer.integer(content.length)
      return
    case 'composite':
      writer.byte(COMPOSITE)
      writer.integer(content.references)
      writer.byte(content.ownsPieces ? 1 : 0)
      writer.integer(content.length)
      return
    case 'file':
      writer.byte(FILE)
      writer.integer(content.references)
      writer.integer(content.rows)
      writer.integer(content.successor ?? 0)
      writer.integer(content.length)
      writer.integer(content.rowsEnd)
      writer.integer(content.storedBytes)
      writer.integer(content.pieceCount)
      if (content.nesting > 0) writer.integer(content.nesting)
      return
    default:
      unreachable(content, 'content')
  }
}

function readContent(reader: RecordReader): Content {
  const kind = reader.byte()
  if (kind === LEAF) {
    return {
      kind: 'leaf',
      references: reader.integer(),
      ack: must(ACK_LEVELS[reader.byte()], 'ack level'),
      segment: reader.hex(16) as SegmentId,
      segmentOffset: reader.integer(),
      length: reader.integer(),
    }
  }
  if (kind === FILE) return readFileContent(reader)
  must(kind === COMPOSITE ? kind : undefined, 'kind of content')
  return {
    kind: 'composite',
    references: reader.integer(),
    ownsPieces: reader.byte() === 1,
    length: reader.integer(),
  }
}

function readFileContent(reader: RecordReader): FileContent {
  const references = reader.integer()
  const rows = reader.integer()
  const successor = reader.integer()
  return {
    kind: 'file',
    references,
    rows,
    successor: successor === 0 ? undefined : successor,
    length: reader.integer(),
    rowsEnd: reader.integer(),
    storedBytes: reader.integer(),
    pieceCount: reader.integer(),
    nesting: reader.isAtEnd ? 0 : reader.integer(),
  }
}

export function encodePieceRow(row: Omit<PieceRow, 'firstPart' | 'lastPart'>): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(row.firstOffset)
  writer.integer(row.pieces.length)
  writer.integer(row.pieces[0]?.part?.partNumber ?? 0)
  writer.integer(row.pieces.at(-1)?.part?.partNumber ?? 0)
  for (const piece of row.pieces) writePiece(writer, piece)
  return writer.finish()
}

export function decodePieceRow(record: Uint8Array): PieceRow {
  const reader = new RecordReader(record)
  const firstOffset = reader.integer()
  const count = reader.integer()
  const firstPart = reader.integer()
  const lastPart = reader.integer()
  const pieces: Piece[] = []
  for (let i = 0; i < count; i++) pieces.push(readPiece(reader))
  return { firstOffset, firstPart, lastPart, pieces }
}

/** The last part number of a row without decoding its pieces. */
export function lastPartOfRow(record: Uint8Array): number {
  const reader = new RecordReader(record)
  reader.integer()
  reader.integer()
  reader.integer()
  return reader.integer()
}

export function encodePiece(piece: Piece): Uint8Array {
  const writer = recordWriter.begin()
  writePiece(writer, piece)
  return writer.finish()
}

export function decodePiece(record: Uint8Array): Piece {
  return readPiece(new RecordReader(record))
}

function writePiece(writer: RecordWriter, piece: Piece): void {
  writer.byte((piece.part?.checksum ? PIECE_CHECKSUM : 0) | (piece.part ? PIECE_PART : 0))
  writer.integer(piece.content ?? 0)
  writer.integer(piece.contentOffset)
  writer.integer(piece.length)
  if (!piece.part) return
  writer.integer(piece.part.partNumber)
  writer.integer(piece.part.mtimeMs)
  writeEtag(writer, piece.part.etag)
  if (piece.part.checksum) writeChecksum(writer, piece.part.checksum)
}

function readPiece(reader: RecordReader): Piece {
  const flags = reader.byte()
  const content = reader.integer()
  const contentOffset = reader.integer()
  const length = reader.integer()
  const part =
    flags & PIECE_PART
      ? {
          partNumber: reader.integer(),
          mtimeMs: reader.integer(),
          etag: readEtag(reader),
          checksum: flags & PIECE_CHECKSUM ? readChecksum(reader) : undefined,
        }
      : undefined
  return { content: content === 0 ? undefined : content, contentOffset, length, part }
}

export function encodeUpload(upload: Upload): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(upload.initiatedMs)
  writer.integer(upload.token)
  writer.text(upload.owner)
  writer.byte(upload.checksumAlgorithm ? checksumByte(upload.checksumAlgorithm, upload.checksumType) : NO_CHECKSUM)
  writer.byte(upload.checksumType ? 1 : 0)
  writer.integer(attributesMask(upload.attributes))
  writeAttributes(writer, upload.attributes)
  return writer.finish()
}

export function decodeUpload(record: Uint8Array): Upload {
  const reader = new RecordReader(record)
  const initiatedMs = reader.integer()
  const token = reader.integer()
  const owner = reader.text()
  const checksum = reader.byte()
  const hasType = reader.byte() === 1
  const attributes = readAttributes(reader, reader.integer())
  return {
    initiatedMs,
    token,
    owner,
    attributes,
    checksumAlgorithm: checksum === NO_CHECKSUM ? undefined : checksumOfByte(checksum).algorithm,
    checksumType: checksum === NO_CHECKSUM || !hasType ? undefined : checksumOfByte(checksum).type,
  }
}

export function encodeSegment(row: SegmentRow): Uint8Array {
  const writer = recordWriter.begin()
  writer.byte(SEGMENT_STATES.indexOf(row.state))
  writer.integer(row.bytes)
  if (row.node !== undefined || row.copies) writer.integer(row.node ?? 0)
  if (row.copies) {
    writer.integer(row.copies.length)
    for (const node of row.copies) writer.integer(node)
  }
  return writer.finish()
}

export function decodeSegment(record: Uint8Array): SegmentRow {
  const reader = new RecordReader(record)
  const row = { state: must(SEGMENT_STATES[reader.byte()], 'segment state'), bytes: reader.integer() }
  if (reader.isAtEnd) return row
  const node = reader.integer()
  const owned = node === 0 ? row : { ...row, node }
  if (reader.isAtEnd) return owned
  const copies: number[] = []
  for (let left = reader.integer(); left > 0; left--) copies.push(reader.integer())
  return { ...owned, copies }
}

export function encodeDropped(dropped: DroppedContent): Uint8Array {
  const writer = recordWriter.begin()
  writer.byte(dropped.builder === undefined ? 0 : 1)
  writer.text(dropped.builder ?? '')
  writeContent(writer, dropped.content)
  return writer.finish()
}

export function decodeDropped(record: Uint8Array): DroppedContent {
  const reader = new RecordReader(record)
  const building = reader.byte() === 1
  const node = reader.text()
  return { builder: building ? node : undefined, content: readContent(reader) }
}

export interface Horizon {
  readonly horizon: number
  /** 16 hex digits. */
  readonly life: string | undefined
}

export function encodeHorizon({ horizon, life }: Horizon): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(horizon)
  if (life !== undefined) writer.hex(life)
  return writer.finish()
}

export function decodeHorizon(record: Uint8Array): Horizon {
  const reader = new RecordReader(record)
  const horizon = reader.integer()
  return { horizon, life: reader.isAtEnd ? undefined : reader.hex(8) }
}

export function encodeInteger(value: number): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(value)
  return writer.finish()
}

export function decodeInteger(record: Uint8Array): number {
  return new RecordReader(record).integer()
}
