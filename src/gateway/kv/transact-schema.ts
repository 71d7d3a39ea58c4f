/** How a transaction is described. Its body is read by transact-json.ts. */
import { PUT_MEMBERS, VALUE_MEMBERS } from './batch-schema.ts'
import { BUCKET_PARAMS, NO_PARAMETERS } from './parameters.ts'

const KEY = { type: 'string', minLength: 1 } as const

const COMPARE = {
  type: 'object',
  required: ['key', 'target', 'operand'],
  properties: {
    key: KEY,
    target: { type: 'string', enum: ['exists', 'revision', 'etag', 'value'] },
    operator: {
      type: 'string',
      enum: ['=', '!=', '<', '>'],
      description: 'None for `exists`; the last two for `revision` only.',
    },
    operand: {
      type: ['boolean', 'integer', 'string'],
      description: 'A truth, a revision, an ETag, or a value in base64.',
    },
  },
} as const

const OPERATIONS = {
  type: 'array',
  items: {
    oneOf: [
      {
        type: 'object',
        required: ['op', 'key'],
        properties: { op: { type: 'string', enum: ['get', 'exists', 'delete'] }, key: KEY },
      },
      {
        type: 'object',
        required: ['op', 'key'],
        properties: { op: { type: 'string', enum: ['put'] }, ...PUT_MEMBERS },
      },
      {
        type: 'object',
        required: ['op', 'key'],
        properties: {
          op: { type: 'string', enum: ['increment'] },
          key: KEY,
          delta: { type: ['integer', 'string'], description: 'Default 1.' },
          ttl: PUT_MEMBERS.ttl,
        },
      },
    ],
  },
} as const

export const TRANSACTION_SCHEMA = {
  tags: ['kv'],
  summary: 'Compares, and one of two lists of operations, in one transaction',
  description: 'Strictly serializable. All compares must hold for `then` to be done; otherwise `else` is.',
  params: BUCKET_PARAMS,
  querystring: NO_PARAMETERS,
  documentedBody: {
    'application/json': {
      schema: {
        type: 'object',
        properties: { compare: { type: 'array', items: COMPARE }, then: OPERATIONS, else: OPERATIONS },
      },
    },
  },
  response: {
    200: {
      type: 'object',
      description: 'One result for each operation of the list that was done, in order.',
      properties: {
        succeeded: { type: 'boolean' },
        revision: { type: 'integer' },
        results: { type: 'array', items: { type: 'object', properties: VALUE_MEMBERS } },
      },
    },
  },
} as const
