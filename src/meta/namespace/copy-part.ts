/**
 * UploadPartCopy: a part that refers to a range of an object. The range is flattened to leaves and holes, so that composites never
 * nest deeper than a completed upload over its parts. One leaf is referred to as it is; some are made a composite in the
 * same transaction; many in bounded steps (C2), each of which checks that the source's content still exists, since that is
 * what keeps the leaves that are not yet referred to.
 */
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Conditions, ObjectChecksum, ObjectVersion, UploadPart } from '../../common/model.ts'
import type { Transaction } from '../ports.ts'
import {
  BUILD_START,
  PIECES_PER_ROW,
  addComposite,
  appendPieces,
  beginBuild,
  publishBuild,
  type BuildPosition,
} from './composites.ts'
import { checkConditions } from '../../common/conditions.ts'
import { checkReferable } from './attached/bodies.ts'
import { bodyRanges, type BodyRange } from './contents.ts'
import { readBucket, type Commit, type NamespaceContext } from './context.ts'
import type { ObjectAddress } from './copy.ts'
import { contentKey } from './keys.ts'
import { resolveVersion } from './lookup.ts'
import { validateKey } from './names.ts'
import { objectVersion } from './object-version.ts'
import { decodeContent, type Content, type Piece } from './records-contents.ts'
import { addReference } from './references.ts'
import { checkPartNumber, findUpload, replacePart } from './uploads.ts'
import { readObjectInode } from './versions.ts'

export interface CopyPartRequest {
  readonly source: ObjectAddress
  readonly sourceConditions: Conditions
  readonly range: { readonly offset: number; readonly length: number } | undefined
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly partNumber: number
  readonly etag: string
  readonly checksum: ObjectChecksum | undefined
}

interface CopySource {
  readonly version: ObjectVersion
  readonly content: ContentId
  readonly record: Content
  readonly from: number
  readonly to: number
}

interface CopyState {
  readonly context: NamespaceContext
  readonly request: CopyPartRequest
  readonly made: ContentId
}

type Copied = { part: UploadPart; source: ObjectVersion }

export async function copyPart(context: NamespaceContext, request: CopyPartRequest): Promise<Commit<Copied>> {
  checkPartNumber(context, request.partNumber)
  const made = context.contents.tryTake(1) ?? (await context.contents.take(1))
  const state: CopyState = { context, request, made }
  context.building.add(made)
  try {
    const begun = await context.store.transact((tx) => beginCopy(tx, state))
    const { value } = begun
    if ('copied' in value) return { value: value.copied, revision: begun.revision, durable: begun.durable }
    await begun.durable
    return await copyInSteps(state, value.source)
  } finally {
    context.building.delete(made)
  }
}

/** Copies what a few leaves hold, or begins a build. */
async function beginCopy(tx: Transaction, state: CopyState): Promise<{ copied: Copied } | { source: CopySource }> {
  const { context, request, made } = state
  await findUpload(tx, request)
  const source = await resolveSource(tx, state)
  const wanted = { from: source.from, to: source.to, base: 0 }
  const ranges = await bodyRanges(tx, { ...source, wanted }, PIECES_PER_ROW + 1)
  if (ranges.length > PIECES_PER_ROW) {
    beginBuild(tx, context, made, true)
    return { source }
  }
  await referTo(tx, ranges)
  const only = ranges.length === 1 ? ranges[0] : undefined
  if (only) return { copied: await putCopied(tx, state, source, only) }
  appendPieces(tx, made, BUILD_START, ranges.map(pieceOf))
  addComposite(tx, made, source.to - source.from)
  return { copied: await putCopied(tx, state, source, { content: made, contentOffset: 0 }) }
}

async function copyInSteps(state: CopyState, source: CopySource): Promise<Commit<Copied>> {
  const { context, made } = state
  const length = source.to - source.from
  const written: Promise<void>[] = []
  for (let at: BuildPosition = BUILD_START; at.offset < length;) {
    const from = at
    const { value, durable } = await context.store.transact(async (tx) => {
      await checkSourceKept(tx, source)
      const wanted = { from: source.from + from.offset, to: source.to, base: 0 }
      const ranges = (await bodyRanges(tx, { ...source, wanted }, PIECES_PER_ROW)).slice(0, PIECES_PER_ROW)
      await referTo(tx, ranges)
      return appendPieces(tx, made, from, ranges.map(pieceOf))
    })
    written.push(durable)
    at = value
  }
  // A step that was undone would leave a hole that no later step sees (composites.ts).
  await Promise.all(written)
  return context.store.transact(async (tx) => {
    await publishBuild(tx, made, length)
    return putCopied(tx, state, source, { content: made, contentOffset: 0 })
  })
}

async function resolveSource(tx: Transaction, state: CopyState): Promise<CopySource> {
  const { request } = state
  const { source: address, range } = request
  const keyBytes = validateKey(address.key, state.context.limits)
  const bucket = await readBucket(tx, address.bucket)
  const nowMs = state.context.clock.nowMs()
  const { entry } = await resolveVersion(tx, bucket, { ...address, keyBytes, nowMs })
  checkConditions('source', request.sourceConditions, entry)
  const inode = await readObjectInode(tx, entry.inode)
  const from = range?.offset ?? 0
  const to = range ? range.offset + range.length : inode.size
  if (from < 0 || to > inode.size || from > to) {
    throw new TidegateError('InvalidRange', `bytes ${from}-${to - 1} of ${inode.size}`, {
      details: { size: inode.size },
    })
  }
  if (inode.body.kind !== 'content' || from === to) {
    throw new TidegateError('ConditionalRequestConflict', 'the source is no content that can be referred to')
  }
  if (bucket.isAttached) await checkReferable(tx, inode.body)
  const { content } = inode.body
  const record = decodeContent(must(await tx.get(contentKey(content)), `content ${content}`))
  return { version: objectVersion(bucket, address.key, entry, inode), content, record, from, to }
}

async function checkSourceKept(tx: Transaction, source: CopySource): Promise<void> {
  if (await tx.get(contentKey(source.content))) return
  throw new TidegateError(
    'NoSuchKey',
    `the source ${JSON.stringify(source.version.key)} was deleted while it was copied`,
    {
      details: { key: source.version.key },
    },
  )
}

async function referTo(tx: Transaction, ranges: readonly BodyRange[]): Promise<void> {
  for (const { content } of ranges) if (content !== undefined) await addReference(tx, content)
}

function pieceOf(range: BodyRange): Piece {
  return { content: range.content, contentOffset: range.contentOffset, length: range.length, part: undefined }
}

async function putCopied(
  tx: Transaction,
  state: CopyState,
  source: CopySource,
  body: { content: ContentId | undefined; contentOffset: number },
): Promise<Copied> {
  const { request, context } = state
  const found = await findUpload(tx, request)
  const { partNumber, etag, checksum, uploadId } = request
  const part = { partNumber, etag, checksum, mtimeMs: context.clock.nowMs() }
  const length = source.to - source.from
  const { content, contentOffset } = body
  await replacePart(tx, found, { uploadId, piece: { content, contentOffset, length, part } })
  return { part: { ...part, size: length }, source: source.version }
}
