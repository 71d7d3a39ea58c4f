/**
 * Rows of attached buckets (docs/decisions/0015), by byte: keys as in keys.ts, records by the primitives of codec.ts.
 *
 *   Z | a | bucket id                        attachment: text bucket, url; byte conflicts; integer ttl ms, listing ttl ms, compare interval
 *                                            ms, attached ms; byte phase (0 attached, 1 closing, 2 forgetting)
 *   Z | c | bucket id | d | ordered(from)    covered, deep: byteString through (inclusive); integer since ms
 *   Z | c | bucket id | s | ordered(directory) | ordered(from)
 *                                            covered, shallow, keys whole
 *   Z | u | inode                            a live directory of which not all is known; empty value
 *   Z | d | bucket id | key                  dirty: base; integer since ms, revision; byte flags (1 conflict, 2 the key follows,
 *                                            4 tried); integer number of inodes that need it, integer each; [integer since ms; base];
 *                                            [integer number tried; base each]; [byteString key]
 *   Z | d | bucket id | FF | SHA-256         the same of a key over 1,024 bytes, which follows: no store takes it, but it must not be forgotten
 *   Z | m | bucket id | id                   rename of a directory: integer inode, started ms, keys so far; byteString from, to, position;
 *                                            byte (1 all that lay below is written down)
 *   Z | x | segment                          external segment: integer bucket id, size; byteString key (UTF-8); etag
 *
 * base        byte (0 absent, 1 etag); [etag; integer size]
 *
 * All but `Z c` are names, and are copied to the remote store with them: a bucket restored from there lists anew, and goes on to carry
 * out what was dirty. Keys are bytes in rows and text in what is decoded from them, unless it says otherwise.
 */
import { createHash } from 'node:crypto'
import { must } from '../../../common/assert.ts'
import { CONFLICT_POLICIES, DETACH_PHASES, type AttachmentRecord, type ExternalBody } from '../../../common/external.ts'
import {
  utf8Bytes,
  utf8Text,
  type ByteString,
  type InodeId,
  type Revision,
  type SegmentId,
} from '../../../common/ids.ts'
import { RecordReader, recordWriter, type RecordWriter } from '../codec.ts'
import { ATTACHED, COVERAGE, hexBytes, integerAt, integerBytes, orderedAt, orderedBytes } from '../keys.ts'
import { readEtag, writeEtag } from '../records-fields.ts'

// ---- attachments

export const ATTACHMENTS: string = `${ATTACHED}a`

export function attachmentKey(bucketId: number): ByteString {
  return (ATTACHMENTS + integerBytes(bucketId)) as ByteString
}

export function encodeAttachment(attachment: AttachmentRecord): Uint8Array {
  const writer = recordWriter.begin()
  writer.text(attachment.bucket)
  writer.text(attachment.url)
  writer.byte(CONFLICT_POLICIES.indexOf(attachment.conflicts))
  writer.integer(attachment.ttlMs)
  writer.integer(attachment.listingTtlMs)
  writer.integer(attachment.compareIntervalMs)
  writer.integer(attachment.attachedMs)
  // 0: none.
  writer.byte(attachment.phase === undefined ? 0 : DETACH_PHASES.indexOf(attachment.phase) + 1)
  return writer.finish()
}

export function decodeAttachment(key: string, record: Uint8Array): AttachmentRecord {
  const reader = new RecordReader(record)
  const attachment = {
    bucketId: integerAt(key, ATTACHMENTS.length),
    bucket: reader.text(),
    url: reader.text(),
    conflicts: must(CONFLICT_POLICIES[reader.byte()], 'conflict policy'),
    ttlMs: reader.integer(),
    listingTtlMs: reader.integer(),
    compareIntervalMs: reader.integer(),
    attachedMs: reader.integer(),
  }
  const phase = DETACH_PHASES[reader.byte() - 1]
  return phase === undefined ? attachment : { ...attachment, phase }
}

// ---- coverage

/** What has been listed, from the key in the row's key up to this one (inclusive), and when that was asked. */
export interface Covered {
  /** In bytes. */
  readonly through: string
  readonly sinceMs: number
}

export function coveragePrefix(bucketId: number): string {
  return COVERAGE + integerBytes(bucketId)
}

/** Rows of one scope; `directory` in bytes, undefined for the deep one. */
export function scopePrefix(bucketId: number, directory: string | undefined): string {
  return coveragePrefix(bucketId) + (directory === undefined ? 'd' : `s${orderedBytes(directory)}`)
}

export function coverageKey(scope: string, from: string): ByteString {
  return (scope + orderedBytes(from)) as ByteString
}

/** Where it begins, in bytes. */
export function coveredFrom(scope: string, key: string): string {
  return orderedAt(key, scope.length).raw
}

export function encodeCovered(covered: Covered): Uint8Array {
  const writer = recordWriter.begin()
  writer.byteString(covered.through)
  writer.integer(covered.sinceMs)
  return writer.finish()
}

export function decodeCovered(record: Uint8Array): Covered {
  const reader = new RecordReader(record)
  return { through: reader.byteString(), sinceMs: reader.integer() }
}

// ---- directories not wholly known

export const UNLISTED: string = `${ATTACHED}u`
export const NO_VALUE: Uint8Array = new Uint8Array(0)

export function unlistedKey(directory: InodeId): ByteString {
  return (UNLISTED + integerBytes(directory)) as ByteString
}

// ---- dirty keys

/** What lay outside, as far as we knew, before the change here (`Base` of attach/ports.ts). */
export type BaseRecord =
  | { readonly kind: 'absent' }
  | { readonly kind: 'etag'; readonly etag: string; readonly size: number }

/** `DirtyKey` of attach/ports.ts. */
export interface DirtyRecord {
  readonly key: string
  readonly base: BaseRecord
  readonly sinceMs: number
  readonly revision: Revision
  readonly neededBy: readonly InodeId[]
  readonly conflict: { readonly sinceMs: number; readonly outside: BaseRecord } | undefined
  /** Absent when there is none. */
  readonly tried?: readonly BaseRecord[] | undefined
}

export const DIRTY: string = `${ATTACHED}d`

/** What S3 allows. Longer keys come about here by renaming directories. */
const DIRTY_KEY_BYTES_MAX = 1024
const LONG_KEY = '\xff'
const DIRTY_KEY_AT = DIRTY.length + 8
const DIRTY_FLAG = { conflict: 1, long: 2, tried: 4 } as const

export function dirtyPrefix(bucketId: number): string {
  return DIRTY + integerBytes(bucketId)
}

/** `key` in bytes. Long ones come last, in no order. */
export function dirtyKey(bucketId: number, key: string): ByteString {
  return (dirtyPrefix(bucketId) + (isLong(key) ? LONG_KEY + digest(key) : key)) as ByteString
}

export function encodeDirty(dirty: DirtyRecord): Uint8Array {
  const key = utf8Bytes(dirty.key)
  const writer = recordWriter.begin()
  writeBase(writer, dirty.base)
  writer.integer(dirty.sinceMs)
  writer.integer(dirty.revision)
  const { tried = [] } = dirty
  const conflictFlag = dirty.conflict ? DIRTY_FLAG.conflict : 0
  writer.byte(conflictFlag | (isLong(key) ? DIRTY_FLAG.long : 0) | (tried.length > 0 ? DIRTY_FLAG.tried : 0))
  writer.integer(dirty.neededBy.length)
  for (const inode of dirty.neededBy) writer.integer(inode)
  if (dirty.conflict) {
    writer.integer(dirty.conflict.sinceMs)
    writeBase(writer, dirty.conflict.outside)
  }
  if (tried.length > 0) {
    writer.integer(tried.length)
    for (const base of tried) writeBase(writer, base)
  }
  if (isLong(key)) writer.byteString(key)
  return writer.finish()
}

export function decodeDirty(rowKey: string, record: Uint8Array): DirtyRecord {
  const reader = new RecordReader(record)
  const base = readBase(reader)
  const sinceMs = reader.integer()
  const revision = reader.integer()
  const flags = reader.byte()
  const neededBy: InodeId[] = []
  for (let left = reader.integer(); left > 0; left--) neededBy.push(reader.integer())
  const conflict = flags & DIRTY_FLAG.conflict ? { sinceMs: reader.integer(), outside: readBase(reader) } : undefined
  const tried: BaseRecord[] = []
  if (flags & DIRTY_FLAG.tried) for (let left = reader.integer(); left > 0; left--) tried.push(readBase(reader))
  const key = flags & DIRTY_FLAG.long ? reader.byteString() : rowKey.slice(DIRTY_KEY_AT)
  const dirty = { key: utf8Text(key), base, sinceMs, revision, neededBy, conflict }
  return tried.length > 0 ? { ...dirty, tried } : dirty
}

function isLong(key: string): boolean {
  return key.length > DIRTY_KEY_BYTES_MAX
}

function digest(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('latin1')
}

function writeBase(writer: RecordWriter, base: BaseRecord): void {
  writer.byte(base.kind === 'etag' ? 1 : 0)
  if (base.kind === 'absent') return
  writeEtag(writer, base.etag)
  writer.integer(base.size)
}

function readBase(reader: RecordReader): BaseRecord {
  return reader.byte() === 0 ? { kind: 'absent' } : { kind: 'etag', etag: readEtag(reader), size: reader.integer() }
}

// ---- renames of directories

/** The rename of a directory, until all below it is written down as dirty keys. Keys in bytes, each ending in a slash. */
export interface MoveRecord {
  readonly inode: InodeId
  readonly startedMs: number
  /** Written down so far. */
  readonly keys: number
  readonly from: string
  readonly to: string
  /** Key below the directory, relative to it, up to which (inclusive) it is done; empty at the start. */
  readonly position: string
  /** All below is written down; the row stays for the renames that came after it (move.ts). */
  readonly isWalked: boolean
}

export const MOVES: string = `${ATTACHED}m`

export function movesPrefix(bucketId: number): string {
  return MOVES + integerBytes(bucketId)
}

/** `id` is that of the sequence of inodes: later renames have greater ones. */
export function moveKey(bucketId: number, id: number): ByteString {
  return (movesPrefix(bucketId) + integerBytes(id)) as ByteString
}

export function moveIdOf(key: string): number {
  return integerAt(key, MOVES.length + 8)
}

export function encodeMove(move: MoveRecord): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(move.inode)
  writer.integer(move.startedMs)
  writer.integer(move.keys)
  writer.byteString(move.from)
  writer.byteString(move.to)
  writer.byteString(move.position)
  writer.byte(move.isWalked ? 1 : 0)
  return writer.finish()
}

export function decodeMove(record: Uint8Array): MoveRecord {
  const reader = new RecordReader(record)
  return {
    inode: reader.integer(),
    startedMs: reader.integer(),
    keys: reader.integer(),
    from: reader.byteString(),
    to: reader.byteString(),
    position: reader.byteString(),
    isWalked: reader.byte() === 1,
  }
}

// ---- external segments

export const EXTERNAL_SEGMENTS: string = `${ATTACHED}x`

export function externalSegmentKey(segment: SegmentId): ByteString {
  return (EXTERNAL_SEGMENTS + hexBytes(segment)) as ByteString
}

export interface ExternalSegmentRecord {
  readonly bucketId: number
  readonly key: string
  readonly etag: string
  readonly size: number
}

export function encodeExternalSegment(record: ExternalSegmentRecord): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(record.bucketId)
  writer.integer(record.size)
  writer.byteString(utf8Bytes(record.key))
  writeEtag(writer, record.etag)
  return writer.finish()
}

export function decodeExternalSegment(record: Uint8Array): ExternalSegmentRecord {
  const reader = new RecordReader(record)
  const bucketId = reader.integer()
  const size = reader.integer()
  return { bucketId, size, key: utf8Text(reader.byteString()), etag: readEtag(reader) }
}

/** Whether its attributes are known is not said, and does not matter to its bytes. */
export function bodyOfSegment({ key, etag, size }: ExternalSegmentRecord): ExternalBody {
  return { key, etag, size, isDescribed: false }
}
