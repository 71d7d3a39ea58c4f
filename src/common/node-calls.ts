/**
 * What nodes say to each other: one call, one answer. The transport (src/rdma) carries them; who asks and who answers import only this.
 *
 * **Who.** Both ends have proved before the first call that they belong to the same metadata, and `from` is the node that the other end proved to be. Calling oneself is a broken
 * invariant: whoever asks knows what is here.
 *
 * **Bytes.** The `head` of a request or reply is small and the method's own to encode. `pieces` follow it; they are the caller's again once the call has settled, and the handler's once
 * `sent` was called, which happens exactly once, also when the connection breaks. A reply's body is written to `into` as it arrives, and `body` is a view of that; one that is longer than
 * `into`, or comes where there is no `into`, fails the call. `into` is the transport's until the call settles; nothing is written to it afterwards, also not by an answer that comes late.
 *
 * **Errors.** A handler's TidegateError arrives with its code and message, and `details.node`. What fails under way, or is over its time, is `Unavailable` with `details.node`; whether the
 * handler ran is not known then. Every call settles within `timeoutMs`, whatever the other end does.
 *
 * **At once.** Many calls are in flight on one connection, and are answered in any order. Handlers of one peer's calls run at most `NODE_CALLS_AT_ONCE_MAX` at a time; what is beyond that
 * waits in the peer's socket (back-pressure).
 */
export const NODE_HEAD_BYTES_MAX: number = 64 * 1024
/** A block of 1 MiB, and what may be said beside it. */
export const NODE_BODY_BYTES_MAX: number = 16 * 1024 * 1024
export const NODE_CALLS_AT_ONCE_MAX = 256

/** Each is served by one part of the engine, which says in its file what head and body are. */
export type NodeMethod =
  /** cache-tier/neighbours: a block of a segment. */
  | 'block'
  /** persist/copies: bytes for a copy of a segment of the caller's, and what becomes of it. */
  | 'copy-open'
  | 'copy-write'
  | 'copy-seal'
  | 'copy-drop'
  /** persist/copies: which copies of a node's segments are here. */
  | 'copies'
  /** rdma/fabric, which has one layer of the transport speak to its like on the other node (rdma/fabric/messages.ts). */
  | 'fabric-agree'
  | 'fabric-end'
  | 'fabric-probe'
  | 'fabric-grant'
  | 'fabric-call'
  | 'fabric-bring'
  | 'fabric-done'

export interface NodeCall {
  readonly method: NodeMethod
  readonly head: Uint8Array
  readonly pieces?: readonly Uint8Array[] | undefined
}

export interface NodeCallOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** Where the reply's body goes. */
  readonly into?: Uint8Array | undefined
}

export interface NodeReply {
  readonly head: Uint8Array
  readonly body: Uint8Array
}

export interface NodeRequest {
  /** Number of the node that asks. */
  readonly from: number
  readonly head: Uint8Array
  /** The handler's to keep. */
  readonly body: Uint8Array
  /** Aborted when the asking end has gone, or its time is up. */
  readonly signal: AbortSignal
}

export interface NodeAnswer {
  readonly head: Uint8Array
  readonly pieces?: readonly Uint8Array[] | undefined
  /** The pieces have been written to the socket, or will not be. */
  readonly sent?: (() => void) | undefined
}

export type NodeHandler = (request: NodeRequest) => Promise<NodeAnswer>

export interface NodeCalls {
  /** @throws TidegateError */
  call(node: number, call: NodeCall, options: NodeCallOptions): Promise<NodeReply>
  /** One handler a method, set before the node is told to the others. */
  serve(method: NodeMethod, handler: NodeHandler): void
}
