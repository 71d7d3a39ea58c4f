/** `POST /kv/v1/{bucket}:increment`: adds to a counter, in one transaction. */
import type { FastifyInstance } from 'fastify'
import { assert } from '../../common/assert.ts'
import { countReceived, sendJson } from './answers.ts'
import { deltaOf } from './counter-delta.ts'
import { ackOf, type KvDoor } from './door.ts'
import { JsonMembers } from './json-members.ts'
import { demandKnownSender } from './known-sender.ts'
import { keyOf, ttlMsOf } from './operation-json.ts'
import { BUCKET_PARAMS, NO_PARAMETERS, type BucketParams } from './parameters.ts'
import { RequestAccess } from './request-access.ts'

const SCHEMA = {
  tags: ['kv'],
  summary: 'Add to a counter',
  params: BUCKET_PARAMS,
  querystring: NO_PARAMETERS,
  documentedBody: {
    'application/json': {
      schema: {
        type: 'object',
        required: ['key'],
        properties: {
          key: { type: 'string', minLength: 1 },
          delta: { type: ['integer', 'string'], description: 'Default 1; beyond 2^53 a string of digits.' },
          ttl: { type: 'number', description: 'Seconds until it is gone; without it that stays as it is.' },
        },
      },
    },
  },
  response: {
    200: {
      type: 'object',
      description: 'What it is now.',
      properties: { key: { type: 'string' }, value: { type: 'string' }, revision: { type: 'integer' } },
    },
  },
} as const

const MEMBERS: ReadonlySet<string> = new Set(['key', 'delta', 'ttl'])

export function registerIncrementRoute(app: FastifyInstance, door: KvDoor): void {
  app.post<{ Params: BucketParams }>(
    '/kv/v1/:bucket(^[^:/]+)::increment',
    { config: { operation: 'KvIncrement' }, schema: SCHEMA, onRequest: demandKnownSender },
    async (request, reply) => {
      countReceived(request)
      const { bucket } = request.params
      const members = new JsonMembers(request.body, '')
      members.allowOnly(MEMBERS)
      const key = keyOf(members)
      const increment = { op: 'increment', key, delta: deltaOf(members), ttlMs: ttlMsOf(members) } as const
      const access = new RequestAccess(door.access, request)
      // Its answer tells what was there.
      for (const action of ['s3:GetObject', 's3:PutObject']) access.demand({ action, bucket, key })
      const owner = access.principal.id
      const transaction = { bucket, compares: [], then: [increment], else: [], owner, ack: ackOf(request) }
      const { outcomes, revision } = await door.store.keyValues.transact(transaction)
      const [outcome] = outcomes
      assert(outcome?.op === 'increment', 'an increment has an outcome of its kind')
      return sendJson(request, reply, JSON.stringify({ key, value: String(outcome.value), revision }))
    },
  )
}
