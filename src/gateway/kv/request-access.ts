/** Authorisation of one request that touches many keys: what policies may ask of the request is read once. */
import type { FastifyRequest } from 'fastify'
import { isTidegateError } from '../../common/errors.ts'
import type { AccessContext, AccessControl, Principal } from '../../store/access.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import { authenticatedOf } from './door.ts'

export interface Permission {
  readonly action: string
  readonly bucket?: string
  readonly key?: string
}

export class RequestAccess {
  readonly principal: Principal
  readonly #access: AccessControl
  readonly #context: AccessContext

  constructor(access: AccessControl, request: FastifyRequest, extra?: AccessContext) {
    const authenticated = authenticatedOf(request)
    const context = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    this.principal = authenticated.principal
    this.#access = access
    this.#context = extra === undefined ? context : { ...context, ...extra }
  }

  /** @throws AccessDenied */
  demand({ action, bucket, key }: Permission): void {
    this.#access.authorize(this.principal, action, { bucket, key }, this.#context)
  }

  allows(permission: Permission): boolean {
    try {
      this.demand(permission)
      return true
    } catch (error) {
      if (isTidegateError(error, 'AccessDenied')) return false
      throw error
    }
  }
}
