/**
 * HTTP for the client: targets sent as they are, connections kept, failures as `KvError`, and sending again where that
 * cannot do harm.
 *
 * What is sent again:
 * - any request that never left, because no connection was made, or that was answered by `SlowDown`: it was not done;
 * - an idempotent request that got another 503, or no answer. A compare-and-swap, a transaction, a batch or an increment is
 *   not idempotent: the first one may have been done, and a second would be refused, or be done twice.
 * Never: a body that is a stream, for what was read of it is gone.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { badAnswer, brokenOff, errorFromProblem, isKvError, type KvError } from './errors.ts'
import type { KvClientOptions } from './types.ts'

const RETRIES = 3
const PAUSE_MS = 50
const PAUSE_MS_MAX = 2_000
const IDLE_TIMEOUT_MS = 180_000
const CONNECTIONS_MAX = 256
/** Of the body of an error answer; ours are far shorter. */
const PROBLEM_BYTES_MAX = 64 * 1024

export interface KvCall {
  readonly method: string
  readonly path: string
  readonly headers?: Record<string, string | number> | undefined
  /** Pieces that are there stay as they are, and can be sent again. */
  readonly body?: WholeBody | AsyncIterable<Uint8Array> | undefined
  readonly idempotent: boolean
  readonly signal?: AbortSignal | undefined
  /** On a connection of its own, which ends when it is silent for so long. */
  readonly alone?: { readonly idleTimeoutMs: number } | undefined
}

type WholeBody = Uint8Array | string | readonly Uint8Array[]

export interface KvAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export class KvTransport {
  readonly #request: (options: RequestOptions) => ClientRequest
  readonly #agent: HttpAgent
  /** For watches, which must not use up the connections of other calls. */
  readonly #aloneAgent: HttpAgent
  readonly #authority: { readonly hostname: string; readonly port: string | undefined }
  /** Where a proxy serves the API below its root. */
  readonly #basePath: string
  readonly #authorization: string | undefined
  readonly #retries: number
  readonly #idleTimeoutMs: number

  constructor(options: KvClientOptions) {
    const url = new URL(options.url)
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new TypeError(`not an http(s) URL: ${url.protocol}`)
    const secure = url.protocol === 'https:'
    this.#request = secure ? httpsRequest : httpRequest
    const kept = { keepAlive: true, noDelay: true, maxSockets: options.connectionsMax ?? CONNECTIONS_MAX }
    const alone = { keepAlive: false, noDelay: true }
    const trust = options.ca === undefined ? {} : { ca: options.ca }
    this.#agent = secure ? new HttpsAgent({ ...kept, ...trust }) : new HttpAgent(kept)
    this.#aloneAgent = secure ? new HttpsAgent({ ...alone, ...trust }) : new HttpAgent(alone)
    // Brackets around an IPv6 address belong to URLs.
    this.#authority = {
      hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port === '' ? undefined : url.port,
    }
    this.#basePath = url.pathname.replace(/\/+$/, '')
    this.#authorization = authorizationOf(options)
    this.#retries = options.retries ?? RETRIES
    this.#idleTimeoutMs = options.idleTimeoutMs ?? IDLE_TIMEOUT_MS
  }

  /** The whole answer. @throws KvError */
  call(call: KvCall): Promise<KvAnswer> {
    return this.#attempts(call, async () => {
      const message = await this.#send(call)
      return { status: message.statusCode ?? 0, headers: message.headers, body: await bytesOf(message) }
    })
  }

  /** The answer's head, with a body that the caller reads to the end or destroys. @throws KvError */
  open(call: KvCall): Promise<IncomingMessage> {
    return this.#attempts(call, () => this.#send(call))
  }

  /** `body` as JSON, and the answer as what JSON says. @throws KvError */
  async json(call: Omit<KvCall, 'body'>, body?: unknown): Promise<unknown> {
    const sent =
      body === undefined
        ? call
        : { ...call, headers: { ...call.headers, 'content-type': 'application/json' }, body: JSON.stringify(body) }
    const answer = await this.call(sent)
    try {
      return JSON.parse(answer.body.toString()) as unknown
    } catch (error) {
      throw badAnswer(`${call.method} ${call.path} was not answered with JSON`, error)
    }
  }

  /** Closes idle connections; those in use end with their requests. */
  close(): void {
    this.#agent.destroy()
    this.#aloneAgent.destroy()
  }

  async #attempts<T>(call: KvCall, attempt: () => Promise<T>): Promise<T> {
    for (let tried = 0; ; tried++) {
      try {
        return await attempt()
      } catch (error) {
        const failure = brokenOff(error, `${call.method} ${call.path.split('?')[0]} got no answer`, call.signal)
        if (tried >= this.#retries || !mayRepeat(failure, call)) throw failure
        await sleep(pauseMs(tried), undefined, { signal: call.signal })
      }
    }
  }

  /** One attempt. Resolves with an answer of success only. */
  async #send(call: KvCall): Promise<IncomingMessage> {
    const idleTimeoutMs = call.alone?.idleTimeoutMs ?? this.#idleTimeoutMs
    const headers: Record<string, string | number> = { ...call.headers }
    if (this.#authorization !== undefined) headers['authorization'] = this.#authorization
    const { body } = call
    if (isWhole(body)) headers['content-length'] = lengthOf(body)
    const request = this.#request({
      ...this.#authority,
      method: call.method,
      path: this.#basePath + call.path,
      headers,
      agent: call.alone === undefined ? this.#agent : this.#aloneAgent,
      timeout: idleTimeoutMs,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    })
    const message = await new Promise<IncomingMessage>((resolve, reject) => {
      request.on('response', resolve)
      request.on('timeout', () => request.destroy(new Error(`nothing came for ${idleTimeoutMs} ms`)))
      // It stays when there is an answer: what fails then is told by the answer's body.
      request.on('error', reject)
      if (body === undefined) request.end()
      else if (isWhole(body)) sendWhole(body, request)
      else
        pump(body, request).catch((error: unknown) =>
          request.destroy(error instanceof Error ? error : new Error(String(error))),
        )
    })
    const status = message.statusCode ?? 0
    if (status >= 200 && status < 300) return message
    const failure = await failureOf(message, status)
    // Refused before all of the body was taken: nobody will read the rest.
    if (!request.writableFinished) request.destroy()
    throw failure
  }
}

function authorizationOf(options: KvClientOptions): string | undefined {
  if (options.token !== undefined) return `Bearer ${options.token}`
  if (options.accessKey === undefined) return options.authorization
  return `Basic ${Buffer.from(`${options.accessKey}:${options.secretKey ?? ''}`).toString('base64')}`
}

function isWhole(body: KvCall['body']): body is WholeBody {
  return typeof body === 'string' || body instanceof Uint8Array || Array.isArray(body)
}

function lengthOf(body: WholeBody): number {
  if (typeof body === 'string') return Buffer.byteLength(body)
  return body instanceof Uint8Array ? body.byteLength : body.reduce((sum, piece) => sum + piece.length, 0)
}

function sendWhole(body: WholeBody, request: ClientRequest): void {
  if (typeof body === 'string' || body instanceof Uint8Array) return void request.end(body)
  for (const piece of body) request.write(piece)
  request.end()
}

/** Sends a stream at the pace of the connection. Ending it early, for any reason, ends the source too. */
async function pump(source: AsyncIterable<Uint8Array>, request: ClientRequest): Promise<void> {
  for await (const chunk of source) {
    if (request.destroyed) return
    if (!request.write(chunk)) await drained(request)
  }
  request.end()
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      request.off('drain', done)
      request.off('close', done)
      resolve()
    }
    if (request.destroyed) return resolve()
    request.on('drain', done)
    request.on('close', done)
  })
}

/** A body of one chunk is not copied. */
export function bytesOf(message: IncomingMessage, bytesMax: number = Infinity): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    message.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length > bytesMax) message.destroy(new Error(`more than ${bytesMax} bytes`))
    })
    message.on('end', () => resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)))
    message.on('error', reject)
  })
}

async function failureOf(message: IncomingMessage, status: number): Promise<KvError> {
  const header = message.headers['x-tidegate-error']
  const fallback = {
    ...(typeof header === 'string' ? { code: header } : {}),
    detail: `${status} ${message.statusMessage ?? ''}`.trim(),
    requestId: message.headers['x-amz-request-id'],
  }
  const body = await bytesOf(message, PROBLEM_BYTES_MAX)
  try {
    const problem = JSON.parse(body.toString()) as Record<string, unknown>
    return errorFromProblem({ ...fallback, ...problem }, status)
  } catch {
    return errorFromProblem(fallback, status)
  }
}

function mayRepeat(failure: unknown, call: KvCall): boolean {
  const replayable = call.body === undefined || isWhole(call.body)
  if (!replayable || call.signal?.aborted === true || !isKvError(failure)) return false
  return wasNotDone(failure) || (call.idempotent && (failure.code === 'NoAnswer' || failure.status === 503))
}

/** No connection was made, or the gateway had no room to begin. */
function wasNotDone(failure: KvError): boolean {
  if (failure.code === 'SlowDown') return true
  const { syscall, code } = (failure.cause ?? {}) as NodeJS.ErrnoException
  // Of a name with several addresses the failures come together, without a system call.
  return syscall === 'connect' || syscall === 'getaddrinfo' || code === 'ECONNREFUSED'
}

/** Doubles each time, and half of it is chance, so that many clients do not come back at once. */
function pauseMs(tried: number): number {
  const full = Math.min(PAUSE_MS * 2 ** tried, PAUSE_MS_MAX)
  return full / 2 + (Math.random() * full) / 2
}
