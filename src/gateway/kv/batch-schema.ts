/** How a batch is described. Its body is read by batch-json.ts and batch-binary.ts. */
import { BATCH_CONTENT_TYPE } from '../../common/batch-framing.ts'
import { BUCKET_PARAMS, NO_PARAMETERS } from './parameters.ts'

const KEY = { type: 'string', minLength: 1 } as const
const CONDITION = { type: 'string', examples: ['"r42"'], description: 'As the header of that name.' } as const

/** Members of a put that transactions know as well. */
export const PUT_MEMBERS = {
  key: KEY,
  value: { type: 'string', contentEncoding: 'base64', description: 'Either this or `text`.' },
  text: { type: 'string', description: 'A value that is text.' },
  contentType: { type: 'string' },
  metadata: { type: 'object', additionalProperties: { type: 'string' } },
  ttl: { type: 'number', minimum: 0.001, maximum: 315_360_000, description: 'Seconds until it is gone.' },
} as const

/** What got values have in common. */
export const VALUE_MEMBERS = {
  value: { type: ['string', 'null'], contentEncoding: 'base64' },
  etag: { type: 'string' },
  revision: { type: 'integer' },
  size: { type: 'integer' },
  contentType: { type: 'string' },
  modified: { type: 'string', format: 'date-time' },
  expires: { type: 'string', format: 'date-time' },
  metadata: { type: 'object', additionalProperties: { type: 'string' } },
  exists: { type: 'boolean' },
  existed: { type: 'boolean' },
} as const

const OPERATION = {
  oneOf: [
    {
      type: 'object',
      required: ['op', 'key'],
      properties: { op: { type: 'string', enum: ['get', 'exists'] }, key: KEY },
    },
    {
      type: 'object',
      required: ['op', 'key'],
      properties: { op: { type: 'string', enum: ['put'] }, ...PUT_MEMBERS, ifMatch: CONDITION, ifNoneMatch: CONDITION },
    },
    {
      type: 'object',
      required: ['op', 'key'],
      properties: { op: { type: 'string', enum: ['delete'] }, key: KEY, ifMatch: CONDITION },
    },
  ],
} as const

const FRAMES = { type: 'string', format: 'binary', description: 'See docs/formats.md, "Batch framing".' } as const

export const BATCH_SCHEMA = {
  tags: ['kv'],
  summary: 'Many operations in one request',
  description:
    'Each has a status of its own; they are no transaction. Operations on the same key are done in their order. As JSON, or in the binary framing.',
  params: BUCKET_PARAMS,
  querystring: NO_PARAMETERS,
  documentedBody: {
    'application/json': {
      schema: {
        type: 'object',
        required: ['operations'],
        properties: { operations: { type: 'array', maxItems: 1000, items: OPERATION } },
      },
    },
    [BATCH_CONTENT_TYPE]: { schema: FRAMES },
  },
  response: {
    200: {
      description: 'One result for each operation, in order.',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: {
              results: {
                type: 'array',
                items: {
                  type: 'object',
                  required: ['status'],
                  properties: {
                    status: { type: 'integer' },
                    code: { type: 'string' },
                    detail: { type: 'string' },
                    ...VALUE_MEMBERS,
                  },
                },
              },
            },
          },
        },
        [BATCH_CONTENT_TYPE]: { schema: FRAMES },
      },
    },
  },
} as const
