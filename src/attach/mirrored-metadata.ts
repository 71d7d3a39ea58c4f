/**
 * The store's metadata with the external buckets behind it (docs/decisions/0015): what is asked or changed in an attached bucket is made fresh first
 * (freshness.ts), and then the namespace does it as in any other. So conditions are decided on what lies outside now, and a change here knows what it
 * replaces. All other buckets pay one look at whether any is attached.
 *
 * S3 and KV show what a listing does not tell (content type, user metadata): an object that is known from a listing only is looked at when it is opened.
 */
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { ListPage, ListRequest, ListVersionsPage, ListVersionsRequest, ObjectVersion } from '../common/model.ts'
import type {
  MetadataScanPage,
  MetadataTransactRequest,
  MetadataTransactResult,
  ScanRequest,
} from '../store/kv-types.ts'
import type { Commit, Metadata } from '../store/ports.ts'
import type { Attached, AttachedBuckets } from './attached.ts'
import { copyOutside, type CopyNames } from './copying.ts'
import type { ExternalSegments } from './external-segments.ts'
import type { Freshness } from './freshness.ts'
import { END, inByteOrder, predecessor } from './key-order.ts'

export interface MirroredParts {
  readonly attached: AttachedBuckets
  readonly freshness: Freshness
  readonly segments: ExternalSegments
  readonly names: CopyNames
}

/** Looked at before it is known whether more are wanted. */
const LEADING_AT_ONCE = 32
const SEEN = { described: false } as const
const DESCRIBED = { described: true } as const

export function mirroredMetadata(metadata: Metadata, parts: MirroredParts): Metadata {
  const { attached, freshness } = parts
  const mirror = new Mirror(metadata, parts)
  const of = (bucket: string): Attached | undefined => (attached.isEmpty ? undefined : attached.of(bucket))
  /** Of operations that write one key. */
  const ensured = async (bucket: string, key: string): Promise<void> => {
    const at = of(bucket)
    if (at) await freshness.ensureKey(at, key, SEEN)
  }
  return {
    ...metadata,
    lookup: (bucket, key, versionId) => {
      const at = of(bucket)
      return at ? mirror.lookup(at, key, versionId) : metadata.lookup(bucket, key, versionId)
    },
    list: (request) => {
      const at = of(request.bucket)
      return at ? mirror.list(at, request) : metadata.list(request)
    },
    listVersions: (request) => {
      const at = of(request.bucket)
      return at ? mirror.listVersions(at, request) : metadata.listVersions(request)
    },
    publish: async (request) => {
      await ensured(request.bucket, request.key)
      return await metadata.publish(request)
    },
    remove: async (request) => {
      await ensured(request.bucket, request.key)
      return await metadata.remove(request)
    },
    setTags: async (address, tags) => {
      const at = of(address.bucket)
      // All of the object's attributes go out with its tags.
      if (at) await mirror.describeWholly(at, address.key)
      return await metadata.setTags(address, tags)
    },
    copy: async (request) => {
      await ensured(request.bucket, request.key)
      const at = of(request.source.bucket)
      if (at) await mirror.describeWholly(at, request.source.key)
      const isOneBucket = at !== undefined && request.source.bucket === request.bucket
      const copied = isOneBucket ? await copyOutside({ ...parts, metadata }, at, request) : undefined
      return copied ?? (await metadata.copy(request))
    },
    completeUpload: async (request) => {
      await ensured(request.bucket, request.key)
      return await metadata.completeUpload(request)
    },
    copyPart: async (request) => {
      await ensured(request.source.bucket, request.source.key)
      return await metadata.copyPart(request)
    },
    scan: (request) => {
      const at = of(request.bucket)
      return at ? mirror.scan(at, request) : metadata.scan(request)
    },
    transactValues: (request) => {
      const at = of(request.bucket)
      return at ? mirror.transact(at, request) : metadata.transactValues(request)
    },
    presence: (bucket, keys, leading) => {
      const at = of(bucket)
      return at ? mirror.presence(at, keys, leading) : metadata.presence(bucket, keys, leading)
    },
  }
}

class Mirror {
  readonly #metadata: Metadata
  readonly #parts: MirroredParts

  constructor(metadata: Metadata, parts: MirroredParts) {
    this.#metadata = metadata
    this.#parts = parts
  }

  async lookup(at: Attached, key: string, versionId: string | undefined): Promise<ObjectVersion> {
    const { freshness, segments } = this.#parts
    const { bucket } = at.record
    await freshness.ensureKey(at, key, SEEN)
    let version = await this.#metadata.lookup(bucket, key, versionId)
    if (isUndescribed(version)) {
      await freshness.ensureKey(at, key, DESCRIBED)
      version = await this.#metadata.lookup(bucket, key, versionId)
    }
    segments.learnVersion(at, version)
    return version
  }

  /** What the key names is fresh, and wholly known. */
  async describe(at: Attached, key: string): Promise<void> {
    await this.lookup(at, key, undefined).catch((error: unknown) => {
      if (!isTidegateError(error, 'NoSuchKey')) throw error
    })
  }

  /** For who is about to write what describes it. @throws Unavailable when the store does not say now */
  async describeWholly(at: Attached, key: string): Promise<void> {
    await this.describe(at, key)
    const { bucket } = at.record
    const version = await this.#metadata.lookup(bucket, key).catch((error: unknown) => {
      if (!isTidegateError(error, 'NoSuchKey')) throw error
    })
    if (!version || !isUndescribed(version)) return
    throw new TidegateError('Unavailable', `what describes ${JSON.stringify(key)} of bucket ${bucket} is not known now`)
  }

  async list(at: Attached, request: ListRequest): Promise<ListPage> {
    if (request.limit === 0) return await this.#metadata.list(request)
    return await this.#parts.freshness.ensureListed(at, rangeOf(request, request.after), {
      page: () => this.#metadata.list(request),
      reach: ({ next }) => next,
    })
  }

  async listVersions(at: Attached, request: ListVersionsRequest): Promise<ListVersionsPage> {
    if (request.limit === 0) return await this.#metadata.listVersions(request)
    return await this.#parts.freshness.ensureListed(at, rangeOf(request, request.keyMarker), {
      page: () => this.#metadata.listVersions(request),
      reach: ({ truncated, nextKeyMarker }) => (truncated ? nextKeyMarker : undefined),
    })
  }

  async scan(at: Attached, request: ScanRequest): Promise<MetadataScanPage> {
    const { freshness, segments } = this.#parts
    const page = await this.#scanned(at, request)
    const undescribed = page.keys.filter(({ version }) => version && isUndescribed(version))
    const keys = undescribed.map(({ key }) => key)
    if (keys.length > 0) await freshness.ensureKeys(at, keys, DESCRIBED)
    const known = keys.length > 0 ? await this.#metadata.scan(request) : page
    for (const { version } of known.keys) if (version) segments.learnVersion(at, version)
    return known
  }

  /**
   * A page that goes backwards needs all that lies before where it begins, since stores list in one direction only.
   */
  #scanned(at: Attached, request: ScanRequest): Promise<MetadataScanPage> {
    const { prefix, start, end, after, reverse } = request
    const from = reverse || after === undefined ? (start === '' ? '' : predecessor(start)) : after
    const top = reverse && after !== undefined ? after : end === '' ? undefined : end
    const last = top !== undefined && inByteOrder(top, prefix + END) < 0 ? top : undefined
    return this.#parts.freshness.ensureListed(
      at,
      { prefix, after: from, delimiter: '' },
      {
        page: () => this.#metadata.scan(request),
        reach: ({ next }) => (reverse ? last : (next ?? last)),
      },
    )
  }

  async transact(at: Attached, request: MetadataTransactRequest): Promise<Commit<MetadataTransactResult>> {
    const { freshness, segments } = this.#parts
    const operations = [...request.then, ...request.else]
    const keys = [...request.compares, ...operations].map(({ key }) => key)
    await freshness.ensureKeys(at, keys, SEEN)
    const gotten = new Set(operations.filter(({ op }) => op === 'get').map(({ key }) => key))
    await Promise.all([...gotten].map((key) => this.describe(at, key)))
    const commit = await this.#metadata.transactValues(request)
    const result = commit.value
    if (result.kind === 'undecided') segments.learnVersion(at, result.version)
    else {
      for (const outcome of result.outcomes) {
        if (outcome.op === 'get' && outcome.version) segments.learnVersion(at, outcome.version)
      }
    }
    return commit
  }

  async presence(
    at: Attached,
    keys: readonly string[],
    leading: boolean,
  ): Promise<Awaited<ReturnType<Metadata['presence']>>> {
    const { freshness } = this.#parts
    const { bucket } = at.record
    if (!leading) await freshness.ensureKeys(at, keys, SEEN)
    else {
      for (let from = 0; from < keys.length; from += LEADING_AT_ONCE) {
        const some = keys.slice(from, from + LEADING_AT_ONCE)
        await freshness.ensureKeys(at, some, SEEN)
        const { present } = await this.#metadata.presence(bucket, some, true)
        if (present.length < some.length || present.includes(false)) break
      }
    }
    return await this.#metadata.presence(bucket, keys, leading)
  }
}

function isUndescribed({ body }: ObjectVersion): boolean {
  return body.kind === 'external' && !body.external.isDescribed
}

function rangeOf(
  { prefix, delimiter }: { readonly prefix: string; readonly delimiter: string },
  after: string,
): { prefix: string; after: string; delimiter: '' | '/' } {
  return { prefix, after, delimiter: delimiter === '/' ? '/' : '' }
}
