/** Multipart uploads as the doors call them. Complete copies no byte (C11). */
import { createHash } from 'node:crypto'
import { must } from '../common/assert.ts'
import { checkConditions } from '../common/conditions.ts'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { Limits } from '../common/limits.ts'
import type { ChecksumAlgorithm, ObjectChecksum, UploadPart, UploadRecord } from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { OpenBodies, TakenBody } from './bodies.ts'
import type { Hashing } from './byte-ports.ts'
import { checkCompletion } from './complete-upload.ts'
import { copyBytes, type CopiedRange } from './copy-bytes.ts'
import type { Objects, Uploads } from './doors.ts'
import { putResult } from './objects.ts'
import type { Commit, Metadata } from './ports.ts'
import type { Readers } from './reading.ts'
import type {
  CompleteUploadRequest,
  CopyPartRequest,
  OpenedObject,
  PartResult,
  PutPartRequest,
  PutResult,
} from './types.ts'

export interface UploadsParts {
  readonly metadata: Metadata
  readonly bodies: OpenBodies
  readonly objects: Objects
  readonly readers: Readers
  readonly hashing: Hashing
  readonly acknowledgement: Acknowledgement
  readonly limits: Limits
}

const PARTS_PAGE = 1000

export class StoreUploads implements Uploads {
  readonly #parts: UploadsParts

  constructor(parts: UploadsParts) {
    this.#parts = parts
  }

  async create(request: Omit<UploadRecord, 'uploadId' | 'initiatedMs'>): Promise<UploadRecord> {
    const commit = await this.#parts.metadata.createUpload(request)
    await commit.durable
    return commit.value
  }

  get(request: { bucket: string; key: string; uploadId: string }): Promise<UploadRecord> {
    return this.#parts.metadata.upload(request.bucket, request.key, request.uploadId)
  }

  listParts(request: Parameters<Uploads['listParts']>[0]): ReturnType<Uploads['listParts']> {
    return this.#parts.metadata.listParts(request)
  }

  list(request: Parameters<Uploads['list']>[0]): ReturnType<Uploads['list']> {
    return this.#parts.metadata.listUploads(request)
  }

  async abort(request: { bucket: string; key: string; uploadId: string }): Promise<void> {
    const commit = await this.#parts.metadata.abortUpload(request.bucket, request.key, request.uploadId)
    await commit.durable
  }

  async putPart(request: PutPartRequest): Promise<PartResult> {
    this.#checkPartNumber(request.partNumber)
    const taken = await this.#parts.bodies.take(request.body)
    const commit = await this.#publishPart(request, taken)
    return { ...partResult(commit.value), sourceVersionId: undefined }
  }

  async #publishPart(request: Omit<PutPartRequest, 'body'>, taken: TakenBody): Promise<Commit<UploadPart>> {
    const { metadata, acknowledgement } = this.#parts
    const { bucket, key, uploadId, partNumber, checksum } = request
    try {
      const ack = acknowledgement.level(request.ack, await metadata.bucket(bucket))
      await metadata.upload(bucket, key, uploadId)
      const journaled =
        taken.length > 0
          ? await taken.journal({ bucket, key, part: { uploadId, partNumber } }, { copied: ack === 'replicated' })
          : undefined
      if (journaled) await acknowledgement.beforeCommit(ack, journaled)
      const { length: size } = taken
      const { md5: etag } = taken.digests
      const run = journaled?.run
      const commit = await metadata.putPart({ bucket, key, uploadId, partNumber, run, size, etag, checksum })
      await acknowledgement.durable(ack, commit)
      taken.done()
      if (run) await acknowledgement.persisted(ack, [run.segment])
      return commit
    } catch (error) {
      // A no-op once the part is published.
      await taken.discard(error)
      throw error
    }
  }

  async copyPart(request: CopyPartRequest): Promise<PartResult> {
    this.#checkPartNumber(request.partNumber)
    const { metadata, objects, readers, acknowledgement } = this.#parts
    const { source, sourceConditions, bucket, key, uploadId, partNumber } = request
    const ack = acknowledgement.level(request.ack, await metadata.bucket(bucket))
    const upload = await metadata.upload(bucket, key, uploadId)
    const opened = await objects.open(source, {})
    try {
      checkConditions('source', sourceConditions, opened.version)
      const range = request.range ?? { offset: 0, length: opened.version.size }
      if (range.offset + range.length > opened.version.size) {
        const last = range.offset + range.length - 1
        throw new TidegateError(
          'InvalidRange',
          `bytes ${range.offset}-${last} of a source of ${opened.version.size} bytes`,
        )
      }
      const { body } = opened.version
      const algorithm = upload.checksumAlgorithm
      if (body.kind !== 'content' || range.length === 0)
        return await this.#copyBytes(request, { opened, range, algorithm })
      const checksum = await this.#checksumOfRange(opened, range, algorithm)
      const etag = copiedPartEtag(opened.version.etag, opened.version.size, range)
      const pinned = { ...source, versionId: opened.version.versionId ?? source.versionId }
      const conditions = { ...sourceConditions, ifMatch: [opened.version.etag] }
      const copy = metadata.copyPart({
        source: pinned,
        sourceConditions: conditions,
        range,
        bucket,
        key,
        uploadId,
        partNumber,
        etag,
        checksum,
      })
      const commit = await copy.catch((error: unknown) => {
        if (isTidegateError(error, 'ConditionalRequestConflict')) return undefined
        throw error
      })
      if (!commit) return await this.#copyBytes(request, { opened, range, algorithm })
      await acknowledgement.durable(ack, commit)
      await acknowledgement.raisedContent(ack, body.content)
      return { ...partResult(commit.value.part), sourceVersionId: opened.version.versionId }
    } finally {
      readers.close(opened.reader)
    }
  }

  /** A source that lies inline or in an external bucket cannot be referred to. */
  async #copyBytes(
    request: CopyPartRequest,
    {
      opened,
      range,
      algorithm,
    }: { opened: OpenedObject; range: CopiedRange; algorithm: ChecksumAlgorithm | undefined },
  ): Promise<PartResult> {
    const { bucket, key } = request
    const { source, checksum } = await copyBytes(this.#parts, { opened, range }, { label: { bucket, key }, algorithm })
    const taken = await this.#parts.bodies.take(source)
    const commit = await this.#publishPart({ ...request, checksum }, taken)
    return { ...partResult(commit.value), sourceVersionId: opened.version.versionId }
  }

  /** Reads a range once when the upload needs a checksum that a reference cannot give. */
  async #checksumOfRange(
    opened: OpenedObject,
    range: { offset: number; length: number },
    algorithm: ChecksumAlgorithm | undefined,
  ): Promise<ObjectChecksum | undefined> {
    const { readers, hashing } = this.#parts
    if (!algorithm) return undefined
    const { checksum, size } = opened.version
    const whole = range.offset === 0 && range.length === size
    if (whole && checksum?.algorithm === algorithm && checksum.type === 'FULL_OBJECT') return checksum
    const stream = hashing.open({ md5: false, sha256: false, algorithms: [algorithm] })
    try {
      for (let done = 0; done < range.length;) {
        const slice = await readers.read(opened.reader, range.offset + done, range.length - done)
        await stream.update(slice).finally(() => readers.release(slice.lease))
        done += slice.length
      }
      const { checksums } = await stream.finish()
      return { algorithm, type: 'FULL_OBJECT', value: must(checksums[algorithm], `${algorithm} of a range`) }
    } catch (error) {
      stream.abandon()
      throw error
    }
  }

  async complete(request: CompleteUploadRequest): Promise<PutResult> {
    const { metadata, acknowledgement, limits } = this.#parts
    const { bucket, key, uploadId, conditions } = request
    const ack = acknowledgement.level(request.ack, await metadata.bucket(bucket))
    const { upload, parts } = await this.#allParts(request)
    const completion = checkCompletion(request, { upload, parts, limits })
    const commit = await metadata.completeUpload({ bucket, key, uploadId, conditions, ack, ...completion })
    await acknowledgement.durable(ack, commit)
    const { body } = commit.value
    if (body.kind === 'content') await acknowledgement.raisedContent(ack, body.content)
    await acknowledgement.named(ack, commit.value)
    return putResult(commit.value, commit.revision)
  }

  async #allParts(address: {
    bucket: string
    key: string
    uploadId: string
  }): Promise<{ upload: UploadRecord | undefined; parts: Map<number, UploadPart> }> {
    const { bucket, key, uploadId } = address
    const parts = new Map<number, UploadPart>()
    for (let after = 0; ;) {
      const request = { bucket, key, uploadId, after, limit: PARTS_PAGE }
      const page = await this.#parts.metadata.listParts(request).catch((error: unknown) => {
        // A Complete that is repeated after it succeeded is answered by metadata, which remembers the upload.
        if (isTidegateError(error, 'NoSuchUpload')) return undefined
        throw error
      })
      if (!page) return { upload: undefined, parts }
      for (const part of page.parts) parts.set(part.partNumber, part)
      if (!page.truncated) return { upload: page.upload, parts }
      after = must(page.parts.at(-1), 'last part of a truncated page').partNumber
    }
  }

  #checkPartNumber(partNumber: number): void {
    const { partsMax } = this.#parts.limits
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > partsMax) {
      throw new TidegateError('InvalidArgument', `part number ${partNumber} is not between 1 and ${partsMax}`)
    }
  }
}

function partResult(part: UploadPart): Omit<PartResult, 'sourceVersionId'> {
  return { etag: part.etag, mtimeMs: part.mtimeMs, checksum: part.checksum }
}

/**
 * A part that was copied by reference was never read, so its MD5 is unknown unless it is the whole of an object that came
 * from one PUT. Its ETag is then opaque, in the form that claims no MD5 (C29).
 */
function copiedPartEtag(sourceEtag: string, size: number, range: { offset: number; length: number }): string {
  if (range.offset === 0 && range.length === size && !sourceEtag.includes('-')) return sourceEtag
  return `${createHash('md5').update(`${sourceEtag} ${range.offset} ${range.length}`).digest('hex')}-1`
}
