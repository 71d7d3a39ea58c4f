/**
 * C30: a file that lies in too many pieces gets fewer, and nothing else about it changes: not a byte, no time, no ETag, no version id.
 *
 * A publish that leaves a file so puts a row into table F, beside its other writes; so a restart forgets none. Whoever compacts goes
 * through the table, asks for each file what is to be done first (`planCompaction`), writes the bytes of short neighbours as one run,
 * and has it put in their place (`compactFile`). Pieces that lie in another file's content, which this one refers to as a whole since it
 * was copied, are referred to by themselves: so nesting goes (contents-publish.ts).
 *
 * The pieces change in place, under the content that the file has. Who reads the old content finds the same bytes; what it found
 * before is not reclaimed while it reads (C12). A file that was written meanwhile is none the worse: the pieces are compared, and
 * contents are never changed and their ids never used twice, so the same pieces are the same bytes.
 */
import { must } from '../../../common/assert.ts'
import type { ByteString, ContentId, InodeId } from '../../../common/ids.ts'
import type { AckLevel, StoredRun } from '../../../common/model.ts'
import type { CompactionPiece, CompactionPlan } from '../../../common/file-contents.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { bodyRanges, knownContent, type BodyRange } from '../contents.ts'
import type { Commit, NamespaceContext } from '../context.ts'
import { FRAGMENTED, contentKey, fragmentedKey, inodeKey, integerAt, prefixEnd } from '../keys.ts'
import { pieceRanges, type ByteSpan } from '../piece-rows.ts'
import { decodeContent, decodeInteger, encodeContent, encodeInteger, type FileContent } from '../records-contents.ts'
import { decodeInode } from '../records-objects.ts'
import { isFragmented, nextLookAt, nextStretch } from './compaction-plan.ts'
import { Splice, type Change } from './contents-splice.ts'
import { msOfTime } from './posix-part.ts'

/** Pieces looked at for one stretch. */
const PIECES_AT_ONCE = 1024
/** A file that was changed more lately is not compacted yet: what is written now may be written over at once. */
const QUIET_MS = 5_000
/** With so many pieces it is compacted at once. */
const CROWDED_PIECES = 8_192
/** Contents of files one in the other: more than so many are refused, half of them do not wait. */
export const NESTING_MAX = 8
/** The content's record. */
const OPERATIONS_RESERVED = 4

export interface FragmentedFiles {
  readonly inodes: readonly InodeId[]
  /** To go on after; undefined at the end of the table. */
  readonly last: InodeId | undefined
}

export interface CompactFileRequest {
  readonly inode: InodeId
  /** As the plan has them. */
  readonly pieces: readonly CompactionPiece[]
  /** All their bytes; undefined if the file is to refer to the pieces themselves. */
  readonly run: StoredRun | undefined
  readonly ack: AckLevel
}

/** Marks a file that a publish leaves in too many pieces, or (`nested`) over another one's content. */
export async function markFragmented(
  tx: Transaction,
  inode: InodeId,
  left: { readonly file: FileContent; readonly isNestedAnew: boolean },
): Promise<void> {
  if (!left.isNestedAnew && !isFragmented(left.file)) return
  const key = fragmentedKey(inode)
  const row = await tx.get(key)
  if (!row || (left.isNestedAnew && decodeInteger(row) > 0)) tx.put(key, encodeInteger(0))
}

/** Files to be compacted, of at most `limit` marked ones after one of them. Who is being written waits, but not for ever. */
export function fragmentedFiles(
  context: NamespaceContext,
  after: InodeId | undefined,
  limit: number,
): Promise<FragmentedFiles> {
  return context.store.read(async (view) => {
    const start = (after === undefined ? FRAGMENTED : `${fragmentedKey(after)}\0`) as ByteString
    const rows = await view.scan({ start, end: prefixEnd(FRAGMENTED) }, limit)
    const inodes: InodeId[] = []
    for (const { key, value } of rows) {
      const inode = integerAt(key, FRAGMENTED.length)
      const found = await fileOf(view, inode)
      if (!found || isDue(found, decodeInteger(value), context.clock.nowMs())) inodes.push(inode)
    }
    const last = rows.at(-1)
    return { inodes, last: last && rows.length === limit ? integerAt(last.key, FRAGMENTED.length) : undefined }
  })
}

function isDue({ record, changedMs }: KnownFile, lookAt: number, nowMs: number): boolean {
  const { pieceCount, nesting } = record
  if (pieceCount < lookAt) return false
  return nowMs - changedMs >= QUIET_MS || pieceCount >= CROWDED_PIECES || nesting >= NESTING_MAX / 2
}

interface KnownFile {
  readonly content: ContentId
  readonly record: FileContent
  readonly ack: AckLevel
  readonly changedMs: number
}

/** Undefined for what is gone, and for a content that is not in pieces of its own. */
async function fileOf(view: ReadView, id: InodeId): Promise<KnownFile | undefined> {
  const row = await view.get(inodeKey(id))
  const inode = row && decodeInode(row)
  if (inode?.kind !== 'object' || inode.body.kind !== 'content') return undefined
  const { content } = inode.body
  const record = decodeContent(must(await view.get(contentKey(content)), `content ${content}`))
  if (record.kind !== 'file') return undefined
  return { content, record, ack: inode.ack, changedMs: inode.posix ? msOfTime(inode.posix.changed) : inode.mtimeMs }
}

/** @param runBytesMax that a run may have, and that the reader of its bytes has memory for */
export function planCompaction(
  context: NamespaceContext,
  inode: InodeId,
  from: number,
  runBytesMax: number,
): Promise<CompactionPlan | undefined> {
  return context.store.read(async (view) => {
    const file = await fileOf(view, inode)
    if (!file) return undefined
    const end = Math.min(file.record.length, file.record.rowsEnd)
    const found = await piecesIn(view, file, { from, to: end }, PIECES_AT_ONCE)
    const isEnd = endOf(found) === end
    const { what, pieces } = nextStretch(found, { isEnd, runBytesMax })
    const to = endOf(pieces)
    // What others have as well may have been acknowledged to them as persisted (C16).
    const ack = file.record.references > 1 ? 'persisted' : file.ack
    return to === undefined ? undefined : { what, pieces, ack, to, rows: file.record.rows }
  })
}

function endOf(pieces: readonly CompactionPiece[]): number | undefined {
  const last = pieces.at(-1)
  return last && last.offset + last.length
}

/** Down to the runs; about `limit` of them. */
async function piecesIn(view: ReadView, file: KnownFile, span: ByteSpan, limit: number): Promise<CompactionPiece[]> {
  const found: CompactionPiece[] = []
  if (span.from >= span.to) return found
  for await (const ranges of pieceRanges(view, file, span)) {
    for (const { content, contentOffset, length, start } of ranges) {
      if (found.length >= limit) return found
      if (content === undefined) {
        found.push(pieceOf({ content, leaf: undefined, contentOffset: 0, length, offset: start }, false))
        continue
      }
      const record = await knownContent(view, content)
      const wanted = { from: contentOffset, to: contentOffset + length, base: start - contentOffset }
      const runs = await bodyRanges(view, { content, record, wanted }, limit - found.length)
      for (const run of runs) found.push(pieceOf(run, record.kind === 'file'))
    }
  }
  return found
}

function pieceOf(range: BodyRange, isNested: boolean): CompactionPiece {
  const { content, contentOffset, offset, length, leaf } = range
  const segmentOffset = leaf ? leaf.segmentOffset + contentOffset : 0
  return { content, contentOffset, offset, length, segment: leaf?.segment, segmentOffset, isNested }
}

/** Resolves with whether the pieces were still there. What was put in place before they changed stays. */
export async function compactFile(context: NamespaceContext, request: CompactFileRequest): Promise<Commit<boolean>> {
  let done = 0
  for (;;) {
    const from = done
    const { value, revision, durable } = await context.store.transact((tx) => compactStep(context, tx, request, from))
    if (value === undefined || value === request.pieces.length) {
      return { value: value !== undefined, revision, durable }
    }
    done = value
  }
}

/** As many pieces as fit. Resolves with how many are in place. */
async function compactStep(
  context: NamespaceContext,
  tx: Transaction,
  request: CompactFileRequest,
  done: number,
): Promise<number | undefined> {
  const wanted = request.pieces.slice(done)
  const [from, to] = [must(wanted[0], 'a piece').offset, must(endOf(wanted), 'end')]
  const file = await fileOf(tx, request.inode)
  if (!file || Math.min(file.record.length, file.record.rowsEnd) < to) return undefined
  if (!areSame(await piecesIn(tx, file, { from, to }, wanted.length + 1), wanted)) return undefined
  const { record } = file
  const base = { ...record, areRowsWritten: true, replaced: undefined, pieces: [], references: new Map() }
  const splice = new Splice(tx, base, context.store.limits.operationsMax - OPERATIONS_RESERVED)
  let reached = from
  for (const change of changesOf(request, wanted)) {
    if (reached > from && !splice.hasRoom) break
    reached = await splice.apply(change)
    if (reached < change.to) break
  }
  await splice.finish(request.ack)
  const { storedBytes, pieceCount } = splice
  tx.put(contentKey(file.content), encodeContent({ ...record, storedBytes, pieceCount }))
  return request.pieces.filter(({ offset, length }) => offset + length <= reached).length
}

function areSame(found: readonly CompactionPiece[], wanted: readonly CompactionPiece[]): boolean {
  return (
    found.length === wanted.length &&
    found.every(({ content, contentOffset, offset, length }, at) => {
      const piece = wanted[at] as CompactionPiece
      const isThere = piece.content === content && piece.contentOffset === contentOffset
      return isThere && piece.offset === offset && piece.length === length
    })
  )
}

function changesOf({ run, pieces }: CompactFileRequest, wanted: readonly CompactionPiece[]): Change[] {
  if (!run) {
    return wanted.map(({ content, contentOffset, offset, length }) => {
      return { from: offset, to: offset + length, content, contentOffset, run: undefined }
    })
  }
  const start = must(pieces[0], 'a piece').offset
  const [from, to] = [must(wanted[0], 'a piece').offset, must(endOf(wanted), 'end')]
  return [{ from, to, content: run.content, contentOffset: from - start, run }]
}

/**
 * A file has been gone through, from its start to its end. `rows` as its plans said; undefined when they did not all say the same, or some
 * pieces had changed: then it stays marked.
 */
export function settleCompaction(
  context: NamespaceContext,
  inode: InodeId,
  rows: ContentId | undefined,
): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const file = await fileOf(tx, inode)
    const key = fragmentedKey(inode)
    if (!(await tx.get(key))) return
    if (!file) return tx.delete(key)
    const { content, record } = file
    if (record.rows !== rows) return
    if (record.nesting > 0) tx.put(contentKey(content), encodeContent({ ...record, nesting: 0 }))
    if (isFragmented(record)) tx.put(key, encodeInteger(nextLookAt(record.pieceCount)))
    else tx.delete(key)
  })
}
