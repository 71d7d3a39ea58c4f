/**
 * The twin within one process: for tests of those who call and answer, without sockets. It keeps the contract (ports.ts), bytes included: what is handed over is copied on the way, as a wire
 * would, so whoever uses bytes that are not his any more is caught.
 *
 * Faults under a test's hand: `cut(a, b)` keeps two nodes apart, either with a failure at once (`refused`) or with silence, which only the time of a call ends. Calls under way when nodes are cut are
 * answered by nobody.
 */
import { assert, must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import { NODE_BODY_BYTES_MAX, NODE_CALLS_AT_ONCE_MAX, NODE_HEAD_BYTES_MAX } from '../../common/node-calls.ts'
import type {
  NodeAnswer,
  NodeCall,
  NodeCallOptions,
  NodeHandler,
  NodeMethod,
  NodeReply,
} from '../../common/node-calls.ts'
import { decodeFailure, encodeFailure, unavailableNode } from '../failures.ts'
import { REFUSALS, type PeerFigures, type Refusal, type Transport, type TransportFigures } from '../ports.ts'

const DRAIN_MS_MAX = 10_000

export type Cut = 'refused' | 'silent'

interface PeerCount {
  calls: number
  failures: number
  bytesIn: number
  bytesOut: number
}

export class LoopbackNetwork {
  readonly clock: Clock
  readonly #nodes = new Map<number, LoopbackTransport>()
  readonly #cuts = new Map<string, Cut>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** A transport of that node; one that has stopped may be followed by another. */
  join(node: number, onBug: (error: unknown) => void = () => undefined): LoopbackTransport {
    return new LoopbackTransport({ network: this, node, onBug })
  }

  cut(a: number, b: number, how: Cut): void {
    this.#cuts.set(pair(a, b), how)
  }

  mend(a: number, b: number): void {
    this.#cuts.delete(pair(a, b))
  }

  cutBetween(a: number, b: number): Cut | undefined {
    return this.#cuts.get(pair(a, b))
  }

  find(node: number): LoopbackTransport | undefined {
    return this.#nodes.get(node)
  }

  enter(transport: LoopbackTransport): void {
    assert(!this.#nodes.has(transport.node), 'one process runs a node')
    this.#nodes.set(transport.node, transport)
  }

  leave(transport: LoopbackTransport): void {
    if (this.#nodes.get(transport.node) === transport) this.#nodes.delete(transport.node)
  }
}

interface LoopbackOptions {
  readonly network: LoopbackNetwork
  readonly node: number
  readonly onBug: (error: unknown) => void
}

export class LoopbackTransport implements Transport {
  readonly node: number
  readonly #options: LoopbackOptions
  readonly #handlers = new Map<NodeMethod, NodeHandler>()
  readonly #counts = new Map<number, PeerCount>()
  readonly #running = new Set<AbortController>()
  readonly #underWay = new Set<(error: TidegateError) => void>()
  /** Of each peer, how many of its calls run here, and who waits for one to end. */
  readonly #busy = new Map<number, { running: number; readonly waiting: (() => void)[] }>()
  #state: 'new' | 'started' | 'draining' | 'stopped' = 'new'

  constructor(options: LoopbackOptions) {
    this.#options = options
    this.node = options.node
  }

  get address(): string {
    assert(this.#state !== 'new', 'an address before the transport has started')
    return `loopback:${this.node}`
  }

  get figures(): TransportFigures {
    const peers = [...this.#counts].map(([node, count]): PeerFigures => {
      const connected = this.#options.network.find(node) !== undefined
      return { node, connected, ...count, roundTripMs: connected ? 0 : undefined }
    })
    const refused = Object.fromEntries(REFUSALS.map((reason) => [reason, 0])) as Record<Refusal, number>
    return { peers, refused, badFrames: 0 }
  }

  async start(): Promise<void> {
    this.#options.network.enter(this)
    this.#state = 'started'
  }

  async drain(): Promise<void> {
    if (this.#state === 'started') this.#state = 'draining'
    const { clock } = this.#options.network
    const endMs = clock.monotonicMs() + DRAIN_MS_MAX
    while (this.#running.size + this.#underWay.size > 0 && clock.monotonicMs() < endMs) await clock.sleep(1)
  }

  async stop(): Promise<void> {
    this.#state = 'stopped'
    this.#options.network.leave(this)
    const stopped = new TidegateError('Unavailable', 'the node has stopped')
    for (const abort of this.#running) abort.abort(stopped)
    for (const reject of this.#underWay) reject(stopped)
  }

  serve(method: NodeMethod, handler: NodeHandler): void {
    assert(!this.#handlers.has(method), `one handler answers ${method}`)
    this.#handlers.set(method, handler)
  }

  async call(node: number, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    assert(node !== this.node, 'a node does not call itself')
    const body = joined(call.pieces ?? [])
    assert(call.head.length <= NODE_HEAD_BYTES_MAX && body.length <= NODE_BODY_BYTES_MAX, 'a call fits a frame')
    const count = this.#countOf(node)
    count.calls++
    count.bytesOut += call.head.length + body.length
    try {
      const reply = await this.#inTime(node, { method: call.method, head: call.head.slice(), body }, options)
      count.bytesIn += reply.head.length + reply.body.length
      return reply
    } catch (error) {
      count.failures++
      throw error
    }
  }

  #countOf(node: number): PeerCount {
    const known = this.#counts.get(node)
    if (known !== undefined) return known
    const made = { calls: 0, failures: 0, bytesIn: 0, bytesOut: 0 }
    this.#counts.set(node, made)
    return made
  }

  async #inTime(node: number, asked: Asked, { timeoutMs, signal, into }: NodeCallOptions): Promise<NodeReply> {
    const { network } = this.#options
    if (this.#state !== 'started') throw unavailableNode(node, 'this node is ending')
    const gone = new AbortController()
    const over = Promise.withResolvers<never>()
    const fail = (error: TidegateError): void => over.reject(error)
    const onAbort = (): void => fail(unavailableNode(node, 'the call was given up', signal?.reason))
    if (signal?.aborted === true) throw unavailableNode(node, 'the call was given up', signal.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#underWay.add(fail)
    const late = new AbortController()
    network.clock.sleep(timeoutMs, late.signal).then(
      () => fail(unavailableNode(node, `no answer within ${timeoutMs} ms`)),
      () => undefined,
    )
    try {
      const { head, body } = await Promise.race([this.#ask(node, asked, gone.signal), over.promise])
      if (body.length > (into?.length ?? 0))
        throw unavailableNode(node, `it answered with ${body.length} bytes, which is too many`)
      into?.set(body)
      return { head, body: into?.subarray(0, body.length) ?? body }
    } finally {
      late.abort()
      this.#underWay.delete(fail)
      signal?.removeEventListener('abort', onAbort)
      gone.abort(new TidegateError('Unavailable', 'the call was given up'))
    }
  }

  async #ask(node: number, asked: Asked, signal: AbortSignal): Promise<{ head: Uint8Array; body: Uint8Array }> {
    const { network } = this.#options
    // No call is carried out before it has returned its promise.
    await Promise.resolve()
    const isCut = (): Cut | undefined => network.cutBetween(this.node, node)
    if (isCut() === 'silent') return await new Promise(() => undefined)
    const other = network.find(node)
    if (isCut() !== undefined || other === undefined) throw unavailableNode(node, 'it is not there')
    try {
      const answer = await other.answer(this.node, asked, signal)
      if (isCut() === undefined) return answer
    } catch (error) {
      if (isCut() === undefined) throw decodeFailure(node, encodeFailure(error))
    }
    if (isCut() === 'silent') return await new Promise(() => undefined)
    throw unavailableNode(node, 'the connection was closed')
  }

  /** Of the other end: runs the handler. */
  async answer(
    from: number,
    { method, head, body }: Asked,
    gone: AbortSignal,
  ): Promise<{ head: Uint8Array; body: Uint8Array }> {
    const busy = this.#busy.get(from) ?? { running: 0, waiting: [] }
    this.#busy.set(from, busy)
    while (busy.running >= NODE_CALLS_AT_ONCE_MAX) await new Promise<void>((resolve) => busy.waiting.push(resolve))
    if (this.#state !== 'started') throw new TidegateError('Unavailable', 'the node is ending')
    const handler = this.#handlers.get(method)
    if (handler === undefined) throw new TidegateError('Unavailable', `the node does not answer ${method} yet`)
    const abort = new AbortController()
    busy.running++
    this.#running.add(abort)
    try {
      const answer = await handler({ from, head, body, signal: AbortSignal.any([abort.signal, gone]) })
      return sentOff(answer)
    } catch (error) {
      if (!(error instanceof TidegateError)) this.#options.onBug(error)
      throw error
    } finally {
      this.#running.delete(abort)
      busy.running--
      busy.waiting.shift()?.()
    }
  }
}

interface Asked {
  readonly method: NodeMethod
  readonly head: Uint8Array
  readonly body: Uint8Array
}

function sentOff({ head, pieces = [], sent }: NodeAnswer): { head: Uint8Array; body: Uint8Array } {
  try {
    const body = joined(pieces)
    if (head.length > NODE_HEAD_BYTES_MAX || body.length > NODE_BODY_BYTES_MAX)
      throw new RangeError('an answer that does not fit a frame')
    return { head: head.slice(), body }
  } finally {
    sent?.()
  }
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [only] = pieces
  return pieces.length === 1 ? must(only, 'a piece').slice() : new Uint8Array(Buffer.concat(pieces))
}

function pair(a: number, b: number): string {
  return `${Math.min(a, b)} ${Math.max(a, b)}`
}
