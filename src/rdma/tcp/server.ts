/** Listens for other nodes. A connection that has not proved who it is has little time, and there are few of them; those that have belong to a `Desk` for each node. */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import type { Clock } from '../../common/clock.ts'
import type { NodeHandler, NodeMethod } from '../../common/node-calls.ts'
import { proveAsConnected, type HandshakeSelf } from './handshake.ts'
import { Desk, IncomingConnection } from './incoming.ts'
import { CONNECTIONS_PER_NODE_MAX, type TcpLimits } from './limits.ts'
import type { Certificates } from './secured.ts'
import type { Tally } from './tally.ts'

export interface ServerOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly self: HandshakeSelf
  readonly certificates: Certificates | undefined
  readonly clock: Clock
  readonly limits: TcpLimits
  readonly tally: Tally
  readonly handler: (method: NodeMethod) => NodeHandler | undefined
  readonly onBug: (error: unknown) => void
}

export class TransportServer {
  readonly #options: ServerOptions
  readonly #desks = new Map<number, Desk>()
  /** Every connection, and since when, by where it comes from, until it has proved who it is. */
  readonly #unknown = new Map<string, Socket>()
  readonly #open = new Set<Socket>()
  #server: Server | TlsServer | undefined
  #certificatesVersion = 0
  #isDraining = false

  constructor(options: ServerOptions) {
    this.#options = options
  }

  get address(): AddressInfo | undefined {
    const address = this.#server?.address()
    return typeof address === 'object' ? (address ?? undefined) : undefined
  }

  get running(): number {
    return [...this.#desks.values()].reduce((sum, desk) => sum + desk.running, 0)
  }

  /** @throws what listening throws */
  async start(): Promise<void> {
    const { listen, certificates } = this.#options
    const server = certificates ? this.#tlsServer(certificates) : createServer()
    server.on('connection', (socket) => this.#onSocket(socket))
    // What is being read when its connection ends, and errors of accepting: nobody's business.
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(listen, () => {
        server.off('error', reject).on('error', () => undefined)
        resolve()
      })
    })
    this.#server = server
  }

  /** Nothing new is taken. */
  drain(): void {
    this.#isDraining = true
  }

  async stop(): Promise<void> {
    this.#isDraining = true
    const server = this.#server
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()))
    for (const desk of this.#desks.values()) for (const one of desk.connections) one.end('the node has stopped')
    for (const socket of this.#open) socket.destroy()
    await closed
  }

  #tlsServer(certificates: Certificates): TlsServer {
    const { limits, tally } = this.#options
    // Whoever shows no certificate, or one that does not do, is refused below: by itself the server would close without a word of why.
    const options = { ...certificates.options(), rejectUnauthorized: false }
    const server = createTlsServer({ ...options, handshakeTimeout: limits.handshakeMs })
    this.#certificatesVersion = certificates.version
    server.on('secureConnection', (socket) => {
      if (socket.authorized) return void this.#prove(socket)
      tally.refused('certificate')
      socket.on('error', () => undefined).destroy()
    })
    server.on('tlsClientError', (_error, socket) => {
      tally.refused('broken')
      socket.destroy()
    })
    return server
  }

  #onSocket(socket: Socket): void {
    const { certificates, limits, tally } = this.#options
    if (this.#unknown.size >= limits.handshakesMax || this.#isDraining) {
      tally.refused('crowded')
      socket.on('error', () => undefined).destroy()
      return
    }
    const from = whence(socket)
    this.#unknown.set(from, socket)
    this.#open.add(socket)
    const timer = setTimeout(() => {
      // A little later than the handshake's own end, which says more.
      if (this.#unknown.get(from) === socket) socket.destroy()
    }, limits.handshakeMs + 100).unref()
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearTimeout(timer)
      this.#open.delete(socket)
      if (this.#unknown.get(from) === socket) this.#unknown.delete(from)
    })
    if (certificates === undefined) return void this.#prove(socket)
    const options = certificates.options()
    if (certificates.version === this.#certificatesVersion) return
    this.#certificatesVersion = certificates.version
    ;(this.#server as TlsServer).setSecureContext(options)
  }

  /** Never rejects. */
  async #prove(socket: Socket): Promise<void> {
    const { self, tally } = this.#options
    try {
      const { node, incarnation, early } = await proveAsConnected(socket, self)
      this.#unknown.delete(whence(socket))
      this.#accept(socket, { node, incarnation, early })
    } catch (error) {
      tally.refusedBy(error)
      socket.destroySoon()
    }
  }

  #accept(socket: Socket, peer: { node: number; incarnation: string; early: Uint8Array }): void {
    const { clock, limits, tally, handler, onBug } = this.#options
    const desk = this.#desks.get(peer.node) ?? new Desk()
    this.#desks.set(peer.node, desk)
    for (const before of desk.connections) {
      if (before.incarnation !== peer.incarnation) before.end('the node is another process now')
      else if (desk.connections.size >= CONNECTIONS_PER_NODE_MAX) before.end('the node has made too many connections')
    }
    const connection = new IncomingConnection({
      socket,
      ...peer,
      desk,
      clock,
      limits,
      tally: tally.of(peer.node),
      handler,
      isDraining: () => this.#isDraining,
      onBug,
      onEnded: () => desk.remove(connection),
    })
    desk.add(connection)
    connection.start()
  }
}

function whence({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''}`
}
