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
 *   - Each request's body is covered by a digest in a header, made from the file before it is sent: CRC32 where the store has been seen to
 *     check it (s3-probe.ts), else Content-MD5. A store refuses bytes that do not match, and the attempt is repeated.
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
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FileSystem, OpenFile } from '../ports.ts'
import { FileSlice } from './file-slice.ts'
import type { S3Calls } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'
import { bareEtag } from './s3-etags.ts'
import { uploadInParts, type PartTarget } from './s3-multipart.ts'
import type { S3Object } from './s3-read.ts'

export type DigestKind = 'crc32' | 'md5'

const MIB = 2 ** 20
const PART_BYTES = 16 * MIB
const PARTS_MAX = 10_000

export interface UploadOptions {
  readonly calls: S3Calls
  readonly fileSystem: FileSystem
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
  { path, bytes }: { readonly path: string; readonly bytes: number },
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await options.fileSystem.open(path, 'read').catch((error: Error) => {
    throw unreadable(object, path, error)
  })
  try {
    const size = await file.size()
    if (size !== bytes) throw unreadable(object, path, new Error(`it has ${size} bytes, not ${bytes}`))
    const upload = new Upload(options, object, { file, path, bytes }, signal)
    const parts = planParts(bytes)
    await upload.confirm(
      parts.length === 1 ? await upload.putWhole(must(parts[0], 'part')) : await upload.inParts(parts),
    )
  } finally {
    await file.close()
  }
}

function unreadable(object: S3Object, path: string, error: Error): TidegateError {
  return new TidegateError('Unavailable', `${object.what}: cannot read ${path}: ${error.message}`, { cause: error })
}

class Upload {
  readonly #options: UploadOptions
  readonly #object: S3Object
  readonly #source: { readonly file: OpenFile; readonly path: string; readonly bytes: number }
  readonly #signal: AbortSignal | undefined

  constructor(
    options: UploadOptions,
    object: S3Object,
    source: { readonly file: OpenFile; readonly path: string; readonly bytes: number },
    signal: AbortSignal | undefined,
  ) {
    this.#options = options
    this.#object = object
    this.#source = source
    this.#signal = signal
  }

  /** @returns the object's ETag, if the store said it */
  async putWhole(part: Part): Promise<string | undefined> {
    const { bucket: Bucket, key: Key } = this.#object
    const { ETag: etag } = await this.#send(part, this.#signal, ({ body, digest, client, abortSignal }) =>
      client.send(new PutObjectCommand({ Bucket, Key, ContentLength: part.bytes, ...digest, Body: body }), {
        abortSignal,
      }),
    )
    return etag
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

  /** One request with a range of the file as its body, digested beforehand. */
  async #send(
    part: Part,
    signal: AbortSignal | undefined,
    send: (request: {
      readonly body: FileSlice
      readonly digest: DigestHeader
      readonly client: S3Client
      readonly abortSignal: AbortSignal
    }) => Promise<{ ETag?: string | undefined }>,
  ): Promise<{ ETag: string | undefined; digest: DigestHeader }> {
    const { calls } = this.#options
    const { file, path } = this.#source
    const digest = await digestOf(file, part, this.#options.digest).catch((error: Error) => {
      throw unreadable(this.#object, path, error)
    })
    return await calls.call({ what: this.#object.what, kind: 'upload', signal }, async (attempt) => {
      const body = new FileSlice(file, part, async (bytes) => {
        await attempt.pace?.(bytes)
        attempt.progress()
      })
      try {
        const { ETag } = await send({ body, digest, client: attempt.client, abortSignal: attempt.signal })
        return { ETag, digest }
      } catch (error) {
        throw body.failure === undefined ? error : unreadable(this.#object, path, body.failure)
      } finally {
        // Before the file is closed, and before the next attempt reads it.
        await body.ended()
      }
    })
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

/** Of a range of the file, read in chunks; the system still has it in memory for the upload that follows. */
async function digestOf(file: OpenFile, { offset, bytes }: Part, kind: DigestKind): Promise<DigestHeader> {
  const chunk = Buffer.allocUnsafe(Math.min(bytes, MIB))
  const md5 = kind === 'md5' ? createHash('md5') : undefined
  let crc = 0
  for (let done = 0; done < bytes;) {
    const piece = chunk.subarray(0, Math.min(chunk.length, bytes - done))
    if ((await file.read(piece, offset + done)) !== piece.length) throw new Error('it became shorter')
    if (md5) md5.update(piece)
    else crc = crc32(piece, crc)
    done += piece.length
  }
  return md5 ? { ContentMD5: md5.digest('base64') } : { ChecksumCRC32: crc32Text(crc) }
}

export function crc32Text(crc: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(crc)
  return bytes.toString('base64')
}
