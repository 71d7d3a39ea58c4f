/** What goes into the client's calls and what comes out of them. */
import type { Readable } from 'node:stream'
import type { AckLevel } from '../common/model.ts'

export type { AckLevel } from '../common/model.ts'

export interface KvClientOptions {
  /** Origin of the gateway's HTTP port, such as `http://127.0.0.1:9001`. */
  readonly url: string
  readonly bucket: string
  /** A bearer token; or else `accessKey` and `secretKey`, which are sent with every request: use https. */
  readonly token?: string | undefined
  readonly accessKey?: string | undefined
  readonly secretKey?: string | undefined
  /** Or else what stands in the Authorization header. */
  readonly authorization?: string | undefined
  /** How often a request is sent again where that cannot do harm; 3 unless told. 0 for never. */
  readonly retries?: number | undefined
  /** How long a connection may be silent, in ms; 180,000 unless told, more than the longest wait of the gateway. */
  readonly idleTimeoutMs?: number | undefined
  /** Connections at most, beside one for each watch; 256 unless told. Requests beyond wait for one. */
  readonly connectionsMax?: number | undefined
  /** PEM certificates to trust instead of the system's. */
  readonly ca?: string | undefined
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

/** An ETag, with its quotes or without them; a number: a revision; `*`: whatever is there. */
export type KvMatch = string | number

/** Representation headers that are kept as they came and given back. */
export interface KvHeaders {
  readonly contentType?: string | undefined
  readonly cacheControl?: string | undefined
  readonly contentDisposition?: string | undefined
  readonly contentEncoding?: string | undefined
  readonly contentLanguage?: string | undefined
  readonly httpExpires?: string | undefined
}

export interface HeadOptions extends CallOptions {
  readonly ifMatch?: KvMatch | undefined
  /** What the caller has already: when it is the present value, the call rejects with `NotModified`. */
  readonly ifNoneMatch?: KvMatch | undefined
  /** Hold the value in the gateway's memory for so long; 0 lets go. */
  readonly pinSeconds?: number | undefined
}

export interface GetOptions extends HeadOptions {
  /** `end` exclusive, to the value's end when absent; `last` so many bytes of its end. */
  readonly range?: { readonly start: number; readonly end?: number | undefined } | { readonly last: number } | undefined
}

export interface WriteOptions extends CallOptions {
  readonly ack?: AckLevel | undefined
}

export interface DeleteOptions extends WriteOptions {
  readonly ifMatch?: KvMatch | undefined
}

export interface PutAttributes extends KvHeaders {
  readonly metadata?: Readonly<Record<string, string>> | undefined
  readonly ttlSeconds?: number | undefined
  readonly ifMatch?: KvMatch | undefined
  /** `*`: only if there is no value. */
  readonly ifNoneMatch?: KvMatch | undefined
}

export interface PutOptions extends PutAttributes, WriteOptions {
  readonly pinSeconds?: number | undefined
  /** Of a stream, if it is known: then the gateway refuses what does not fit before it reads it. */
  readonly size?: number | undefined
}

/** A stream is sent once: such a put is never repeated. */
export type PutBody = Uint8Array | string | Readable | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>

export interface KvAttributes extends KvHeaders {
  /** Without quotes. */
  readonly etag: string
  readonly revision: number
  /** Of the whole value, whatever part of it was asked for. */
  readonly size: number
  readonly modified: Date
  /** From then on it is gone. */
  readonly expires: Date | undefined
  readonly metadata: Readonly<Record<string, string>>
  /** Bytes that `pinSeconds` holds; undefined when it was not asked for. */
  readonly pinned: number | undefined
}

export interface KvValue extends KvAttributes {
  readonly bytes: Buffer
  /** As UTF-8. */
  text(): string
}

export interface KvStreamedValue extends KvAttributes {
  /** Must be read to its end or destroyed. */
  readonly body: Readable
}

export interface PutResult {
  readonly etag: string
  readonly revision: number
  readonly expires: Date | undefined
  readonly pinned: number | undefined
}

export interface DeleteResult {
  readonly existed: boolean
  readonly revision: number
}

export interface ScanOptions extends CallOptions {
  readonly prefix?: string | undefined
  /** Inclusive; `end` exclusive. Both within the prefix, in UTF-8 byte order. */
  readonly start?: string | undefined
  readonly end?: string | undefined
  readonly reverse?: boolean | undefined
  /** How many keys in all; every one there is when absent (`scan`), 1,000 (`scanPage`, at most 100,000). */
  readonly limit?: number | undefined
  readonly values?: boolean | undefined
}

export interface ScanPageOptions extends ScanOptions {
  /** Where the page before ended. */
  readonly cursor?: string | undefined
}

export interface ScanEntry {
  readonly key: string
  readonly etag: string
  readonly revision: number
  readonly size: number
  readonly modified: Date
  readonly expires: Date | undefined
  /** Undefined when values were not asked for, or this one is over 1 MiB. */
  readonly value: Buffer | undefined
  /** These two come with values only. */
  readonly contentType: string | undefined
  readonly metadata: Readonly<Record<string, string>> | undefined
}

export interface ScanPage {
  readonly entries: readonly ScanEntry[]
  /** Undefined when there is no more. */
  readonly cursor: string | undefined
  /** A watch from this one on misses nothing that came after the (last) page was read. */
  readonly revision: number
}

export type BatchOperation =
  | { readonly op: 'get'; readonly key: string }
  | { readonly op: 'exists'; readonly key: string }
  | { readonly op: 'delete'; readonly key: string; readonly ifMatch?: KvMatch | undefined }
  | ({ readonly op: 'put'; readonly key: string; readonly value: Uint8Array | string } & BatchPutAttributes)

export type BatchPutAttributes = Pick<
  PutAttributes,
  'contentType' | 'metadata' | 'ttlSeconds' | 'ifMatch' | 'ifNoneMatch'
>

/** One for each operation, in order; what is undefined does not apply to the operation or its outcome. */
export interface BatchResult {
  readonly status: number
  /** Of an operation that failed: 404 of a get among them. */
  readonly code: string | undefined
  readonly detail: string | undefined
  readonly value: Uint8Array | undefined
  readonly etag: string | undefined
  readonly revision: number | undefined
  readonly size: number | undefined
  readonly contentType: string | undefined
  readonly modified: Date | undefined
  readonly expires: Date | undefined
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly exists: boolean | undefined
  readonly existed: boolean | undefined
}

/** An absent key has revision 0, and neither ETag nor value. */
export type TransactionCompare =
  | { readonly target: 'exists'; readonly key: string; readonly operand: boolean }
  | {
      readonly target: 'revision'
      readonly key: string
      readonly operator: '=' | '!=' | '<' | '>'
      readonly operand: number
    }
  | { readonly target: 'etag'; readonly key: string; readonly operator: '=' | '!='; readonly operand: string }
  | {
      readonly target: 'value'
      readonly key: string
      readonly operator: '=' | '!='
      readonly operand: Uint8Array | string
    }

export type TransactionOperation =
  | { readonly op: 'get' | 'exists' | 'delete'; readonly key: string }
  | {
      readonly op: 'put'
      readonly key: string
      readonly value: Uint8Array | string
      readonly contentType?: string | undefined
      readonly metadata?: Readonly<Record<string, string>> | undefined
      readonly ttlSeconds?: number | undefined
    }
  | {
      readonly op: 'increment'
      readonly key: string
      readonly delta: bigint | number
      readonly ttlSeconds?: number | undefined
    }

export interface Transaction {
  readonly compare?: readonly TransactionCompare[] | undefined
  readonly then?: readonly TransactionOperation[] | undefined
  readonly else?: readonly TransactionOperation[] | undefined
}

export type TransactionOutcome =
  | {
      readonly op: 'get'
      readonly exists: boolean
      /** Undefined when there is none, or it is over 1 MiB. */
      readonly value: Buffer | undefined
      readonly etag: string | undefined
      readonly revision: number | undefined
      readonly size: number | undefined
      readonly contentType: string | undefined
    }
  | { readonly op: 'exists'; readonly exists: boolean }
  | { readonly op: 'delete'; readonly existed: boolean }
  | { readonly op: 'put'; readonly etag: string; readonly revision: number }
  | { readonly op: 'increment'; readonly value: bigint; readonly revision: number }

export interface TransactionResult {
  /** Whether all compares held, and so `then` was done; `else` otherwise. */
  readonly succeeded: boolean
  readonly revision: number
  /** One for each operation of the list that was done, in order. */
  readonly results: readonly TransactionOutcome[]
}

export interface WatchOptions extends CallOptions {
  readonly prefix?: string | undefined
  /** First revision to be told of; from now on when absent. */
  readonly from?: number | undefined
  /** For how long a lost connection is made again before the watch fails, in ms; 60,000 unless told. */
  readonly reconnectMsMax?: number | undefined
}

export interface PollOptions extends CallOptions {
  readonly prefix?: string | undefined
  readonly from?: number | undefined
  /** 0 to 60; 30 unless told. */
  readonly waitSeconds?: number | undefined
  /** 1 to 10,000; 1,000 unless told. Whole revisions only. */
  readonly limit?: number | undefined
}

export type WatchEvent =
  | {
      readonly type: 'put'
      readonly revision: number
      readonly key: string
      readonly etag: string
      readonly size: number
      readonly expires?: string
    }
  | { readonly type: 'delete'; readonly revision: number; readonly key: string }
  /** Of a directory with all that is in it when both end in a slash. */
  | { readonly type: 'renamed'; readonly revision: number; readonly from: string; readonly to: string }
