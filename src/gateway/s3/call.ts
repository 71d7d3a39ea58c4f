/**
 * One request on its way through the door: what an operation may see of it, and the few ways it may answer.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { ACK_LEVELS, type AckLevel } from '../../common/model.ts'
import type { Limits } from '../../common/limits.ts'
import type { AccessContext, AccessControl, AccessResource } from '../../store/access.ts'
import type { Store } from '../../store/doors.ts'
import type { ObjectAddress } from '../../store/types.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { Authenticated, Exchange } from '../http/types.ts'
import { invalidArgument, S3Error } from './errors.ts'
import { parseCopySource, type CopySource, type Target } from './target.ts'

export interface Owner {
  readonly id: string
  readonly displayName: string
}

export interface S3Log {
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

/** What every operation of one door shares. */
export interface Door {
  readonly store: Store
  readonly access: AccessControl
  readonly region: string
  readonly limits: Limits
  readonly owner: (id: string) => Owner
  readonly log: S3Log
  /** A body that brings no byte for this long is given up with RequestTimeout. */
  readonly bodyIdleMsMax: number
}

/** `x-amz-id-2`: on AWS an opaque host id. One gateway needs none; clients only want it to be there. */
export const HOST_ID = 'tidegate'
export const SERVER = 'Tidegate'

export class Call {
  readonly door: Door
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly exchange: Exchange
  readonly target: Target
  readonly authenticated: Authenticated
  readonly headers: IncomingHttpHeaders
  /** Whether anything was authorised; the dispatcher refuses to run an operation that asked for nothing. */
  authorized = false
  /** Whether the client may have begun to send its body. */
  continued = false
  #context: AccessContext | undefined
  #copySource: CopySource | undefined

  constructor(parts: {
    door: Door
    request: IncomingMessage
    response: ServerResponse
    exchange: Exchange
    target: Target
    authenticated: Authenticated
  }) {
    this.door = parts.door
    this.request = parts.request
    this.response = parts.response
    this.exchange = parts.exchange
    this.target = parts.target
    this.authenticated = parts.authenticated
    this.headers = parts.request.headers
  }

  get store(): Store {
    return this.door.store
  }

  get bucket(): string {
    return this.target.bucket
  }

  get key(): string {
    return this.target.key
  }

  header(name: string): string | undefined {
    const value = this.headers[name]
    return typeof value === 'string' ? value : undefined
  }

  query(name: string): string | undefined {
    return this.target.query.get(name)
  }

  /** The version asked for. AWS refuses an empty one. */
  get versionId(): string | undefined {
    const versionId = this.target.query.get('versionId')
    if (versionId === '') throw invalidArgument('versionId', '', 'Version id cannot be the empty string')
    return versionId
  }

  get address(): ObjectAddress {
    return { bucket: this.bucket, key: this.key, versionId: this.versionId }
  }

  /** The copy source; parsed once, so that what is authorised is the very value that the store is given. */
  get copySource(): CopySource {
    return (this.#copySource ??= parseCopySource(
      this.header('x-amz-copy-source') ?? '',
      this.door.limits.addressedKeyBytesMax,
    ))
  }

  /** @throws AccessDenied */
  authorize(action: string, resource?: AccessResource, extra?: AccessContext): void {
    const context = extra === undefined ? this.#baseContext() : { ...this.#baseContext(), ...extra }
    this.door.access.authorize(this.authenticated.principal, action, resource ?? this.#ownResource(), context)
    this.authorized = true
  }

  /** `authorize` as a question. */
  mayDo(action: string, resource?: AccessResource, extra?: AccessContext): boolean {
    try {
      this.authorize(action, resource, extra)
      return true
    } catch {
      return false
    }
  }

  #ownResource(): AccessResource {
    return this.target.level === 'object' ? { bucket: this.bucket, key: this.key } : { bucket: this.bucket }
  }

  #baseContext(): AccessContext {
    return (this.#context ??= requestFacts({
      authenticated: this.authenticated,
      headers: this.headers,
      query: (name) => this.target.query.get(name),
    }))
  }

  /** The durability asked for in x-tidegate-ack; undefined leaves it to the bucket. */
  get ack(): AckLevel | undefined {
    const value = this.header('x-tidegate-ack')
    if (value === undefined) return undefined
    const level = ACK_LEVELS.find((candidate) => candidate === value)
    if (level === undefined)
      throw invalidArgument('x-tidegate-ack', value, `Acknowledgement level is one of ${ACK_LEVELS.join(', ')}`)
    return level
  }

  /** Lets a client that waits for `100 Continue` send its body. Everything that can be refused early has been. */
  sendContinue(): void {
    if (this.continued) return
    this.continued = true
    this.exchange.sendContinue()
  }

  /** Names and values in turn, for `writeHead`; operations append theirs. */
  replyHeaders(): string[] {
    return ['x-amz-request-id', this.exchange.requestId, 'x-amz-id-2', HOST_ID, 'Server', SERVER]
  }

  /** Answers with a body that is at hand, or with none. */
  send(status: number, headers: string[], body?: string): void {
    if (body === undefined) {
      if (status !== 204) headers.push('Content-Length', '0')
      this.response.writeHead(status, headers).end()
      return
    }
    const length = Buffer.byteLength(body)
    headers.push('Content-Length', String(length))
    this.exchange.bytesOut += length
    this.response.writeHead(status, headers).end(body)
  }

  sendXml(body: string, headers: string[] = this.replyHeaders()): void {
    headers.push('Content-Type', 'application/xml')
    this.send(200, headers, body)
  }
}

/** @throws S3Error InvalidArgument unless the value is a whole number in the range, or absent */
export function wholeNumber(call: Call, name: string, bounds: { min: number; max: number; fallback: number }): number {
  const value = call.query(name)
  if (value === undefined || value === '') return bounds.fallback
  const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN
  if (!(number >= bounds.min && number <= bounds.max)) {
    throw invalidArgument(name, value, `Argument ${name} must be an integer between ${bounds.min} and ${bounds.max}`)
  }
  return number
}

/** S3's `max-*` parameters: anything up to 2^31 - 1 is accepted, and answered as the page size at most. */
export function pageLimit(call: Call, name: string, pageMax = 1000): number {
  return Math.min(wholeNumber(call, name, { min: 0, max: 2_147_483_647, fallback: pageMax }), pageMax)
}

/** encoding-type: `url` or absent. */
export function wantsUrlEncoding(call: Call): boolean {
  const value = call.query('encoding-type')
  if (value === undefined || value === '') return false
  if (value !== 'url') throw invalidArgument('encoding-type', value, 'Invalid Encoding Method specified in Request')
  return true
}

/** Refuses requests whose sender is mistaken about who owns the bucket (x-amz-expected-bucket-owner). */
export async function checkExpectedOwners(call: Call): Promise<void> {
  const expected = call.header('x-amz-expected-bucket-owner')
  if (expected !== undefined && call.target.level !== 'service') await checkOwner(call, call.bucket, expected)
  const expectedSource = call.header('x-amz-source-expected-bucket-owner')
  if (expectedSource !== undefined && call.header('x-amz-copy-source') !== undefined) {
    await checkOwner(call, call.copySource.bucket, expectedSource)
  }
}

async function checkOwner(call: Call, bucket: string, expected: string): Promise<void> {
  const { owner } = await call.store.buckets.get(bucket)
  if (owner !== expected) throw new S3Error('AccessDenied')
}
