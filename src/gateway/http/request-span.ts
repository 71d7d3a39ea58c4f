import { ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api'
import type { Context, Span, Tracer } from '@opentelemetry/api'
import type { IncomingMessage } from 'node:http'

/** W3C Trace Context, section 3.2: version, trace id, parent id, flags. */
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/

/** The server span of a request, below the caller's span if it sent a `traceparent`. The caller ends it. */
export function startRequestSpan(tracer: Tracer, door: string, request: IncomingMessage): Span {
  const attributes = { 'tidegate.door': door, 'http.request.method': request.method ?? '' }
  return tracer.startSpan(
    'Unknown',
    { kind: SpanKind.SERVER, attributes },
    parentContext(request.headers['traceparent']),
  )
}

function parentContext(header: string | string[] | undefined): Context {
  const match = typeof header === 'string' ? TRACEPARENT.exec(header) : null
  const [, traceId, spanId, flags] = match ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & 1,
    isRemote: true,
  })
}
