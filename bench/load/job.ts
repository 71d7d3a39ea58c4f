/** What a load process is asked to do, and what it says back. Sent between processes, so plain values only. */

export interface LoadRequest {
  readonly method: 'GET' | 'PUT' | 'HEAD' | 'POST'
  /** Path of request `i` of `keys`: every `#` in it becomes the number, seven digits wide, every `@` the number modulo 64, two digits. If it is signed, unreserved characters and `/` only. */
  readonly path: string
  /** Percent-encoded when it is signed; `#` as in `path`. */
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  /** Length of the body of a PUT; or `body` is what is sent. */
  readonly bodyBytes?: number
  readonly body?: Uint8Array
  /** What stands in the Authorization header, instead of a signature. */
  readonly authorization?: string
  /** Leaves the payload out of the signature, as clients do over https. */
  readonly unsignedPayload?: boolean
}

export interface LoadJob {
  /** http://HOST:PORT; or redis://HOST:PORT, where a GET is one, a PUT is a SET, and the path is the key. */
  readonly origin: string
  readonly credentials: { readonly accessKey: string; readonly secretKey: string }
  readonly request: LoadRequest
  /** How many different requests there are; they are sent in turn, over and over. */
  readonly keys: number
  /** Each has one request in flight. */
  readonly connections: number
  /** Ends after so many seconds (after a warm-up), or after so many requests. */
  readonly end: { readonly warmupSeconds: number; readonly seconds: number } | { readonly requests: number }
}

export interface LoadResult {
  readonly requests: number
  readonly seconds: number
  /** Body bytes, in either direction. */
  readonly bytes: number
  readonly errors: number
  /** Status line and beginning of the first answer that was not a 2xx. */
  readonly firstError: string | undefined
  readonly latencyMs: { readonly median: number; readonly p99: number }
}

export type LoadReply = { readonly result: LoadResult } | { readonly failure: string }
