/**
 * What changes an external bucket. Every write says what must lie at its key, and the store decides; a condition that it was not seen to
 * decide (external-probe.ts) is refused here, and nothing is sent.
 *
 *   put           PutObject
 *   putInParts    a multipart upload, whose parts are bytes of ours or ranges that the store copies
 *   copy          CopyObject; in parts above 5 GiB, and where only CompleteMultipartUpload takes conditions on the target
 *   remove        DeleteObject
 *
 * Errors say in `details.side` what they are about, where that matters: `target`, what lies at the key is not what was expected; `source`, what
 * was to be sent or copied is gone or another one.
 */
import {
  CopyObjectCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3'
import { assert } from '../../common/assert.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { ObjectAttributes } from '../../common/model.ts'
import type { S3Calls } from '../remote/s3-calls.ts'
import { badAnswer } from '../remote/s3-errors.ts'
import { bareEtag } from '../remote/s3-etags.ts'
import { COMPLETION_TIMEOUTS, uploadInParts, type PartTarget } from '../remote/s3-multipart.ts'
import type { S3Object } from '../remote/s3-read.ts'
import { copySourceText } from './copy-source.ts'
import { attributeInput, labels, withExpires } from './external-attributes.ts'
import type { ExternalAbilities } from './external-probe.ts'
import { prepareBody } from './piece-body.ts'
import type {
  CopiedPiece,
  CopySource,
  Expected,
  ExternalCapabilities,
  ExternalDescription,
  PieceSource,
  UploadPiece,
  WriteOptions,
} from './ports.ts'

export interface ExternalWriting {
  readonly calls: S3Calls
  readonly timeoutMs: number
  readonly abilities: ExternalAbilities
  object(verb: string, key: string): S3Object
  /** With its tags. */
  head(key: string, signal?: AbortSignal): Promise<ExternalDescription | undefined>
}

interface Stored {
  readonly etag: string
}

const GIB = 1024 ** 3
const PARTS_MAX = 10_000
/** What CopyObject takes. */
const COPY_BYTES_MAX = 5 * GIB
/** Copied at once by the store: enough of them are under way to use what it has. */
const COPY_PART_BYTES = GIB / 4

const CAPABILITY_WORDS: Readonly<Record<keyof ExternalCapabilities, string>> = {
  conditionalPut: 'PutObject',
  conditionalDelete: 'DeleteObject',
  conditionalComplete: 'CompleteMultipartUpload',
  conditionalCopy: 'CopyObject',
}

export async function putExternal(
  writing: ExternalWriting,
  key: string,
  source: PieceSource,
  { attributes, expected, signal }: WriteOptions,
): Promise<Stored> {
  refuseUndecided(writing, expected, 'conditionalPut')
  const { bucket: Bucket, key: Key, what } = writing.object('put', key)
  const prepared = await prepareBody(source, writing.abilities.digest)
  const input = { Bucket, Key, ContentLength: source.length, ...attributeInput(attributes), ...prepared.digest }
  return await asked(expected, () =>
    writing.calls.call({ what, kind: 'upload', signal }, (attempt) =>
      prepared.send(attempt, async (Body) => {
        const command = new PutObjectCommand({ ...input, ...conditionOn(expected), Body })
        const { ETag } = await attempt.client.send(withExpires(command, attributes), { abortSignal: attempt.signal })
        return stored(what, ETag)
      }),
    ),
  )
}

export async function putPiecesExternal(
  writing: ExternalWriting,
  key: string,
  pieces: readonly UploadPiece[],
  { attributes, expected, signal, aboutToComplete }: WriteOptions,
): Promise<Stored> {
  assert(pieces.length > 0 && pieces.length <= PARTS_MAX, 'an upload has 1 to 10,000 parts')
  refuseUndecided(writing, expected, 'conditionalComplete')
  const isCopied = pieces.some(({ kind }) => kind === 'copy')
  if (isCopied && !writing.abilities.copiesPartsOnMatch) {
    throw new TidegateError('NotImplemented', `put ${key}: the store is not known to copy parts on a condition`)
  }
  const object = writing.object('put', key)
  // Where a checksum is announced all parts must have one, and a store need not tell those of copied parts.
  const digest = isCopied ? 'md5' : writing.abilities.digest
  return await asked(expected, async () => {
    const { etag, isCertain } = await uploadInParts({
      calls: writing.calls,
      object,
      timeoutMs: writing.timeoutMs,
      pieces,
      signal,
      begin: { ...attributeInput(attributes), ...(digest === 'crc32' ? { ChecksumAlgorithm: 'CRC32' } : {}) },
      decorate: (command) => withExpires(command, attributes),
      condition: conditionOn(expected),
      aboutToComplete,
      underWay: new Set(),
      send: (piece, target, ending) =>
        piece.kind === 'copy'
          ? copyPart(writing, piece, target, ending)
          : sendPart({ ...writing, abilities: { ...writing.abilities, digest } }, piece.source, target, ending),
    })
    if (isCertain) return stored(object.what, etag)
    return await confirmed(writing, key, { etag, expected })
  })
}

/** The answer to the completion was lost, and the upload is gone. */
async function confirmed(
  writing: ExternalWriting,
  key: string,
  { etag, expected }: { readonly etag: string | undefined; readonly expected: Expected },
): Promise<Stored> {
  const found = await writing.head(key)
  if (found !== undefined && etag !== undefined && found.etag === bareEtag(etag)) return { etag: found.etag }
  const code = expected.kind === 'anything' ? 'Unavailable' : 'PreconditionFailed'
  throw new TidegateError(code, `put ${key}: the upload is gone, and something else is there`, {
    details: { side: 'target' },
  })
}

async function sendPart(
  { calls, abilities }: ExternalWriting,
  source: PieceSource,
  target: PartTarget,
  signal: AbortSignal,
): Promise<CompletedPart> {
  const what = `part ${target.PartNumber} of ${target.Key}`
  const prepared = await prepareBody(source, abilities.digest)
  const { digest } = prepared
  const input = { ...target, ContentLength: source.length, ...digest }
  return await calls.call({ what, kind: 'upload', signal }, (attempt) =>
    prepared.send(attempt, async (Body) => {
      const command = new UploadPartCommand({ ...input, Body })
      const { ETag } = await attempt.client.send(command, { abortSignal: attempt.signal })
      if (ETag === undefined) throw badAnswer(what, 'the answer has no ETag')
      const { ChecksumCRC32 } = digest
      return { PartNumber: target.PartNumber, ETag, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) }
    }),
  )
}

async function copyPart(
  writing: ExternalWriting,
  piece: CopiedPiece,
  target: PartTarget,
  signal: AbortSignal,
): Promise<CompletedPart> {
  const what = `part ${target.PartNumber} of ${target.Key} from ${piece.key}`
  const command = new UploadPartCopyCommand({
    ...target,
    CopySource: copySourceText(target.Bucket, writing.object('copy', piece.key).key),
    CopySourceIfMatch: `"${piece.etag}"`,
    CopySourceRange: `bytes=${piece.offset}-${piece.offset + piece.length - 1}`,
  })
  const call = { what, kind: 'other', signal, timeoutMs: writing.timeoutMs * COMPLETION_TIMEOUTS } as const
  try {
    return await writing.calls.call(call, async (attempt) => {
      const { CopyPartResult } = await attempt.client.send(command, { abortSignal: attempt.signal })
      if (CopyPartResult?.ETag === undefined) throw badAnswer(what, 'the answer has no ETag')
      return { PartNumber: target.PartNumber, ETag: CopyPartResult.ETag }
    })
  } catch (error) {
    throw isTidegateError(error) && isAboutWhatLies(error) ? ofSide(error, 'source') : error
  }
}

export async function copyExternal(
  writing: ExternalWriting,
  from: CopySource,
  key: string,
  { attributes, expected, signal, aboutToComplete }: WriteOptions<ObjectAttributes | undefined>,
): Promise<Stored> {
  assert(attributes !== undefined || from.key !== key, 'a copy to itself changes something')
  const { abilities } = writing
  const isDecided = expected.kind === 'anything' || abilities.conditionalCopy
  const inOne = isDecided && abilities.copiesOnMatch && from.size <= COPY_BYTES_MAX
  if (!inOne && !abilities.conditionalComplete) refuseUndecided(writing, expected, 'conditionalCopy')
  if (attributes !== undefined && inOne) return await copyWhole(writing, from, key, { attributes, expected, signal })
  const found = await sourceOf(writing, from, signal)
  if (inOne) return await copyWhole(writing, from, key, { attributes: undefined, expected, signal }, found.attributes)
  const options = { attributes: attributes ?? found.attributes, expected, signal, aboutToComplete }
  // An empty object has no range that could be copied.
  if (from.size === 0) return await putExternal(writing, key, { length: 0, bytes: nothing }, options)
  return await putPiecesExternal(writing, key, copiedPieces(from), options)
}

/** `known` are the source's, where they are not replaced. */
async function copyWhole(
  writing: ExternalWriting,
  from: CopySource,
  key: string,
  { attributes, expected, signal }: WriteOptions<ObjectAttributes | undefined>,
  known?: ObjectAttributes,
): Promise<Stored> {
  const { bucket: Bucket, key: Key, what } = writing.object('copy', key)
  const replaced = attributes && { MetadataDirective: 'REPLACE' as const, ...attributeInput(attributes) }
  const isTagged = attributes !== undefined && writing.abilities.tags !== 'none'
  const call = { what, kind: 'other', signal, timeoutMs: writing.timeoutMs * COMPLETION_TIMEOUTS } as const
  const command = new CopyObjectCommand({
    Bucket,
    Key,
    CopySource: copySourceText(Bucket, writing.object('copy', from.key).key),
    CopySourceIfMatch: `"${from.etag}"`,
    ...(known ? labels(known) : {}),
    ...replaced,
    ...(isTagged ? { TaggingDirective: 'REPLACE' as const } : {}),
    ...conditionOn(expected),
  })
  if (attributes !== undefined) withExpires(command, attributes)
  try {
    return await writing.calls.call(call, async (attempt) => {
      const { CopyObjectResult } = await attempt.client.send(command, { abortSignal: attempt.signal })
      return stored(what, CopyObjectResult?.ETag)
    })
  } catch (error) {
    if (!isTidegateError(error) || !isAboutWhatLies(error)) throw inWords(error)
    // Stores have one word for both.
    await sourceOf(writing, from, signal)
    throw expected.kind === 'anything' ? error : otherThanExpected(error)
  }
}

/** @throws NoSuchKey, PreconditionFailed: the source is gone or another one */
async function sourceOf(
  writing: ExternalWriting,
  from: CopySource,
  signal: AbortSignal | undefined,
): Promise<ExternalDescription> {
  const found = await writing.head(from.key, signal)
  if (found?.etag === from.etag) return found
  const details = { side: 'source' }
  if (found === undefined) throw new TidegateError('NoSuchKey', `copy ${from.key}: it is gone`, { details })
  throw new TidegateError('PreconditionFailed', `copy ${from.key}: it is another one now`, { details })
}

function copiedPieces({ key, etag, size }: CopySource): UploadPiece[] {
  const partBytes = Math.max(COPY_PART_BYTES, Math.ceil(size / PARTS_MAX))
  return Array.from({ length: Math.ceil(size / partBytes) }, (_, index) => {
    const offset = index * partBytes
    return { kind: 'copy', key, etag, offset, length: Math.min(partBytes, size - offset) }
  })
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Stores differ in what a condition on nothing is told: 204, 404 or 412. There is nothing, which is what was wanted. */
export async function removeExternal(
  writing: ExternalWriting,
  key: string,
  expected: Exclude<Expected, { kind: 'absent' }>,
): Promise<void> {
  refuseUndecided(writing, expected, 'conditionalDelete')
  const { bucket: Bucket, key: Key, what } = writing.object('remove', key)
  const command = new DeleteObjectCommand({ Bucket, Key, ...conditionOn(expected) })
  try {
    await writing.calls.call({ what, kind: 'other' }, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
  } catch (error) {
    if (isTidegateError(error, 'NoSuchKey')) return
    if (!isTidegateError(error, 'PreconditionFailed')) throw inWords(error)
    if ((await writing.head(key)) !== undefined) throw otherThanExpected(error)
  }
}

/** @throws NotImplemented before anything was sent */
function refuseUndecided(
  { abilities }: ExternalWriting,
  expected: Expected,
  capability: keyof ExternalCapabilities,
): void {
  if (expected.kind === 'anything' || abilities[capability]) return
  const words = `the store is not known to decide conditions on ${CAPABILITY_WORDS[capability]}`
  throw new TidegateError('NotImplemented', words)
}

function conditionOn(expected: Expected): { IfNoneMatch?: '*'; IfMatch?: string } {
  switch (expected.kind) {
    case 'anything':
      return {}
    case 'absent':
      return { IfNoneMatch: '*' }
    case 'etag':
      return { IfMatch: `"${expected.etag}"` }
  }
}

function stored(what: string, etag: string | undefined): Stored {
  if (etag === undefined) throw badAnswer(what, 'the answer has no ETag')
  return { etag: bareEtag(etag) }
}

/** A write with its condition, and what it meets in the port's words. RFC 9110 has 412 for If-Match where nothing is; AWS answers 404. */
async function asked<T>(expected: Expected, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    const isTarget = isTidegateError(error) && isAboutWhatLies(error) && error.details['side'] === undefined
    throw isTarget && expected.kind !== 'anything' ? otherThanExpected(error) : inWords(error)
  }
}

function isAboutWhatLies(error: TidegateError): boolean {
  return error.code === 'PreconditionFailed' || error.code === 'NoSuchKey'
}

function otherThanExpected({ message, details, cause }: TidegateError): TidegateError {
  return new TidegateError('PreconditionFailed', message, { details: { ...details, side: 'target' }, cause })
}

function ofSide({ code, message, details, cause }: TidegateError, side: 'source' | 'target'): TidegateError {
  return new TidegateError(code, message, { details: { ...details, side }, cause })
}

/** What a store says that does not know the operation. */
export function inWords(error: unknown): unknown {
  if (!isTidegateError(error, 'Unavailable') || error.details['status'] !== 501) return error
  return new TidegateError('NotImplemented', error.message, { details: error.details, cause: error.cause })
}
