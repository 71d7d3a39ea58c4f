/**
 * `POST /kv/v1/{bucket}:match`: how many leading keys of a chain are there, at one revision. What a cache of prefixes asks, where
 * each key stands for a block of tokens and is of use only if all before it are there.
 */
import type { FastifyInstance } from 'fastify'
import { sendJson } from './answers.ts'
import type { KvDoor } from './door.ts'
import { KEY_LIST_BODY, KEY_LIST_BYTES_MAX, readableKeys, type KeyList } from './key-list.ts'
import { demandKnownSender } from './known-sender.ts'
import { BUCKET_PARAMS, NO_PARAMETERS, type BucketParams } from './parameters.ts'

const SCHEMA = {
  tags: ['kv'],
  summary: 'How many leading keys are there',
  params: BUCKET_PARAMS,
  querystring: NO_PARAMETERS,
  body: KEY_LIST_BODY,
  response: {
    200: {
      type: 'object',
      description: 'The first key that is not there ends the count.',
      properties: { revision: { type: 'integer' }, matched: { type: 'integer' } },
    },
  },
} as const

export function registerMatchRoute(app: FastifyInstance, door: KvDoor): void {
  app.post<{ Params: BucketParams; Body: KeyList }>(
    '/kv/v1/:bucket(^[^:/]+)::match',
    {
      config: { operation: 'KvMatch' },
      schema: SCHEMA,
      bodyLimit: KEY_LIST_BYTES_MAX,
      onRequest: demandKnownSender,
    },
    async (request, reply) => {
      const keys = readableKeys(door, request)
      const { count, revision } = await door.store.keyValues.countLeading(request.params.bucket, keys)
      return sendJson(request, reply, `{"revision":${revision},"matched":${count}}`)
    },
  )
}
