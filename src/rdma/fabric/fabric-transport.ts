/**
 * Calls between nodes whose large bodies do not go through the connection: the caller reads them from the owner's memory, or writes them to memory that the owner has granted, by the fabric (ports.ts).
 *
 * A layer over another transport, which carries everything else and, whenever the fabric does not serve, everything. What the two layers say to each other: messages.ts. What lies where: pair.ts (whether a node is to be reached so), hosts.ts (who may
 * reach this one), leases.ts (what is lent), prober.ts and line.ts (from which size on), operations.ts (moving bytes).
 *
 * **Trust.** Keys go to nodes that the inner transport has let prove themselves, and to nobody else; what lies in lent memory can be read by all of them, as they could ask for it anyway. The fabric itself neither authenticates nor encrypts.
 *
 * **Read.** The owner's handler answers as always. If its pieces lie in lent memory, the reply brings where they are, and they stay there until the caller says that it has done, or the lease and a margin are over. What was read after the lease is
 * not believed (C33). Whoever asks checks checksums in any case (C14).
 *
 * **Write.** The body is copied to memory of this layer's own and written to the same range of the grant; then the call goes out and says where. The owner copies it out before it does anything with it.
 *
 * **When it fails.** What could not be read is brought by the connection; what could not be written is sent with the call. Only the time that it took is lost.
 */
import { assert, must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import { NODE_BODY_BYTES_MAX } from '../../common/node-calls.ts'
import type { NodeCall, NodeCallOptions, NodeHandler, NodeMethod, NodeReply } from '../../common/node-calls.ts'
import type { NodeMember } from '../../common/node-view.ts'
import { unavailableNode } from '../failures.ts'
import type { FabricFigures, PeerFigures, Transport, TransportFigures } from '../ports.ts'
import { methodNumber } from '../tcp/frames.ts'
import { Borrower } from './borrower.ts'
import { bytesOf } from './leases.ts'
import { FABRIC_LIMITS, type FabricLimits } from './limits.ts'
import { PROBE_BYTES_MIN } from './line.ts'
import { KnownMemory, type Place } from './memory.ts'
import { decodeWrapped, encodeCall, type WrappedAnswer } from './messages.ts'
import { Owner } from './owner.ts'
import type { Grant } from './granted.ts'
import { Pair, type Agreed, type PathEvent } from './pair.ts'
import { FabricFailure, type FabricDevice } from './ports.ts'

export interface FabricTransportOptions {
  /** Its `drain` takes calls of this layer as long as that has some under way. */
  readonly inner: Transport & { viewChanged(): void; drain(above: () => number): Promise<void> }
  readonly device: FabricDevice
  readonly member: (node: number) => NodeMember | undefined
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly fillRandom: (bytes: Uint8Array) => void
  /** How bodies of calls go to a node from now on. */
  readonly onChange?: ((node: number, event: PathEvent) => void) | undefined
  readonly limits?: Partial<FabricLimits> | undefined
}

interface Counts {
  calls: number
  failures: number
}

/** A body on its way to the grant. */
interface Written {
  readonly grant: Grant
  readonly offset: number
  readonly bytes: number
}

export class FabricTransport implements Transport {
  readonly #options: FabricTransportOptions
  readonly #limits: FabricLimits
  readonly #memory: KnownMemory
  readonly #owner: Owner
  readonly #borrower: Borrower
  readonly #pairs = new Map<number, Pair>()
  /** Of the callers here: what the layer itself asks is not counted. */
  readonly #counts = new Map<number, Counts>()
  #underWay = 0
  #isDraining = false

  constructor(options: FabricTransportOptions) {
    const { inner, device, member, clock, fillRandom } = options
    this.#options = options
    this.#limits = { ...FABRIC_LIMITS, ...options.limits }
    this.#memory = new KnownMemory(device)
    const { memory, limits } = { memory: this.#memory, limits: this.#limits }
    this.#owner = new Owner({ inner, device, member, clock, fillRandom, memory, limits })
    this.#borrower = new Borrower({ inner, clock, limits })
  }

  get address(): string {
    return this.#options.inner.address
  }

  get figures(): TransportFigures {
    const inner = this.#options.inner.figures
    return { ...inner, peers: inner.peers.map((peer) => this.#figuresOf(peer)) }
  }

  /** Memory that bodies of calls lie in: its bytes can be read by the other nodes from now on. @throws FabricFailure */
  lend(memory: ArrayBufferLike): void {
    this.#memory.add(memory, 'read')
  }

  start(): Promise<void> {
    return this.#options.inner.start()
  }

  serve(method: NodeMethod, handler: NodeHandler): void {
    this.#owner.serve(method, handler)
  }

  async call(node: number, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    const counts = this.#countsOf(node)
    counts.calls++
    this.#underWay++
    try {
      if (this.#isDraining) throw unavailableNode(node, 'this node is ending')
      return await this.#call(node, call, options)
    } catch (error) {
      counts.failures++
      throw error
    } finally {
      this.#underWay--
    }
  }

  /** Agrees with a node now, and not with the first body that might go there by the fabric. Resolves with whether such will. Never rejects. */
  prepare(node: number): Promise<boolean> {
    return this.#pair(node).prepare()
  }

  viewChanged(): void {
    this.#options.inner.viewChanged()
    this.#owner.seen()
    for (const pair of this.#pairs.values()) pair.seen()
  }

  drain(): Promise<void> {
    this.#isDraining = true
    return this.#options.inner.drain(() => this.#underWay)
  }

  /** The device is the caller's to close. */
  async stop(): Promise<void> {
    await this.#options.inner.stop()
    await Promise.all([...this.#pairs.values()].map((pair) => pair.close()))
    await this.#owner.stop()
    this.#memory.close()
    this.#owner.endLeases()
  }

  async #call(node: number, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    const { inner } = this.#options
    const bodyBytes = bytesOf(call.pieces ?? [])
    const place = options.into && this.#memory.find(options.into)
    // What is too small for any line does not even make two nodes agree.
    const largest = Math.max(bodyBytes, place && options.into ? options.into.length : 0)
    const isLarge = largest > 0 && largest >= (this.#limits.lineBytes ?? PROBE_BYTES_MIN)
    if (!isLarge || options.signal?.aborted === true) return await inner.call(node, call, options)
    const pair = this.#pair(node)
    const agreed = pair.reach()
    if (agreed === undefined) return await inner.call(node, call, options)
    const { clock } = this.#options
    const endMs = clock.monotonicMs() + options.timeoutMs
    const written = bodyBytes === 0 ? undefined : await this.#write(pair, agreed, call, endMs)
    const mayLend = place !== undefined && (options.into?.length ?? 0) >= agreed.lineBytes
    const left = { ...options, timeoutMs: endMs - clock.monotonicMs() }
    if (left.timeoutMs <= 0 || isGivenUp(options)) {
      // Nobody was told of what was written.
      written?.grant.ranges.give(written.offset)
      throw unavailableNode(
        node,
        isGivenUp(options) ? 'the call was given up' : 'writing to its memory took the time of the call',
      )
    }
    if (written === undefined && !mayLend) return await inner.call(node, call, left)
    const asked = { call, options: left, written, place: mayLend ? place : undefined }
    return await this.#wrapped(pair, agreed, asked)
  }

  /** Undefined: it is to go with the call. */
  async #write(pair: Pair, agreed: Agreed, { pieces = [] }: NodeCall, endMs: number): Promise<Written | undefined> {
    const bytes = bytesOf(pieces)
    assert(bytes <= NODE_BODY_BYTES_MAX, 'a call fits a frame')
    if (bytes < (this.#limits.lineBytes ?? PROBE_BYTES_MIN)) return undefined
    const grant = agreed.granted.get()
    if (grant === undefined || bytes < grant.lineBytes) return undefined
    const offset = grant.ranges.take(bytes)
    if (offset === undefined) return undefined
    const { staging, remote, ranges } = grant
    let at = offset
    for (const piece of pieces) {
      staging.memory.set(piece, at)
      at += piece.length
    }
    const there = { key: remote.key, address: remote.address + BigInt(offset) }
    const deadlineMs = this.#deadlineMs(endMs)
    try {
      await agreed.operations.transfer({ kind: 'write', region: staging, offset, bytes, remote: there, deadlineMs })
    } catch (error) {
      // A transfer that failed has ended; nobody was told of it.
      ranges.give(offset)
      this.#gaveUp(pair, agreed, error)
      return undefined
    }
    pair.tally.writes++
    pair.tally.bytesWritten += bytes
    return { grant, offset, bytes }
  }

  async #wrapped(
    pair: Pair,
    agreed: Agreed,
    asked: { call: NodeCall; options: NodeCallOptions; written: Written | undefined; place: Place | undefined },
  ): Promise<NodeReply> {
    const { inner, clock } = this.#options
    const { call, options, written, place } = asked
    const { node } = pair
    const beganMs = clock.monotonicMs()
    const head = encodeCall({
      agreement: agreed.agreement,
      method: methodNumber(call.method),
      lendFrom: place === undefined ? Number.POSITIVE_INFINITY : agreed.lineBytes,
      granted: written && { offset: written.offset, bytes: written.bytes },
      head: call.head,
    })
    const pieces = written === undefined ? call.pieces : undefined
    let reply: NodeReply
    try {
      reply = await inner.call(node, { method: 'fabric-call', head, pieces }, options)
    } catch (error) {
      this.#released(pair, agreed, written, error)
      throw error
    }
    // It was answered, whatever that says.
    this.#released(pair, agreed, written)
    const answer = decoded(node, reply.head)
    if (answer.outcome === 'unknown') {
      // Nothing was done with it there, and the grant is gone.
      pair.renew(agreed)
      const timeoutMs = options.timeoutMs - (clock.monotonicMs() - beganMs)
      if (timeoutMs <= 0) throw unavailableNode(node, 'it answered late that it agrees on nothing')
      return await inner.call(node, call, { ...options, timeoutMs })
    }
    if (answer.outcome === 'brought') return { head: answer.head, body: reply.body }
    if (place === undefined) throw unavailableNode(node, 'it lends what it was not asked to')
    const into = must(options.into, 'what is lent has where to go')
    const times = { sentMs: beganMs, endMs: beganMs + options.timeoutMs, signal: options.signal }
    const body = await this.#borrower.bring({ pair, agreed, lease: answer.lease, into, place, ...times })
    return { head: answer.head, body }
  }

  /**
   * The range may be written to again once the owner has copied out what lies there: it has, if it answered. Of a call that was not answered it is not known; so its range is never used again, and when too many are
   * lost so, all of it goes back (C33).
   */
  #released(pair: Pair, agreed: Agreed, written: Written | undefined, error?: unknown): void {
    if (written === undefined) return
    const { grant, offset, bytes } = written
    if (!(error instanceof TidegateError && error.code === 'Unavailable')) return grant.ranges.give(offset)
    grant.lostBytes += bytes
    if (grant.lostBytes > grant.staging.memory.length / 2) pair.renew(agreed)
  }

  #gaveUp(pair: Pair, agreed: Agreed, error: unknown): void {
    if (!(error instanceof FabricFailure)) throw error
    if (error.kind !== 'late') pair.fail(agreed, error.message)
  }

  #deadlineMs(endMs: number): number {
    const nowMs = this.#options.clock.monotonicMs()
    return nowMs + Math.min(this.#limits.transferMs, (endMs - nowMs) / 2)
  }

  #pair(node: number): Pair {
    const known = this.#pairs.get(node)
    if (known !== undefined) return known
    const { inner, device, member, clock, random, onChange } = this.#options
    const pair = new Pair({
      node,
      inner,
      device,
      clock,
      random,
      limits: this.#limits,
      member: () => member(node),
      onChange: (event) => onChange?.(node, event),
    })
    this.#pairs.set(node, pair)
    return pair
  }

  #countsOf(node: number): Counts {
    const known = this.#counts.get(node)
    if (known !== undefined) return known
    const counts = { calls: 0, failures: 0 }
    this.#counts.set(node, counts)
    return counts
  }

  #figuresOf(peer: PeerFigures): PeerFigures {
    const { calls = 0, failures = 0 } = this.#counts.get(peer.node) ?? {}
    const pair = this.#pairs.get(peer.node)
    const { provider } = this.#options.device
    const lineBytes = pair?.agreed?.lineBytes
    const isUsed = lineBytes !== undefined && Number.isFinite(lineBytes)
    const none = { reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, fallbacks: 0, lastFailure: undefined }
    const fabric: FabricFigures = { provider, isUsed, lineBytes, ...(pair?.tally ?? none) }
    return {
      ...peer,
      calls,
      failures,
      bytesIn: peer.bytesIn + fabric.bytesRead + this.#owner.bytesTaken(peer.node),
      bytesOut: peer.bytesOut + fabric.bytesWritten + this.#owner.bytesLent(peer.node),
      fabric,
    }
  }
}

/** Asked anew each time: a signal may abort while something is waited for. */
function isGivenUp({ signal }: NodeCallOptions): boolean {
  return signal?.aborted === true
}

/** @throws Unavailable */
function decoded(node: number, head: Uint8Array): WrappedAnswer {
  try {
    return decodeWrapped(head)
  } catch (error) {
    throw unavailableNode(node, 'it answered with what cannot be read', error)
  }
}
