/** The fabric's side of who is called: agrees with callers, lends what they may read, takes what they have written, and runs the handlers. */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeAnswer, NodeHandler, NodeMethod, NodeRequest } from '../../common/node-calls.ts'
import type { NodeMember } from '../../common/node-view.ts'
import type { Transport } from '../ports.ts'
import { methodOf } from '../tcp/frames.ts'
import { Hosts, type Host } from './hosts.ts'
import { bytesOf, Leases } from './leases.ts'
import type { FabricLimits } from './limits.ts'
import { PROBE_BYTES_MAX } from './line.ts'
import { fixedMemory, type KnownMemory } from './memory.ts'
import {
  decodeAgreementNumber,
  decodeCall,
  decodeLeases,
  decodeProbe,
  encodeGrant,
  encodeLease,
  encodeWrapped,
  type WrappedCall,
} from './messages.ts'
import type { FabricDevice } from './ports.ts'

const NOTHING = new Uint8Array(0)
const DONE: NodeAnswer = { head: NOTHING }

export interface OwnerOptions {
  readonly inner: Pick<Transport, 'serve'>
  readonly device: FabricDevice
  readonly member: (node: number) => NodeMember | undefined
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly memory: KnownMemory
  readonly limits: FabricLimits
}

export class Owner {
  readonly #options: OwnerOptions
  readonly #handlers = new Map<NodeMethod, NodeHandler>()
  readonly #hosts: Hosts
  readonly #leases: Leases
  readonly #lent = new Map<number, number>()
  readonly #taken = new Map<number, number>()
  #probed: Uint8Array | undefined

  constructor(options: OwnerOptions) {
    const { inner } = options
    this.#options = options
    this.#hosts = new Hosts(options)
    this.#leases = new Leases(options)
    inner.serve('fabric-agree', async ({ from, head }) => ({ head: this.#hosts.agree(from, head) }))
    inner.serve('fabric-end', async ({ from, head }) => {
      this.#hosts.end(from, decodeAgreementNumber(head))
      return DONE
    })
    inner.serve('fabric-grant', async ({ from, head }) => ({
      head: encodeGrant(this.#hosts.grant(from, decodeAgreementNumber(head))),
    }))
    inner.serve('fabric-probe', async (request) => this.#probe(request))
    inner.serve('fabric-done', async ({ from, head }) => {
      count(this.#lent, from, this.#leases.done(from, decodeLeases(head)))
      return DONE
    })
    inner.serve('fabric-bring', async ({ from, head }) => this.#bring(from, head))
    inner.serve('fabric-call', (request) => this.#call(request))
  }

  serve(method: NodeMethod, handler: NodeHandler): void {
    assert(!this.#handlers.has(method), `one handler answers ${method}`)
    this.#handlers.set(method, handler)
    this.#options.inner.serve(method, handler)
  }

  /** That the node has read here by itself, since the start. */
  bytesLent(node: number): number {
    return this.#lent.get(node) ?? 0
  }

  /** That it has written here. */
  bytesTaken(node: number): number {
    return this.#taken.get(node) ?? 0
  }

  seen(): void {
    this.#hosts.seen()
  }

  /** Nobody reaches memory here from now on, as far as it was reached by an agreement. */
  async stop(): Promise<void> {
    await this.#hosts.stop()
  }

  /** Once the memory that was lent is not known to the fabric any more. */
  endLeases(): void {
    this.#leases.stop()
  }

  async #call(request: NodeRequest): Promise<NodeAnswer> {
    const asked = decodeCall(request.head)
    const host = this.#hosts.find(request.from, asked.agreement)
    if (host === undefined) return { head: encodeWrapped({ outcome: 'unknown' }) }
    const handler = this.#handler(asked.method)
    const { granted } = asked
    if (granted === undefined) return this.#answer(request, asked, await handler(unwrapped(request, asked)))
    if (request.body.length > 0) throw new TidegateError('InvalidRequest', 'a call with two bodies')
    const body = this.#hosts.take(host, granted)
    count(this.#taken, request.from, body.length)
    try {
      return this.#answer(request, asked, await handler(unwrapped(request, asked, body)))
    } finally {
      this.#hosts.release(host, body.length)
    }
  }

  /** @throws TidegateError */
  #handler(number: number): NodeHandler {
    const method = methodOf(number)
    if (method === undefined) throw new TidegateError('NotImplemented', `the node knows no method ${number}`)
    const handler = this.#handlers.get(method)
    if (handler === undefined) throw new TidegateError('Unavailable', `the node does not answer ${method} yet`)
    return handler
  }

  #answer({ from, signal }: NodeRequest, { lendFrom }: WrappedCall, answer: NodeAnswer): NodeAnswer {
    // To who has gone nothing is lent: nobody would say that it was read.
    const mayLend = bytesOf(answer.pieces ?? []) >= lendFrom && !signal.aborted
    const lease = mayLend ? this.#leases.lend(from, answer) : undefined
    if (lease !== undefined) return { head: encodeWrapped({ outcome: 'lent', lease, head: answer.head }) }
    return { ...answer, head: encodeWrapped({ outcome: 'brought', head: answer.head }) }
  }

  #bring(from: number, head: Uint8Array): NodeAnswer {
    const [id, ...more] = decodeLeases(head)
    const lent = id === undefined || more.length > 0 ? undefined : this.#leases.bring(from, id)
    if (lent === undefined) throw new TidegateError('Unavailable', 'what was lent has been taken back')
    return { head: NOTHING, pieces: lent.pieces, sent: lent.sent }
  }

  /** @throws TidegateError */
  #probe({ from, head, body }: NodeRequest): NodeAnswer {
    const { agreement, bytes, how, offset } = decodeProbe(head)
    const host: Host | undefined = this.#hosts.find(from, agreement)
    if (host === undefined) throw new TidegateError('Unavailable', 'no such agreement')
    if (bytes === 0 || bytes > PROBE_BYTES_MAX) throw new TidegateError('InvalidRequest', `a probe of ${bytes} bytes`)
    if (how === 'in the call' && body.length !== bytes)
      throw new TidegateError('InvalidRequest', 'a probe of another length')
    // It has been copied out, as with any call: that is what is measured.
    if (how === 'written') this.#hosts.release(host, this.#hosts.take(host, { offset, bytes }).length)
    if (how === 'written' || how === 'in the call') return DONE
    const probed = this.#probeMemory().subarray(0, bytes)
    if (how === 'in the reply') return { head: NOTHING, pieces: [probed] }
    const place = this.#options.memory.find(probed)
    if (place === undefined) throw new TidegateError('Unavailable', 'there is no memory to probe')
    const { key, address } = place.region
    const { leaseMs } = this.#options.limits
    return { head: encodeLease({ id: 0, leaseMs, pieces: [{ key, address, bytes }] }) }
  }

  /** Bytes that are nobody's, made when first asked for. */
  #probeMemory(): Uint8Array {
    if (this.#probed === undefined) {
      const memory = fixedMemory(PROBE_BYTES_MAX)
      this.#options.fillRandom(memory)
      this.#options.memory.add(memory.buffer, 'read')
      this.#probed = memory
    }
    return this.#probed
  }
}

function unwrapped(request: NodeRequest, { head }: WrappedCall, body = request.body): NodeRequest {
  return {
    from: request.from,
    head,
    body,
    get signal() {
      return request.signal
    },
  }
}

function count(counts: Map<number, number>, node: number, bytes: number): void {
  counts.set(node, (counts.get(node) ?? 0) + bytes)
}
