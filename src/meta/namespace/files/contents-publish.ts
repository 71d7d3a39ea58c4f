/**
 * A file's content, changed in place.
 *
 *   inline     the bytes lie in the inode
 *   file       K row of kind 3 that belongs to this inode alone; its pieces refer to the runs that the journal wrote (E rows)
 *   shared     anything else: what one PUT or Complete wrote, or what a copy has as well
 *
 * Every publish gives the file a new content id, whatever it changes. The pieces stay where they are, under an id that these
 * contents share, and only the rows that an edit touches are written (contents-splice.ts). The old content becomes a G row that names
 * its successor, and what the edits took out of the rows lies under its id: so who opened the file before reads it as it was,
 * whole (C12, C27), until the reclaimer takes the old content apart. piece-rows.ts says how it is read.
 *
 * An external body (docs/decisions/0015) becomes a leaf that lies in its external segment, and that is shared like any other.
 *
 * A shared content is never changed. The file's new content is one piece that refers to it, and the reference that the inode held
 * becomes the piece's. If the shared one is a file's itself, of few rows, its pieces are taken over instead. So contents of
 * files nest only as often as a file was copied and then written while it had more than `TAKEN_ROWS_MAX` rows. Compaction takes the
 * nesting away (contents-compact.ts); where it has not come yet, `NESTING_MAX` is the end.
 *
 * Steps (C2). What fits into a transaction is published at once. Else edits are published in ascending order, as many as fit, and
 * the file is, in between, what these have made of it. A cut that removes very many pieces is visible at once: rows beyond the
 * length are dead, and go in steps. A file that was left so by a crash is put in order by its next publish.
 */
import { assert, must } from '../../../common/assert.ts'
import { TidegateError } from '../../../common/errors.ts'
import type { ContentId } from '../../../common/ids.ts'
import type { ObjectBody } from '../../../common/model.ts'
import type { OrderedStoreLimits, Transaction } from '../../ports.ts'
import { PIECES_PER_ROW } from '../composites.ts'
import { referToExternal } from '../attached/bodies.ts'
import { COUNTED_BY, revisionMade, type Commit, type NamespaceContext } from '../context.ts'
import { contentKey, droppedContentKey, inodeKey, usageKey } from '../keys.ts'
import { pieceRanges, pieceRows, type PieceRange } from '../piece-rows.ts'
import { decodeContent, encodeContent, encodeDropped, type Content, type FileContent } from '../records-contents.ts'
import { decodeInode, encodeInode, type ObjectInode } from '../records-objects.ts'
import { dropReference } from '../references.ts'
import { bucketIdOf } from '../tree.ts'
import { NESTING_MAX, markFragmented } from './contents-compact.ts'
import { OPERATIONS_PER_CHANGE, Splice, type Change, type FilePiece, type SpliceBase } from './contents-splice.ts'
import { entriesOf, rewriteEntries, type NamedEntry } from './entries-of.ts'
import { fileEtag } from './etags.ts'
import { LINKS_MAX, linksOf } from './links.ts'
import { plainNode } from './nodes.ts'
import { laterOf, msOfTime, posixOf, timeOfMs } from './posix-part.ts'
import type { FileNode } from '../../../common/file-model.ts'
import type { PublishFileRequest } from '../../../common/file-contents.ts'
import { transactVisible } from './visible.ts'

/** Rows of a shared file whose pieces are taken over; one of more is referred to whole. */
const TAKEN_ROWS_MAX = 32
/** K, G, I, usage, F and a G row of what is left behind; of an external body K, S and Z rows; and the traces of the change (attached/traces.ts). */
const OPERATIONS_RESERVED = 13
/** Ids of contents that a step may need: the content's, its rows', and that of an external body which becomes a piece. */
const CONTENTS_PER_STEP = 3
const NO_BYTES = new Uint8Array(0)
const NO_REFERENCES: ReadonlyMap<ContentId, number> = new Map()

/** One run of a step. */
export interface PublishStep {
  readonly context: NamespaceContext
  readonly tx: Transaction
  readonly request: PublishFileRequest
  readonly inode: ObjectInode
  readonly entries: readonly NamedEntry[]
  readonly operationsMax: number
}

/** What the pieces are spliced into. */
interface FileBase extends SpliceBase {
  readonly length: number
  /** The file's content, of which this is the next one. */
  readonly record: FileContent | undefined
  readonly nesting: number
  /** This inode's content did not lie over a file's before. */
  readonly isNestedAnew: boolean
}

/** How many edits that touch rows of their own surely fit into one transaction, and so are published at once. */
export function fileEditsMax(limits: OrderedStoreLimits): number {
  return Math.max(1, Math.floor((limits.operationsMax - OPERATIONS_RESERVED - LINKS_MAX) / OPERATIONS_PER_CHANGE) - 1)
}

/** @throws StaleFile, IsADirectory */
export async function publishFile(context: NamespaceContext, request: PublishFileRequest): Promise<Commit<FileNode>> {
  const changes = ascendingChanges(request)
  for (let from = 0; ;) {
    const first = await takeContents(context)
    const published = from
    const { value, revision, durable } = await transactVisible(context, async (tx) => {
      const step = await beginPublish(context, tx, request)
      if (request.inline || request.size === 0) return publishInline(step, request.inline ?? NO_BYTES)
      return publishChanges(step, { changes, from: published, first })
    })
    if (value.isDone) return { value: value.node, revision, durable }
    from = value.reached
  }
}

/** For one run of `publishChanges`. */
export async function takeContents({ contents }: NamespaceContext): Promise<ContentId> {
  return contents.tryTake(CONTENTS_PER_STEP) ?? (await contents.take(CONTENTS_PER_STEP))
}

function ascendingChanges({ edits, size }: PublishFileRequest): Change[] {
  const changes: Change[] = []
  for (const { offset, length, run, runOffset = 0 } of edits) {
    assert(!run || runOffset + length <= run.length, 'an edit lies within its run')
    const to = Math.min(offset + length, size)
    if (offset < to) changes.push({ from: offset, to, content: run?.content, contentOffset: run ? runOffset : 0, run })
  }
  changes.sort((one, other) => one.from - other.from)
  changes.forEach(({ to }, index) => assert(to <= (changes[index + 1]?.from ?? size), 'edits do not overlap'))
  return changes
}

export async function beginPublish(
  context: NamespaceContext,
  tx: Transaction,
  request: PublishFileRequest,
): Promise<PublishStep> {
  const row = await tx.get(inodeKey(request.inode))
  if (!row) throw new TidegateError('StaleFile', `inode ${request.inode} is gone`)
  const inode = decodeInode(row)
  if (inode.kind === 'directory') throw new TidegateError('IsADirectory', `inode ${request.inode} is a directory`)
  const entries = await entriesOf(tx, request.inode, inode)
  const operationsMax = context.store.limits.operationsMax - OPERATIONS_RESERVED - entries.length
  return { context, tx, request, inode, entries, operationsMax }
}

export interface StepResult {
  readonly node: FileNode
  readonly isDone: boolean
  /** Changes before this offset are published. */
  readonly reached: number
}

async function publishInline(step: PublishStep, bytes: Uint8Array): Promise<StepResult> {
  const { request, inode } = step
  assert(bytes.length === request.size, 'a content that lies inline is whole')
  if (inode.body.kind === 'content') await dropReference(step.tx, inode.body.content)
  const node = await writeInode(step, {
    body: { kind: 'inline', bytes },
    size: bytes.length,
    storedBytes: bytes.length,
  })
  return { node, isDone: true, reached: request.size }
}

/** What `changes` say, in ascending order, none overlapping another; the step's request says size and time. `first` is of `takeContents`. */
export async function publishChanges(
  step: PublishStep,
  { changes, from, first }: { changes: readonly Change[]; from: number; first: ContentId },
): Promise<StepResult> {
  const { tx, request } = step
  const made = { changes, from, content: first, rows: first + 1, leaf: first + 2 }
  const base = await openBase(step, made)
  const splice = new Splice(tx, base, step.operationsMax)
  const kept = Math.min(base.length, request.size)
  const isCut = splice.rowsEnd <= kept || (await splice.dropRowsFrom(kept))
  const outcome = isCut ? await applyChanges(splice, made, kept) : { isDone: false, reached: made.from }
  await splice.finish(request.ack)
  const { isDone, reached } = outcome
  const length = isDone ? request.size : Math.max(kept, Math.min(reached, request.size))
  const { rowsEnd, storedBytes, pieceCount } = splice
  const record: FileContent = {
    kind: 'file',
    references: 1,
    rows: base.rows,
    successor: undefined,
    length,
    rowsEnd,
    storedBytes,
    pieceCount,
    nesting: base.nesting,
  }
  tx.put(contentKey(made.content), encodeContent(record))
  await markFragmented(tx, request.inode, { file: record, isNestedAnew: base.isNestedAnew })
  if (base.replaced !== undefined)
    replace(tx, { content: base.replaced, record: must(base.record, 'file') }, made.content)
  const body = { kind: 'content', content: made.content } as const
  return { node: await writeInode(step, { body, size: length, storedBytes }), isDone, reached }
}

/** The old content waits for the reclaimer, and names the one that its readers are to look in. */
function replace(
  tx: Transaction,
  old: { readonly content: ContentId; readonly record: FileContent },
  successor: ContentId,
): void {
  tx.delete(contentKey(old.content))
  const content = { ...old.record, references: 0, successor }
  tx.put(droppedContentKey(old.content), encodeDropped({ builder: undefined, content }))
}

/** As many as fit, at least one. What lies between `kept` and the end of the rows is dead, and becomes a hole. */
async function applyChanges(
  splice: Splice,
  made: { readonly changes: readonly Change[]; readonly from: number },
  kept: number,
): Promise<{ isDone: boolean; reached: number }> {
  let reached = made.from
  const wanted = remaining(made.changes, made.from)
  for (const [index, change] of withHoles(wanted, { from: kept, to: splice.rowsEnd }).entries()) {
    if (index > 0 && !splice.hasRoom) return { isDone: false, reached }
    const stopped = await splice.apply(change)
    assert(stopped > change.from, 'a change that was begun comes further')
    reached = Math.max(reached, stopped)
    if (stopped < change.to) return { isDone: false, reached }
  }
  return { isDone: true, reached }
}

function remaining(changes: readonly Change[], reached: number): Change[] {
  const left: Change[] = []
  for (const change of changes) {
    const skipped = Math.max(0, reached - change.from)
    if (change.from + skipped < change.to) {
      const contentOffset = change.content === undefined ? 0 : change.contentOffset + skipped
      left.push({ ...change, from: change.from + skipped, contentOffset })
    }
  }
  return left
}

/** The changes, and holes for all that they leave of a span; in order. */
function withHoles(changes: readonly Change[], span: { readonly from: number; readonly to: number }): Change[] {
  const all: Change[] = []
  let at = span.from
  const holeUntil = (to: number): void => {
    if (at < to) all.push({ from: at, to, content: undefined, contentOffset: 0, run: undefined })
  }
  for (const change of changes) {
    holeUntil(Math.min(change.from, span.to))
    all.push(change)
    at = Math.max(at, change.to)
  }
  holeUntil(span.to)
  return all
}

async function openBase(
  step: PublishStep,
  made: {
    readonly changes: readonly Change[]
    readonly from: number
    readonly rows: ContentId
    readonly leaf: ContentId
  },
): Promise<FileBase> {
  const { body } = step.inode
  const covered = { changes: made.changes, size: step.request.size }
  if (body.kind === 'inline') {
    // Who asks believes in a publish that was undone meanwhile.
    if (!isCovered(covered, body.bytes.length)) {
      throw new TidegateError('Unavailable', `the content of inode ${step.request.inode} is not what is to be changed`)
    }
    return ofPieces(made.rows, { pieces: [], length: body.bytes.length, references: NO_REFERENCES })
  }
  const fitsAtOnce = made.changes.length * OPERATIONS_PER_CHANGE <= step.operationsMax / 2
  const replacesAll = made.from === 0 && fitsAtOnce
  if (body.kind === 'external') {
    const { size: length } = body.external
    const none = { pieces: [], length, references: NO_REFERENCES }
    if (length === 0 || (replacesAll && isCovered(covered, length))) return ofPieces(made.rows, none)
    await referToExternal(step.tx, step, { external: body.external, content: made.leaf })
    return ofPieces(made.rows, { ...none, pieces: [{ content: made.leaf, contentOffset: 0, length }] })
  }
  const { content } = body
  const record = decodeContent(must(await step.tx.get(contentKey(content)), `content ${content}`))
  const { length } = record
  if (replacesAll && isCovered(covered, length)) {
    return ofPieces(made.rows, { pieces: [], length, references: new Map([[content, -1]]) })
  }
  if (record.kind === 'file' && record.references === 1) {
    const has = { pieces: [], references: NO_REFERENCES }
    return { ...record, ...has, record, areRowsWritten: true, replaced: content, isNestedAnew: false }
  }
  const taken = await takenPieces(step, content, record)
  const nesting = record.kind === 'file' ? record.nesting : 0
  if (taken) return { ...ofPieces(made.rows, { ...taken, length }), nesting, isNestedAnew: nesting > 0 }
  if (length === 0) return ofPieces(made.rows, { pieces: [], length, references: new Map([[content, -1]]) })
  const whole = { pieces: [{ content, contentOffset: 0, length }], length, references: NO_REFERENCES }
  if (record.kind !== 'file') return ofPieces(made.rows, whole)
  if (nesting >= NESTING_MAX) {
    throw new TidegateError('SlowDown', `inode ${step.request.inode} was copied too often since it was last compacted`)
  }
  return { ...ofPieces(made.rows, whole), nesting: nesting + 1, isNestedAnew: true }
}

/** A file without rows yet. */
function ofPieces(
  rows: ContentId,
  has: {
    readonly pieces: readonly FilePiece[]
    readonly length: number
    readonly references: ReadonlyMap<ContentId, number>
  },
): FileBase {
  let [rowsEnd, storedBytes] = [0, 0]
  for (const { content, length } of has.pieces) {
    rowsEnd += length
    if (content !== undefined) storedBytes += length
  }
  const none = { areRowsWritten: false, replaced: undefined, record: undefined, nesting: 0, isNestedAnew: false }
  return { ...has, ...none, rows, rowsEnd, storedBytes, pieceCount: 0 }
}

/** Whether nothing that the file has stays. */
function isCovered(by: { readonly changes: readonly Change[]; readonly size: number }, length: number): boolean {
  const end = Math.min(length, by.size)
  let at = 0
  for (const { from, to } of by.changes) {
    if (at >= end) return true
    if (from > at) return false
    at = to
  }
  return at >= end
}

/** The pieces of a file's content that others have as well, with their references; undefined if it has too many. */
async function takenPieces(
  step: PublishStep,
  content: ContentId,
  record: Content,
): Promise<{ pieces: FilePiece[]; references: Map<ContentId, number> } | undefined> {
  if (record.kind !== 'file') return undefined
  const rowsMax = Math.min(TAKEN_ROWS_MAX, Math.floor(step.operationsMax / (4 * PIECES_PER_ROW)))
  let rows = 0
  for await (const row of pieceRows(step.tx, record.rows, 0)) {
    if (row.firstOffset >= record.length) break
    if (++rows > rowsMax) return undefined
  }
  const pieces: FilePiece[] = []
  const references = new Map<ContentId, number>([[content, -1]])
  for await (const ranges of pieceRanges(step.tx, { content, record }, { from: 0, to: record.length })) {
    for (const range of ranges) {
      pieces.push(pieceOf(range))
      if (range.content !== undefined) references.set(range.content, (references.get(range.content) ?? 0) + 1)
    }
  }
  return { pieces, references }
}

function pieceOf({ content, contentOffset, length }: PieceRange): FilePiece {
  return { content, contentOffset, length }
}

async function writeInode(
  step: PublishStep,
  content: { readonly body: ObjectBody; readonly size: number; readonly storedBytes: number },
): Promise<FileNode> {
  const { context, tx, request, inode: old } = step
  const { body, size, storedBytes } = content
  const posix = posixOf(old, context.files)
  const revision = revisionMade(step)
  const repeated = {
    size,
    mtimeMs: request.modified ? msOfTime(request.modified) : old.mtimeMs,
    revision,
    etag: fileEtag(context, request.inode, revision),
  }
  const inode: ObjectInode = {
    ...old,
    ...repeated,
    ack: request.ack,
    checksum: undefined,
    partsCount: undefined,
    uploadId: undefined,
    posix: {
      ...posix,
      holeBytes: Math.max(0, size - storedBytes),
      modified: request.modified ?? posix.modified,
      changed: laterOf(posix.changed, request.modified ?? timeOfMs(context.clock.nowMs())),
    },
    body,
  }
  tx.put(inodeKey(request.inode), encodeInode(inode))
  rewriteEntries(tx, step.entries, {
    ...repeated,
    checksumAlgorithm: undefined,
    checksumType: undefined,
    isFile: true,
  })
  if (linksOf(inode) > 0 && size !== old.size) {
    tx.add(usageKey(await bucketIdOf(tx, old.parent), COUNTED_BY), [0, size - old.size])
  }
  return plainNode(context, { id: request.inode, inode })
}
