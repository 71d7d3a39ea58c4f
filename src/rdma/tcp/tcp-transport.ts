/**
 * Calls between nodes over TCP, or TLS on it. What lies where: handshake.ts (who is there), frames.ts (what is said), link.ts (one connection), outgoing.ts and incoming.ts (its two ends), peer.ts (a node
 * that is called), server.ts (who calls this one), limits.ts (bounds of everything).
 */
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { assert, must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { NodeCall, NodeCallOptions, NodeHandler, NodeMethod, NodeReply } from '../../common/node-calls.ts'
import type { NodeMember } from '../../common/node-view.ts'
import { unavailableNode } from '../failures.ts'
import type { Transport, TransportFigures } from '../ports.ts'
import { proveAsConnecting, Refused, type HandshakeSelf } from './handshake.ts'
import { TCP_LIMITS, type TcpLimits } from './limits.ts'
import { OutgoingConnection, smoothed } from './outgoing.ts'
import { Peer } from './peer.ts'
import { Certificates, isCertificateError, type TransportTls } from './secured.ts'
import { TransportServer } from './server.ts'
import { Tally } from './tally.ts'

const DRAIN_LOOK_MS = 10
const READ_BYTES = 256 * 1024

export interface TcpTransportOptions {
  readonly self: Omit<HandshakeSelf, 'handshakeMs'>
  readonly listen: { readonly host: string; readonly port: number }
  /** Where a node is, as far as is known (common/node-view.ts). */
  readonly member: (node: number) => NodeMember | undefined
  readonly tls?: TransportTls | undefined
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  /** A handler failed with what is no TidegateError: a defect. */
  readonly onBug: (error: unknown) => void
  readonly limits?: Partial<TcpLimits> | undefined
}

export class TcpTransport implements Transport {
  readonly #options: TcpTransportOptions
  readonly #limits: TcpLimits
  readonly #self: HandshakeSelf
  readonly #certificates: Certificates | undefined
  readonly #tally = new Tally()
  readonly #handlers = new Map<NodeMethod, NodeHandler>()
  readonly #peers = new Map<number, Peer>()
  readonly #server: TransportServer
  /** Connections that are being made. */
  readonly #dialling = new Set<Socket>()
  #underWay = 0
  #isDraining = false
  #above: () => number = () => 0

  constructor(options: TcpTransportOptions) {
    const { self, listen, tls, clock, onBug } = options
    assert(self.node >= 0, 'a node has a number')
    assert(/^[0-9a-f]{16}$/.test(self.incarnation), 'an incarnation is 16 hex digits')
    this.#options = options
    this.#limits = { ...TCP_LIMITS, ...options.limits }
    this.#self = { ...self, handshakeMs: this.#limits.handshakeMs }
    this.#certificates = tls && new Certificates(tls)
    this.#server = new TransportServer({
      listen,
      self: this.#self,
      certificates: this.#certificates,
      clock,
      limits: this.#limits,
      tally: this.#tally,
      handler: (method) => this.#handlers.get(method),
      onBug,
    })
  }

  get address(): string {
    const { address, port } = must(this.#server.address, 'an address before the transport has started')
    return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  }

  get figures(): TransportFigures {
    return this.#tally.figures((node) => this.#peers.get(node)?.isConnected === true)
  }

  start(): Promise<void> {
    return this.#server.start()
  }

  serve(method: NodeMethod, handler: NodeHandler): void {
    assert(!this.#handlers.has(method), `one handler answers ${method}`)
    this.#handlers.set(method, handler)
  }

  async call(node: number, call: NodeCall, options: NodeCallOptions): Promise<NodeReply> {
    assert(node !== this.#self.node, 'a node does not call itself')
    if (this.#isDraining && this.#above() === 0) throw unavailableNode(node, 'this node is ending')
    this.#underWay++
    try {
      return await this.#peer(node).call(call, options)
    } finally {
      this.#underWay--
    }
  }

  /** Members have changed: connections to processes that are gone end. */
  viewChanged(): void {
    for (const peer of this.#peers.values()) peer.seen()
  }

  /** `above`: how many calls are under way in a layer above, which takes no new ones: those may take further calls here. */
  async drain(above: () => number = () => 0): Promise<void> {
    const { clock } = this.#options
    this.#isDraining = true
    this.#above = above
    this.#server.drain()
    const endMs = clock.monotonicMs() + this.#limits.drainMs
    while (above() + this.#underWay + this.#server.running > 0 && clock.monotonicMs() < endMs)
      await clock.sleep(DRAIN_LOOK_MS)
  }

  async stop(): Promise<void> {
    this.#isDraining = true
    this.#above = () => 0
    for (const peer of this.#peers.values()) peer.close('this node has stopped')
    for (const socket of this.#dialling) socket.destroy()
    await this.#server.stop()
  }

  #peer(node: number): Peer {
    const known = this.#peers.get(node)
    if (known !== undefined) return known
    const { clock, random, member } = this.#options
    const tally = this.#tally.of(node)
    const peer = new Peer({
      node,
      clock,
      random,
      limits: this.#limits,
      tally,
      member: () => member(node),
      dial: (reached, onEnded) => this.#dial(reached, onEnded),
    })
    this.#peers.set(node, peer)
    return peer
  }

  /** @throws Refused, or what the socket says */
  async #dial({ number, address }: NodeMember, onEnded: () => void): Promise<OutgoingConnection> {
    const { clock } = this.#options
    const tally = this.#tally.of(number)
    try {
      const socket = await this.#connect(address)
      const peer = await proveAsConnecting(socket, this.#self, number)
      const onRoundTrip = (ms: number): void => void (tally.roundTripMs = smoothed(tally.roundTripMs, ms))
      const connection = new OutgoingConnection({
        socket,
        ...peer,
        clock,
        limits: this.#limits,
        tally,
        onRoundTrip,
        onEnded,
      })
      this.#dialling.delete(socket)
      connection.start()
      return connection
    } catch (error) {
      this.#tally.refusedBy(error)
      throw error
    }
  }

  #connect(address: string): Promise<Socket> {
    const at = address.lastIndexOf(':')
    const host = address.slice(0, at).replace(/^\[(.*)\]$/, '$1')
    const port = Number(address.slice(at + 1))
    if (at < 1 || !Number.isInteger(port) || port < 1 || port > 65_535)
      return Promise.reject(new Error('an address that is none'))
    return new Promise((resolve, reject) => {
      // One buffer for all that arrives: it is copied to where it belongs before more is read, and large answers would leave much to collect.
      const callback = (count: number, buffer: Uint8Array): boolean => socket.emit('data', buffer.subarray(0, count))
      const place = { host, port, onread: { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback } }
      const socket = this.#certificates
        ? connectTls({ ...place, ...this.#certificates.options() }, () => connected())
        : connectPlain(place, () => connected())
      this.#dialling.add(socket)
      socket.on('close', () => this.#dialling.delete(socket))
      const failed = (error: Error): void => {
        clearTimeout(timer)
        socket.destroy()
        reject(isCertificateError(error) ? new Refused('certificate', error.message) : error)
      }
      const timer = setTimeout(
        () => failed(new Refused('late', 'it does not take connections')),
        this.#limits.handshakeMs,
      ).unref()
      const connected = (): void => {
        clearTimeout(timer)
        socket.off('close', closed)
        resolve(socket)
      }
      const closed = (): void => failed(new Refused('broken', 'the connection ended before it was one'))
      socket.on('error', failed).once('close', closed)
    })
  }
}
