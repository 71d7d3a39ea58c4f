/** Begins and ends every exchange of a port: the count of requests in flight, one access-log line, metrics, and a span. */
import { performance } from 'node:perf_hooks'
import { trace } from '@opentelemetry/api'
import { DoorExchange } from './exchange.ts'
import type { InFlight } from './listener.ts'
import { requestIdSource } from './request-id.ts'
import { startRequestSpan } from './request-span.ts'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Span, Tracer } from '@opentelemetry/api'
import type { Logger } from '../../common/logging.ts'
import type { RequestMetrics } from './request-metrics.ts'

export interface RecorderOptions {
  /** Name of the port in logs and metrics. */
  readonly name: string
  readonly logger: Logger
  readonly metrics: RequestMetrics
  /** Level of the access-log line. Answers from 500 up log at warn in any case. */
  readonly accessLog?: 'debug' | 'info' | 'off' | undefined
  /** Requests become spans. Leave out when no traces are exported: then a request costs nothing for them. */
  readonly tracing?: boolean | undefined
}

export class ExchangeRecorder {
  readonly #options: RecorderOptions
  readonly #inFlight: InFlight
  readonly #nextRequestId = requestIdSource()
  readonly #tracer: Tracer | undefined

  constructor(options: RecorderOptions, inFlight: InFlight) {
    this.#options = options
    this.#inFlight = inFlight
    this.#tracer = options.tracing === true ? trace.getTracer('tidegate') : undefined
  }

  /** When the response closes, the exchange is logged and counted, whoever ended it. */
  begin(request: IncomingMessage, response: ServerResponse): DoorExchange {
    const { name, logger } = this.#options
    const continueExpected = request.headers.expect?.toLowerCase() === '100-continue'
    const exchange = new DoorExchange(this.#nextRequestId(), request, response, continueExpected)
    const span = this.#tracer === undefined ? undefined : startRequestSpan(this.#tracer, name, request)
    this.#inFlight.begin(response)
    response.on('close', () => this.#closed(exchange, span))
    response.on('error', (error) =>
      logger.debug({ requestId: exchange.requestId, reason: error.message }, 'response failed'),
    )
    return exchange
  }

  /** Counts and logs what never became a request; returns the id that the answer names. */
  refused(status: number, code: string): string {
    const { name: door, logger, metrics } = this.#options
    const requestId = this.#nextRequestId()
    metrics.record({ door, operation: 'Refused', status, durationMs: 0, bytesIn: 0, bytesOut: 0 })
    logger.debug({ door, requestId, status, errorCode: code }, 'connection refused')
    return requestId
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
}

/** The query stays out of logs: a presigned URL's query is a credential. */
function pathOnly(url: string): string {
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

/** Two readers of one request must never disagree about where it ends (SECURITY-LESSONS 5.1, 13). */
export function isAmbiguouslyFramed(request: IncomingMessage): boolean {
  const encoding = request.headers['transfer-encoding']
  if (encoding === undefined) return false
  return encoding.toLowerCase() !== 'chunked' || request.headers['content-length'] !== undefined
}
