/** Everything here is bounded; these are the bounds. */
import { assert } from '../../common/assert.ts'
import { NODE_BODY_BYTES_MAX } from '../../common/node-calls.ts'

export interface TcpLimits {
  /** A handshake, from the connection on. */
  readonly handshakeMs: number
  /** Connections that have not proved who they are, at once. */
  readonly handshakesMax: number
  /** Between two signs of life that a side gives. */
  readonly pingMs: number
  /** Without a sign of life for so long the other end counts as gone. */
  readonly silenceMs: number
  /** For one frame to arrive once it has begun, and for bytes to be taken once they were written. */
  readonly frameMs: number
  /** How long `drain` waits for what is under way. */
  readonly drainMs: number
  /** Connections are made again after so long, and twice as long each time. */
  readonly redialMs: number
  readonly redialMsMax: number
}

export const TCP_LIMITS: TcpLimits = {
  handshakeMs: 5_000,
  handshakesMax: 64,
  pingMs: 4_000,
  silenceMs: 15_000,
  frameMs: 60_000,
  drainMs: 10_000,
  redialMs: 50,
  redialMsMax: 2_000,
}

/** Calls of this node that wait because as many as the other end runs at once are under way. */
export const CALLS_WAITING_MAX = 4_096
/** Calls given up here that the other end still owes an answer to. */
export const CALLS_OWED_MAX = 4_096
/** Connections of one node to this one. */
export const CONNECTIONS_PER_NODE_MAX = 8
/** Bytes that a socket is handed before the one before is written. */
export const WRITING_BYTES_MAX: number = 1024 * 1024
/** Bodies of one peer's requests that are held for its handlers, and replies that wait to be written to it. Beyond it no more is read from the peer. */
export const HELD_BYTES_MAX: number = 64 * 1024 * 1024
/** From so many bytes on a call has a connection with its like, so that small ones do not wait behind it. */
export const LARGE_CALL_BYTES: number = 256 * 1024

assert(HELD_BYTES_MAX > NODE_BODY_BYTES_MAX, 'a body can be held')
assert(TCP_LIMITS.silenceMs > 3 * TCP_LIMITS.pingMs, 'signs of life may be late')
