/** Objects as the doors call them: bytes first, then one metadata transaction, then the acknowledgement. */
import { checkConditions } from '../common/conditions.ts'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { Limits } from '../common/limits.ts'
import type {
  AckLevel,
  Conditions,
  ListPage,
  ListRequest,
  ListVersionsPage,
  ListVersionsRequest,
  ObjectVersion,
  UploadPart,
} from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { OpenBodies } from './bodies.ts'
import { copyBytes } from './copy-bytes.ts'
import type { Objects } from './doors.ts'
import type { Metadata } from './ports.ts'
import { inlineBody, journaledBody } from './publish-body.ts'
import type { Readers } from './reading.ts'
import type {
  CopyObjectRequest,
  CopyResult,
  DeleteResult,
  ObjectAddress,
  OpenedObject,
  PutObjectRequest,
  PutResult,
  ReaderId,
} from './types.ts'

export interface ObjectsParts {
  readonly metadata: Metadata
  readonly bodies: OpenBodies
  readonly readers: Readers
  readonly acknowledgement: Acknowledgement
  readonly limits: Limits
}

export class StoreObjects implements Objects {
  readonly #parts: ObjectsParts

  constructor(parts: ObjectsParts) {
    this.#parts = parts
  }

  async put(request: PutObjectRequest): Promise<PutResult> {
    const { metadata, bodies, acknowledgement, limits } = this.#parts
    const { bucket, key, attributes, checksum, owner, conditions, ttlMs } = request
    const taken = await bodies.take(request.body)
    try {
      const ack = acknowledgement.level(request.ack, await metadata.bucket(bucket))
      const label = { bucket, key, attributes, ttlMs }
      const body = inlineBody(taken, limits) ?? (await journaledBody(taken, { acknowledgement, ack, label }))
      const { md5: etag } = taken.digests
      const size = taken.length
      const publish = { bucket, key, body, size, etag, owner, attributes, checksum, conditions, ack, ttlMs }
      const commit = await metadata.publish(publish)
      await acknowledgement.durable(ack, commit)
      taken.done()
      if (body.kind === 'run') await acknowledgement.persisted(ack, [body.run.segment])
      await acknowledgement.named(ack, commit.value)
      return putResult(commit.value, commit.revision)
    } catch (error) {
      // A no-op once the body is published.
      await taken.discard(error)
      throw error
    }
  }

  async copy(request: CopyObjectRequest): Promise<CopyResult> {
    const { metadata, acknowledgement } = this.#parts
    const ack = acknowledgement.level(request.ack, await metadata.bucket(request.bucket))
    const commit = await metadata.copy({ ...request, ack }).catch((error: unknown) => {
      if (isTidegateError(error, 'ConditionalRequestConflict')) return undefined
      throw error
    })
    if (!commit) return await this.#copyBytes(request)
    const { target, source } = commit.value
    await acknowledgement.durable(ack, commit)
    if (target.body.kind === 'content') await acknowledgement.raisedContent(ack, target.body.content)
    await acknowledgement.named(ack, target)
    return { ...putResult(target, commit.revision), sourceVersionId: source.versionId }
  }

  /** Of what cannot be referred to. The copy is what a PUT of the same bytes makes, with the ETag of one. */
  async #copyBytes(request: CopyObjectRequest): Promise<CopyResult> {
    const { source, sourceConditions, bucket, key, attributes, tags, owner, conditions, ack } = request
    const opened = await this.open(source, {})
    const { version } = opened
    try {
      checkConditions('source', sourceConditions, version)
      const range = { offset: 0, length: version.size }
      const algorithm = version.checksum?.algorithm
      const copied = await copyBytes(this.#parts, { opened, range }, { label: { bucket, key }, algorithm })
      const result = await this.put({
        bucket,
        key,
        body: copied.source,
        attributes: { ...(attributes ?? version.attributes), tags: tags ?? version.attributes.tags },
        checksum: copied.checksum,
        owner,
        conditions,
        ack,
      })
      return { ...result, sourceVersionId: version.versionId }
    } finally {
      this.#parts.readers.close(opened.reader)
    }
  }

  async head(address: ObjectAddress, conditions: Conditions): Promise<ObjectVersion> {
    const version = await this.#parts.metadata.lookup(address.bucket, address.key, address.versionId)
    checkConditions('read', conditions, version)
    return version
  }

  async open(address: ObjectAddress, conditions: Conditions): Promise<OpenedObject> {
    const { readers, metadata } = this.#parts
    const reader = readers.begin(metadata.revision())
    try {
      const version = await metadata.lookup(address.bucket, address.key, address.versionId)
      checkConditions('read', conditions, version)
      readers.opened(reader, version)
      return { reader, version }
    } catch (error) {
      readers.close(reader)
      throw error
    }
  }

  async delete(address: ObjectAddress, conditions: Conditions, ack?: AckLevel): Promise<DeleteResult> {
    const { metadata, acknowledgement } = this.#parts
    const bucket = await metadata.bucket(address.bucket)
    const level = acknowledgement.level(ack, bucket)
    const commit = await metadata.remove({ ...address, conditions, owner: bucket.owner })
    await acknowledgement.durable(level, commit)
    return { ...commit.value, revision: commit.revision }
  }

  async setTags(
    address: ObjectAddress,
    tags: Readonly<Record<string, string>>,
  ): Promise<{ versionId: string | undefined }> {
    const { metadata, acknowledgement } = this.#parts
    const bucket = await metadata.bucket(address.bucket)
    const commit = await metadata.setTags(address, tags)
    await acknowledgement.durable(bucket.ack, commit)
    return commit.value
  }

  list(request: ListRequest): Promise<ListPage> {
    return this.#parts.metadata.list(request)
  }

  listVersions(request: ListVersionsRequest): Promise<ListVersionsPage> {
    return this.#parts.metadata.listVersions(request)
  }

  async parts(
    address: ObjectAddress,
    after: number,
    limit: number,
  ): Promise<{ parts: UploadPart[]; truncated: boolean }> {
    const { metadata, readers } = this.#parts
    const reader = readers.begin(metadata.revision())
    try {
      const { body } = await metadata.lookup(address.bucket, address.key, address.versionId)
      // An external store does not say how long the parts were.
      if (body.kind !== 'content') return { parts: [], truncated: false }
      return await metadata.contentParts(body.content, after, limit)
    } finally {
      readers.close(reader)
    }
  }

  async partRange(reader: ReaderId, partNumber: number): Promise<{ offset: number; length: number }> {
    const { body, size } = this.#parts.readers.version(reader)
    const range = body.kind === 'content' ? await this.#parts.metadata.partRange(body.content, partNumber) : undefined
    if (range) return range
    // An object of one PUT is its own only part.
    if (partNumber === 1) return { offset: 0, length: size }
    throw new TidegateError('InvalidPart', `there is no part ${partNumber}`)
  }
}

export function putResult(version: ObjectVersion, revision: number): PutResult {
  const { versionId, etag, size, mtimeMs, checksum, expiresMs } = version
  return { versionId, etag, size, mtimeMs, checksum, revision, expiresMs }
}
