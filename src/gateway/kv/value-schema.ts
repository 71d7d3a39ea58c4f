/** How the operations on single values are described; what of it is parsed, is parsed by the same tables. */
import { ACK_LEVELS } from '../../common/model.ts'
import type { ValueOperation } from './value-call.ts'
import { parameterSchema } from './value-parameters.ts'

const TEXT = { type: 'string' } as const

const PARAMS = {
  type: 'object',
  properties: {
    bucket: { type: 'string', description: 'Name of the bucket.' },
    '*': {
      type: 'string',
      description: 'The key, percent-encoded UTF-8, 1 to 1,024 bytes. Slashes are characters like others.',
    },
  },
} as const

const CONDITIONS = {
  'if-match': { ...TEXT, description: 'ETags or revisions (`"r42"`), or `*`: 412 unless one is the present value.' },
  'if-none-match': { ...TEXT, description: 'ETags or revisions, or `*`: not if one is the present value.' },
} as const

const DATES = { 'if-modified-since': TEXT, 'if-unmodified-since': TEXT } as const

const ACK = {
  'x-tidegate-ack': { type: 'string', enum: ACK_LEVELS, description: "How durable, if not at the bucket's level." },
} as const

const CONTENT = {
  'content-type': TEXT,
  'cache-control': TEXT,
  'content-disposition': TEXT,
  'content-encoding': TEXT,
  'content-language': TEXT,
  expires: TEXT,
  'content-md5': { ...TEXT, description: 'MD5 of the body in base64, checked.' },
} as const

const BINARY = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } as const

interface Described {
  readonly summary: string
  readonly headers: Readonly<Record<string, object>>
  readonly response: Readonly<Record<number, object>>
}

const DESCRIBED: Readonly<Record<ValueOperation['method'], Described>> = {
  GET: {
    summary: 'Get a value, or ranges of it',
    headers: { ...CONDITIONS, ...DATES, range: TEXT, 'if-range': TEXT },
    response: {
      200: { description: 'The value', content: BINARY },
      206: { description: 'The range, or several as multipart/byteranges', content: BINARY },
      304: { description: 'It is what If-None-Match or If-Modified-Since names' },
    },
  },
  HEAD: {
    summary: 'Headers of a value',
    headers: { ...CONDITIONS, ...DATES },
    response: { 200: { description: 'The headers that GET gives' } },
  },
  PUT: {
    summary: 'Put a value',
    headers: { ...CONDITIONS, ...ACK, ...CONTENT },
    response: { 200: { description: 'It is the value of the key; ETag and x-tidegate-revision name it' } },
  },
  DELETE: {
    summary: 'Delete a value',
    headers: { ...CONDITIONS, ...ACK },
    response: { 204: { description: 'There is none now; x-tidegate-existed says whether there was one' } },
  },
}

export function valueSchema(operation: ValueOperation): object {
  const { headers, ...described } = DESCRIBED[operation.method]
  return {
    ...described,
    operationId: operation.name,
    tags: ['values'],
    params: PARAMS,
    querystring: parameterSchema(operation.parameters),
    headers: { type: 'object', properties: headers },
    ...(operation.method === 'PUT' && { documentedBody: BINARY }),
  }
}
