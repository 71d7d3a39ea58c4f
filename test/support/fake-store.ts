/**
 * A store in memory, just enough for the tests of a door: one version per key, no durability, no limits of its own. Bodies
 * over `INLINE_BYTES_MAX` are read through leases, which it counts, so a test can see that each came back.
 */
import { createHash } from 'node:crypto'
import { computeChecksum } from '../../src/common/checksums.ts'
import { TidegateError } from '../../src/common/errors.ts'
import type {
  BucketRecord,
  ChecksumAlgorithm,
  Conditions,
  ListedObject,
  ObjectVersion,
  UploadPart,
  UploadRecord,
} from '../../src/common/model.ts'
import type { Store } from '../../src/store/doors.ts'
import type { BodySource, ObjectAddress } from '../../src/store/types.ts'

const INLINE_BYTES_MAX = 4096
const SLICE_BYTES_MAX = 64 * 1024

interface Stored {
  version: ObjectVersion
  bytes: Buffer
  parts: { part: UploadPart; bytes: Buffer }[]
}

interface Streaming {
  chunks: Buffer[]
  algorithms: readonly ChecksumAlgorithm[]
  sha256: boolean
}

interface Upload {
  record: UploadRecord
  parts: Map<number, { part: UploadPart; bytes: Buffer }>
}

export class FakeStore implements Store {
  readonly #buckets = new Map<string, { record: BucketRecord; objects: Map<string, Stored> }>()
  readonly #uploads = new Map<string, Upload>()
  readonly #readers = new Map<number, Buffer>()
  readonly #readerParts = new Map<number, Stored>()
  readonly #slices = new Map<number, Buffer>()
  readonly openBodies = new Map<number, Streaming>()
  readonly #clock: () => number
  #next = 1

  constructor(clock: () => number = () => 1_700_000_000_000) {
    this.#clock = clock
  }

  get leases(): number {
    return this.#slices.size
  }

  get readers(): number {
    return this.#readers.size
  }

  #bucket(name: string): { record: BucketRecord; objects: Map<string, Stored> } {
    const bucket = this.#buckets.get(name)
    if (bucket === undefined) throw new TidegateError('NoSuchBucket', name)
    return bucket
  }

  #find(address: ObjectAddress, conditions: Conditions = {}): Stored {
    const stored = this.#bucket(address.bucket).objects.get(address.key)
    if (stored === undefined) throw new TidegateError('NoSuchKey', address.key)
    if (address.versionId !== undefined && address.versionId !== 'null') {
      throw new TidegateError('NoSuchVersion', address.versionId)
    }
    checkRead(stored.version, conditions)
    return stored
  }

  #take(body: BodySource): Buffer {
    if (body.kind === 'bytes') return Buffer.from(body.bytes)
    const streaming = this.openBodies.get(body.body)
    if (streaming === undefined) throw new TidegateError('Internal', 'no such body')
    this.openBodies.delete(body.body)
    return Buffer.concat(streaming.chunks)
  }

  readonly buckets: Store['buckets'] = {
    create: async ({ name, owner, region }) => {
      const existing = this.#buckets.get(name)
      if (existing !== undefined) {
        throw new TidegateError(
          existing.record.owner === owner ? 'BucketAlreadyOwnedByYou' : 'BucketAlreadyExists',
          name,
        )
      }
      if (!/^[a-z0-9][a-z0-9.-]{0,62}$/.test(name)) throw new TidegateError('InvalidBucketName', name)
      const record: BucketRecord = {
        name,
        id: this.#next++,
        root: this.#next++,
        owner,
        createdMs: this.#clock(),
        region,
        versioning: 'off',
        ack: 'journal',
      }
      this.#buckets.set(name, { record, objects: new Map() })
      return record
    },
    get: async (name) => this.#bucket(name).record,
    list: async ({ prefix, after, limit }) =>
      [...this.#buckets.values()]
        .map((bucket) => bucket.record)
        .filter((record) => record.name.startsWith(prefix) && record.name > after)
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .slice(0, limit),
    delete: async (name) => {
      if (this.#bucket(name).objects.size > 0) throw new TidegateError('BucketNotEmpty', name)
      this.#buckets.delete(name)
    },
    setVersioning: async (name, versioning) => {
      const bucket = this.#bucket(name)
      bucket.record = { ...bucket.record, versioning }
    },
  }

  readonly objects: Store['objects'] = {
    put: async (request) => {
      const bucket = this.#bucket(request.bucket)
      checkWrite(bucket.objects.get(request.key)?.version, request.conditions)
      const bytes = this.#take(request.body)
      return this.#publish(request, { bytes, etag: md5(bytes), partsCount: undefined, parts: [] })
    },
    copy: async (request) => {
      const source = this.#find(request.source, request.sourceConditions)
      const result = this.#publish(
        {
          bucket: request.bucket,
          key: request.key,
          owner: request.owner,
          checksum: source.version.checksum,
          attributes: {
            ...(request.attributes ?? source.version.attributes),
            tags: request.tags ?? source.version.attributes.tags,
          },
        },
        { bytes: source.bytes, etag: source.version.etag, partsCount: source.version.partsCount, parts: source.parts },
      )
      return { ...result, sourceVersionId: undefined }
    },
    head: async (address, conditions) => this.#find(address, conditions).version,
    open: async (address, conditions) => {
      const stored = this.#find(address, conditions)
      const reader = this.#next++
      this.#readers.set(reader, stored.bytes)
      this.#readerParts.set(reader, stored)
      return { reader, version: stored.version }
    },
    delete: async (address, conditions) => {
      const bucket = this.#bucket(address.bucket)
      const stored = bucket.objects.get(address.key)
      if (stored !== undefined) checkWrite(stored.version, conditions)
      const existed = bucket.objects.delete(address.key)
      return { versionId: undefined, deleteMarker: false, existed, revision: this.#next++ }
    },
    setTags: async (address, tags) => {
      const stored = this.#find(address)
      stored.version = { ...stored.version, attributes: { ...stored.version.attributes, tags } }
      return { versionId: undefined }
    },
    list: async (request) => {
      const rows: ({ key: string; object: ListedObject } | { key: string; object?: undefined })[] = []
      for (const stored of this.#sorted(request.bucket)) {
        const { key } = stored.version
        if (!key.startsWith(request.prefix)) continue
        const cut = request.delimiter === '' ? -1 : key.indexOf(request.delimiter, request.prefix.length)
        const name = cut < 0 ? key : key.slice(0, cut + request.delimiter.length)
        if (name <= request.after || rows.at(-1)?.key === name) continue
        rows.push(cut < 0 ? { key, object: listed(stored.version) } : { key: name })
      }
      const page = rows.slice(0, request.limit)
      const truncated = rows.length > page.length
      return {
        objects: page.flatMap((row) => (row.object === undefined ? [] : [row.object])),
        commonPrefixes: page.flatMap((row) => (row.object === undefined ? [row.key] : [])),
        truncated,
        next: truncated ? page.at(-1)?.key : undefined,
        revision: 1,
      }
    },
    listVersions: async (request) => {
      const rows = this.#sorted(request.bucket)
        .map((stored) => stored.version)
        .filter((version) => version.key.startsWith(request.prefix) && version.key > request.keyMarker)
      const page = rows.slice(0, request.limit)
      const truncated = rows.length > page.length
      return {
        versions: page.map((version) => ({
          ...listed(version),
          versionId: 'null',
          isLatest: true,
          isDeleteMarker: false,
        })),
        commonPrefixes: [],
        truncated,
        nextKeyMarker: truncated ? page.at(-1)?.key : undefined,
        nextVersionIdMarker: truncated ? 'null' : undefined,
        revision: 1,
      }
    },
    parts: async (address, after, limit) => {
      const rest = this.#find(address)
        .parts.map(({ part }) => part)
        .filter((part) => part.partNumber > after)
      return { parts: rest.slice(0, limit), truncated: rest.length > limit }
    },
    partRange: async (reader, partNumber) => {
      const parts = this.#readerParts.get(reader)?.parts ?? []
      let offset = 0
      for (const { part } of parts) {
        if (part.partNumber === partNumber) return { offset, length: part.size }
        offset += part.size
      }
      throw new TidegateError('InvalidPart', String(partNumber))
    },
  }

  readonly reading: Store['reading'] = {
    read: async (reader, offset, length) => {
      const bytes = this.#readers.get(reader)
      if (bytes === undefined) throw new TidegateError('Internal', 'no such reader')
      const lease = this.#next++
      const slice = Buffer.from(bytes.subarray(offset, offset + Math.min(length, SLICE_BYTES_MAX)))
      this.#slices.set(lease, slice)
      return { slabOffset: 0, length: slice.length, lease }
    },
    view: (slice) => this.#slices.get(slice.lease) ?? Buffer.alloc(0),
    release: (lease) => {
      const slice = this.#slices.get(lease)
      if (slice === undefined) throw new Error(`lease ${lease} released twice`)
      slice.fill(0xdb)
      this.#slices.delete(lease)
    },
    close: (reader) => {
      if (!this.#readers.delete(reader)) throw new Error(`reader ${reader} closed twice`)
      this.#readerParts.delete(reader)
    },
  }

  readonly bodies: Store['bodies'] = {
    open: async ({ algorithms, sha256 }) => {
      const body = this.#next++
      this.openBodies.set(body, { chunks: [], algorithms, sha256 })
      return body
    },
    append: async (body, bytes) => {
      await new Promise(setImmediate)
      this.openBodies.get(body)?.chunks.push(Buffer.from(bytes))
    },
    finish: async (body) => {
      const streaming = this.openBodies.get(body)
      if (streaming === undefined) throw new TidegateError('Internal', 'no such body')
      const bytes = Buffer.concat(streaming.chunks)
      const checksums = Object.fromEntries(
        streaming.algorithms.map((algorithm) => [algorithm, computeChecksum(algorithm, bytes)]),
      )
      const sha256 = streaming.sha256 ? { sha256: createHash('sha256').update(bytes).digest('hex') } : {}
      return { length: bytes.length, digests: { md5: md5(bytes), checksums, ...sha256 } }
    },
    discard: async (body) => void this.openBodies.delete(body),
  }

  readonly uploads: Store['uploads'] = {
    create: async (request) => {
      this.#bucket(request.bucket)
      const record = { ...request, uploadId: `upload-${this.#next++}`, initiatedMs: this.#clock() }
      this.#uploads.set(record.uploadId, { record, parts: new Map() })
      return record
    },
    get: async (request) => this.#upload(request).record,
    putPart: async (request) => this.#putPart(request, { bytes: this.#take(request.body), checksum: request.checksum }),
    copyPart: async (request) => {
      const { bytes } = this.#find(request.source, request.sourceConditions)
      const { offset, length } = request.range ?? { offset: 0, length: bytes.length }
      if (offset + length > bytes.length) throw new TidegateError('InvalidRange', 'copy range')
      return this.#putPart(request, { bytes: bytes.subarray(offset, offset + length), checksum: undefined })
    },
    listParts: async (request) => {
      const upload = this.#upload(request)
      const rest = sortedParts(upload).filter((part) => part.partNumber > request.after)
      return { upload: upload.record, parts: rest.slice(0, request.limit), truncated: rest.length > request.limit }
    },
    list: async (request) => {
      this.#bucket(request.bucket)
      const uploads = [...this.#uploads.values()]
        .map((upload) => upload.record)
        .filter((record) => record.bucket === request.bucket && record.key.startsWith(request.prefix))
      return { uploads, commonPrefixes: [], truncated: false }
    },
    complete: async (request) => {
      const upload = this.#upload(request)
      const parts = request.parts.map(({ partNumber, etag }) => {
        const found = upload.parts.get(partNumber)
        if (found === undefined || found.part.etag !== etag) throw new TidegateError('InvalidPart', String(partNumber))
        return found
      })
      checkWrite(this.#bucket(request.bucket).objects.get(request.key)?.version, request.conditions)
      const digests = Buffer.concat(parts.map(({ part }) => Buffer.from(part.etag, 'hex')))
      const result = this.#publish(
        { ...upload.record, checksum: request.checksum },
        {
          bytes: Buffer.concat(parts.map(({ bytes }) => bytes)),
          etag: `${md5(digests)}-${parts.length}`,
          partsCount: parts.length,
          parts,
        },
      )
      this.#uploads.delete(request.uploadId)
      return result
    },
    abort: async (request) => {
      this.#upload(request)
      this.#uploads.delete(request.uploadId)
    },
  }

  #upload(request: { bucket: string; key: string; uploadId: string }): Upload {
    this.#bucket(request.bucket)
    const upload = this.#uploads.get(request.uploadId)
    if (upload?.record.key !== request.key) throw new TidegateError('NoSuchUpload', request.uploadId)
    return upload
  }

  #putPart(
    request: { bucket: string; key: string; uploadId: string; partNumber: number },
    body: { bytes: Buffer; checksum: UploadPart['checksum'] },
  ): UploadPart & { sourceVersionId: undefined } {
    const { partNumber } = request
    const { bytes, checksum } = body
    const part = { partNumber, size: bytes.length, etag: md5(bytes), mtimeMs: this.#clock(), checksum }
    this.#upload(request).parts.set(partNumber, { part, bytes })
    return { ...part, sourceVersionId: undefined }
  }

  #sorted(bucket: string): Stored[] {
    const rows = [...this.#bucket(bucket).objects.values()]
    return rows.sort((a, b) => Buffer.compare(Buffer.from(a.version.key), Buffer.from(b.version.key)))
  }

  #publish(
    request: Pick<ObjectVersion, 'bucket' | 'key' | 'owner' | 'checksum' | 'attributes'>,
    content: { bytes: Buffer; etag: string; partsCount: number | undefined; parts: Stored['parts'] },
  ): {
    versionId: undefined
    etag: string
    size: number
    mtimeMs: number
    checksum: ObjectVersion['checksum']
    revision: number
  } {
    const { bytes, etag, partsCount, parts } = content
    const revision = this.#next++
    const version: ObjectVersion = {
      bucket: request.bucket,
      key: request.key,
      inode: revision,
      versionId: undefined,
      size: bytes.length,
      mtimeMs: this.#clock(),
      etag,
      owner: request.owner,
      attributes: request.attributes,
      checksum: request.checksum,
      partsCount,
      body: bytes.length <= INLINE_BYTES_MAX ? { kind: 'inline', bytes } : { kind: 'content', content: revision },
      revision,
    }
    this.#bucket(request.bucket).objects.set(request.key, { version, bytes, parts })
    return {
      versionId: undefined,
      etag,
      size: bytes.length,
      mtimeMs: version.mtimeMs,
      checksum: request.checksum,
      revision,
    }
  }
}

function md5(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex')
}

function sortedParts(upload: Upload): UploadPart[] {
  return [...upload.parts.values()].map(({ part }) => part).sort((a, b) => a.partNumber - b.partNumber)
}

function listed(version: ObjectVersion): ListedObject {
  const { key, size, mtimeMs, etag, owner } = version
  return {
    key,
    size,
    mtimeMs,
    etag,
    owner,
    storageClass: version.attributes.storageClass,
    checksumAlgorithm: version.checksum?.algorithm,
    checksumType: version.checksum?.type,
  }
}

function matches(etags: readonly string[], version: ObjectVersion): boolean {
  return etags.includes('*') || etags.includes(version.etag)
}

function checkRead(version: ObjectVersion, conditions: Conditions): void {
  const second = Math.floor(version.mtimeMs / 1000) * 1000
  if (conditions.ifMatch !== undefined) {
    if (!matches(conditions.ifMatch, version)) throw new TidegateError('PreconditionFailed', 'If-Match')
  } else if (conditions.ifUnmodifiedSinceMs !== undefined && second > conditions.ifUnmodifiedSinceMs) {
    throw new TidegateError('PreconditionFailed', 'If-Unmodified-Since')
  }
  if (conditions.ifNoneMatch !== undefined) {
    if (matches(conditions.ifNoneMatch, version)) throw new TidegateError('NotModified', 'If-None-Match')
  } else if (conditions.ifModifiedSinceMs !== undefined && second <= conditions.ifModifiedSinceMs) {
    throw new TidegateError('NotModified', 'If-Modified-Since')
  }
}

function checkWrite(version: ObjectVersion | undefined, conditions: Conditions): void {
  if (conditions.ifMatch !== undefined) {
    if (version === undefined) throw new TidegateError('NoSuchKey', 'If-Match')
    if (!matches(conditions.ifMatch, version)) throw new TidegateError('PreconditionFailed', 'If-Match')
  }
  if (conditions.ifNoneMatch !== undefined && version !== undefined && matches(conditions.ifNoneMatch, version)) {
    throw new TidegateError('PreconditionFailed', 'If-None-Match')
  }
}
