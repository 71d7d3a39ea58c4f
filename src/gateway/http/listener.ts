/**
 * An HTTP server with the settings that a public port needs (SECURITY-LESSONS 5.1, 13 to 15; 5.2, 7), shared by all doors.
 *
 * Node's defaults would end long uploads after five minutes (`requestTimeout`), close idle connections before the usual
 * proxy does (`keepAliveTimeout`), accept any number of connections, and answer broken requests with an empty 400. Here a
 * request may take as long as it likes while its bytes move; a connection on which nothing moves is closed.
 */
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { assert } from '../../common/assert.ts'
import { REFUSALS, refusalOfParserError, sendRawRefusal } from './refusal.ts'
import type { Server, ServerOptions, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Logger } from '../../common/logging.ts'
import type { Refusal } from './refusal.ts'
import type { Secret } from '../../common/secret.ts'

export interface ListenerOptions {
  /** Name of the door in logs and metrics: `s3`, `http`. */
  readonly name: string
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly tls?: { readonly certificate: string; readonly key: Secret } | undefined
  readonly logger: Logger
  readonly connectionsMax?: number | undefined
  /** A connection in the middle of a request on which nothing moves for this long is closed. */
  readonly idleTimeoutMs?: number | undefined
  /** How long `drain` waits for requests in flight. */
  readonly drainTimeoutMs?: number | undefined
}

const CONNECTIONS_MAX = 10_000
export const IDLE_TIMEOUT_MS = 120_000
export const DRAIN_TIMEOUT_MS = 30_000
/** Longer than the 60 s after which common proxies drop an idle connection of theirs, so that they never meet a closed one. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000
const HEADERS_TIMEOUT_MS = 60_000
/**
 * S3 allows 8 KiB of headers, and a presigned URL with its token adds to that. The rest is for keys that the mount made, which
 * a listing goes on behind: 16 KiB, each byte as three.
 */
const HEADER_BYTES_MAX = 64 * 1024

/** A port somebody else holds, or an address this machine does not have. */
export class ListenError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'ListenError'
  }
}

/** What the socket and the parser report; the door knows which requests are in flight. */
export interface ListenerEvents {
  /** A response was begun on this connection and is not finished, so no other bytes may be put between. */
  responseBegun(socket: Socket): boolean
  /** No request is under way on this connection. */
  resting(socket: Socket): boolean
  /** A request has come whole on this connection, and its answer has not begun. */
  awaitsUs(socket: Socket): boolean
  /** Something ended before it became a request. */
  refused(status: number, code: string): string
}

export function createHttpServer(options: ListenerOptions, events: ListenerEvents): Server {
  const settings: ServerOptions = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: 10_000,
    insecureHTTPParser: false,
    noDelay: true,
  }
  const server =
    options.tls === undefined
      ? createServer(settings)
      : createTlsServer({
          ...settings,
          cert: options.tls.certificate,
          key: options.tls.key.reveal(),
          minVersion: 'TLSv1.2',
        })
  server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX
  server.on('drop', () => events.refused(503, 'TooManyConnections'))
  server.setTimeout(options.idleTimeoutMs ?? IDLE_TIMEOUT_MS, (socket: Socket) => {
    // Between requests nobody asked: an answer now would be taken for that of a request which crosses it on the way.
    if (events.resting(socket)) return void socket.destroy()
    // Nothing moves because of us: who asked is owed an answer, however long a write waits for the remote store.
    if (events.awaitsUs(socket)) return void socket.setTimeout(options.idleTimeoutMs ?? IDLE_TIMEOUT_MS)
    refuse(socket, events, REFUSALS.timeout)
  })
  const refused = new WeakSet<Socket>()
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // The parser fails again at everything that still comes. To close now would make the kernel reset the connection, and with
    // it the answer that is on its way; a client that goes on sending is cut off by the time-out that `refuse` has set.
    if (refused.has(socket) && error.code !== 'ECONNRESET') return
    refused.add(socket)
    // The other side has gone: there is nobody to answer.
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    refuse(socket, events, refusalOfParserError(error.code))
  })
  server.on('tlsClientError', (error: Error, socket: Socket) => {
    options.logger.debug(
      { door: options.name, peer: socket.remoteAddress, reason: error.message },
      'TLS handshake failed',
    )
    socket.destroy()
  })
  return server
}

function refuse(socket: Socket, events: ListenerEvents, refusal: Refusal): void {
  const requestId = events.refused(refusal.status, refusal.code)
  if (events.responseBegun(socket) || !socket.writable) return void socket.destroy()
  sendRawRefusal(socket, refusal, requestId)
  // A client that does not read its answer does not keep the connection either.
  socket.setTimeout(1_000, () => socket.destroy())
}

/** Binds, and says where: with port 0 the system chose. @throws ListenError */
export function listen(server: Server, options: ListenerOptions): Promise<{ host: string; port: number }> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      const at = `${options.host}:${options.port}`
      const reason = LISTEN_FAILURES[error.code ?? ''] ?? error.message
      reject(new ListenError(`cannot listen on ${at} (${options.name}): ${reason}`, error))
    }
    server.once('error', onError)
    server.listen({ host: options.host, port: options.port, backlog: 1024 }, () => {
      server.off('error', onError)
      server.on('error', (error) => options.logger.error({ door: options.name, error }, 'the listening socket failed'))
      const address = server.address()
      assert(address !== null && typeof address === 'object', 'a TCP server has an address')
      resolve({ host: options.host, port: address.port })
    })
  })
}

const LISTEN_FAILURES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use by another process',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'this user may not use that port',
  ENOTFOUND: 'no such host name',
}

/** `http://127.0.0.1:9000`; an IPv6 address in brackets. */
export function urlOf(options: ListenerOptions, address: { host: string; port: number }): string {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${options.tls === undefined ? 'http' : 'https'}://${host}:${address.port}`
}

/**
 * The requests in flight on one server, and how it comes to rest: no new connections, requests in flight finish and are
 * told to close, idle connections are closed at once.
 */
export class InFlight {
  readonly #responses = new Set<ServerResponse>()
  #draining = false
  #onRest: (() => void) | undefined

  get draining(): boolean {
    return this.#draining
  }

  get count(): number {
    return this.#responses.size
  }

  begin(response: ServerResponse): void {
    this.#responses.add(response)
    if (this.#draining) response.shouldKeepAlive = false
  }

  end(response: ServerResponse): void {
    this.#responses.delete(response)
    if (this.#draining && this.#responses.size === 0) this.#onRest?.()
  }

  resting(socket: Socket): boolean {
    for (const response of this.#responses) if (response.req.socket === socket) return false
    return true
  }

  awaitsUs(socket: Socket): boolean {
    for (const response of this.#responses) {
      if (response.req.socket === socket && response.req.complete && !response.headersSent) return true
    }
    return false
  }

  responseBegun(socket: Socket): boolean {
    for (const response of this.#responses) {
      if (response.req.socket === socket && response.headersSent && !response.writableFinished) return true
    }
    return false
  }

  /** Resolves with the number of requests that were cut off at the deadline. */
  async drain(server: Server, timeoutMs: number): Promise<number> {
    this.#draining = true
    for (const response of this.#responses) if (!response.headersSent) response.shouldKeepAlive = false
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve())
    })
    if (this.#responses.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs)
        this.#onRest = () => {
          clearTimeout(timer)
          // The last answer's bytes leave with this turn of the loop.
          setImmediate(resolve)
        }
      })
    }
    const cutOff = this.#responses.size
    server.closeAllConnections()
    await closed
    return cutOff
  }
}
