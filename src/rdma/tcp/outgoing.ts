/** A connection that this node made: its calls, and their answers in any order. */
import { assert } from '../../common/assert.ts'
import type { TidegateError } from '../../common/errors.ts'
import { NODE_BODY_BYTES_MAX } from '../../common/node-calls.ts'
import type { NodeCall, NodeCallOptions, NodeReply } from '../../common/node-calls.ts'
import { decodeFailure, unavailableNode } from '../failures.ts'
import { BadFrame, encodeFrame, FRAME, FRAME_HEAD_BYTES_MAX, methodNumber, type Frame } from './frames.ts'
import { CALLS_OWED_MAX } from './limits.ts'
import { Link, type LinkOptions, type LinkOwner, type ParcelState } from './link.ts'

const NOTHING = new Uint8Array(0)
const NUMBER_MAX = 0xffff_ffff
/** Beyond it timers fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1
/** Of a new round trip in the estimate. */
const ROUND_TRIP_SHARE = 0.2

interface CallUnderWay {
  readonly into: Uint8Array | undefined
  readonly hasPieces: boolean
  readonly resolve: (reply: NodeReply) => void
  readonly reject: (error: TidegateError) => void
  /** Ends its timer and the listening to its signal. */
  readonly release: () => void
  withdraw: () => ParcelState
}

export interface OutgoingOptions extends Omit<LinkOptions, 'owner'> {
  readonly node: number
  /** Of the process that the other end proved to be. */
  readonly incarnation: string
  /** Between asking and being answered. */
  readonly onRoundTrip: (ms: number) => void
  readonly onEnded: (connection: OutgoingConnection) => void
}

export class OutgoingConnection implements LinkOwner {
  readonly node: number
  readonly incarnation: string
  readonly #options: OutgoingOptions
  readonly #link: Link
  readonly #calls = new Map<number, CallUnderWay>()
  /** Ids of calls that were given up here, and whose answers will come. */
  readonly #owed = new Set<number>()
  #lastId = 0
  #ping: { readonly id: number; readonly atMs: number } | undefined

  constructor(options: OutgoingOptions) {
    this.#options = options
    this.node = options.node
    this.incarnation = options.incarnation
    this.#link = new Link({ ...options, owner: this })
  }

  start(): void {
    this.#link.start()
    this.tick()
  }

  get isEnded(): boolean {
    return this.#link.isEnded
  }

  get callsUnderWay(): number {
    return this.#calls.size
  }

  end(why: string): void {
    this.#link.end(why)
  }

  /** @throws TidegateError */
  call({ method, head, pieces = [] }: NodeCall, { timeoutMs, signal, into }: NodeCallOptions): Promise<NodeReply> {
    const bodyBytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
    assert(head.length <= FRAME_HEAD_BYTES_MAX && bodyBytes <= NODE_BODY_BYTES_MAX, 'a call fits a frame')
    return new Promise((resolve, reject) => {
      if (this.isEnded) return reject(unavailableNode(this.node, 'the connection has ended'))
      const id = this.#nextId()
      const onTime = (): void => this.#giveUp(id, `no answer within ${Math.round(timeoutMs)} ms`)
      const timer = setTimeout(onTime, Math.min(TIMER_MS_MAX, timeoutMs))
      const onAbort = (): void => this.#giveUp(id, 'the call was given up', signal?.reason)
      signal?.addEventListener('abort', onAbort, { once: true })
      const release = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const withdraw = (): ParcelState => 'withdrawn'
      const call: CallUnderWay = { into, hasPieces: bodyBytes > 0, resolve, reject, release, withdraw }
      this.#calls.set(id, call)
      const waitedMs = Math.min(NUMBER_MAX, Math.max(0, Math.ceil(timeoutMs)))
      const frame = { kind: FRAME.request, id, method: methodNumber(method), timeoutMs: waitedMs, head, bodyBytes }
      call.withdraw = this.#link.send({ head: encodeFrame(frame), pieces })
    })
  }

  isFull(): boolean {
    return false
  }

  frameBegan(frame: Frame): Uint8Array | undefined {
    const { kind, id, bodyBytes } = frame
    if (kind === FRAME.pong) return undefined
    if (kind !== FRAME.reply && kind !== FRAME.error) throw new BadFrame('it asks where it was asked')
    const call = this.#calls.get(id)
    if (call === undefined) {
      if (!this.#owed.delete(id)) throw new BadFrame('an answer to what was not asked')
      return undefined
    }
    if (kind === FRAME.error || bodyBytes === 0) return undefined
    if (bodyBytes <= (call.into?.length ?? 0)) return call.into
    this.#settle(id)?.reject(unavailableNode(this.node, `it answered with ${bodyBytes} bytes, which is too many`))
    return undefined
  }

  frameEnded({ kind, id, head, bodyBytes }: Frame): void {
    if (kind === FRAME.pong) return this.#onPong(id)
    const call = this.#settle(id)
    if (kind === FRAME.error) call?.reject(decodeFailure(this.node, head))
    else call?.resolve({ head, body: call.into?.subarray(0, bodyBytes) ?? NOTHING })
  }

  tick(): void {
    if (this.#ping !== undefined) return
    this.#ping = { id: this.#nextId(), atMs: this.#options.clock.monotonicMs() }
    this.#link.send({ head: encodeFrame({ kind: FRAME.ping, id: this.#ping.id }), pieces: [] })
  }

  linkEnded(why: string): void {
    for (const id of this.#calls.keys()) this.#settle(id)?.reject(unavailableNode(this.node, why))
    this.#options.onEnded(this)
  }

  /** Pongs that nobody asked for are signs of life. */
  #onPong(id: number): void {
    if (this.#ping?.id !== id) return
    this.#options.onRoundTrip(this.#options.clock.monotonicMs() - this.#ping.atMs)
    this.#ping = undefined
  }

  #settle(id: number): CallUnderWay | undefined {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    call?.release()
    return call
  }

  /** The caller has its bytes back when this returns: a request that is half written with them costs the connection. */
  #giveUp(id: number, why: string, cause?: unknown): void {
    const call = this.#settle(id)
    if (call === undefined) return
    const state = call.withdraw()
    const error = unavailableNode(this.node, why, cause)
    if (state === 'being written' && call.hasPieces) this.end('it did not take a request in time')
    else if (state !== 'withdrawn' && !this.#link.skip(id)) {
      this.#owed.add(id)
      this.#link.send({ head: encodeFrame({ kind: FRAME.cancel, id }), pieces: [] })
      if (this.#owed.size > CALLS_OWED_MAX) this.end('it owes too many answers')
    }
    call.reject(error)
  }

  #nextId(): number {
    do this.#lastId = this.#lastId === NUMBER_MAX ? 1 : this.#lastId + 1
    while (this.#calls.has(this.#lastId) || this.#owed.has(this.#lastId))
    return this.#lastId
  }
}

/** Moves with what is measured, and forgets slowly. */
export function smoothed(before: number | undefined, ms: number): number {
  return before === undefined ? ms : before + (ms - before) * ROUND_TRIP_SHARE
}
