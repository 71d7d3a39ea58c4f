/**
 * The KV API (docs/kv.md): `createKvPlugin` registers its routes on the HTTP port, one file for each.
 *
 *     values.ts       GET, HEAD, PUT, DELETE of one key; streams, so it answers on the raw response
 *     buckets.ts      making, listing and removing buckets
 *     scan.ts         keys in order, as NDJSON
 *     watch.ts        changes in order, as server-sent events or long poll
 *     batch.ts        many operations in one request, as JSON or in the binary framing
 *     transact.ts     compares and operations in one transaction
 *     increment.ts, exists.ts, match.ts
 *
 * A request's way: the port authenticates it (../http/port.ts); the route names IAM actions and resources for every key that it
 * touches (`authorize`, C35) before it asks the store; what is thrown becomes problem details. Parameters that a route does not
 * know are refused, not ignored (C36).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Limits } from '../../common/limits.ts'
import type { Logger } from '../../common/logging.ts'
import { ACK_LEVELS, type AckLevel } from '../../common/model.ts'
import type { AccessContext, AccessControl, AccessResource } from '../../store/access.ts'
import type { Store } from '../../store/doors.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { PortContext, PortPlugin } from '../http/port.ts'
import type { Authenticated } from '../http/types.ts'
import { readQuery } from './query.ts'

export interface KvDoorOptions {
  readonly store: Store
  readonly access: AccessControl
  readonly region: string
  readonly limits: Limits
  readonly logger: Logger
  /** A body that brings no byte for this long is given up with RequestTimeout. */
  readonly bodyIdleMsMax: number
}

/** What every route is handed. */
export interface KvDoor extends KvDoorOptions, PortContext {}

/** Registers one part of the API. */
export type KvRoutes = (app: FastifyInstance, door: KvDoor) => void

export function createKvPlugin(options: KvDoorOptions, parts: readonly KvRoutes[]): PortPlugin {
  return async (app, port) => {
    const door: KvDoor = { ...options, ...port }
    // A scope of its own: what these routes set up (parsers, hooks) is no other plugin's.
    await app.register((scope, _options, done) => {
      scope.addHook('preValidation', readQuery)
      for (const register of parts) register(scope, door)
      done()
    })
  }
}

/** Who sent it; the port has authenticated every request that reaches a KV route. */
export function authenticatedOf(request: FastifyRequest): Authenticated {
  assert(request.authenticated !== undefined, 'KV routes are not open')
  return request.authenticated
}

/** @throws AccessDenied */
export function authorize(
  door: KvDoor,
  request: FastifyRequest,
  asked: { readonly action: string; readonly resource: AccessResource; readonly extra?: AccessContext },
): void {
  const authenticated = authenticatedOf(request)
  const context = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
  door.access.authorize(authenticated.principal, asked.action, asked.resource, { ...context, ...asked.extra })
}

/** The durability asked for in x-tidegate-ack; undefined leaves it to the bucket. @throws InvalidArgument */
export function ackOf(request: FastifyRequest): AckLevel | undefined {
  const value = request.headers['x-tidegate-ack']
  if (value === undefined) return undefined
  const level = ACK_LEVELS.find((candidate) => candidate === value)
  if (level === undefined) {
    throw new TidegateError(
      'InvalidArgument',
      `x-tidegate-ack ${JSON.stringify(value)} is none of ${ACK_LEVELS.join(', ')}`,
    )
  }
  return level
}
