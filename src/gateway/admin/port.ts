/**
 * The HTTP port: an ordinary Fastify application beside the S3 port. Health needs no credentials and says nothing; metrics
 * are open to this machine and want HTTP Basic with an access key from anywhere else (SECURITY-LESSONS 5.2, 13). Nothing
 * here ever shows the configuration (5.2, 3).
 */
import { fastify } from 'fastify'
import { healthCheckOf } from '../http/health.ts'
import { DRAIN_TIMEOUT_MS, InFlight, createHttpServer, listen, urlOf } from '../http/listener.ts'
import { isLoopbackPeer } from '../http/loopback.ts'
import { requestIdSource } from '../http/request-id.ts'
import { PROMETHEUS_CONTENT_TYPE, prometheusText } from './prometheus.ts'
import type { Server } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { ListenerOptions } from '../http/listener.ts'

export interface HttpPortOptions extends ListenerOptions {
  readonly collect: () => Promise<ResourceMetrics>
  /** Whether the engine serves; asked by /-/readyz. */
  readonly ready: () => boolean
  /** True for an access key and its secret. Takes the same time for an unknown key (SECURITY-LESSONS 5.1, 10). */
  readonly verifyBasic: (accessKey: string, secret: string) => boolean
}

export interface HttpPort extends Lifecycle {
  /** `http://HOST:PORT` as bound. Valid after `start`. */
  readonly url: string
}

/** Nothing on this port takes a large body. */
const BODY_BYTES_MAX = 64 * 1024

export function createHttpPort(options: HttpPortOptions): HttpPort {
  return new FastifyHttpPort(options)
}

class FastifyHttpPort implements HttpPort {
  readonly #options: HttpPortOptions
  readonly #inFlight = new InFlight()
  readonly #nextRequestId = requestIdSource()
  readonly #app: FastifyInstance
  #server: Server | undefined
  #address = { host: '', port: 0 }

  constructor(options: HttpPortOptions) {
    this.#options = options
    this.#app = fastify({
      logger: false,
      bodyLimit: BODY_BYTES_MAX,
      genReqId: () => this.#nextRequestId(),
      serverFactory: (handle) => {
        const server = createHttpServer(options, {
          responseBegun: (socket) => this.#inFlight.responseBegun(socket),
          resting: (socket) => this.#inFlight.resting(socket),
          refused: (status, code) => this.#refused(status, code),
        })
        server.on('request', (request, response) => {
          this.#inFlight.begin(response)
          response.once('close', () => this.#inFlight.end(response))
          handle(request, response)
        })
        this.#server = server
        return server
      },
    })
    this.#routes()
  }

  get url(): string {
    return urlOf(this.#options, this.#address)
  }

  async start(): Promise<void> {
    await this.#app.ready()
    this.#address = await listen(this.#app.server, this.#options)
  }

  async drain(): Promise<void> {
    if (this.#inFlight.draining || this.#server?.listening !== true) return
    await this.#inFlight.drain(this.#server, this.#options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS)
  }

  async stop(): Promise<void> {
    if (this.#server?.listening === true) await this.#inFlight.drain(this.#server, 0)
    this.#server?.closeAllConnections()
    await this.#app.close()
  }

  #routes(): void {
    this.#app.addHook('onRequest', (request, reply, done) => {
      reply
        .header('x-request-id', request.id)
        .header('cache-control', 'no-store')
        .header('x-content-type-options', 'nosniff')
      done()
    })
    for (const path of ['/-/healthz', '/-/readyz'] as const) {
      this.#app.get(path, (_request, reply) => {
        const well = healthCheckOf('GET', path) === 'alive' || (!this.#inFlight.draining && this.#options.ready())
        return reply.code(well ? 200 : 503).send()
      })
    }
    this.#app.get('/metrics', async (request, reply) => {
      if (!this.#mayReadMetrics(request)) return unauthorized(reply)
      return reply.type(PROMETHEUS_CONTENT_TYPE).send(prometheusText(await this.#options.collect()))
    })
    this.#app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
      const status = error.statusCode !== undefined && error.statusCode < 500 ? error.statusCode : 500
      if (status === 500)
        this.#options.logger.error(
          { door: this.#options.name, requestId: request.id, error },
          'a request handler failed',
        )
      return problem(reply, status, status === 500 ? 'internal error' : error.message)
    })
    this.#app.setNotFoundHandler((_request, reply) => problem(reply, 404, 'no such page'))
  }

  #mayReadMetrics(request: FastifyRequest): boolean {
    if (isLoopbackPeer(request.raw)) return true
    const credentials = basicCredentials(request.headers.authorization)
    return credentials !== undefined && this.#options.verifyBasic(credentials.user, credentials.password)
  }

  #refused(status: number, code: string): string {
    const requestId = this.#nextRequestId()
    this.#options.logger.debug({ door: this.#options.name, requestId, status, errorCode: code }, 'connection refused')
    return requestId
  }
}

/** RFC 7617. Undefined for every other scheme and for what is not well-formed. */
export function basicCredentials(header: string | undefined): { user: string; password: string } | undefined {
  const match = /^basic +([A-Za-z0-9+/]{1,1024}={0,2})$/i.exec(header ?? '')
  if (match?.[1] === undefined) return undefined
  const text = Buffer.from(match[1], 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 1 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) }
}

function unauthorized(reply: FastifyReply): FastifyReply {
  reply.header('www-authenticate', 'Basic realm="tidegate", charset="UTF-8"')
  return problem(reply, 401, 'metrics want HTTP Basic with an access key and its secret')
}

/** RFC 9457. */
function problem(reply: FastifyReply, status: number, detail: string): FastifyReply {
  return reply.code(status).type('application/problem+json').send({ status, detail })
}
