/**
 * Taking apart what nothing refers to any more, in bounded steps (C2, C11, C12): the rows of the G table.
 *
 *   content   a leaf gives its bytes back to its segment's count of live bytes; a composite drops its pieces, row by row, which
 *             makes G rows of those that had no other reference; they wait for their own turn; so does a file, and
 *             one that has a successor drops only what lies under its own id (piece-rows.ts)
 *   upload    part rows of a completed or aborted upload; the contents of parts that were not used are dropped
 *   former    where a directory was that is gone or was renamed; only watchers read it (changes.ts). With one that is gone go
 *             its extended attributes and times
 *   attributes  extended attributes of a file that is gone
 *   bucket    the uploads that were in progress in a deleted bucket
 *
 * When (C12): a batch of rows is noted together with the revision at which it was seen, so every drop in it was committed at
 * or before that. It is taken apart once that revision is durable and at or before the caller's horizon, which says that no
 * reader is left from before. Nothing needs to be remembered over a restart: the first look at a row stands for its drop.
 *
 * What is taken apart is gone from the tables in the step's own commit; the caller frees an emptied segment's bytes only when
 * that commit is durable.
 */
import { assert, unreachable } from '../../common/assert.ts'
import { isExternalSegment } from '../../common/external.ts'
import type { ByteString, ContentId, Revision, SegmentId } from '../../common/ids.ts'
import type { Transaction } from '../ports.ts'
import { forgetIfEmpty } from './attached/bodies.ts'
import { isUsed } from './complete-upload.ts'
import type { CommitEvents } from './decoded-cache.ts'
import { COUNTED_BY, nothingWritten, type Commit, type NamespaceContext } from './context.ts'
import { publishHorizon, sharedHorizon } from './horizons.ts'
import {
  RECLAIM,
  RECLAIM_ID_AT,
  UPLOAD_KEY_AT,
  bytesHex,
  directoryTimesPrefix,
  fileAttributesPrefix,
  finishedUploadKey,
  inodeKey,
  integerAt,
  orderedAt,
  partsPrefix,
  piecesPrefix,
  prefixEnd,
  prefixRange,
  reclaimKindOf,
  segmentLiveKey,
  uploadsPrefix,
  usageKey,
} from './keys.ts'
import { PIECES_PER_ROW } from './composites.ts'
import {
  decodeDropped,
  decodePiece,
  decodePieceRow,
  type CompositeContent,
  type FileContent,
} from './records-contents.ts'
import { dropReference } from './references.ts'
import { isOwnSegment, readSegment } from './segments.ts'
import { partNumberOf } from './uploads.ts'

const BATCH_ROWS = 512
const OPERATIONS_PER_STEP_MAX = 2048
/** Kept free for what ends a row. */
const OPERATIONS_RESERVED = 8
const OPERATIONS_PER_PIECE_ROW = 2 * PIECES_PER_ROW + 1
const OPERATIONS_PER_PART = 3
const SEGMENTS_WATCHED_MAX = 65_536
const NOTHING_USED = new Uint8Array(0)

export interface DismantleResult {
  readonly steps: number
  readonly emptied: readonly SegmentId[]
}

/** One transaction's worth of work. Made afresh for each run of it. */
interface ReclaimStep {
  readonly context: NamespaceContext
  readonly tx: Transaction
  operationsLeft: number
  rows: number
  /** G rows that are dealt with. */
  finished: number
  readonly segments: Set<SegmentId>
}

export class Reclaimer {
  readonly #context: NamespaceContext
  #batch: readonly ByteString[] = []
  #batchRevision: Revision = 0
  #rollbacks = 0
  /** What the other nodes know of this one's readers. */
  #published: Revision = 0
  #cursor: string = RECLAIM
  #running: Promise<unknown> = Promise.resolve()
  /** Segments without live bytes that were open when that was seen. */
  readonly #emptyWhileOpen = new Set<SegmentId>()

  constructor(context: NamespaceContext, events: Partial<CommitEvents> = {}) {
    this.#context = context
    // A drop that was noted and undone may come again, after readers who must be waited for (C12): so it is noted anew.
    events.onRollback?.(() => {
      this.#batch = []
      this.#rollbacks++
    })
  }

  /** One bounded step. Calls run one after another. */
  dismantle(horizon: Revision): Promise<Commit<DismantleResult>> {
    const run = this.#running.then(() => this.#dismantle(horizon))
    this.#running = run.catch(() => {})
    return run
  }

  async #dismantle(horizon: Revision): Promise<Commit<DismantleResult>> {
    const { store } = this.#context
    if (this.#batch.length === 0) await this.#collect()
    if (this.#batch.length === 0 || !(await this.#isPast(horizon))) {
      return nothingWritten(this.#context, { steps: 0, emptied: await this.#emptied(new Set()) })
    }
    const [batch, rollbacks] = [this.#batch, this.#rollbacks]
    const { value, revision, durable } = await store.transact((tx) => this.#step(tx, batch))
    if (rollbacks === this.#rollbacks) this.#batch = batch.slice(value.finished)
    return { value: { steps: value.rows, emptied: await this.#emptied(value.segments) }, revision, durable }
  }

  /** Nobody reads from before the batch was seen, and what it was seen at is durable. */
  async #isPast(horizon: Revision): Promise<boolean> {
    const { store } = this.#context
    if (Math.min(horizon, this.#context.heldBack(), store.durableRevision()) < this.#batchRevision) return false
    if (!store.isShared) return true
    if (this.#published < this.#batchRevision) {
      await publishHorizon(this.#context, this.#batchRevision)
      this.#published = this.#batchRevision
    }
    return (await store.read(sharedHorizon)) >= this.#batchRevision
  }

  /** The next rows in key order, round and round, so that no kind starves another. */
  async #collect(): Promise<void> {
    const end = prefixEnd(RECLAIM)
    const { rows, revision } = await this.#context.store.read(async (view) => {
      const ahead = await view.scan({ start: this.#cursor as ByteString, end }, BATCH_ROWS)
      const wrapped = ahead.length > 0 || this.#cursor === RECLAIM
      return { rows: wrapped ? ahead : await view.scan(prefixRange(RECLAIM), BATCH_ROWS), revision: view.revision }
    })
    const last = rows.at(-1)
    this.#cursor = last && rows.length === BATCH_ROWS ? `${last.key}\0` : RECLAIM
    this.#batch = rows.filter((row) => !isBeingBuilt(this.#context, row.key, row.value)).map((row) => row.key)
    this.#batchRevision = revision
  }

  async #step(tx: Transaction, batch: readonly ByteString[]): Promise<ReclaimStep> {
    const operationsMax = Math.min(this.#context.store.limits.operationsMax, OPERATIONS_PER_STEP_MAX)
    const operationsLeft = operationsMax - OPERATIONS_RESERVED
    assert(operationsLeft >= OPERATIONS_PER_PIECE_ROW, 'a step takes apart at least one row of pieces')
    const step: ReclaimStep = { context: this.#context, tx, operationsLeft, rows: 0, finished: 0, segments: new Set() }
    for (const key of batch) {
      if (step.operationsLeft < OPERATIONS_PER_PIECE_ROW) break
      const value = await tx.get(key)
      if (value && !(await reclaimRow(step, key, value))) break
      step.finished++
    }
    return step
  }

  async #emptied(touched: Set<SegmentId>): Promise<SegmentId[]> {
    const candidates = new Set([...touched, ...this.#emptyWhileOpen])
    if (candidates.size === 0) return []
    const records = await this.#context.store.read(async (view) => {
      const found = []
      for (const segment of candidates) found.push(await readSegment(view, segment))
      return found
    })
    this.#emptyWhileOpen.clear()
    const emptied: SegmentId[] = []
    for (const record of records) {
      // Another node's is found by that node when it looks through its own.
      if (!record || record.liveBytes > 0 || !isOwnSegment(this.#context, record)) continue
      if (record.state !== 'open') emptied.push(record.segment)
      else if (this.#emptyWhileOpen.size < SEGMENTS_WATCHED_MAX) this.#emptyWhileOpen.add(record.segment)
    }
    return emptied
  }
}

function isBeingBuilt(context: NamespaceContext, key: string, value: Uint8Array): boolean {
  if (reclaimKindOf(key) !== 'content') return false
  const { builder } = decodeDropped(value)
  if (builder === undefined) return false
  return builder !== context.node || context.building.has(integerAt(key, RECLAIM_ID_AT))
}

/** Takes one G row apart as far as the step reaches. True if the row is gone. */
function reclaimRow(step: ReclaimStep, key: ByteString, value: Uint8Array): Promise<boolean> {
  const kind = reclaimKindOf(key)
  switch (kind) {
    case 'content':
      return reclaimContent(step, key, value)
    case 'upload':
      return reclaimUpload(step, key, value)
    case 'bucket':
      return reclaimBucket(step, key)
    case 'former':
      return reclaimFormer(step, key)
    case 'attributes':
      return reclaimFileRows(step, key)
    default:
      return unreachable(kind, 'kind of reclaim row')
  }
}

async function reclaimContent(step: ReclaimStep, key: ByteString, value: Uint8Array): Promise<boolean> {
  const { tx } = step
  const { content } = decodeDropped(value)
  if (content.kind === 'leaf') {
    tx.add(segmentLiveKey(content.segment), [-content.length])
    if (isExternalSegment(content.segment)) await forgetIfEmpty(tx, content.segment)
    else step.segments.add(content.segment)
    return finishRow(step, key)
  }
  const range = prefixRange(piecesPrefix(rowsToReclaim(content, integerAt(key, RECLAIM_ID_AT))))
  const ownsPieces = content.kind === 'file' || content.ownsPieces
  for (;;) {
    const [row] = await tx.scan(range, 1, true)
    if (!row) return finishRow(step, key)
    if (step.operationsLeft < OPERATIONS_PER_PIECE_ROW) return false
    const counts = new Map<ContentId, number>()
    for (const piece of ownsPieces ? decodePieceRow(row.value).pieces : []) {
      if (piece.content !== undefined) counts.set(piece.content, (counts.get(piece.content) ?? 0) + 1)
    }
    for (const [piece, count] of counts) await dropReference(tx, piece, count)
    tx.delete(row.key)
    step.operationsLeft -= 2 * counts.size + 1
    step.rows++
  }
}

function rowsToReclaim(content: CompositeContent | FileContent, id: ContentId): ContentId {
  return content.kind === 'file' && content.successor === undefined ? content.rows : id
}

async function reclaimUpload(step: ReclaimStep, key: ByteString, used: Uint8Array): Promise<boolean> {
  const { tx } = step
  const limit = Math.floor(step.operationsLeft / OPERATIONS_PER_PART)
  const rows = await tx.scan(prefixRange(partsPrefix(bytesHex(key.slice(RECLAIM_ID_AT)))), limit)
  for (const row of rows) {
    tx.delete(row.key)
    step.operationsLeft--
    step.rows++
    const piece = decodePiece(row.value)
    if (piece.content === undefined || isUsed(used, partNumberOf(row.key))) continue
    await dropReference(tx, piece.content)
    step.operationsLeft -= 2
  }
  return rows.length < limit && finishRow(step, key)
}

/** Every upload in the bucket is aborted. */
async function reclaimBucket(step: ReclaimStep, key: ByteString): Promise<boolean> {
  const { tx } = step
  const limit = Math.floor(step.operationsLeft / 2)
  const rows = await tx.scan(prefixRange(uploadsPrefix(integerAt(key, RECLAIM_ID_AT))), limit)
  for (const row of rows) {
    const { next } = orderedAt(row.key, UPLOAD_KEY_AT)
    tx.delete(row.key)
    tx.put(finishedUploadKey(bytesHex(row.key.slice(next))), NOTHING_USED)
    step.operationsLeft -= 2
    step.rows++
  }
  if (rows.length === limit) return false
  tx.delete(usageKey(integerAt(key, RECLAIM_ID_AT), COUNTED_BY))
  return finishRow(step, key)
}

async function reclaimFormer(step: ReclaimStep, key: ByteString): Promise<boolean> {
  const exists = await step.tx.get(inodeKey(integerAt(key, RECLAIM_ID_AT)))
  return exists ? finishRow(step, key) : reclaimFileRows(step, key)
}

/** What is kept by inode beside the inode record, of one that is gone. */
async function reclaimFileRows(step: ReclaimStep, key: ByteString): Promise<boolean> {
  const { tx } = step
  const inode = integerAt(key, RECLAIM_ID_AT)
  for (const prefix of [fileAttributesPrefix(inode), directoryTimesPrefix(inode)]) {
    const limit = step.operationsLeft
    const rows = await tx.scan(prefixRange(prefix), limit)
    for (const row of rows) tx.delete(row.key)
    step.operationsLeft -= rows.length
    step.rows += rows.length
    if (rows.length === limit) return false
  }
  return finishRow(step, key)
}

function finishRow(step: ReclaimStep, key: ByteString): boolean {
  step.tx.delete(key)
  step.operationsLeft -= 2
  step.rows++
  return true
}
