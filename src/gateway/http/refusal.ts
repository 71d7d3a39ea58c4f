/**
 * Answers that are given before or beside any door: a request that HTTP itself forbids, a connection too many, a bug.
 * They look like S3's errors, since S3 clients show their users nothing else.
 */
import { STATUS_CODES } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export interface Refusal {
  readonly status: number
  readonly code: string
  readonly message: string
}

export const REFUSALS: Readonly<Record<'badRequest' | 'headersTooLarge' | 'timeout' | 'internal', Refusal>> = {
  badRequest: { status: 400, code: 'BadRequest', message: 'An error occurred when parsing the HTTP request.' },
  headersTooLarge: {
    status: 400,
    code: 'RequestHeaderSectionTooLarge',
    message: 'Your request header and query parameters used to make the request exceed the maximum allowed size.',
  },
  timeout: {
    status: 400,
    code: 'RequestTimeout',
    message: 'Your socket connection to the server was not read from or written to within the timeout period.',
  },
  internal: { status: 500, code: 'InternalError', message: 'We encountered an internal error. Please try again.' },
}

/** What Node's HTTP parser reports. Anything else it can say is a bad request. */
const REFUSAL_BY_PARSER_CODE: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: REFUSALS.headersTooLarge,
  ERR_HTTP_REQUEST_TIMEOUT: REFUSALS.timeout,
}

export function refusalOfParserError(code: string | undefined): Refusal {
  return REFUSAL_BY_PARSER_CODE[code ?? ''] ?? REFUSALS.badRequest
}

/** Only constants and the request id enter, so nothing needs escaping. */
function refusalXml(refusal: Refusal, requestId: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${refusal.code}</Code><Message>${refusal.message}</Message><RequestId>${requestId}</RequestId></Error>`
}

/** On a response whose head was not sent yet. */
export function sendRefusal(response: ServerResponse, refusal: Refusal, requestId: string): void {
  const body = refusalXml(refusal, requestId)
  response.writeHead(refusal.status, {
    'content-type': 'application/xml',
    'content-length': Buffer.byteLength(body),
    'x-amz-request-id': requestId,
    connection: 'close',
  })
  response.end(body)
}

/** On a connection that has no response object; closes it. */
export function sendRawRefusal(socket: Socket, refusal: Refusal, requestId: string): void {
  const body = refusalXml(refusal, requestId)
  const head = [
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ''}`,
    'content-type: application/xml',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-amz-request-id: ${requestId}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
