/**
 * What the three doors see of the store: requests, results, and references to bytes. Everything here can be
 * structured-cloned, so a door may run in the engine's thread or in a worker of its own.
 */
import type { Revision } from '../common/ids.ts'
import type {
  AckLevel,
  ChecksumAlgorithm,
  Conditions,
  ObjectAttributes,
  ObjectChecksum,
  ObjectVersion,
} from '../common/model.ts'

/** Bytes in the slab (shared memory), lent until `Bodies.release`/`Reading.release` gives `lease` back. */
export interface SlabSlice {
  /** From the start of the slab. */
  readonly slabOffset: number
  readonly length: number
  readonly lease: number
}

export type BodyId = number
export type ReaderId = number

/** Where the body of a write comes from. Small bodies travel with the request; large ones were streamed to the slab. */
export type BodySource =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly digests: BodyDigests }
  | { readonly kind: 'streamed'; readonly body: BodyId }

export interface BodyDigests {
  /** 32 hex digits. */
  readonly md5: string
  /** Base64, for each algorithm that was asked for. */
  readonly checksums: Partial<Record<ChecksumAlgorithm, string>>
  /** Hex; present when asked for (the payload hash of SigV4). */
  readonly sha256?: string
}

export interface PutObjectRequest {
  readonly bucket: string
  readonly key: string
  readonly body: BodySource
  readonly attributes: ObjectAttributes
  readonly checksum: ObjectChecksum | undefined
  readonly owner: string
  readonly conditions: Conditions
  /** Undefined: the bucket's level. */
  readonly ack: AckLevel | undefined
  /** How long after its publication the key stops naming it; undefined: never. */
  readonly ttlMs?: number | undefined
}

export interface PutResult {
  readonly versionId: string | undefined
  readonly etag: string
  readonly size: number
  readonly mtimeMs: number
  readonly checksum: ObjectChecksum | undefined
  readonly revision: Revision
  readonly expiresMs: number | undefined
}

export interface ObjectAddress {
  readonly bucket: string
  readonly key: string
  readonly versionId?: string | undefined
}

export interface CopyObjectRequest {
  readonly source: ObjectAddress
  readonly sourceConditions: Conditions
  readonly bucket: string
  readonly key: string
  /** Undefined keeps the source's (metadata directive COPY). */
  readonly attributes: ObjectAttributes | undefined
  /** Undefined keeps the source's tags (tagging directive COPY). */
  readonly tags: Readonly<Record<string, string>> | undefined
  readonly owner: string
  readonly conditions: Conditions
  readonly ack: AckLevel | undefined
}

export interface CopyResult extends PutResult {
  readonly sourceVersionId: string | undefined
}

export interface DeleteResult {
  /** Version removed or delete marker made; undefined in a bucket that was never versioned. */
  readonly versionId: string | undefined
  readonly deleteMarker: boolean
  /** False when there was nothing to delete (which is success, in S3). */
  readonly existed: boolean
  readonly revision: Revision
}

/** An object opened for reading: its content cannot be reclaimed until `close` (C12). */
export interface OpenedObject {
  readonly reader: ReaderId
  readonly version: ObjectVersion
}

export interface PutPartRequest {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly partNumber: number
  readonly body: BodySource
  readonly checksum: ObjectChecksum | undefined
  readonly ack: AckLevel | undefined
}

export interface CopyPartRequest {
  readonly source: ObjectAddress
  readonly sourceConditions: Conditions
  /** Undefined copies the whole source. */
  readonly range: { readonly offset: number; readonly length: number } | undefined
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly partNumber: number
  readonly ack: AckLevel | undefined
}

export interface PartResult {
  readonly etag: string
  readonly mtimeMs: number
  readonly checksum: ObjectChecksum | undefined
  readonly sourceVersionId: string | undefined
}

export interface CompletedPart {
  readonly partNumber: number
  readonly etag: string
  readonly checksum: ObjectChecksum | undefined
}

export interface CompleteUploadRequest {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly parts: readonly CompletedPart[]
  /** Object checksum that the client claims, checked against what the parts give. */
  readonly checksum: ObjectChecksum | undefined
  readonly checksumType: 'FULL_OBJECT' | 'COMPOSITE' | undefined
  /** x-amz-mp-object-size */
  readonly objectSize: number | undefined
  readonly conditions: Conditions
  readonly ack: AckLevel | undefined
}
