/**
 * An external bucket, as this folder provides it. `attach` owns the contract (src/attach/ports.ts, `ExternalBucket`), which these types
 * satisfy; test/conformance/external-bucket.ts holds every implementation to it.
 *
 * Keys are UTF-8 text below the attachment's prefix. ETags are without quotes.
 */
import type { ObjectAttributes } from '../../common/model.ts'

export interface ExternalObject {
  readonly key: string
  readonly size: number
  readonly etag: string
  readonly modifiedMs: number
  readonly storageClass: string
}

export interface ExternalDescription extends ExternalObject {
  readonly attributes: ObjectAttributes
  readonly partsCount: number | undefined
}

export interface ExternalPage {
  readonly objects: readonly ExternalObject[]
  readonly prefixes: readonly string[]
  readonly next: string | undefined
}

export interface ListExternal {
  readonly prefix: string
  readonly after: string
  readonly delimiter: '' | '/'
  readonly limit: number
  readonly signal?: AbortSignal | undefined
}

export type Expected =
  | { readonly kind: 'anything' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'etag'; readonly etag: string }

export interface ExternalCapabilities {
  readonly conditionalPut: boolean
  readonly conditionalDelete: boolean
  readonly conditionalComplete: boolean
  readonly conditionalCopy: boolean
}

export interface PieceSource {
  readonly length: number
  bytes(): AsyncIterable<Uint8Array>
}

export type UploadPiece = { readonly kind: 'bytes'; readonly source: PieceSource } | CopiedPiece

export interface CopiedPiece {
  readonly kind: 'copy'
  readonly key: string
  readonly etag: string
  readonly offset: number
  readonly length: number
}

export interface CopySource {
  readonly key: string
  readonly etag: string
  readonly size: number
}

export interface WriteOptions<Attributes = ObjectAttributes> {
  readonly attributes: Attributes
  readonly expected: Expected
  readonly signal?: AbortSignal | undefined
  /** Of what goes up in parts: the ETag that it will have, if that can be said. */
  readonly aboutToComplete?: ((etag: string) => Promise<void>) | undefined
}
