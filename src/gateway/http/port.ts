/**
 * The HTTP port: one Fastify application on which the KV API, the admin API, metrics and their description are registered
 * as plugins. What every route on it has in common is here:
 *
 * - a request is an exchange (id, access log, metrics) before Fastify sees it: `request.exchange`;
 * - a route that declares `config.operation` is logged under that name, and authenticated unless `config.open` is set: then
 *   `request.authenticated` says who sent it, known before a byte of the body is read (lessons 5.1.14, 5.2.1);
 * - errors are problem details (problem.ts), whoever raised them;
 * - `100 Continue` is sent by whoever is about to read a body, not before;
 * - a parser gets the body of a signed request only as it was signed (verified-body.ts).
 *
 * Routes that stream may `reply.hijack()` in an `onRequest` hook of their own; those answer with `sendProblem` too.
 */
import { fastify } from 'fastify'
import { AssertionFailed } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Lifecycle } from '../../common/lifecycle.ts'
import { ANONYMOUS } from '../../store/access.ts'
import type { RawRequest } from './auth/authenticator.ts'
import type { DoorExchange } from './exchange.ts'
import { ExchangeRecorder, isAmbiguouslyFramed, type RecorderOptions } from './exchange-recorder.ts'
import { ByteBudget } from './byte-budget.ts'
import { healthAnswer, STALE_HEADER, type Condition } from './health.ts'
import { KnownPaths } from './known-paths.ts'
import { jsonBodyParser } from './json-body.ts'
import {
  DRAIN_TIMEOUT_MS,
  IDLE_TIMEOUT_MS,
  InFlight,
  createHttpServer,
  listen,
  urlOf,
  type ListenerOptions,
} from './listener.ts'
import { INTERNAL_PROBLEM, problemDocument, problemHeaders, problemOf, type Problem } from './problem.ts'
import { REFUSALS, sendRefusal } from './refusal.ts'
import { schemaError } from './schema-errors.ts'
import type { Authenticated } from './types.ts'
import { verifiedBody } from './verified-body.ts'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    readonly exchange: DoorExchange
    /** Set on every route that is not `open`, before its handlers run. */
    authenticated: Authenticated | undefined
  }
  interface FastifyContextConfig {
    /** Name in the access log and in metrics, as `KvScan`. */
    operation?: string
    /** Serves without credentials. */
    open?: true
  }
}

/** May be asked to authenticate at once or, where a token has to be looked up, a little later. */
export type PortAuthenticate = (request: RawRequest) => Authenticated | Promise<Authenticated>

export interface HttpPortOptions extends ListenerOptions, RecorderOptions {
  /** Whether the engine serves; asked by /-/readyz. */
  readonly ready: () => boolean
  /** What is the matter with what it stands on. */
  readonly condition?: (() => Condition | undefined) | undefined
  readonly authenticate: PortAuthenticate
  /** Told of a failed assertion in a handler, after the client was answered; the process guard ends the process. */
  readonly onBug?: ((error: AssertionFailed) => void) | undefined
  readonly plugins: readonly PortPlugin[]
}

/** What a plugin sees of the port. */
export interface PortContext {
  /** Aborted when the port begins to drain: whoever streams without end ends then. */
  readonly draining: AbortSignal
  readonly sendProblem: (exchange: DoorExchange, error: unknown) => void
  /** Room for answers that are made as a whole. */
  readonly memory: ByteBudget
}

export type PortPlugin = (app: FastifyInstance, port: PortContext) => void | Promise<void>

export interface HttpPort extends Lifecycle {
  /** `http://HOST:PORT` as bound. Valid after `start`. */
  readonly url: string
}

/** Bodies and answers of JSON, all together. What is made of them takes a few times as much. */
const MEMORY_BYTES_MAX = 256 * 1024 * 1024
/** Of routes that do not say otherwise. */
const BODY_BYTES_MAX = 64 * 1024

export function createHttpPort(options: HttpPortOptions): HttpPort {
  return new FastifyHttpPort(options)
}

class FastifyHttpPort implements HttpPort {
  readonly #options: HttpPortOptions
  readonly #inFlight = new InFlight()
  readonly #recorder: ExchangeRecorder
  readonly #draining = new AbortController()
  readonly #memory = new ByteBudget(MEMORY_BYTES_MAX)
  readonly #paths = new KnownPaths()
  readonly #app: FastifyInstance
  #server: Server | undefined
  #address = { host: '', port: 0 }

  constructor(options: HttpPortOptions) {
    this.#options = options
    this.#recorder = new ExchangeRecorder(options, this.#inFlight)
    this.#app = fastify({
      logger: false,
      bodyLimit: BODY_BYTES_MAX,
      return503OnClosing: false,
      exposeHeadRoutes: false,
      routerOptions: { ignoreTrailingSlash: false, maxParamLength: 1 << 20 },
      ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: true } },
      frameworkErrors: (error, request, reply) => this.#answerError(error, request, reply),
      serverFactory: (handle) => this.#createServer(handle),
    })
    this.#commonParts()
  }

  get url(): string {
    return urlOf(this.#options, this.#address)
  }

  async start(): Promise<void> {
    const port: PortContext = {
      draining: this.#draining.signal,
      sendProblem: (exchange, error) => this.#sendProblem(exchange, error),
      memory: this.#memory,
    }
    this.#app.addHook('onRoute', ({ url, method }) => this.#paths.add(url, [method].flat()))
    for (const plugin of this.#options.plugins) await plugin(this.#app, port)
    this.#healthRoutes()
    await this.#app.ready()
    this.#address = await listen(this.#app.server, this.#options)
  }

  async drain(): Promise<void> {
    if (this.#inFlight.draining || this.#server?.listening !== true) return
    this.#draining.abort()
    await this.#inFlight.drain(this.#server, this.#options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS)
  }

  async stop(): Promise<void> {
    this.#draining.abort()
    if (this.#server?.listening === true) await this.#inFlight.drain(this.#server, 0)
    this.#server?.closeAllConnections()
    await this.#app.close()
  }

  #createServer(handle: (request: IncomingMessage, response: ServerResponse) => void): Server {
    const server = createHttpServer(this.#options, {
      responseBegun: (socket) => this.#inFlight.responseBegun(socket),
      resting: (socket) => this.#inFlight.resting(socket),
      awaitsUs: (socket) => this.#inFlight.awaitsUs(socket),
      refused: (status, code) => this.#recorder.refused(status, code),
    })
    const begin = (request: IncomingMessage, response: ServerResponse): void => {
      const exchange = this.#recorder.begin(request, response)
      ;(request as RecordedMessage)[EXCHANGE] = exchange
      if (isAmbiguouslyFramed(request)) {
        exchange.errorCode = REFUSALS.badRequest.code
        return sendRefusal(response, REFUSALS.badRequest, exchange.requestId)
      }
      handle(request, response)
    }
    server.on('request', begin)
    server.on('checkContinue', begin)
    this.#server = server
    return server
  }

  #commonParts(): void {
    this.#app.decorateRequest('exchange', {
      getter(this: FastifyRequest) {
        return exchangeOf(this.raw)
      },
    })
    this.#app.decorateRequest('authenticated', undefined)
    this.#app.addHook('onRequest', (request, reply, done) => this.#admit(request, reply, done))
    this.#app.setSchemaErrorFormatter(schemaError)
    this.#app.addHook('preParsing', (request, reply, payload, done) => {
      // Not before: what is hijacked by now, as values are, has headers of its own.
      reply
        .header('x-request-id', request.exchange.requestId)
        .header('cache-control', 'no-store')
        .header('x-content-type-options', 'nosniff')
      done(null, verifiedBody(request.authenticated, payload as Readable))
    })
    this.#app.setErrorHandler((error: FastifyError, request, reply) => this.#answerError(error, request, reply))
    const parse = this.#app.getDefaultJsonParser('error', 'error')
    const idleMsMax = this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS
    this.#app.removeAllContentTypeParsers()
    this.#app.addContentTypeParser('application/json', jsonBodyParser({ parse, memory: this.#memory, idleMsMax }))
    this.#app.setNotFoundHandler(() => {
      throw new AssertionFailed('what is not there is answered before its body is read')
    })
  }

  /** After the plugins, so that one of them can describe them too. */
  #healthRoutes(): void {
    for (const [path, check] of [
      ['/-/healthz', 'alive'],
      ['/-/readyz', 'ready'],
    ] as const) {
      this.#app.get(path, { config: { operation: 'Health', open: true }, schema: HEALTH_SCHEMA }, (_request, reply) => {
        const isServing = !this.#inFlight.draining && this.#options.ready()
        const { status, text } = healthAnswer(check, { isServing, condition: this.#options.condition?.() })
        return text === '' ? reply.code(status).send() : reply.code(status).type('text/plain').send(text)
      })
    }
  }

  #admit(request: FastifyRequest, reply: FastifyReply, decide: (error?: Error) => void): void {
    const { exchange } = request
    const { config } = request.routeOptions
    if (this.#options.condition?.()?.serves === true) reply.raw.setHeader(STALE_HEADER, 'metadata')
    exchange.operation = config.operation ?? 'Unknown'
    if (request.is404) {
      // Here and not in a handler: nobody who is unknown may make us read a body (lesson 5.1.14).
      reply.hijack()
      return this.#answerNoRoute(exchange)
    }
    if (config.open === true || config.operation === undefined) return decide()
    try {
      const authenticated = this.#options.authenticate(rawRequest(request.raw))
      if (!(authenticated instanceof Promise)) {
        known(request, authenticated)
        return decide()
      }
      authenticated.then((value) => known(request, value)).then(() => decide(), decide)
    } catch (error) {
      decide(error as Error)
    }
  }

  #answerNoRoute(exchange: DoorExchange): void {
    const { method, url } = exchange.request
    const allowed = this.#paths.methodsAt(url ?? '')
    if (allowed.length === 0) return this.#writeProblem(exchange, NO_SUCH_PAGE)
    exchange.response.setHeader('Allow', allowed.join(', '))
    const detail = `${method} is not a method of this path; there are ${allowed.join(', ')}`
    this.#writeProblem(exchange, { status: 405, code: 'MethodNotAllowed', detail, details: {} })
  }

  #answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    reply.hijack()
    // Not `request.exchange`: a request that no route was looked up for is without decorations.
    this.#sendProblem(exchangeOf(request.raw), error)
  }

  #sendProblem(exchange: DoorExchange, error: unknown): void {
    const problem = askForCredentials(exchange, problemOf(error)) ?? fastifyProblem(error)
    if (problem === undefined || problem.status === 500) {
      const { requestId, operation } = exchange
      this.#options.logger.error({ door: this.#options.name, requestId, operation, error }, 'a request handler failed')
    }
    this.#writeProblem(exchange, problem ?? INTERNAL_PROBLEM)
    if (error instanceof AssertionFailed) this.#options.onBug?.(error)
  }

  /** An answer that has begun can only be cut short. */
  #writeProblem(exchange: DoorExchange, problem: Problem): void {
    const { request, response } = exchange
    exchange.errorCode = problem.code
    if (response.headersSent || response.destroyed) return void response.destroy()
    const headers = problemHeaders(problem, exchange.requestId)
    if (request.method === 'HEAD' || problem.status === 304)
      return void response.writeHead(problem.status, headers).end()
    const body = Buffer.from(problemDocument(problem, exchange.requestId))
    headers.push('Content-Type', 'application/problem+json', 'Content-Length', String(body.length))
    exchange.bytesOut += body.length
    response.writeHead(problem.status, headers).end(body)
  }
}

/** Not a WeakMap: one that every request goes into is work for every collection of garbage. */
const EXCHANGE = Symbol('exchange')

type RecordedMessage = IncomingMessage & { [EXCHANGE]?: DoorExchange }

function exchangeOf(request: RecordedMessage): DoorExchange {
  const exchange = request[EXCHANGE]
  if (exchange === undefined) throw new AssertionFailed('every request of the port is an exchange')
  return exchange
}

const HEALTH_SCHEMA = {
  summary: 'Whether the process lives (healthz) or serves (readyz)',
  tags: ['operation'],
  response: {
    200: { type: 'string', description: 'Yes; with a sentence if it can do less than usual.' },
    503: { type: 'string', description: 'Not now; with a sentence if what it stands on is away.' },
  },
} as const

const NO_SUCH_PAGE: Problem = { status: 404, code: 'NotFound', detail: 'there is nothing at this path', details: {} }

/** To somebody who sent no credentials, "denied" means that he should. */
function askForCredentials(exchange: DoorExchange, problem: Problem | undefined): Problem | undefined {
  if (problem?.code !== 'AccessDenied' || exchange.principalId !== ANONYMOUS.id) return problem
  return { ...problem, status: 401, code: 'Unauthenticated' }
}

function known(request: FastifyRequest, authenticated: Authenticated): void {
  request.authenticated = authenticated
  request.exchange.principalId = authenticated.principal.id
}

export function rawRequest(request: IncomingMessage): RawRequest {
  return {
    method: request.method ?? '',
    rawTarget: request.url ?? '',
    headers: request.headers,
    rawHeaders: request.rawHeaders,
    remoteAddress: request.socket.remoteAddress,
    tls: (request.socket as { encrypted?: boolean }).encrypted === true,
  }
}

/** What Fastify itself refuses: a bad escape, a body that fails its schema or is too long, an unknown type. */
function fastifyProblem(error: unknown): Problem | undefined {
  if (!(error instanceof Error)) return undefined
  const { statusCode: status, code, validation } = error as FastifyError
  if (status === undefined || status < 400 || status >= 500) return undefined
  if (status === 413) return problemOf(new TidegateError('EntityTooLarge', error.message))
  const named = validation === undefined && code !== 'FST_ERR_BAD_URL' ? 'InvalidRequest' : 'InvalidArgument'
  return { status, code: named, detail: error.message, details: {} }
}
