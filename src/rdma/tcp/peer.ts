/**
 * Another node, as this one calls it: one connection for small calls and one for large ones, made when first wanted, and made anew when they have ended or the node is another process now.
 *
 * A call waits for its connection within its own time. When an attempt to connect fails, who waited for it is told at once, so that another node can be asked; the next attempt is made after a pause that
 * doubles. At most as many calls are under way as the other end runs at once; those beyond wait here.
 */
import { TidegateError } from '../../common/errors.ts'
import { NODE_CALLS_AT_ONCE_MAX } from '../../common/node-calls.ts'
import type { NodeCall, NodeCallOptions, NodeReply } from '../../common/node-calls.ts'
import type { Clock } from '../../common/clock.ts'
import type { NodeMember } from '../../common/node-view.ts'
import { unavailableNode } from '../failures.ts'
import { CALLS_WAITING_MAX, LARGE_CALL_BYTES, type TcpLimits } from './limits.ts'
import type { OutgoingConnection } from './outgoing.ts'
import type { PeerTally } from './tally.ts'

export interface PeerOptions {
  readonly node: number
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly limits: TcpLimits
  readonly tally: PeerTally
  /** Undefined: it is not there. */
  readonly member: () => NodeMember | undefined
  /** @throws Refused, or what the socket says */
  readonly dial: (member: NodeMember, onEnded: () => void) => Promise<OutgoingConnection>
}

/** One of the two connections. */
class Lane {
  readonly #options: PeerOptions
  #connection: OutgoingConnection | undefined
  #dialling: Promise<OutgoingConnection> | undefined
  #failures = 0
  #notBeforeMs = 0
  readonly #closing = new AbortController()

  constructor(options: PeerOptions) {
    this.#options = options
  }

  get connection(): OutgoingConnection | undefined {
    return this.#connection?.isEnded === false ? this.#connection : undefined
  }

  /** Shared by all who wait. @throws TidegateError */
  connect(): Promise<OutgoingConnection> {
    this.#dialling ??= this.#connect().finally(() => (this.#dialling = undefined))
    return this.#dialling
  }

  /** Undefined: the node is not there any more. What is under way there may end. */
  seen(member: NodeMember | undefined): void {
    const { connection } = this
    if (connection === undefined || member?.incarnation === connection.incarnation) return
    if (member !== undefined || connection.callsUnderWay === 0) connection.end('the node is another process now')
  }

  close(why: string): void {
    this.#closing.abort(new Error(why))
    this.#connection?.end(why)
  }

  async #connect(): Promise<OutgoingConnection> {
    const { node, clock, limits, random, member, dial } = this.#options
    const { signal: closing } = this.#closing
    const waitMs = this.#notBeforeMs - clock.monotonicMs()
    if (waitMs > 0) await clock.sleep(waitMs, closing).catch(() => undefined)
    const reached = member()
    if (reached === undefined) throw unavailableNode(node, 'it is not there')
    try {
      closing.throwIfAborted()
      const connection = await dial(reached, () => this.#ended())
      this.#connection = connection
      this.#failures = 0
      if (closing.aborted) connection.end('this node has stopped')
      return connection
    } catch (error) {
      const pauseMs = Math.min(limits.redialMsMax, limits.redialMs * 2 ** this.#failures++)
      this.#notBeforeMs = clock.monotonicMs() + pauseMs * (0.5 + random() / 2)
      throw unavailableNode(node, `${reached.address}: ${(error as Error).message}`, error)
    }
  }

  /** One that was made and ended at once must not be made again at once. */
  #ended(): void {
    const { clock, limits } = this.#options
    this.#notBeforeMs = Math.max(this.#notBeforeMs, clock.monotonicMs() + limits.redialMs)
  }
}

export class Peer {
  readonly #options: PeerOptions
  readonly #small: Lane
  readonly #large: Lane
  readonly #waiting: { wake: () => void }[] = []
  #underWay = 0

  constructor(options: PeerOptions) {
    this.#options = options
    this.#small = new Lane(options)
    this.#large = new Lane(options)
  }

  get isConnected(): boolean {
    return (this.#small.connection ?? this.#large.connection) !== undefined
  }

  /** @throws TidegateError */
  async call(call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    const { node, tally, member } = this.#options
    tally.calls++
    try {
      options.signal?.throwIfAborted()
      if (member() === undefined) throw unavailableNode(node, 'it is not there')
      const lane = isLarge(call, options) ? this.#large : this.#small
      const ready = lane.connection
      if (ready !== undefined && this.#underWay < NODE_CALLS_AT_ONCE_MAX)
        return await this.#onConnection(ready, call, options)
      return await this.#later(lane, call, options)
    } catch (error) {
      tally.failures++
      if (error instanceof TidegateError) throw error
      if (options.signal?.aborted === true) throw unavailableNode(node, 'the call was given up', error)
      throw error
    }
  }

  /** Its member may have changed. */
  seen(): void {
    const member = this.#options.member()
    this.#small.seen(member)
    this.#large.seen(member)
  }

  close(why: string): void {
    this.#small.close(why)
    this.#large.close(why)
  }

  async #onConnection(connection: OutgoingConnection, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    this.#underWay++
    try {
      return await connection.call(call, options)
    } finally {
      this.#underWay--
      this.#waiting.shift()?.wake()
    }
  }

  /** Waits for a connection, and for its turn, in the call's own time. */
  async #later(lane: Lane, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    const { clock, node } = this.#options
    const endMs = clock.monotonicMs() + options.timeoutMs
    const connection = lane.connection ?? (await this.#inTime(lane.connect(), endMs, options.signal))
    while (this.#underWay >= NODE_CALLS_AT_ONCE_MAX) await this.#turn(endMs, options.signal)
    const timeoutMs = endMs - clock.monotonicMs()
    if (timeoutMs <= 0 || options.signal?.aborted === true) this.#waiting.shift()?.wake()
    if (timeoutMs <= 0) throw unavailableNode(node, 'its connection took the time of the call')
    options.signal?.throwIfAborted()
    return await this.#onConnection(connection, call, { ...options, timeoutMs })
  }

  async #turn(endMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { node } = this.#options
    if (this.#waiting.length >= CALLS_WAITING_MAX) throw unavailableNode(node, 'too many calls wait for it')
    const turn = Promise.withResolvers<void>()
    const waiting = { wake: turn.resolve }
    this.#waiting.push(waiting)
    try {
      await this.#inTime(turn.promise, endMs, signal)
    } catch (error) {
      const at = this.#waiting.indexOf(waiting)
      // It was its turn when its time was up: somebody else's now.
      if (at < 0) this.#waiting.shift()?.wake()
      else this.#waiting.splice(at, 1)
      throw error
    }
  }

  async #inTime<T>(promise: Promise<T>, endMs: number, signal: AbortSignal | undefined): Promise<T> {
    const { clock, node } = this.#options
    const over = Promise.withResolvers<never>()
    const onTime = (): void => over.reject(unavailableNode(node, 'there was no connection in time'))
    const onAbort = (): void => over.reject(unavailableNode(node, 'the call was given up', signal?.reason))
    const timer = setTimeout(onTime, Math.min(2 ** 31 - 1, Math.max(0, endMs - clock.monotonicMs())))
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([promise, over.promise])
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }
}

function isLarge({ pieces = [] }: NodeCall, { into }: NodeCallOptions): boolean {
  return pieces.reduce((sum, piece) => sum + piece.length, into?.length ?? 0) >= LARGE_CALL_BYTES
}
