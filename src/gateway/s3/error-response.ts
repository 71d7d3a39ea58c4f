/**
 * From anything thrown to an S3 error answer.
 *
 * The document names code, message, resource, request id and the values at fault. HEAD and 304 have no body, so clients
 * see only the status and the headers there. When a request body is still on its way, the answer closes the connection
 * (lesson 5.1.13): what follows on it is body, and must not be read as a next request. The rest is read and thrown away
 * for a moment, because closing at once would make TCP reset the connection under an answer that the client, busy
 * sending, has not read yet.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import { AuthError } from '../http/auth/errors.ts'
import type { Exchange } from '../http/types.ts'
import { AUTH_ERRORS } from './auth-errors.ts'
import { HOST_ID, SERVER, type S3Log } from './call.ts'
import { fromCoreError, S3_ERRORS, S3Error } from './errors.ts'
import type { Target } from './target.ts'
import { element, XML_DECLARATION } from './xml/escape.ts'

const LINGER_MS_MAX = 1000
const LINGER_BYTES_MAX = 8 * 1024 * 1024

export interface ShownError {
  readonly code: string
  readonly status: number
  readonly message: string
  readonly details: Readonly<Record<string, string | number | boolean | undefined>>
}

/** What a client is shown of an error; undefined when it is a bug of ours. */
export function shownError(error: unknown): ShownError | undefined {
  if (error instanceof AuthError) {
    const row = AUTH_ERRORS[error.code]
    return { code: row.code, status: row.status, message: error.message, details: error.details }
  }
  const own = error instanceof TidegateError ? fromCoreError(error) : error
  if (!(own instanceof S3Error)) return undefined
  return { code: own.code, status: S3_ERRORS[own.code].status, message: own.message, details: own.details }
}

export interface Answering {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly exchange: Exchange
  /** Whether a client that waits for `100 Continue` was told to go on. */
  readonly continued: boolean
  /** Undefined while it was not parsed. */
  readonly target: Target | undefined
  readonly log: S3Log
}

/** @throws `error` itself when it is a bug of ours: the HTTP server logs it and answers 500 */
export function sendError(answering: Answering, error: unknown): void {
  const { request, response, exchange, log } = answering
  const shown = shownError(error)
  if (shown === undefined) throw error
  exchange.errorCode = shown.code
  // Refusals such as SlowDown and NotImplemented are in the access log; only what we cannot explain needs more.
  if (shown.status === 500) log.error({ err: error, requestId: exchange.requestId }, 'request failed')
  // A request whose connection is gone has nobody to answer; an answer under way can only be cut short.
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  const bodyless = request.method === 'HEAD' || shown.status === 304
  const body = bodyless ? undefined : Buffer.from(errorDocument(shown, answering))
  const headers = errorHeaders(shown, error, exchange)
  if (body !== undefined) headers.push('Content-Type', 'application/xml', 'Content-Length', String(body.length))
  const unread = hasUnreadBody(request)
  if (unread) headers.push('Connection', 'close')
  response.writeHead(shown.status, headers)
  exchange.bytesOut += body?.length ?? 0
  if (!unread || body === undefined || waitsForContinue(answering)) {
    response.end(body)
    return
  }
  response.write(body)
  linger(request, response)
}

/** What AWS names of the target, by code. */
function namesOf(code: string, target: Target | undefined): ShownError['details'] {
  switch (code) {
    case 'NoSuchKey':
      return { Key: target?.key }
    case 'NoSuchVersion':
      return { Key: target?.key, VersionId: target?.query.get('versionId') }
    case 'NoSuchUpload':
      return { UploadId: target?.query.get('uploadId') }
    case 'NoSuchBucket':
    case 'BucketAlreadyExists':
    case 'BucketAlreadyOwnedByYou':
    case 'BucketNotEmpty':
    case 'InvalidBucketName':
      return { BucketName: target?.bucket }
    default:
      return {}
  }
}

function errorDocument(shown: ShownError, answering: Answering): string {
  const { request, exchange } = answering
  const named: ShownError['details'] = { ...namesOf(shown.code, answering.target), ...shown.details }
  let details = ''
  for (const name in named) {
    // Details become element names; what is no name in XML stays in the log.
    if (/^[A-Za-z][\w.-]*$/.test(name)) details += element(name, named[name])
  }
  const target = request.url ?? ''
  const mark = target.indexOf('?')
  return (
    `${XML_DECLARATION}<Error>${element('Code', shown.code)}${element('Message', shown.message)}${details}` +
    element('Resource', mark < 0 ? target : target.slice(0, mark)) +
    `${element('RequestId', exchange.requestId)}${element('HostId', HOST_ID)}</Error>`
  )
}

function errorHeaders(shown: ShownError, error: unknown, exchange: Exchange): string[] {
  const headers = ['x-amz-request-id', exchange.requestId, 'x-amz-id-2', HOST_ID, 'Server', SERVER]
  if (shown.code === 'InvalidRange' && shown.details['ActualObjectSize'] !== undefined) {
    headers.push('Content-Range', `bytes */${shown.details['ActualObjectSize']}`, 'Accept-Ranges', 'bytes')
  }
  if (shown.status === 503) headers.push('Retry-After', '1')
  pushDeleteMarker(headers, error)
  return headers
}

/**
 * A GET or HEAD that meets a delete marker says so in headers. For a key that is simply absent AWS sends none, while the
 * public test suite asks for `false`; clients take both for the same.
 */
function pushDeleteMarker(headers: string[], error: unknown): void {
  if (!isTidegateError(error)) return
  const { deleteMarker, versionId } = error.details
  if (error.code === 'NoSuchKey') headers.push('x-amz-delete-marker', deleteMarker === true ? 'true' : 'false')
  else if (error.code === 'MethodNotAllowed') headers.push('x-amz-delete-marker', 'true', 'Allow', 'DELETE')
  else return
  if (typeof versionId === 'string') headers.push('x-amz-version-id', versionId)
}

function hasUnreadBody(request: IncomingMessage): boolean {
  if (request.complete) return false
  const { headers } = request
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function waitsForContinue(answering: Answering): boolean {
  return answering.request.headers.expect !== undefined && !answering.continued
}

/** Reads on for a moment, then ends the answer, which closes the connection. */
function linger(request: IncomingMessage, response: ServerResponse): void {
  let left = LINGER_BYTES_MAX
  const end = (): void => {
    clearTimeout(timer)
    request.off('data', onData)
    request.off('end', end)
    request.off('close', end)
    response.end()
  }
  const onData = (chunk: Buffer): void => {
    left -= chunk.length
    if (left < 0) end()
  }
  const timer = setTimeout(end, LINGER_MS_MAX)
  timer.unref()
  request.on('error', ignore)
  request.on('end', end)
  request.on('close', end)
  request.on('data', onData)
  request.resume()
}

function ignore(): void {}
