/**
 * GET, HEAD, PUT and DELETE of one value. They stream, and GET of a small value is what this API does most: so they answer on the
 * raw response, and Fastify does no more for them than find the route. A request's life, in order:
 *
 *     authenticate      the port, before anything here (../http/port.ts)
 *     target            value-target.ts: bucket and key, from the raw target
 *     authorise         one action on that very key; then its parameters are read (value-call.ts)
 *     operation         value-get.ts, value-head.ts, value-put.ts, value-delete.ts
 *     100 Continue      only when a PUT wants its body, after all that can be refused without it (lesson 5.1.14)
 *     error             problem details, whatever was thrown
 */
import type { FastifyRequest } from 'fastify'
import { AssertionFailed } from '../../common/assert.ts'
import type { KvRoutes } from './door.ts'
import { ValueCall, type ValueDoor, type ValueOperation } from './value-call.ts'
import { deleteValue } from './value-delete.ts'
import { getValue } from './value-get.ts'
import { headValue } from './value-head.ts'
import { putValue } from './value-put.ts'
import { valueSchema } from './value-schema.ts'

const OPERATIONS = [getValue, headValue, putValue, deleteValue] as const

export const registerValueRoutes: KvRoutes = (app, options) => {
  const door: ValueDoor = { ...options, log: options.logger }
  for (const operation of OPERATIONS) {
    app.route({
      method: operation.method,
      url: '/kv/v1/:bucket/*',
      config: { operation: operation.name },
      schema: valueSchema(operation),
      // The hook never says that it is done: there is nothing left to do for Fastify.
      onRequest: (request, reply, _done) => {
        reply.hijack()
        void answer(door, request, operation)
      },
      handler: () => {
        throw new AssertionFailed('values are answered before a handler is called')
      },
    })
  }
}

async function answer(door: ValueDoor, request: FastifyRequest, operation: ValueOperation): Promise<void> {
  try {
    await operation.run(new ValueCall(door, request, operation))
  } catch (error) {
    door.sendProblem(request.exchange, error)
  }
}
