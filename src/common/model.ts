/**
 * The nouns that metadata, store and doors share. All of them can be structured-cloned (docs/ARCHITECTURE.md, threads).
 */
import type { ExternalBody } from './external.ts'
import type { ContentId, InodeId, Revision, SegmentId } from './ids.ts'

/** How safe a write is before it is acknowledged; see DESIGN "Acknowledgement" and C15-C18. */
export const ACK_LEVELS = ['memory', 'journal', 'replicated', 'persisted'] as const
export type AckLevel = (typeof ACK_LEVELS)[number]

export type Versioning = 'off' | 'enabled' | 'suspended'

export interface BucketRecord {
  readonly name: string
  /** Never reused; multipart keys use it, so a re-created bucket does not see old uploads (C9). */
  readonly id: number
  readonly root: InodeId
  /** Id of the user that made it. */
  readonly owner: string
  readonly createdMs: number
  readonly region: string
  readonly versioning: Versioning
  /** Default level for writes that name none. */
  readonly ack: AckLevel
  /** The mirror of an external bucket (docs/decisions/0015). */
  readonly isAttached?: boolean | undefined
}

export const CHECKSUM_ALGORITHMS = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number]
export type ChecksumType = 'FULL_OBJECT' | 'COMPOSITE'

/** An S3 additional checksum: base64 of the big-endian digest; a composite one ends in `-<parts>`. */
export interface ObjectChecksum {
  readonly algorithm: ChecksumAlgorithm
  readonly type: ChecksumType
  readonly value: string
}

/** Representation headers that are kept as they came and given back. */
export interface ContentHeaders {
  readonly contentType?: string
  readonly cacheControl?: string
  readonly contentDisposition?: string
  readonly contentEncoding?: string
  readonly contentLanguage?: string
  readonly expires?: string
}

/** What a caller may set on an object. */
export interface ObjectAttributes {
  readonly headers: ContentHeaders
  /** `x-amz-meta-*` without the prefix, names in lower case. */
  readonly userMetadata: Readonly<Record<string, string>>
  readonly tags: Readonly<Record<string, string>>
  /** S3 storage class as given; `STANDARD` when none was. */
  readonly storageClass: string
  /** Where a GET of it is redirected to, for a website (kept and returned). */
  readonly websiteRedirect?: string
}

/** One version of one object, as every door sees it. */
export interface ObjectVersion {
  readonly bucket: string
  readonly key: string
  readonly inode: InodeId
  /** `null` for the null version; undefined where the bucket has never been versioned. */
  readonly versionId: string | undefined
  readonly size: number
  readonly mtimeMs: number
  /** Without quotes: 32 hex digits are the MD5; `<32 hex>-<n>` is opaque (C29). */
  readonly etag: string
  readonly owner: string
  readonly attributes: ObjectAttributes
  /** Owner, mode and the like of what the mount made or changed: shown beside user metadata, which comes first, and copied nowhere. */
  readonly fileMetadata?: Readonly<Record<string, string>> | undefined
  readonly checksum: ObjectChecksum | undefined
  /** How many parts it was completed from; undefined for a single PUT. */
  readonly partsCount: number | undefined
  readonly body: ObjectBody
  /** Revision at which it was published. */
  readonly revision: Revision
  /** From this time on the key does not name it any more; undefined: for ever. */
  readonly expiresMs: number | undefined
}

export type ObjectBody =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'content'; readonly content: ContentId }
  /** In an attached bucket only: all of an external object. Its bytes are those of `externalSegment`. */
  | { readonly kind: 'external'; readonly external: ExternalBody }

/** A piece of an object's content lying in a segment. Offsets and lengths in bytes. */
export interface Extent {
  readonly offset: number
  readonly length: number
  readonly segment: SegmentId
  readonly segmentOffset: number
}

/** One body that lies whole in one segment, as the journal wrote it. */
export interface StoredRun {
  readonly content: ContentId
  readonly segment: SegmentId
  readonly segmentOffset: number
  readonly length: number
}

/** RFC 9110 conditions, ETags without quotes. `*` stands for any existing object. Times in ms, whole seconds. */
export interface Conditions {
  readonly ifMatch?: readonly string[]
  readonly ifNoneMatch?: readonly string[]
  /** Revisions in the same header, one condition with its ETags: `If-Match: "r42"` (KV door). */
  readonly ifMatchRevisions?: readonly Revision[]
  readonly ifNoneMatchRevisions?: readonly Revision[]
  readonly ifModifiedSinceMs?: number
  readonly ifUnmodifiedSinceMs?: number
  /** S3 extensions on DELETE: x-amz-if-match-last-modified-time, x-amz-if-match-size. */
  readonly ifMatchLastModifiedMs?: number
  readonly ifMatchSize?: number
}

export interface UploadPart {
  readonly partNumber: number
  readonly size: number
  readonly etag: string
  readonly mtimeMs: number
  readonly checksum: ObjectChecksum | undefined
}

export interface UploadRecord {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly initiatedMs: number
  /** User id of who began it, and who will own the object. */
  readonly owner: string
  readonly attributes: ObjectAttributes
  /** What the parts' checksums are, if the client announced one. */
  readonly checksumAlgorithm: ChecksumAlgorithm | undefined
  readonly checksumType: ChecksumType | undefined
}

/** A row of an object listing: what the entry itself carries, so that a page needs no further look-up. */
export interface ListedObject {
  readonly key: string
  readonly size: number
  readonly mtimeMs: number
  readonly etag: string
  readonly storageClass: string
  readonly owner: string
  readonly checksumAlgorithm: ChecksumAlgorithm | undefined
  readonly checksumType: ChecksumType | undefined
  /** Revision at which it was published. */
  readonly revision: Revision
  readonly expiresMs: number | undefined
}

export interface ListedVersion extends ListedObject {
  readonly versionId: string
  readonly isLatest: boolean
  readonly isDeleteMarker: boolean
}

export interface ListRequest {
  readonly bucket: string
  readonly prefix: string
  /** Empty for none. Any string; `/` is answered by range scans, others by skipping within the walk. */
  readonly delimiter: string
  /** List what comes after this key in UTF-8 byte order; a common prefix that begins it or equals it is passed over. */
  readonly after: string
  /** 0..1000; objects and common prefixes together. */
  readonly limit: number
}

export interface ListPage {
  readonly objects: readonly ListedObject[]
  readonly commonPrefixes: readonly string[]
  readonly truncated: boolean
  /** Key or common prefix to pass as `after` for the next page; set exactly if truncated. */
  readonly next: string | undefined
  readonly revision: Revision
}

export interface ListVersionsRequest extends Omit<ListRequest, 'after'> {
  /** S3 key-marker and version-id-marker: list what comes after that version of that key. */
  readonly keyMarker: string
  readonly versionIdMarker: string | undefined
}

export interface ListVersionsPage {
  readonly versions: readonly ListedVersion[]
  readonly commonPrefixes: readonly string[]
  readonly truncated: boolean
  readonly nextKeyMarker: string | undefined
  readonly nextVersionIdMarker: string | undefined
  readonly revision: Revision
}
