/**
 * CompleteMultipartUpload: a composite content made of the parts' contents. No byte is copied and no part's content record is
 * touched: the references that the P rows held are held by the composite's pieces from the publishing commit on (C11).
 *
 * Few parts: one transaction does it all. Many: in bounded steps (C2):
 *
 *   begin      the upload's row gets a token (the new content's id); a G row says that the composite is being built
 *   pieces     some hundred parts a transaction; each checks that the token is still there and that each part has the etag asked for
 *   publish    checks the token, makes the composite a content with one reference, publishes the object, deletes the upload's
 *              row and leaves a G row with the numbers of the parts used
 *   reclaim    (reclaim.ts) deletes the P rows in batches, and drops the contents of parts that were not used
 *
 * A part that is put meanwhile clears the token, an abort deletes the row: then what was built is abandoned and the Complete
 * starts over, and finds the new part or no upload. A crash leaves an upload that can be completed again, and a composite
 * for the reclaimer. Within this process the Completes of one upload run one after another.
 *
 * A Complete of an upload that is gone is answered with the object, if that is current and came from this upload: clients
 * repeat a Complete whose answer they lost.
 */
import { TidegateError } from '../../common/errors.ts'
import type { AckLevel, Conditions, ObjectChecksum, ObjectVersion } from '../../common/model.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Transaction } from '../ports.ts'
import {
  BUILD_START,
  addComposite,
  appendPieces,
  beginBuild,
  publishBuild,
  PIECES_PER_ROW,
  type BuildPosition,
} from './composites.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  nothingWritten,
  readBucket,
  versionMade,
  withRevision,
  type Commit,
  type NamespaceContext,
} from './context.ts'
import { finishedUploadKey, partKey } from './keys.ts'
import { validateNewKey } from './names.ts'
import { objectVersion } from './object-version.ts'
import { inodesForKey, writeVersion } from './publish.ts'
import { decodePiece, encodeUpload, type Piece } from './records-contents.ts'
import { currentEntry, findPlace } from './tree.ts'
import { findUpload, noSuchUpload, type FoundUpload } from './uploads.ts'
import { readObjectInode } from './versions.ts'

export interface CompleteRequest {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly parts: readonly { readonly partNumber: number; readonly etag: string }[]
  readonly etag: string
  readonly checksum: ObjectChecksum | undefined
  readonly conditions: Conditions
  readonly ack: AckLevel
}

const PARTS_PER_STEP = PIECES_PER_ROW * 16
const ATTEMPTS_MAX = 16

/** What one attempt works with. */
interface Attempt {
  readonly context: NamespaceContext
  readonly request: CompleteRequest
  readonly keyBytes: string
  readonly content: ContentId
  readonly ids: { first: number; count: number }
}

/** Another writer got in between: start over. */
const INTERRUPTED = Symbol('interrupted')

export class UploadCompleter {
  readonly #context: NamespaceContext
  /** The last Complete of each upload that is under way. */
  readonly #running = new Map<string, Promise<unknown>>()

  constructor(context: NamespaceContext) {
    this.#context = context
  }

  async complete(request: CompleteRequest): Promise<Commit<ObjectVersion>> {
    const { uploadId } = request
    const before = this.#running.get(uploadId) ?? Promise.resolve()
    const mine = before.then(
      () => completeUpload(this.#context, request),
      () => completeUpload(this.#context, request),
    )
    this.#running.set(uploadId, mine)
    try {
      return await mine
    } finally {
      if (this.#running.get(uploadId) === mine) this.#running.delete(uploadId)
    }
  }
}

async function completeUpload(context: NamespaceContext, request: CompleteRequest): Promise<Commit<ObjectVersion>> {
  const keyBytes = validateNewKey(request.key, context.limits)
  const repeated = await repeatedComplete(context, request, keyBytes)
  if (repeated) return repeated
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const content = context.contents.tryTake(1) ?? (await context.contents.take(1))
    const ids = await leaseInodes(context, inodesForKey(keyBytes))
    const tried: Attempt = { context, request, keyBytes, content, ids }
    context.building.add(content)
    try {
      const committed = await (request.parts.length <= PARTS_PER_STEP ? completeAtOnce(tried) : completeInSteps(tried))
      if (committed !== INTERRUPTED) return await withRevision(context, Promise.resolve(committed), versionMade)
    } finally {
      context.building.delete(content)
    }
  }
  throw new TidegateError(
    'ConditionalRequestConflict',
    `upload ${request.uploadId} keeps changing while it is completed`,
  )
}

async function repeatedComplete(
  context: NamespaceContext,
  request: CompleteRequest,
  keyBytes: string,
): Promise<Commit<ObjectVersion> | undefined> {
  const version = await context.store.read(async (view) => {
    const found = await findUpload(view, request).catch((error: unknown) => {
      if (error instanceof TidegateError && error.code === 'NoSuchUpload') return undefined
      throw error
    })
    if (found) return undefined
    const bucket = await readBucket(view, request.bucket)
    const place = await findPlace(view, bucket, keyBytes)
    const entry = place && (await currentEntry(view, place))
    if (!entry) throw noSuchUpload(request.uploadId)
    const inode = await readObjectInode(view, entry.inode)
    if (inode.uploadId !== request.uploadId || inode.etag !== request.etag) throw noSuchUpload(request.uploadId)
    return objectVersion(bucket, request.key, entry, inode)
  })
  return version && nothingWritten(context, version)
}

function completeAtOnce(attempt: Attempt): Promise<Commit<ObjectVersion>> {
  const { request, content } = attempt
  return attempt.context.store.transact(async (tx) => {
    const found = await findUpload(tx, request)
    const pieces = await piecesOf(tx, request, request.parts)
    const end = appendPieces(tx, content, BUILD_START, pieces)
    addComposite(tx, content, end.offset)
    return publishCompleted(tx, attempt, { found, size: end.offset })
  })
}

async function completeInSteps(attempt: Attempt): Promise<Commit<ObjectVersion> | typeof INTERRUPTED> {
  const { context, request, content } = attempt
  const { parts } = request
  const begun = await context.store.transact(async (tx) => {
    const found = await findUpload(tx, request)
    tx.put(found.rowKey, encodeUpload({ ...found.upload, token: content }))
    beginBuild(tx, context, content, false)
  })
  await begun.durable
  const written: Promise<void>[] = []
  let at: BuildPosition = BUILD_START
  for (let first = 0; first < parts.length; first += PARTS_PER_STEP) {
    const from = at
    const { value, durable } = await context.store.transact(async (tx) => {
      const found = await findUpload(tx, request)
      if (found.upload.token !== content) return INTERRUPTED
      const pieces = await piecesOf(tx, request, parts.slice(first, first + PARTS_PER_STEP))
      return appendPieces(tx, content, from, pieces)
    })
    if (value === INTERRUPTED) return INTERRUPTED
    written.push(durable)
    at = value
  }
  // A step that was undone would leave a hole that no later step sees (composites.ts).
  await Promise.all(written)
  const committed = await context.store.transact(async (tx) => {
    const found = await findUpload(tx, request)
    if (found.upload.token !== content) return INTERRUPTED
    await publishBuild(tx, content, at.offset)
    return publishCompleted(tx, attempt, { found, size: at.offset })
  })
  const { value, revision, durable } = committed
  return value === INTERRUPTED ? INTERRUPTED : { value, revision, durable }
}

async function publishCompleted(
  tx: Transaction,
  attempt: Attempt,
  completed: { found: FoundUpload; size: number },
): Promise<ObjectVersion> {
  const { request, keyBytes, content } = attempt
  const { upload, rowKey } = completed.found
  const step = await beginStep(attempt.context, tx, request.bucket, attempt.ids)
  const version = await writeVersion(step, {
    key: request.key,
    keyBytes,
    conditions: request.conditions,
    size: completed.size,
    etag: request.etag,
    owner: upload.owner,
    ack: request.ack,
    attributes: upload.attributes,
    checksum: request.checksum,
    partsCount: request.parts.length,
    uploadId: request.uploadId,
    expiresMs: undefined,
    body: { kind: 'content', content },
  })
  tx.delete(rowKey)
  tx.put(finishedUploadKey(request.uploadId), bitmapOf(request.parts))
  endStep(step)
  return version
}

/** @throws InvalidPart when a part is missing or not the one with that etag */
async function piecesOf(tx: Transaction, request: CompleteRequest, parts: CompleteRequest['parts']): Promise<Piece[]> {
  const rows = await tx.getMany(parts.map((part) => partKey(request.uploadId, part.partNumber)))
  return parts.map(({ partNumber, etag }, index) => {
    const row = rows[index]
    const piece = row && decodePiece(row)
    if (piece?.part?.etag === etag) return piece
    throw new TidegateError('InvalidPart', `part ${partNumber} of upload ${request.uploadId}`, {
      details: { uploadId: request.uploadId, partNumber, etag },
    })
  })
}

function bitmapOf(parts: CompleteRequest['parts']): Uint8Array {
  const last = parts.reduce((highest, part) => Math.max(highest, part.partNumber), 0)
  const bitmap = new Uint8Array((last >> 3) + 1)
  for (const { partNumber } of parts) {
    const at = partNumber >> 3
    bitmap[at] = (bitmap[at] ?? 0) | (1 << (partNumber & 7))
  }
  return bitmap
}

export function isUsed(bitmap: Uint8Array, partNumber: number): boolean {
  return ((bitmap[partNumber >> 3] ?? 0) & (1 << (partNumber & 7))) !== 0
}
