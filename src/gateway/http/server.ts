/**
 * The HTTP server under a door that answers every request itself (S3, later KV), on Fastify.
 *
 * A request's way: Node parses its head -> Fastify's `onRequest` hook takes the request out of Fastify's hands
 * (`reply.hijack()`), before anything looks at its content type, body or query -> health paths are answered here ->
 * everything else goes to the door's one `HttpHandler`, raw URL and all. What Fastify itself would answer (bad escapes,
 * unknown methods, routes) reaches the same handler, so that a client only ever meets the door's own error language.
 * `100 Continue` is sent by the door once the request is authenticated (SECURITY-LESSONS 5.1, 14).
 *
 * When the response closes, one access-log line is written and the request is counted, whoever ended it.
 */
import { fastify } from 'fastify'
import { trace } from '@opentelemetry/api'
import { performance } from 'node:perf_hooks'
import { AssertionFailed } from '../../common/assert.ts'
import { DoorExchange } from './exchange.ts'
import { healthCheckOf } from './health.ts'
import { DRAIN_TIMEOUT_MS, InFlight, createHttpServer, listen, urlOf } from './listener.ts'
import { REFUSALS, sendRefusal } from './refusal.ts'
import { requestIdSource } from './request-id.ts'
import { startRequestSpan } from './request-span.ts'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Span, Tracer } from '@opentelemetry/api'
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { HealthCheck } from './health.ts'
import type { ListenerOptions } from './listener.ts'
import type { RequestMetrics } from './request-metrics.ts'
import type { HttpHandler } from './types.ts'

export interface DoorServerOptions extends ListenerOptions {
  readonly handler: HttpHandler
  readonly metrics: RequestMetrics
  /** Whether the engine behind the door serves; asked by /-/readyz. A draining door is never ready. */
  readonly ready: () => boolean
  /** Level of the access-log line. Answers from 500 up log at warn in any case. */
  readonly accessLog?: 'debug' | 'info' | 'off' | undefined
  /** Told of a failed assertion in the handler, after the client was answered; the process guard ends the process. */
  readonly onBug?: ((error: AssertionFailed) => void) | undefined
  /** Requests become spans. Leave out when no traces are exported: then a request costs nothing for them. */
  readonly tracing?: boolean | undefined
}

export interface DoorServer extends Lifecycle {
  /** `http://HOST:PORT` as bound. Valid after `start`. */
  readonly url: string
  readonly port: number
}

export function createDoorServer(options: DoorServerOptions): DoorServer {
  return new FastifyDoor(options)
}

class FastifyDoor implements DoorServer {
  readonly #options: DoorServerOptions
  readonly #inFlight = new InFlight()
  readonly #nextRequestId = requestIdSource()
  readonly #tracer: Tracer | undefined
  readonly #app
  #server: Server | undefined
  #address = { host: '', port: 0 }

  constructor(options: DoorServerOptions) {
    this.#options = options
    this.#tracer = options.tracing === true ? trace.getTracer('tidegate') : undefined
    this.#app = fastify({
      logger: false,
      return503OnClosing: false,
      routerOptions: { ignoreTrailingSlash: false, maxParamLength: 1 << 20 },
      // Bad escapes and the like: the door judges the raw URL itself.
      frameworkErrors: (_error, request, reply) => {
        reply.hijack()
        this.#dispatch(request.raw, reply.raw)
      },
      serverFactory: (handle) => {
        const server = createHttpServer(options, {
          responseBegun: (socket) => this.#inFlight.responseBegun(socket),
          resting: (socket) => this.#inFlight.resting(socket),
          refused: (status, code) => this.#refused(status, code),
        })
        server.on('request', handle)
        // The same way in; the exchange sees the Expect header and sends 100 when the door asks for it.
        server.on('checkContinue', handle)
        this.#server = server
        return server
      },
    })
    this.#app.addHook('onRequest', (request, reply, done) => {
      reply.hijack()
      this.#dispatch(request.raw, reply.raw)
      done()
    })
    // Unknown methods and odd targets (`OPTIONS *`) come through the not-found route, which runs the same hook.
    this.#app.all('/*', () => undefined)
  }

  get url(): string {
    return urlOf(this.#options, this.#address)
  }

  get port(): number {
    return this.#address.port
  }

  async start(): Promise<void> {
    await this.#app.ready()
    this.#address = await listen(this.#app.server, this.#options)
  }

  async drain(): Promise<void> {
    if (this.#inFlight.draining || this.#server?.listening !== true) return
    const cutOff = await this.#inFlight.drain(this.#server, this.#options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS)
    if (cutOff > 0)
      this.#options.logger.warn(
        { door: this.#options.name, requests: cutOff },
        'requests were cut off at the drain deadline',
      )
  }

  async stop(): Promise<void> {
    if (this.#server?.listening === true) await this.#inFlight.drain(this.#server, 0)
    // A drain under way ends with its last connection.
    this.#server?.closeAllConnections()
    await this.#app.close()
  }

  #dispatch(request: IncomingMessage, response: ServerResponse): void {
    const continueExpected = request.headers.expect?.toLowerCase() === '100-continue'
    const exchange = new DoorExchange(this.#nextRequestId(), request, response, continueExpected)
    const span = this.#tracer === undefined ? undefined : startRequestSpan(this.#tracer, this.#options.name, request)
    this.#inFlight.begin(response)
    response.once('close', () => this.#closed(exchange, span))
    response.on('error', (error) =>
      this.#options.logger.debug({ requestId: exchange.requestId, reason: error.message }, 'response failed'),
    )

    const health = healthCheckOf(request.method, request.url)
    if (health !== undefined) return this.#answerHealth(health, exchange)
    if (isAmbiguouslyFramed(request)) {
      exchange.errorCode = REFUSALS.badRequest.code
      return sendRefusal(response, REFUSALS.badRequest, exchange.requestId)
    }
    try {
      this.#options.handler(request, response, exchange).catch((error: unknown) => this.#handlerFailed(exchange, error))
    } catch (error) {
      this.#handlerFailed(exchange, error)
    }
  }

  #answerHealth(check: HealthCheck, exchange: DoorExchange): void {
    exchange.operation = 'Health'
    const well = check === 'alive' || (!this.#inFlight.draining && this.#options.ready())
    exchange.response.writeHead(well ? 200 : 503, { 'content-length': 0, 'cache-control': 'no-store' })
    exchange.response.end()
  }

  #handlerFailed(exchange: DoorExchange, error: unknown): void {
    const { response, requestId, operation } = exchange
    this.#options.logger.error({ door: this.#options.name, requestId, operation, error }, 'a request handler failed')
    exchange.errorCode ??= REFUSALS.internal.code
    if (response.headersSent) response.destroy()
    else sendRefusal(response, REFUSALS.internal, requestId)
    if (error instanceof AssertionFailed) this.#options.onBug?.(error)
  }

  #closed(exchange: DoorExchange, span: Span | undefined): void {
    const { response } = exchange
    const durationMs = performance.now() - exchange.startedMs
    const status = response.writableFinished ? response.statusCode : 0
    this.#inFlight.end(response)
    this.#options.metrics.record({
      door: this.#options.name,
      operation: exchange.operation,
      status,
      durationMs,
      bytesIn: exchange.bytesIn,
      bytesOut: exchange.bytesOut,
    })
    this.#logAccess(exchange, status, durationMs)
    if (span !== undefined) {
      span.updateName(exchange.operation)
      span.setAttributes({ 'http.response.status_code': status, 'tidegate.request_id': exchange.requestId })
      span.end()
    }
  }

  #logAccess(exchange: DoorExchange, status: number, durationMs: number): void {
    const { logger, accessLog = 'debug', name } = this.#options
    // Not being built is no failure: somebody asked for it, and was told.
    const level = status >= 500 && status !== 501 ? 'warn' : accessLog
    if (level === 'off' || !logger.isLevelEnabled(level)) return
    const { request } = exchange
    logger[level](
      {
        door: name,
        requestId: exchange.requestId,
        method: request.method,
        path: pathOnly(request.url ?? ''),
        operation: exchange.operation,
        status,
        ...(exchange.errorCode === undefined ? {} : { errorCode: exchange.errorCode }),
        principal: exchange.principalId,
        peer: request.socket.remoteAddress,
        bytesIn: exchange.bytesIn,
        bytesOut: exchange.bytesOut,
        durationMs: Math.round(durationMs * 1_000) / 1_000,
      },
      status === 0 ? 'request aborted' : 'request',
    )
  }

  /** Counts and logs what never became a request; returns the id that the answer names. */
  #refused(status: number, code: string): string {
    const requestId = this.#nextRequestId()
    const door = this.#options.name
    this.#options.metrics.record({ door, operation: 'Refused', status, durationMs: 0, bytesIn: 0, bytesOut: 0 })
    this.#options.logger.debug({ door, requestId, status, errorCode: code }, 'connection refused')
    return requestId
  }
}

/** The query stays out of logs: a presigned URL's query is a credential. */
function pathOnly(url: string): string {
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

/** Two readers of one request must never disagree about where it ends (SECURITY-LESSONS 5.1, 13). */
function isAmbiguouslyFramed(request: IncomingMessage): boolean {
  const encoding = request.headers['transfer-encoding']
  if (encoding === undefined) return false
  return encoding.toLowerCase() !== 'chunked' || request.headers['content-length'] !== undefined
}
