/**
 * Uploading a file to an external S3.
 *
 *   up to 16 MiB    PutObject
 *   above           CreateMultipartUpload, UploadPart (several at once), CompleteMultipartUpload
 *
 * The file is never in memory as a whole: each request reads its own range in chunks, as fast as the connection takes them.
 *
 * What must not happen is that a torn upload is believed, for the local file goes once it is. So:
 *
 *   - Each request's body is covered by a digest in a header: CRC32 where the store has been seen to check it (s3-probe.ts), else
 *     Content-MD5. A store refuses bytes that do not match, and the attempt is repeated. The CRC32 is put together from those of the
 *     pages, which were made when the bytes came (page-digest.ts); where they are not known the file is read for it. Bytes that rotted
 *     on the disk since are refused then too. What else is in the file must not be kept back because of them, so it goes as it is,
 *     with the digest of what is there now; readers of a rotten page are told by its CRC, as they are told here.
 *   - A part's ETag must have come back for it to be named in the completion.
 *   - In the end the object is looked at: its length, and its ETag if the answer gave one, must be those of what was uploaded.
 *
 * An object appears with PutObject or with the completion, whole. Before that a failure leaves parts at most: they are abandoned at once if
 * the store can be reached, and else by `abandonUploads`. Whether the completion happened is not known when its answer is lost; the next attempt
 * is then told NoSuchUpload, and the look at the object decides.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  type CompletedPart,
  type S3Client,
} from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FileSystem, OpenFile } from '../ports.ts'
import type { DigestKind, FileBody, FileRange, FileSender } from './file-sender.ts'
import { crc32OfPages } from './page-digest.ts'
import type { LocalFile } from './ports.ts'
import type { S3Calls } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'
import type { S3Object } from './s3-read.ts'

const MIB = 2 ** 20
const PART_BYTES = 16 * MIB
const PARTS_MAX = 10_000
/** Of one file, so that several files share the connections. */
const PARTS_AT_ONCE = 4
/** To join thousands of parts takes a store minutes. */
const COMPLETION_TIMEOUTS = 10

export interface UploadOptions {
  readonly calls: S3Calls
  readonly fileSystem: FileSystem
  readonly sender: FileSender
  readonly timeoutMs: number
  readonly digest: DigestKind
  /** Ids of this process's uploads in parts: nobody but their owner abandons them. */
  readonly underWay: Set<string>
}

interface Part {
  readonly number: number
  readonly offset: number
  readonly bytes: number
}

/** Parts of 16 MiB, or of as many whole MiB as keep their number within what S3 allows. One part: no multipart upload. */
export function planParts(bytes: number): Part[] {
  const partBytes = Math.max(PART_BYTES, Math.ceil(bytes / PARTS_MAX / MIB) * MIB)
  const count = Math.max(1, Math.ceil(bytes / partBytes))
  return Array.from({ length: count }, (_, index) => ({
    number: index + 1,
    offset: index * partBytes,
    bytes: Math.min(partBytes, bytes - index * partBytes),
  }))
}

/** Resolves when the object is in the store, whole. @throws TidegateError as the port says */
export async function uploadFile(
  options: UploadOptions,
  object: S3Object,
  local: LocalFile,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { path, bytes } = local
  const file = await options.fileSystem.open(path, 'read').catch((error: Error) => {
    throw unreadable(object, path, error)
  })
  const upload = new Upload(options, object, { ...local, file }, signal)
  try {
    const size = await file.size()
    if (size !== bytes) throw unreadable(object, path, new Error(`it has ${size} bytes, not ${bytes}`))
    const parts = planParts(bytes)
    await upload.confirm(
      parts.length === 1 ? await upload.putWhole(must(parts[0], 'part')) : await upload.inParts(parts),
    )
  } finally {
    await upload.ended()
    await file.close()
  }
}

function unreadable(object: S3Object, path: string, error: Error): TidegateError {
  return new TidegateError('Unavailable', `${object.what}: cannot read ${path}: ${error.message}`, { cause: error })
}

function givenUp(what: string, signal: AbortSignal): TidegateError {
  return new TidegateError('Unavailable', `${what}: it was given up`, { cause: signal.reason })
}

type Source = LocalFile & { readonly file: OpenFile }

type SendPart = (request: {
  readonly body: FileBody
  readonly digest: DigestHeader
  readonly client: S3Client
  readonly abortSignal: AbortSignal
}) => Promise<{ ETag?: string | undefined }>

interface SentPart {
  readonly ETag: string | undefined
  readonly digest: DigestHeader
}

/** The store says that something is wrong with the request, and not with the line. */
function isRefusal(error: unknown): boolean {
  return error instanceof TidegateError && error.details['status'] === 400
}

class Upload {
  readonly #options: UploadOptions
  readonly #object: S3Object
  readonly #source: Source
  readonly #signal: AbortSignal | undefined
  readonly #bodies = new Set<FileBody>()

  constructor(options: UploadOptions, object: S3Object, source: Source, signal: AbortSignal | undefined) {
    this.#options = options
    this.#object = object
    this.#source = source
    this.#signal = signal
  }

  /** @returns the object's ETag, if the store said it */
  async putWhole(part: Part): Promise<string | undefined> {
    const { bucket: Bucket, key: Key } = this.#object
    const { ETag } = await this.#send(part, this.#signal, ({ body, digest, client, abortSignal }) =>
      client.send(new PutObjectCommand({ Bucket, Key, ContentLength: part.bytes, ...digest, Body: body }), {
        abortSignal,
      }),
    )
    return ETag
  }

  async inParts(parts: readonly Part[]): Promise<string | undefined> {
    const { bucket: Bucket, key: Key, what } = this.#object
    const { calls, digest } = this.#options
    const command = { Bucket, Key, ...(digest === 'crc32' ? { ChecksumAlgorithm: 'CRC32' as const } : {}) }
    if (this.#signal?.aborted === true) throw givenUp(what, this.#signal)
    // Not given up by the caller's signal: an upload whose id is not known could not be abandoned.
    const begun = await calls.call({ what, kind: 'other' }, ({ client, signal }) =>
      client.send(new CreateMultipartUploadCommand(command), { abortSignal: signal }),
    )
    const uploadId = begun.UploadId
    if (uploadId === undefined || uploadId === '') throw badAnswer(what, 'the upload that was begun has no id')
    const { underWay } = this.#options
    underWay.add(uploadId)
    try {
      return await this.#complete(uploadId, await this.#allParts(uploadId, parts))
    } catch (error) {
      await this.#abandon(uploadId)
      throw error
    } finally {
      underWay.delete(uploadId)
    }
  }

  async #allParts(uploadId: string, parts: readonly Part[]): Promise<CompletedPart[]> {
    const failed = new AbortController()
    const abort = (): void => failed.abort(this.#signal?.reason)
    if (this.#signal?.aborted) abort()
    this.#signal?.addEventListener('abort', abort)
    const left = [...parts].reverse()
    const done: CompletedPart[] = []
    const uploadNext = async (): Promise<void> => {
      for (let part = left.pop(); part !== undefined; part = left.pop()) {
        if (failed.signal.aborted) throw givenUp(this.#object.what, failed.signal)
        done.push(await this.#part(uploadId, part, failed.signal))
      }
    }
    try {
      const uploaders = Array.from({ length: Math.min(PARTS_AT_ONCE, parts.length) }, () =>
        uploadNext().catch((error: unknown) => {
          // The others stop, and are waited for: a part that arrives after the upload was abandoned would stay.
          failed.abort(error)
          throw error
        }),
      )
      // What went wrong first: the others only gave up because of it.
      const first = Promise.all(uploaders).then(
        () => undefined,
        (error: unknown) => ({ error }),
      )
      await Promise.allSettled(uploaders)
      const failure = await first
      if (failure !== undefined) throw failure.error
    } finally {
      this.#signal?.removeEventListener('abort', abort)
    }
    return done.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0))
  }

  async #part(uploadId: string, part: Part, signal: AbortSignal): Promise<CompletedPart> {
    const { bucket: Bucket, key: Key, what } = this.#object
    const target = { Bucket, Key, UploadId: uploadId, PartNumber: part.number, ContentLength: part.bytes }
    const sent = await this.#send(part, signal, ({ body, digest, client, abortSignal }) =>
      client.send(new UploadPartCommand({ ...target, ...digest, Body: body }), { abortSignal }),
    )
    if (sent.ETag === undefined) throw badAnswer(what, `part ${part.number} has no ETag`)
    const { ChecksumCRC32 } = sent.digest
    return { PartNumber: part.number, ETag: sent.ETag, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) }
  }

  /** One request with a range of the file as its body, and with the digest of it. */
  async #send(part: Part, signal: AbortSignal | undefined, send: SendPart): Promise<SentPart> {
    const { sender, digest: kind } = this.#options
    const range = { ...this.#source, ...part }
    const known = kind === 'crc32' ? await this.#readable(crc32OfPages(sender, range)) : undefined
    try {
      return await this.#sendDigested(range, headerOf(kind, known ?? (await this.#digest(range))), { signal, send })
    } catch (error) {
      if (known === undefined || !isRefusal(error)) throw error
      const found = await this.#digest(range)
      if (found === known) throw error
      return await this.#sendDigested(range, headerOf(kind, found), { signal, send })
    }
  }

  async #digest(range: FileRange): Promise<string> {
    const { sender, digest } = this.#options
    return await this.#readable(sender.digest(range, digest))
  }

  #readable<T>(reading: Promise<T>): Promise<T> {
    return reading.catch((error: Error) => {
      throw unreadable(this.#object, this.#source.path, error)
    })
  }

  async #sendDigested(
    range: FileRange,
    digest: DigestHeader,
    { signal, send }: { readonly signal: AbortSignal | undefined; readonly send: SendPart },
  ): Promise<SentPart> {
    const { calls, sender } = this.#options
    const { what } = this.#object
    return await calls.call({ what, kind: 'upload', signal }, async (attempt) => {
      const body = sender.body(range, attempt)
      this.#bodies.add(body)
      const giveUp = (): void => void body.ended()
      attempt.signal.addEventListener('abort', giveUp)
      try {
        const { ETag } = await send({ body, digest, client: attempt.client, abortSignal: attempt.signal })
        return { ETag, digest }
      } catch (error) {
        throw body.failure === undefined ? error : unreadable(this.#object, range.path, body.failure)
      } finally {
        attempt.signal.removeEventListener('abort', giveUp)
        // Before the next attempt reads it.
        await body.ended()
        this.#bodies.delete(body)
      }
    })
  }

  /** Resolves when nothing is sent or read any more: an attempt that was given up need not have ended. */
  async ended(): Promise<void> {
    await Promise.all([...this.#bodies].map((body) => body.ended()))
  }

  /** Not given up by the caller's signal: whether it took place would not be known. */
  async #complete(uploadId: string, parts: CompletedPart[]): Promise<string | undefined> {
    const { bucket: Bucket, key: Key, what } = this.#object
    const target = { Bucket, Key, UploadId: uploadId, MultipartUpload: { Parts: parts } }
    let isAmbiguous = false
    const call = {
      what,
      kind: 'other',
      timeoutMs: this.#options.timeoutMs * COMPLETION_TIMEOUTS,
      onRetry: () => void (isAmbiguous = true),
    } as const
    try {
      const { ETag } = await this.#options.calls.call(call, ({ client, signal }) =>
        client.send(new CompleteMultipartUploadCommand(target), { abortSignal: signal }),
      )
      return ETag
    } catch (error) {
      const isGone = error instanceof TidegateError && error.details['remoteCode'] === 'NoSuchUpload'
      if (!isGone || !isAmbiguous) throw error
      return etagOfParts(parts)
    }
  }

  /** What cannot be reached now is left to abandonUploads. */
  async #abandon(uploadId: string): Promise<void> {
    // A part that arrives after that would stay.
    await this.ended()
    const { bucket: Bucket, key: Key, what } = this.#object
    const command = new AbortMultipartUploadCommand({ Bucket, Key, UploadId: uploadId })
    await this.#options.calls
      .call({ what, kind: 'other', isCleanup: true }, ({ client, signal }) =>
        client.send(command, { abortSignal: signal }),
      )
      .catch(() => undefined)
  }

  /** The object is there, and is what was uploaded. */
  async confirm(etag: string | undefined): Promise<void> {
    const { bucket: Bucket, key: Key, what } = this.#object
    const found = await this.#options.calls.call({ what, kind: 'other' }, ({ client, signal }) =>
      client.send(new HeadObjectCommand({ Bucket, Key }), { abortSignal: signal }),
    )
    const { bytes } = this.#source
    if (found.ContentLength !== bytes) {
      throw badAnswer(what, `${bytes} bytes were uploaded, the store has ${found.ContentLength}`)
    }
    if (etag !== undefined && found.ETag !== undefined && bare(found.ETag) !== bare(etag)) {
      throw badAnswer(what, `${etag} was uploaded, the store has ${found.ETag}`)
    }
  }
}

interface DigestHeader {
  readonly ContentMD5?: string
  readonly ChecksumCRC32?: string
}

function headerOf(kind: DigestKind, text: string): DigestHeader {
  return kind === 'md5' ? { ContentMD5: text } : { ChecksumCRC32: text }
}

function bare(etag: string): string {
  return etag.replaceAll('"', '')
}

/** The ETag that nearly all stores give what is joined from parts: MD5 over the parts' MD5s. Undefined where a part's is none. */
function etagOfParts(parts: readonly CompletedPart[]): string | undefined {
  const etags = parts.map(({ ETag }) => bare(ETag ?? ''))
  if (!etags.every((etag) => /^[0-9a-f]{32}$/.test(etag))) return undefined
  const joined = createHash('md5')
    .update(Buffer.from(etags.join(''), 'hex'))
    .digest('hex')
  return `"${joined}-${parts.length}"`
}
