/** One request for a single value: what an operation may see of it, and what every answer begins with. */
import type { FastifyRequest } from 'fastify'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { NO_CONDITIONS } from '../../common/conditions.ts'
import type { AckLevel, Conditions } from '../../common/model.ts'
import type { Store } from '../../store/doors.ts'
import type { ObjectAddress } from '../../store/types.ts'
import type { BodyCall } from '../http/body/body-call.ts'
import { conditionsOf } from '../http/conditional-headers.ts'
import type { DoorExchange } from '../http/exchange.ts'
import type { Authenticated } from '../http/types.ts'
import { ackOf, authenticatedOf, type KvDoor } from './door.ts'
import { RequestAccess } from './request-access.ts'
import { parseParameters, type ValueParameter, type ValueParameters } from './value-parameters.ts'
import { parseValueTarget } from './value-target.ts'

/** The door, with its log under the name that bodies ask for. */
export interface ValueDoor extends KvDoor {
  readonly log: BodyCall['door']['log']
}

/** How an operation on a value is made: before it runs, the request is parsed, and the action authorised. */
export interface ValueOperation {
  readonly name: `Kv${string}`
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE'
  /** In IAM's words, on the key itself. */
  readonly action: `s3:${string}`
  readonly parameters: readonly ValueParameter[]
  readonly run: (call: ValueCall) => Promise<void>
}

export class ValueCall implements BodyCall {
  readonly door: ValueDoor
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly exchange: DoorExchange
  readonly headers: IncomingHttpHeaders
  readonly authenticated: Authenticated
  readonly bucket: string
  readonly key: string
  readonly parameters: ValueParameters
  readonly #incoming: FastifyRequest

  /** @throws InvalidArgument, InvalidKey, KeyTooLong, AccessDenied */
  constructor(door: ValueDoor, incoming: FastifyRequest, operation: ValueOperation) {
    const { exchange } = incoming
    const { request } = exchange
    const { keyBytesMax, addressedKeyBytesMax } = door.limits
    const bytesMax = operation.method === 'PUT' ? keyBytesMax : addressedKeyBytesMax
    const { bucket, key, query } = parseValueTarget(request.url ?? '', bytesMax)
    this.door = door
    this.request = request
    this.response = exchange.response
    this.exchange = exchange
    this.headers = request.headers
    this.authenticated = authenticatedOf(incoming)
    this.bucket = bucket
    this.key = key
    this.#incoming = incoming
    new RequestAccess(door.access, incoming).demand({ action: operation.action, bucket, key })
    this.parameters = parseParameters(query, { names: operation.parameters, form: this.authenticated.form })
  }

  get store(): Store {
    return this.door.store
  }

  get address(): ObjectAddress {
    return { bucket: this.bucket, key: this.key }
  }

  header(name: string): string | undefined {
    const value = this.headers[name]
    return typeof value === 'string' ? value : undefined
  }

  /** @throws InvalidArgument */
  get ack(): AckLevel | undefined {
    return ackOf(this.#incoming)
  }

  /** Of all operations alike; which of the headers an operation heeds is for the store (RFC 9110, 13.2). */
  get conditions(): Conditions {
    const { headers } = this
    const ifMatch = headers['if-match']
    const ifNoneMatch = headers['if-none-match']
    const modifiedSince = headers['if-modified-since']
    const unmodifiedSince = headers['if-unmodified-since']
    if ((ifMatch ?? ifNoneMatch ?? modifiedSince ?? unmodifiedSince) === undefined) return NO_CONDITIONS
    return conditionsOf({ ifMatch, ifNoneMatch, modifiedSince, unmodifiedSince }, { revisions: true })
  }

  sendContinue(): void {
    this.exchange.sendContinue()
  }

  /**
   * Names and values in turn, for `writeHead`; operations append theirs. A value may say that it is HTML, and this is the origin
   * of the admin API: so browsers neither guess a type nor run what a value holds (lessons 5.1.17, 5.2.20).
   */
  replyHeaders(): string[] {
    return [
      'x-request-id',
      this.exchange.requestId,
      'X-Content-Type-Options',
      'nosniff',
      'Content-Security-Policy',
      'sandbox',
    ]
  }
}
