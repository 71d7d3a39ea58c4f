/** `POST /kv/v1/{bucket}:exists`: which of many keys are there, at one revision. */
import type { FastifyInstance } from 'fastify'
import { sendJson } from './answers.ts'
import type { KvDoor } from './door.ts'
import { KEY_LIST_BODY, KEY_LIST_BYTES_MAX, readableKeys, type KeyList } from './key-list.ts'
import { demandKnownSender } from './known-sender.ts'
import { BUCKET_PARAMS, NO_PARAMETERS, type BucketParams } from './parameters.ts'

const SCHEMA = {
  tags: ['kv'],
  summary: 'Which keys are there',
  params: BUCKET_PARAMS,
  querystring: NO_PARAMETERS,
  body: KEY_LIST_BODY,
  response: {
    200: {
      type: 'object',
      description: 'One truth for each key, in order.',
      properties: { revision: { type: 'integer' }, exists: { type: 'array', items: { type: 'boolean' } } },
    },
  },
} as const

export function registerExistsRoute(app: FastifyInstance, door: KvDoor): void {
  app.post<{ Params: BucketParams; Body: KeyList }>(
    '/kv/v1/:bucket(^[^:/]+)::exists',
    {
      config: { operation: 'KvExists' },
      schema: SCHEMA,
      bodyLimit: KEY_LIST_BYTES_MAX,
      onRequest: demandKnownSender,
    },
    async (request, reply) => {
      const keys = readableKeys(door, request)
      const { exist, revision } = await door.store.keyValues.exist(request.params.bucket, keys)
      return sendJson(request, reply, `{"revision":${revision},"exists":[${exist.join(',')}]}`)
    },
  )
}
