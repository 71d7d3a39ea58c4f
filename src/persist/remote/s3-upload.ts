/**
 * Uploading a file to an external S3.
 *
 *   up to 16 MiB    PutObject
 *   above           CreateMultipartUpload, UploadPart (several at once), CompleteMultipartUpload (s3-multipart.ts)
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
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  type CompletedPart,
  type S3Client,
} from '@aws-sdk/client-s3'
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FileSystem, OpenFile } from '../ports.ts'
import type { DigestKind, FileBody, FileRange, FileSender } from './file-sender.ts'
import { crc32OfPages } from './page-digest.ts'
import type { LocalFile } from './ports.ts'
import type { S3Calls } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'
import { bareEtag } from './s3-etags.ts'
import { uploadInParts, type PartTarget } from './s3-multipart.ts'
import type { S3Object } from './s3-read.ts'

const MIB = 2 ** 20
const PART_BYTES = 16 * MIB
const PARTS_MAX = 10_000

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
    const { calls, digest, timeoutMs, underWay } = this.#options
    const { etag } = await uploadInParts({
      calls,
      object: this.#object,
      timeoutMs,
      pieces: parts,
      signal: this.#signal,
      begin: digest === 'crc32' ? { ChecksumAlgorithm: 'CRC32' } : {},
      underWay,
      send: (part, target, signal) => this.#part(part, target, signal),
      ended: () => this.ended(),
    })
    return etag
  }

  async #part(part: Part, target: PartTarget, signal: AbortSignal): Promise<CompletedPart> {
    const sent = await this.#send(part, signal, ({ body, digest, client, abortSignal }) =>
      client.send(new UploadPartCommand({ ...target, ContentLength: part.bytes, ...digest, Body: body }), {
        abortSignal,
      }),
    )
    if (sent.ETag === undefined) throw badAnswer(this.#object.what, `part ${part.number} has no ETag`)
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
    if (etag !== undefined && found.ETag !== undefined && bareEtag(found.ETag) !== bareEtag(etag)) {
      throw badAnswer(what, `${etag} was uploaded, the store has ${found.ETag}`)
    }
  }
}

export interface DigestHeader {
  readonly ContentMD5?: string
  readonly ChecksumCRC32?: string
}

function headerOf(kind: DigestKind, text: string): DigestHeader {
  return kind === 'md5' ? { ContentMD5: text } : { ChecksumCRC32: text }
}
