/**
 * The HTTP server under a door that answers every request itself (S3), on Fastify.
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
import { AssertionFailed } from '../../common/assert.ts'
import { ExchangeRecorder, isAmbiguouslyFramed, type RecorderOptions } from './exchange-recorder.ts'
import { healthAnswer, healthCheckOf, STALE_HEADER } from './health.ts'
import { DRAIN_TIMEOUT_MS, InFlight, createHttpServer, listen, urlOf } from './listener.ts'
import { REFUSALS, sendRefusal } from './refusal.ts'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { DoorExchange } from './exchange.ts'
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { Condition, HealthCheck } from './health.ts'
import type { ListenerOptions } from './listener.ts'
import type { HttpHandler } from './types.ts'

export interface DoorServerOptions extends ListenerOptions, RecorderOptions {
  readonly handler: HttpHandler
  /** Whether the engine behind the door serves; asked by /-/readyz. A draining door is never ready. */
  readonly ready: () => boolean
  /** What is the matter with what it stands on. */
  readonly condition?: (() => Condition | undefined) | undefined
  /** Told of a failed assertion in the handler, after the client was answered; the process guard ends the process. */
  readonly onBug?: ((error: AssertionFailed) => void) | undefined
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
  readonly #recorder: ExchangeRecorder
  readonly #app
  #server: Server | undefined
  #address = { host: '', port: 0 }

  constructor(options: DoorServerOptions) {
    this.#options = options
    this.#recorder = new ExchangeRecorder(options, this.#inFlight)
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
          awaitsUs: (socket) => this.#inFlight.awaitsUs(socket),
          refused: (status, code) => this.#recorder.refused(status, code),
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
    const exchange = this.#recorder.begin(request, response)
    const health = healthCheckOf(request.method, request.url)
    if (health !== undefined) return this.#answerHealth(health, exchange)
    if (this.#options.condition?.()?.serves === true) response.setHeader(STALE_HEADER, 'metadata')
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
    const isServing = !this.#inFlight.draining && this.#options.ready()
    const { status, text } = healthAnswer(check, { isServing, condition: this.#options.condition?.() })
    const headers = { 'content-length': Buffer.byteLength(text), 'cache-control': 'no-store' }
    exchange.response.writeHead(status, text === '' ? headers : { ...headers, 'content-type': 'text/plain' })
    exchange.response.end(exchange.request.method === 'HEAD' ? '' : text)
  }

  #handlerFailed(exchange: DoorExchange, error: unknown): void {
    const { response, requestId, operation } = exchange
    this.#options.logger.error({ door: this.#options.name, requestId, operation, error }, 'a request handler failed')
    exchange.errorCode ??= REFUSALS.internal.code
    if (response.headersSent) response.destroy()
    else sendRefusal(response, REFUSALS.internal, requestId)
    if (error instanceof AssertionFailed) this.#options.onBug?.(error)
  }
}
