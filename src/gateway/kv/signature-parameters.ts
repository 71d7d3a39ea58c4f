import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Query } from './parameters.ts'
import { SIGNATURE_PARAMETERS } from './value-parameters.ts'

/** Hook: takes the parameters that carry a signature out of the query, so that schemas need not know them. */
export function dropSignatureParameters(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  const form = request.authenticated?.form
  const names = form === undefined ? undefined : SIGNATURE_PARAMETERS[form]
  if (names !== undefined) {
    const entries = Object.entries(request.query as Query)
    request.query = Object.fromEntries(entries.filter(([name]) => !names.has(name)))
  }
  done()
}
