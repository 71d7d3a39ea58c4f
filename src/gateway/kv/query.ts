import type { FastifyReply, FastifyRequest } from 'fastify'
import { TidegateError } from '../../common/errors.ts'
import { decodeComponent, queryPairs } from '../http/request-key.ts'
import { SIGNATURE_PARAMETERS } from './value-parameters.ts'

/**
 * Hook: puts the query as the one canonicaliser reads it in place of the router's, who lets what is no escape and no UTF-8 pass as
 * it came (lesson 5.1.11). Parameters that carry a signature are left out, so that schemas need not know them; one that is given
 * twice becomes a list, which schemas refuse.
 */
export function readQuery(request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  const target = request.raw.url ?? ''
  const mark = target.indexOf('?')
  if (mark < 0) return done()
  const form = request.authenticated?.form
  const ofSignature = form === undefined ? undefined : SIGNATURE_PARAMETERS[form]
  const given = new Map<string, string | readonly string[]>()
  for (const [rawName, rawValue] of queryPairs(target.slice(mark + 1))) {
    const name = decodeComponent(rawName)
    const value = decodeComponent(rawValue)
    if (name === undefined || value === undefined) {
      const message = `the parameter ${JSON.stringify(rawName)} is not percent-encoded UTF-8`
      return done(new TidegateError('InvalidArgument', message))
    }
    if (ofSignature?.has(name) === true) continue
    const before = given.get(name)
    given.set(name, before === undefined ? value : [before, value].flat())
  }
  request.query = Object.fromEntries(given)
  done()
}
