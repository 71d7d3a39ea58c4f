import type { FastifyReply, FastifyRequest } from 'fastify'
import { TidegateError } from '../../common/errors.ts'
import { authenticatedOf } from './door.ts'

/**
 * Hook of routes whose body names the keys: these are authorised once it is read, and somebody unknown may not make us read it
 * (lesson 5.1.18).
 */
export function demandKnownSender(request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  const anonymous = authenticatedOf(request).principal.kind === 'anonymous'
  done(anonymous ? new TidegateError('AccessDenied', 'this needs credentials') : undefined)
}
