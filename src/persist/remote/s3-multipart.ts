/**
 * An upload in parts: begun, its parts sent several at once, completed; abandoned when any of that fails.
 *
 * A failure leaves parts at most: they are abandoned at once if the store can be reached. Whether the completion happened is not known
 * when its answer is lost; the next attempt is then told NoSuchUpload, and the caller must look at the object.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type CompletedPart,
  type CompleteMultipartUploadCommandInput,
  type CreateMultipartUploadCommandInput,
} from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { S3Calls } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'
import { bareEtag } from './s3-etags.ts'
import type { S3Object } from './s3-read.ts'

/** Of one upload, so that several share the connections. */
const PARTS_AT_ONCE = 4
/** To join thousands of parts takes a store minutes. */
export const COMPLETION_TIMEOUTS = 10

export interface MultipartUpload<Piece> {
  readonly calls: S3Calls
  readonly object: S3Object
  readonly timeoutMs: number
  /** In the order of the object. */
  readonly pieces: readonly Piece[]
  readonly signal: AbortSignal | undefined
  /** Said when it is begun: attributes, the kind of checksum. */
  readonly begin: Partial<CreateMultipartUploadCommandInput>
  /** What its beginning says that the SDK's command cannot. */
  readonly decorate?: (command: CreateMultipartUploadCommand) => CreateMultipartUploadCommand
  /** Said when it is completed. */
  readonly condition?: Pick<CompleteMultipartUploadCommandInput, 'IfMatch' | 'IfNoneMatch'>
  /** Told what it will be, if that can be said, before it may be there. */
  readonly aboutToComplete?: ((etag: string) => Promise<void>) | undefined
  /** Ids of this process's uploads in parts: nobody but their owner abandons them. */
  readonly underWay: Set<string>
  readonly send: (piece: Piece, part: PartTarget, signal: AbortSignal) => Promise<CompletedPart>
  /** Resolves when nothing is sent any more: a part that arrives after the upload was abandoned would stay. */
  readonly ended?: () => Promise<void>
}

export interface PartTarget {
  readonly Bucket: string
  readonly Key: string
  readonly UploadId: string
  readonly PartNumber: number
}

export interface Completed {
  /** If the store said it, or would say it by its own rule. */
  readonly etag: string | undefined
  /** False when the answer was lost, and the upload is gone: completed by us, or abandoned by somebody. */
  readonly isCertain: boolean
}

export function givenUp(what: string, signal: AbortSignal): TidegateError {
  return new TidegateError('Unavailable', `${what}: it was given up`, { cause: signal.reason })
}

/** Resolves when it is completed. @throws TidegateError as S3Calls says */
export async function uploadInParts<Piece>(upload: MultipartUpload<Piece>): Promise<Completed> {
  const { calls, object, signal: ending, underWay } = upload
  const { bucket: Bucket, key: Key, what } = object
  if (ending?.aborted === true) throw givenUp(what, ending)
  // Not given up by the caller's signal: an upload whose id is not known could not be abandoned.
  const plain = new CreateMultipartUploadCommand({ Bucket, Key, ...upload.begin })
  const command = upload.decorate?.(plain) ?? plain
  const begun = await calls.call({ what, kind: 'other' }, ({ client, signal }) =>
    client.send(command, { abortSignal: signal }),
  )
  const uploadId = begun.UploadId
  if (uploadId === undefined || uploadId === '') throw badAnswer(what, 'the upload that was begun has no id')
  underWay.add(uploadId)
  try {
    const parts = await sendAll(upload, uploadId)
    const etag = etagOfParts(parts)
    if (etag !== undefined) await upload.aboutToComplete?.(bareEtag(etag))
    return await complete(upload, uploadId, parts)
  } catch (error) {
    await upload.ended?.()
    await abandon(upload, uploadId)
    throw error
  } finally {
    underWay.delete(uploadId)
  }
}

async function sendAll<Piece>(upload: MultipartUpload<Piece>, uploadId: string): Promise<CompletedPart[]> {
  const { object, pieces, signal, send } = upload
  const failed = new AbortController()
  const abort = (): void => failed.abort(signal?.reason)
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort)
  const left = pieces.map((piece, index) => ({ piece, PartNumber: index + 1 })).reverse()
  const done: CompletedPart[] = []
  const sendNext = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      if (failed.signal.aborted) throw givenUp(object.what, failed.signal)
      const { piece, PartNumber } = next
      const target = { Bucket: object.bucket, Key: object.key, UploadId: uploadId, PartNumber }
      done.push(await send(piece, target, failed.signal))
    }
  }
  try {
    const senders = Array.from({ length: Math.min(PARTS_AT_ONCE, pieces.length) }, () =>
      sendNext().catch((error: unknown) => {
        // The others stop, and are waited for: a part that arrives after the upload was abandoned would stay.
        failed.abort(error)
        throw error
      }),
    )
    // What went wrong first: the others only gave up because of it.
    const first = Promise.all(senders).then(
      () => undefined,
      (error: unknown) => ({ error }),
    )
    await Promise.allSettled(senders)
    const failure = await first
    if (failure !== undefined) throw failure.error
  } finally {
    signal?.removeEventListener('abort', abort)
  }
  return done.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0))
}

/** Not given up by the caller's signal: whether it took place would not be known. */
async function complete<Piece>(
  { calls, object, timeoutMs, condition }: MultipartUpload<Piece>,
  uploadId: string,
  parts: CompletedPart[],
): Promise<Completed> {
  const { bucket: Bucket, key: Key, what } = object
  const input = { Bucket, Key, UploadId: uploadId, MultipartUpload: { Parts: parts }, ...condition }
  let isAmbiguous = false
  const target = {
    what,
    kind: 'other',
    timeoutMs: timeoutMs * COMPLETION_TIMEOUTS,
    onRetry: () => void (isAmbiguous = true),
  } as const
  try {
    const { ETag } = await calls.call(target, ({ client, signal }) =>
      client.send(new CompleteMultipartUploadCommand(input), { abortSignal: signal }),
    )
    return { etag: ETag, isCertain: true }
  } catch (error) {
    const isGone = isTidegateError(error) && error.details['remoteCode'] === 'NoSuchUpload'
    if (!isGone || !isAmbiguous) throw error
    return { etag: etagOfParts(parts), isCertain: false }
  }
}

/** What cannot be reached now is left to abandonUploads. */
async function abandon<Piece>({ calls, object }: MultipartUpload<Piece>, uploadId: string): Promise<void> {
  const { bucket: Bucket, key: Key, what } = object
  const command = new AbortMultipartUploadCommand({ Bucket, Key, UploadId: uploadId })
  await calls
    .call({ what, kind: 'other', isCleanup: true }, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
    .catch(() => undefined)
}

/** The ETag that nearly all stores give what is joined from parts: MD5 over the parts' MD5s. Undefined where a part's is none. */
function etagOfParts(parts: readonly CompletedPart[]): string | undefined {
  const etags = parts.map(({ ETag }) => bareEtag(ETag ?? ''))
  if (!etags.every((etag) => /^[0-9a-f]{32}$/.test(etag))) return undefined
  const joined = createHash('md5')
    .update(Buffer.from(etags.join(''), 'hex'))
    .digest('hex')
  return `"${joined}-${parts.length}"`
}
