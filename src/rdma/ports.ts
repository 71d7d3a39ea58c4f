/**
 * What carries calls between nodes (common/node-calls.ts). Two twins satisfy it, held to test/conformance/transport.ts: TCP (tcp/) and one within the
 * process, for tests of others (loopback/).
 *
 * **Start** resolves when the node can be reached at `address`; from then on others may call, so every handler is set before. **Drain** takes nothing new, neither from here nor
 * from others, whose calls are refused as `Unavailable`, and resolves when what was under way has settled, or after a bounded time. **Stop** ends what is left: calls of
 * this node reject, handlers see their signal abort, and no socket and no timer remains.
 *
 * **Where.** A node is called at the address that its member says (common/node-view.ts); one that has none is `Unavailable` at once. A call waits for the connection within its own
 * time, and shares it with others. What reaches another process than the one meant, or one that cannot prove to be of the same metadata, is not called.
 *
 * **Hostile ends.** Whatever the other end sends or leaves out costs a bounded time and a bounded number of bytes, is counted in `figures`, and at most ends the connection.
 */
import type { Lifecycle } from '../common/lifecycle.ts'
import type { NodeCalls } from '../common/node-calls.ts'

export interface Transport extends NodeCalls, Lifecycle {
  /** HOST:PORT that is really listened on; only after `start`. */
  readonly address: string
  readonly figures: TransportFigures
}

/** Why a connection was closed before it could carry anything. */
export const REFUSALS = [
  /** It does not speak this protocol. */
  'magic',
  /** No version that both speak. */
  'version',
  /** Another node than the one that was meant. */
  'node',
  /** It could not prove that it knows the secret. */
  'secret',
  /** Its certificate, or that it had none. */
  'certificate',
  /** It took too long. */
  'late',
  /** It said too much, or left. */
  'broken',
  /** Too many at once. */
  'crowded',
] as const
export type Refusal = (typeof REFUSALS)[number]

export interface TransportFigures {
  readonly peers: readonly PeerFigures[]
  /** Handshakes that ended here, as the one that connects or the one that is connected to. */
  readonly refused: Readonly<Record<Refusal, number>>
  /** Connections ended because of what was said on them after the handshake. */
  readonly badFrames: number
}

export interface PeerFigures {
  readonly node: number
  /** There is a connection that this node made. */
  readonly connected: boolean
  /** Of this node to that one. */
  readonly calls: number
  /** Those that were not answered; an answer that is an error is one. */
  readonly failures: number
  /** Of both directions. */
  readonly bytesIn: number
  readonly bytesOut: number
  /** Estimate; undefined before the first connection. */
  readonly roundTripMs: number | undefined
  /** How bodies of this node's calls go there; undefined: with the connection's bytes, this node having no fabric. */
  readonly fabric?: FabricFigures | undefined
}

/** Of this node's calls to one other. */
export interface FabricFigures {
  readonly provider: 'verbs' | 'tcp'
  /** Now; else everything goes with the connection's bytes. */
  readonly isUsed: boolean
  /** Bodies from here on go by the fabric; undefined: not measured. */
  readonly lineBytes: number | undefined
  /** Bodies that were read from the other node's memory, and written to it. */
  readonly reads: number
  readonly writes: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** How often it was used and had to be given up. */
  readonly fallbacks: number
  /** Why it was, or was never agreed on, the last time. */
  readonly lastFailure: string | undefined
}
