/**
 * Requests and results of the key-value operations: scans, transactions, counters, watching, pins. Like types.ts all of
 * it can be structured-cloned.
 */
import type { ExternalBody } from '../common/external.ts'
import type { ContentId, Revision } from '../common/ids.ts'
import type { AckLevel, ListedObject, ObjectAttributes, ObjectVersion, StoredRun } from '../common/model.ts'
import type { BodySource, ReaderId } from './types.ts'

export interface ScanRequest {
  readonly bucket: string
  readonly prefix: string
  /** First key, inclusive; empty for the first there is. In UTF-8 byte order, like all of this. */
  readonly start: string
  /** First key that is too far, exclusive; empty for none. */
  readonly end: string
  /** Go on behind this key (before it, when `reverse`): where the page before ended. */
  readonly after: string | undefined
  readonly reverse: boolean
  /** 1..1000. */
  readonly limit: number
  /** Whether values come along: those up to `valueBytesMax`, as far as a page has room for them. */
  readonly values: boolean
  readonly valueBytesMax: number
}

export interface ScannedKey extends ListedObject {
  /** Undefined when values were not asked for, or this one is too large. */
  readonly value: ScannedValue | undefined
}

export interface ScannedValue {
  readonly attributes: ObjectAttributes
  /** An opened reader is the caller's to close, whatever becomes of the page. */
  readonly body:
    | { readonly kind: 'inline'; readonly bytes: Uint8Array }
    | { readonly kind: 'content'; readonly reader: ReaderId }
}

/** Read at one revision (C31). */
export interface ScanPage {
  readonly keys: readonly ScannedKey[]
  /** Key to pass as `after` for the next page; undefined at the end. */
  readonly next: string | undefined
  readonly revision: Revision
}

export type CompareOperator = '=' | '!=' | '<' | '>'

/** An absent key has revision 0, no ETag and no value: every comparison with a value is false for it but `!=`. */
export type TransactionCompare =
  | { readonly target: 'exists'; readonly key: string; readonly operand: boolean }
  | {
      readonly target: 'revision'
      readonly key: string
      readonly operator: CompareOperator
      readonly operand: Revision
    }
  | { readonly target: 'etag'; readonly key: string; readonly operator: '=' | '!='; readonly operand: string }
  | { readonly target: 'value'; readonly key: string; readonly operator: '=' | '!='; readonly operand: Uint8Array }

export type TransactionOperation =
  | { readonly op: 'get'; readonly key: string }
  | { readonly op: 'exists'; readonly key: string }
  | { readonly op: 'delete'; readonly key: string }
  | {
      readonly op: 'put'
      readonly key: string
      readonly body: BodySource
      readonly attributes: ObjectAttributes
      readonly ttlMs: number | undefined
    }
  /** Adds to a decimal number between -2^63 and 2^63 - 1; an absent key counts as 0. An expiry is kept unless `ttlMs` is given. */
  | { readonly op: 'increment'; readonly key: string; readonly delta: bigint; readonly ttlMs: number | undefined }

export interface TransactionRequest {
  readonly bucket: string
  /** All of them must hold; none: they do. */
  readonly compares: readonly TransactionCompare[]
  /** In order, each sees what those before it wrote. No key is written twice. */
  readonly then: readonly TransactionOperation[]
  readonly else: readonly TransactionOperation[]
  readonly owner: string
  readonly ack: AckLevel | undefined
}

/** One for each operation of the branch taken, in order. */
export type TransactionOutcome =
  | {
      readonly op: 'get'
      readonly version: ObjectVersion | undefined
      /** Where to read a body that does not lie inline; the caller closes it. */
      readonly reader: ReaderId | undefined
    }
  | { readonly op: 'exists'; readonly exists: boolean }
  | { readonly op: 'delete'; readonly existed: boolean }
  | { readonly op: 'put'; readonly version: ObjectVersion }
  | { readonly op: 'increment'; readonly value: bigint; readonly version: ObjectVersion }

export interface TransactionResult {
  /** Whether all compares held, and so `then` was done. */
  readonly succeeded: boolean
  readonly outcomes: readonly TransactionOutcome[]
  readonly revision: Revision
}

export type WatcherId = number

export interface WatchRequest {
  readonly bucket: string
  readonly prefix: string
  /** First revision to be told of; undefined: what is committed from now on. */
  readonly from: Revision | undefined
}

export type WatchEvent =
  | {
      readonly kind: 'put'
      readonly revision: Revision
      readonly key: string
      readonly etag: string
      readonly size: number
      readonly expiresMs: number | undefined
    }
  | { readonly kind: 'delete'; readonly revision: Revision; readonly key: string }
  /** Of an object, or, when both end in a slash, of a directory and all that is in it (C3). */
  | { readonly kind: 'renamed'; readonly revision: Revision; readonly from: string; readonly to: string }

export interface WatchBatch {
  /** In order, whole revisions only. */
  readonly events: readonly WatchEvent[]
  /** Where to resume so that nothing is missed and nothing told twice. */
  readonly next: Revision
}

/** What a metadata transaction is handed: bodies are journaled already. */
export interface MetadataTransactRequest extends Omit<TransactionRequest, 'then' | 'else' | 'ack'> {
  readonly then: readonly MetadataOperation[]
  readonly else: readonly MetadataOperation[]
  readonly ack: AckLevel
  /** What the store found when it compared bodies that do not lie inline; by content, since the mount gives an inode new ones. */
  readonly known: readonly {
    readonly content: ContentId | ExternalBody
    readonly operand: Uint8Array
    readonly equal: boolean
  }[]
}

export type MetadataOperation =
  | Exclude<TransactionOperation, { op: 'put' }>
  | (Omit<Extract<TransactionOperation, { op: 'put' }>, 'body'> & {
      readonly body:
        | { readonly kind: 'inline'; readonly bytes: Uint8Array }
        | { readonly kind: 'run'; readonly run: StoredRun }
      readonly size: number
      readonly etag: string
    })

export type MetadataTransactResult =
  | {
      readonly kind: 'done'
      readonly succeeded: boolean
      readonly outcomes: readonly MetadataOutcome[]
    }
  /** Nothing was written: the caller must first compare this body with the operand of that compare, and ask again. */
  | { readonly kind: 'undecided'; readonly compare: number; readonly version: ObjectVersion }

export type MetadataOutcome =
  | Exclude<TransactionOutcome, { op: 'get' }>
  | Omit<Extract<TransactionOutcome, { op: 'get' }>, 'reader'>

export interface MetadataScanPage {
  /** `version` is there when values were asked for and this one is small enough. */
  readonly keys: readonly (ListedObject & { readonly version: ObjectVersion | undefined })[]
  readonly next: string | undefined
  readonly revision: Revision
}
