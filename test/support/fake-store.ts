/**
 * A store in memory, just enough for the tests of a door: one version per key, no durability, no limits of its own. Bodies
 * over `INLINE_BYTES_MAX` are read through leases, which it counts, so a test can see that each came back.
 */
import { createHash } from 'node:crypto'
import { computeChecksum } from '../../src/common/checksums.ts'
import { checkConditions } from '../../src/common/conditions.ts'
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
import type { BodySource, ObjectAddress, PutResult } from '../../src/store/types.ts'
import { fakeKeyValues, md5, type FakePublish } from './fake-key-values.ts'
import { FakeWatching } from './fake-watching.ts'

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

  /** The object that the key names now: an expired one is gone. */
  #current(bucket: string, key: string): Stored | undefined {
    const { objects } = this.#bucket(bucket)
    const stored = objects.get(key)
    if (stored?.version.expiresMs === undefined || stored.version.expiresMs > this.#clock()) return stored
    objects.delete(key)
    return undefined
  }

  #find(address: ObjectAddress, conditions: Conditions = {}, use: 'read' | 'source' = 'read'): Stored {
    const stored = this.#current(address.bucket, address.key)
    if (stored === undefined) throw new TidegateError('NoSuchKey', address.key)
    if (address.versionId !== undefined && address.versionId !== 'null') {
      throw new TidegateError('NoSuchVersion', address.versionId)
    }
    checkConditions(use, conditions, stored.version)
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
      checkConditions('write', request.conditions, this.#current(request.bucket, request.key)?.version)
      const bytes = this.#take(request.body)
      const expiresMs = request.ttlMs === undefined ? undefined : this.#clock() + request.ttlMs
      return putResult(this.#publish(request, { ...wholeBody(bytes), expiresMs }))
    },
    copy: async (request) => {
      const source = this.#find(request.source, request.sourceConditions, 'source')
      const version = this.#publish(
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
      return { ...putResult(version), sourceVersionId: undefined }
    },
    head: async (address, conditions) => this.#find(address, conditions).version,
    open: async (address, conditions) => {
      const stored = this.#find(address, conditions)
      return { reader: this.#openReader(stored), version: stored.version }
    },
    delete: async (address, conditions) => {
      checkConditions('delete', conditions, this.#current(address.bucket, address.key)?.version)
      const revision = this.#next++
      const existed = this.#remove(address.bucket, address.key, revision)
      return { versionId: undefined, deleteMarker: false, existed, revision }
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
      const { bytes } = this.#find(request.source, request.sourceConditions, 'source')
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
      checkConditions('write', request.conditions, this.#current(request.bucket, request.key)?.version)
      const digests = Buffer.concat(parts.map(({ part }) => Buffer.from(part.etag, 'hex')))
      const version = this.#publish(
        { ...upload.record, checksum: request.checksum },
        {
          bytes: Buffer.concat(parts.map(({ bytes }) => bytes)),
          etag: `${md5(digests)}-${parts.length}`,
          partsCount: parts.length,
          parts,
        },
      )
      this.#uploads.delete(request.uploadId)
      return putResult(version)
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

  #openReader(stored: Stored): number {
    const reader = this.#next++
    this.#readers.set(reader, stored.bytes)
    this.#readerParts.set(reader, stored)
    return reader
  }

  #sorted(bucket: string): Stored[] {
    const keys = [...this.#bucket(bucket).objects.keys()]
    return keys
      .flatMap((key) => this.#current(bucket, key) ?? [])
      .sort((a, b) => Buffer.compare(Buffer.from(a.version.key), Buffer.from(b.version.key)))
  }

  #publish(
    request: Pick<ObjectVersion, 'bucket' | 'key' | 'owner' | 'checksum' | 'attributes'>,
    content: Content,
  ): ObjectVersion {
    const { bytes, etag, partsCount, parts, expiresMs } = content
    const { bucket, key, owner, attributes, checksum } = request
    const revision = content.revision ?? this.#next++
    const inode = this.#next++
    const version: ObjectVersion = {
      bucket,
      key,
      inode,
      versionId: undefined,
      size: bytes.length,
      mtimeMs: this.#clock(),
      etag,
      owner,
      attributes,
      checksum,
      partsCount,
      body: bytes.length <= INLINE_BYTES_MAX ? { kind: 'inline', bytes } : { kind: 'content', content: inode },
      revision,
      expiresMs,
    }
    this.#bucket(bucket).objects.set(key, { version, bytes, parts })
    this.watching.tell(bucket, { kind: 'put', revision, key, etag, size: bytes.length, expiresMs })
    return version
  }

  #publishValue({ bytes, revision, expiresMs, ...request }: FakePublish): ObjectVersion {
    return this.#publish({ ...request, checksum: undefined }, { ...wholeBody(bytes), revision, expiresMs })
  }

  #remove(bucket: string, key: string, revision: number): boolean {
    if (!this.#current(bucket, key)) return false
    this.#bucket(bucket).objects.delete(key)
    this.watching.tell(bucket, { kind: 'delete', revision, key })
    return true
  }

  readonly watching = new FakeWatching((name) => void this.#bucket(name))

  /** By `bucket/key`: when each pin ends. */
  readonly pins = new Map<string, number>()

  readonly keyValues: Store['keyValues'] = fakeKeyValues(
    {
      nowMs: () => this.#clock(),
      revision: () => this.#next - 1,
      nextRevision: () => this.#next++,
      sorted: (bucket) => this.#sorted(bucket),
      find: (bucket, key) => this.#current(bucket, key),
      take: (body) => this.#take(body),
      publish: (request) => this.#publishValue(request),
      remove: (bucket, key, revision) => this.#remove(bucket, key, revision),
      openReader: (object) => this.#openReader({ parts: [], ...object }),
      listed,
    },
    this.pins,
  )
}

/** What is published of a body, beside its name. */
interface Content {
  bytes: Buffer
  etag: string
  partsCount: number | undefined
  parts: Stored['parts']
  expiresMs?: number | undefined
  revision?: number
}

function wholeBody(bytes: Buffer): Content {
  return { bytes, etag: md5(bytes), partsCount: undefined, parts: [] }
}

function putResult({ etag, size, mtimeMs, checksum, revision, expiresMs }: ObjectVersion): PutResult {
  return { versionId: undefined, etag, size, mtimeMs, checksum, revision, expiresMs }
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
    revision: version.revision,
    expiresMs: version.expiresMs,
  }
}
