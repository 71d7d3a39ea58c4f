/** `GET /kv/v1/{bucket}` is a scan, or with `watch=true` a watch. One route, whose schema knows the parameters of both. */
import type { FastifyInstance } from 'fastify'
import { TidegateError } from '../../common/errors.ts'
import type { KvDoor } from './door.ts'
import { BUCKET_PARAMS, FLAG, flag, type BucketParams, type Query } from './parameters.ts'
import { NDJSON_CONTENT_TYPE, serveScan } from './scan.ts'
import { WATCH_PARAMETERS, watchBucket } from './watch.ts'

const SCAN_PARAMETERS = {
  prefix: { type: 'string', description: 'Only keys that start with it.' },
  start: { type: 'string', description: 'First key, inclusive.' },
  end: { type: 'string', description: 'First key that is too far, exclusive.' },
  limit: {
    type: 'string',
    pattern: '^[0-9]+$',
    description: 'Keys in all, 1 to 100,000 (default 1,000). Of a long poll: events at most, 1 to 10,000.',
  },
  cursor: { type: 'string', description: 'Go on where a scan with the same other parameters ended.' },
  reverse: { ...FLAG, description: 'From the end to the start.' },
  keys: { ...FLAG, description: 'Nothing but keys.' },
  values: { ...FLAG, description: 'Values of up to 1 MiB as well.' },
  watch: { ...FLAG, description: 'Watch changes instead: server-sent events or long poll, by Accept.' },
} as const

const ENTRY = {
  type: 'object',
  description: 'One key.',
  properties: {
    key: { type: 'string' },
    revision: { type: 'integer' },
    etag: { type: 'string' },
    size: { type: 'integer' },
    modified: { type: 'string', format: 'date-time' },
    expires: { type: 'string', format: 'date-time' },
    value: { type: ['string', 'null'], description: 'Base64; null when it is over 1 MiB or may not be read.' },
    denied: { type: 'boolean', description: 'The value may not be read.' },
    contentType: { type: 'string' },
    metadata: { type: 'object', additionalProperties: { type: 'string' } },
  },
  required: ['key'],
} as const

const SCHEMA = {
  tags: ['kv'],
  summary: 'Scan keys in order, or watch changes',
  description:
    'Without `watch`, keys in UTF-8 byte order: one JSON object a line, and after each page of at most 1,000 keys a line `{"page":{"revision","cursor"}}`. If something fails in the middle the last line is `{"error":{problem}}`. With `watch=true`, changes from a revision on.',
  params: BUCKET_PARAMS,
  querystring: {
    type: 'object',
    additionalProperties: false,
    properties: { ...WATCH_PARAMETERS, ...SCAN_PARAMETERS },
  },
  response: {
    200: {
      description: 'Keys, one a line; or changes.',
      content: {
        [NDJSON_CONTENT_TYPE]: { schema: ENTRY },
        'text/event-stream': {
          schema: { type: 'string', description: 'Events `put`, `delete`, `renamed` and `gone`.' },
        },
        'application/json': {
          schema: {
            type: 'object',
            description: 'Of a long poll.',
            properties: {
              events: { type: 'array', items: { type: 'object', additionalProperties: true } },
              next: { type: 'integer', description: 'Where to resume.' },
            },
          },
        },
      },
    },
  },
} as const

export function registerScanOrWatchRoute(app: FastifyInstance, door: KvDoor): void {
  app.get<{ Params: BucketParams; Querystring: Query }>(
    '/kv/v1/:bucket',
    { config: { operation: 'KvScan' }, schema: SCHEMA },
    (request, reply) => {
      if (flag(request.query, 'watch')) return watchBucket(door, request, reply)
      for (const name of Object.keys(request.query)) {
        if (Object.hasOwn(SCAN_PARAMETERS, name)) continue
        const message = `the parameter "${name}" is for watch=true`
        throw new TidegateError('InvalidArgument', message, { details: { parameter: name } })
      }
      return serveScan(request, reply, door)
    },
  )
}
