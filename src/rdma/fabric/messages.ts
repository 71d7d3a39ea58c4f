/**
 * What the fabric layers of two nodes say to each other, as heads of calls over the connection (common/node-calls.ts). Integers are big-endian. `caller` is the node that calls, `owner` the one that answers; each of two nodes
 * may be both, with an agreement of its own for each direction.
 *
 *   fabric-agree   1 version (1), 1 provider (0 verbs, 1 tcp), 2 length, name of the caller's channel
 *               -> 1 version (1), 8 agreement, 2 length, name of the owner's channel for this caller
 *   fabric-end     8 agreement                              the caller's channel is closed, and so will be the owner's
 *   fabric-probe   8 agreement, 4 bytes, 1 how, 4 offset    0: bytes in the reply; 1: where they can be read; 2: bytes come as body; 3: they lie in the grant, at the offset
 *               -> (0) nothing, and so many bytes as body; (1) a lease, of an id that is no lease's; (2, 3) nothing
 *   fabric-grant   8 agreement
 *               -> 8 key, 8 address, 4 bytes                where the caller may write
 *   fabric-call    8 agreement, 2 method, 2 zero, 4 bytes from which on the answer's body is to be lent (2^32 - 1: never), 4 offset in the grant, 4 bytes there, head of the call
 *               -> 1 outcome, (lent) a lease, head of the answer
 *   fabric-bring   4 lease                                -> nothing, and what was lent as body
 *   fabric-done    4n leases                              -> nothing
 *
 *   a lease        4 id, 4 milliseconds, 2 count n, n times: 8 key, 8 address, 4 bytes
 *
 * An agreement is known by a random number, which the owner makes; what comes under another one is answered `unknown`, and nothing was done. A call whose body lies in the grant has none in the connection.
 *
 * Whatever a peer sends decodes, or is refused as InvalidRequest.
 */
import { TidegateError } from '../../common/errors.ts'
import { NODE_BODY_BYTES_MAX } from '../../common/node-calls.ts'
import type { FabricProvider, RemoteMemory } from './ports.ts'

const VERSION = 1
const PROVIDERS = ['verbs', 'tcp'] as const satisfies readonly FabricProvider[]
const NAME_BYTES_MAX = 1024
const CALL_BYTES = 24
const PIECE_BYTES = 20
/** Pieces of one lease. */
export const PIECES_MAX = 32
/** What a call's head, or its answer's, grows by. */
export const WRAPPING_BYTES_MAX: number = 1 + 10 + PIECES_MAX * PIECE_BYTES
const NEVER = 0xffff_ffff

export interface Agreement {
  readonly agreement: bigint
  readonly name: Uint8Array
}

export interface LentPiece extends RemoteMemory {
  readonly bytes: number
}

export interface LeaseTold {
  readonly id: number
  readonly leaseMs: number
  readonly pieces: readonly LentPiece[]
}

export interface GrantTold extends RemoteMemory {
  readonly bytes: number
}

export interface WrappedCall {
  readonly agreement: bigint
  readonly method: number
  /** Infinity: never. */
  readonly lendFrom: number
  /** Undefined: the body, if any, came with the call. */
  readonly granted: { readonly offset: number; readonly bytes: number } | undefined
  readonly head: Uint8Array
}

export type WrappedAnswer =
  | { readonly outcome: 'brought'; readonly head: Uint8Array }
  | { readonly outcome: 'lent'; readonly lease: LeaseTold; readonly head: Uint8Array }
  | { readonly outcome: 'unknown' }

const OUTCOMES = ['brought', 'lent', 'unknown'] as const satisfies readonly WrappedAnswer['outcome'][]

/** Takes a head apart, never beyond its end. */
class Taking {
  readonly #bytes: Buffer
  #at = 0

  constructor(head: Uint8Array) {
    this.#bytes = Buffer.from(head.buffer, head.byteOffset, head.length)
  }

  number(bytes: 1 | 2 | 4): number {
    return this.take(bytes).readUIntBE(0, bytes)
  }

  bigint(): bigint {
    return this.take(8).readBigUInt64BE()
  }

  take(count: number): Buffer {
    if (this.#at + count > this.#bytes.length) throw malformed()
    this.#at += count
    return this.#bytes.subarray(this.#at - count, this.#at)
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#at)
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed()
  }
}

function malformed(): TidegateError {
  return new TidegateError('InvalidRequest', 'what a node said of the fabric cannot be read')
}

export function encodeAgree(provider: FabricProvider, name: Uint8Array): Uint8Array {
  const head = Buffer.alloc(4 + name.length)
  head[0] = VERSION
  head[1] = PROVIDERS.indexOf(provider)
  head.writeUInt16BE(name.length, 2)
  head.set(name, 4)
  return head
}

/** `provider` is undefined for one that this version does not know. @throws InvalidRequest; NotImplemented for another version */
export function decodeAgree(head: Uint8Array): { provider: FabricProvider | undefined; name: Uint8Array } {
  const taking = new Taking(head)
  checkVersion(taking.number(1))
  const provider = PROVIDERS[taking.number(1)]
  const name = takeName(taking)
  return { provider, name }
}

export function encodeAgreement({ agreement, name }: Agreement): Uint8Array {
  const head = Buffer.alloc(11 + name.length)
  head[0] = VERSION
  head.writeBigUInt64BE(agreement, 1)
  head.writeUInt16BE(name.length, 9)
  head.set(name, 11)
  return head
}

/** @throws InvalidRequest, NotImplemented */
export function decodeAgreement(head: Uint8Array): Agreement {
  const taking = new Taking(head)
  checkVersion(taking.number(1))
  const agreement = taking.bigint()
  return { agreement, name: takeName(taking) }
}

function checkVersion(version: number): void {
  if (version !== VERSION)
    throw new TidegateError(
      'NotImplemented',
      `version ${version} of the fabric's protocol; this node speaks ${VERSION}`,
    )
}

function takeName(taking: Taking): Uint8Array {
  const bytes = taking.number(2)
  if (bytes === 0 || bytes > NAME_BYTES_MAX) throw malformed()
  const name = taking.take(bytes)
  taking.end()
  return name
}

/** Head of fabric-end and fabric-grant. */
export function encodeAgreementNumber(agreement: bigint): Uint8Array {
  const head = Buffer.alloc(8)
  head.writeBigUInt64BE(agreement)
  return head
}

/** @throws InvalidRequest */
export function decodeAgreementNumber(head: Uint8Array): bigint {
  const taking = new Taking(head)
  const agreement = taking.bigint()
  taking.end()
  return agreement
}

const PROBE_WAYS = ['in the reply', 'lent', 'in the call', 'written'] as const

export interface Probe {
  readonly agreement: bigint
  readonly bytes: number
  readonly how: (typeof PROBE_WAYS)[number]
  /** In the grant. */
  readonly offset: number
}

export function encodeProbe({ agreement, bytes, how, offset }: Probe): Uint8Array {
  const head = Buffer.alloc(17)
  head.writeBigUInt64BE(agreement)
  head.writeUInt32BE(bytes, 8)
  head[12] = PROBE_WAYS.indexOf(how)
  head.writeUInt32BE(offset, 13)
  return head
}

/** @throws InvalidRequest */
export function decodeProbe(head: Uint8Array): Probe {
  const taking = new Taking(head)
  const [agreement, bytes, how, offset] = [
    taking.bigint(),
    taking.number(4),
    PROBE_WAYS[taking.number(1)],
    taking.number(4),
  ]
  taking.end()
  if (how === undefined) throw malformed()
  return { agreement, bytes, how, offset }
}

export function encodeGrant({ key, address, bytes }: GrantTold): Uint8Array {
  const head = Buffer.alloc(PIECE_BYTES)
  writePiece(head, 0, { key, address, bytes })
  return head
}

/** @throws InvalidRequest */
export function decodeGrant(head: Uint8Array): GrantTold {
  const taking = new Taking(head)
  const grant = takePiece(taking)
  taking.end()
  if (grant.bytes === 0) throw malformed()
  return grant
}

export function encodeLease(lease: LeaseTold): Buffer {
  const head = Buffer.alloc(10 + lease.pieces.length * PIECE_BYTES)
  writeLease(head, 0, lease)
  return head
}

/** @throws InvalidRequest */
export function decodeLease(head: Uint8Array): LeaseTold {
  const taking = new Taking(head)
  const lease = takeLease(taking)
  taking.end()
  return lease
}

export function encodeCall({ agreement, method, lendFrom, granted, head: inner }: WrappedCall): Uint8Array {
  const head = Buffer.allocUnsafe(CALL_BYTES + inner.length)
  head.writeBigUInt64BE(agreement)
  head.writeUInt32BE(method * 0x1_0000, 8)
  head.writeUInt32BE(Math.min(lendFrom, NEVER), 12)
  head.writeUInt32BE(granted?.offset ?? 0, 16)
  head.writeUInt32BE(granted?.bytes ?? 0, 20)
  head.set(inner, CALL_BYTES)
  return head
}

/** @throws InvalidRequest */
export function decodeCall(head: Uint8Array): WrappedCall {
  const taking = new Taking(head)
  const [agreement, method, zero] = [taking.bigint(), taking.number(2), taking.number(2)]
  const [lendFrom, offset, bytes] = [taking.number(4), taking.number(4), taking.number(4)]
  if (zero !== 0 || bytes > NODE_BODY_BYTES_MAX) throw malformed()
  return {
    agreement,
    method,
    lendFrom: lendFrom === NEVER ? Number.POSITIVE_INFINITY : lendFrom,
    granted: bytes === 0 ? undefined : { offset, bytes },
    head: taking.rest(),
  }
}

export function encodeWrapped(answer: WrappedAnswer): Uint8Array {
  const inner = answer.outcome === 'unknown' ? undefined : answer.head
  const leaseBytes = answer.outcome === 'lent' ? 10 + answer.lease.pieces.length * PIECE_BYTES : 0
  const head = Buffer.allocUnsafe(1 + leaseBytes + (inner?.length ?? 0))
  head[0] = OUTCOMES.indexOf(answer.outcome)
  if (answer.outcome === 'lent') writeLease(head, 1, answer.lease)
  if (inner !== undefined) head.set(inner, 1 + leaseBytes)
  return head
}

/** @throws InvalidRequest */
export function decodeWrapped(head: Uint8Array): WrappedAnswer {
  const taking = new Taking(head)
  const outcome = OUTCOMES[taking.number(1)]
  if (outcome === 'brought') return { outcome, head: taking.rest() }
  if (outcome === 'lent') return { outcome, lease: takeLease(taking), head: taking.rest() }
  if (outcome === 'unknown') return { outcome }
  throw malformed()
}

/** Head of fabric-bring, which has one, and of fabric-done. */
export function encodeLeases(ids: readonly number[]): Uint8Array {
  const head = Buffer.allocUnsafe(4 * ids.length)
  for (const [index, id] of ids.entries()) head.writeUInt32BE(id, 4 * index)
  return head
}

/** @throws InvalidRequest */
export function decodeLeases(head: Uint8Array): readonly number[] {
  if (head.length % 4 !== 0) throw malformed()
  const taking = new Taking(head)
  return Array.from({ length: head.length / 4 }, () => taking.number(4))
}

function writePiece(head: Buffer, at: number, { key, address, bytes }: LentPiece): void {
  head.writeBigUInt64BE(key, at)
  head.writeBigUInt64BE(address, at + 8)
  head.writeUInt32BE(bytes, at + 16)
}

function takePiece(taking: Taking): LentPiece {
  return { key: taking.bigint(), address: taking.bigint(), bytes: taking.number(4) }
}

function writeLease(head: Buffer, at: number, { id, leaseMs, pieces }: LeaseTold): void {
  head.writeUInt32BE(id, at)
  head.writeUInt32BE(leaseMs, at + 4)
  head.writeUInt16BE(pieces.length, at + 8)
  for (const [index, piece] of pieces.entries()) writePiece(head, at + 10 + index * PIECE_BYTES, piece)
}

function takeLease(taking: Taking): LeaseTold {
  const [id, leaseMs, count] = [taking.number(4), taking.number(4), taking.number(2)]
  if (count === 0 || count > PIECES_MAX) throw malformed()
  return { id, leaseMs, pieces: Array.from({ length: count }, () => takePiece(taking)) }
}
