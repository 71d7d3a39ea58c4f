/**
 * A connection that another node made: its requests, run by the handlers and answered when they are done. What all connections of one node keep busy here is bounded together (`Desk`): beyond it
 * nothing more is read of them.
 */
import { TidegateError } from '../../common/errors.ts'
import { NODE_BODY_BYTES_MAX, NODE_CALLS_AT_ONCE_MAX } from '../../common/node-calls.ts'
import type { NodeAnswer, NodeHandler, NodeMethod, NodeRequest } from '../../common/node-calls.ts'
import { encodeFailure } from '../failures.ts'
import { BadFrame, encodeFrame, FRAME, FRAME_HEAD_BYTES_MAX, methodOf, type Frame } from './frames.ts'
import { HELD_BYTES_MAX } from './limits.ts'
import { Link, type LinkOptions, type LinkOwner } from './link.ts'

const NOTHING = new Uint8Array(0)

/** What one node keeps busy here. */
export class Desk {
  running = 0
  bytes = 0
  readonly #connections = new Set<IncomingConnection>()

  get connections(): ReadonlySet<IncomingConnection> {
    return this.#connections
  }

  get isFull(): boolean {
    return this.running >= NODE_CALLS_AT_ONCE_MAX || this.bytes > HELD_BYTES_MAX
  }

  add(connection: IncomingConnection): void {
    this.#connections.add(connection)
  }

  remove(connection: IncomingConnection): void {
    this.#connections.delete(connection)
  }

  release(bytes: number): void {
    const wasFull = this.isFull
    this.running--
    this.bytes -= bytes
    if (wasFull && !this.isFull) for (const connection of this.#connections) connection.resume()
  }
}

/** Aborts a handler's signal, which most handlers never ask for: so it is made when they do. */
class RequestEnd {
  #abort: AbortController | undefined
  #timer: NodeJS.Timeout | undefined
  #reason: Error | undefined
  readonly #endsMs: number

  constructor(timeoutMs: number) {
    this.#endsMs = performance.now() + timeoutMs
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      const leftMs = Math.min(2 ** 31 - 1, Math.max(0, this.#endsMs - performance.now()))
      if (this.#reason !== undefined) this.#abort.abort(this.#reason)
      else this.#timer = setTimeout(() => this.abort('the time of the call is up'), leftMs).unref()
    }
    return this.#abort.signal
  }

  abort(why: string): void {
    this.#reason ??= new TidegateError('Unavailable', why)
    this.release()
    this.#abort?.abort(this.#reason)
  }

  release(): void {
    clearTimeout(this.#timer)
  }
}

export interface IncomingOptions extends Omit<LinkOptions, 'owner'> {
  readonly node: number
  readonly incarnation: string
  readonly desk: Desk
  readonly handler: (method: NodeMethod) => NodeHandler | undefined
  /** Nothing new is taken. */
  readonly isDraining: () => boolean
  /** A handler failed with what is no TidegateError. */
  readonly onBug: (error: unknown) => void
  readonly onEnded: (connection: IncomingConnection, why: string) => void
}

export class IncomingConnection implements LinkOwner {
  readonly node: number
  readonly incarnation: string
  readonly #options: IncomingOptions
  readonly #link: Link
  readonly #desk: Desk
  readonly #running = new Map<number, RequestEnd>()
  /** Of the request that is arriving. */
  #body: Uint8Array | undefined

  constructor(options: IncomingOptions) {
    this.#options = options
    this.node = options.node
    this.incarnation = options.incarnation
    this.#desk = options.desk
    this.#link = new Link({ ...options, owner: this })
  }

  start(): void {
    this.#link.start()
  }

  resume(): void {
    if (this.#link.isPaused && !this.isFull()) this.#link.resume()
  }

  end(why: string): void {
    this.#link.end(why)
  }

  isFull(): boolean {
    return this.#desk.isFull || this.#link.isBehind
  }

  frameBegan({ kind, id, bodyBytes }: Frame): Uint8Array | undefined {
    const isRequest = kind === FRAME.request
    if (!isRequest && kind !== FRAME.cancel && kind !== FRAME.ping)
      throw new BadFrame('an answer, and nothing was asked')
    if (!isRequest && bodyBytes > 0) throw new BadFrame('a body where there is none')
    if (!isRequest) return undefined
    if (this.#running.has(id)) throw new BadFrame('an id that is under way')
    this.#desk.running++
    this.#desk.bytes += bodyBytes
    this.#body = bodyBytes === 0 ? NOTHING : Buffer.allocUnsafeSlow(bodyBytes)
    return this.#body
  }

  frameEnded(frame: Frame): void {
    if (frame.kind === FRAME.ping)
      this.#link.send({ head: encodeFrame({ kind: FRAME.pong, id: frame.id }), pieces: [] })
    else if (frame.kind === FRAME.cancel) this.#running.get(frame.id)?.abort('the call was given up')
    else void this.#run(frame, this.#body ?? NOTHING)
    this.#body = undefined
  }

  /** Whoever is not read from cannot be heard either, so it is told that all is well. */
  tick(): void {
    if (this.#link.isPaused) this.#link.send({ head: encodeFrame({ kind: FRAME.pong, id: 0 }), pieces: [] })
  }

  linkEnded(why: string): void {
    for (const end of this.#running.values()) end.abort(why)
    // A request of which only a part has come never runs.
    if (this.#body !== undefined) this.#desk.release(this.#body.length)
    this.#body = undefined
    this.#options.onEnded(this, why)
  }

  /** Never rejects. */
  async #run({ id, method: number, timeoutMs, head, bodyBytes }: Frame, body: Uint8Array): Promise<void> {
    const end = new RequestEnd(timeoutMs)
    this.#running.set(id, end)
    const { node } = this
    const request: NodeRequest = {
      from: node,
      head,
      body,
      get signal() {
        return end.signal
      },
    }
    try {
      const answer = await this.#handler(number)(request)
      this.#reply(id, answer)
    } catch (error) {
      if (!(error instanceof TidegateError)) this.#options.onBug(error)
      this.#link.send({ head: encodeFrame({ kind: FRAME.error, id, head: encodeFailure(error) }), pieces: [] })
    } finally {
      end.release()
      this.#running.delete(id)
      this.#desk.release(bodyBytes)
    }
  }

  /** @throws TidegateError */
  #handler(number: number): NodeHandler {
    const { handler, isDraining } = this.#options
    if (isDraining()) throw new TidegateError('Unavailable', 'the node is ending')
    const method = methodOf(number)
    if (method === undefined)
      throw new TidegateError('NotImplemented', `the node knows no method ${number}: it is of an earlier version`)
    const found = handler(method)
    // It starts, and will.
    if (found === undefined) throw new TidegateError('Unavailable', `the node does not answer ${method} yet`)
    return found
  }

  #reply(id: number, { head, pieces = [], sent }: NodeAnswer): void {
    const bodyBytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
    if (head.length > FRAME_HEAD_BYTES_MAX || bodyBytes > NODE_BODY_BYTES_MAX) {
      sent?.()
      throw new RangeError('an answer that does not fit a frame')
    }
    const settled = (): void => {
      sent?.()
      this.resume()
    }
    this.#link.send({ head: encodeFrame({ kind: FRAME.reply, id, head, bodyBytes }), pieces, settled })
  }
}
