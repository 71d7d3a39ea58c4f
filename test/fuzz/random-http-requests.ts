/** Requests to throw at the HTTP port, from a seed. */
import { BATCH_CONTENT_TYPE, encodeBatchFrame, encodeBatchHead } from '../../src/common/batch-framing.ts'
import { headBytes } from '../support/raw-http.ts'
import type { FuzzRandom } from './random-requests.ts'

export interface HttpFuzzTarget {
  readonly authorization: string
  readonly bucket: string
}

export interface HttpFuzzRequest {
  readonly kind: keyof typeof MAKERS
  /** Sent one after the other, with a turn of the loop between them. */
  readonly pieces: readonly Buffer[]
  /** Well-formed HTTP with all of its body: an answer must come. */
  readonly whole: boolean
  readonly method: string
}

type Maker = (random: FuzzRandom, target: HttpFuzzTarget) => Omit<HttpFuzzRequest, 'kind'>

const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'TRACE'] as const
const OPERATIONS = ['batch', 'txn', 'increment', 'exists', 'match', 'made-up', ''] as const
const KEYS = [
  'k',
  '',
  '/',
  '//',
  '.',
  '..',
  '../..',
  '%00',
  '%2F',
  '%',
  '%zz',
  '%FF',
  '%ED%A0%80',
  '%u0041',
  'ü',
  ':batch',
  'x'.repeat(1_100),
]
const PARAMETERS =
  'prefix start end limit cursor reverse keys values watch from wait ttl pin uploads versionId X-Amz-Signature X-Amz-Credential __proto__ made-up'.split(
    ' ',
  )
const VALUES = [
  '',
  '0',
  '1',
  '-1',
  '1000',
  'true',
  'false',
  'NaN',
  '1e9',
  '99999999999999999999',
  '0.5',
  '%00',
  '%FF',
  '%zz',
  '..',
  '%22',
  '[]',
  'a'.repeat(2_000),
]
const HEADERS: readonly (readonly [string, readonly string[]])[] = [
  [
    'range',
    [
      'bytes=0-',
      'bytes=-0',
      'bytes=5-1',
      'bytes=0-0,2-3',
      `bytes=${'0-0,'.repeat(500)}0-0`,
      'bytes=99999999999999999999-',
    ],
  ],
  ['if-match', ['*', '"x"', 'x', '"', ',', '"r1"', '"r99999999999999999999"', '"r-1"', `"${'a'.repeat(5_000)}"`]],
  ['if-none-match', ['*', '""', 'W/"x"', '"r0"', '"r1", *']],
  ['if-range', ['"x"', 'yesterday', '"']],
  ['if-modified-since', ['yesterday', 'Thu, 01 Jan 1970 00:00:00 GMT', '']],
  ['content-md5', ['x', '', 'AAAAAAAAAAAAAAAAAAAAAA==']],
  [
    'content-type',
    [
      '',
      'x',
      'application/json',
      'application/json; charset=utf-16',
      BATCH_CONTENT_TYPE,
      'multipart/form-data',
      'text/plain; =',
    ],
  ],
  ['content-encoding', ['gzip', 'aws-chunked', ',']],
  ['accept', ['text/event-stream', 'application/x-ndjson', '*/*', '', ';q=']],
  ['last-event-id', ['1', '-1', 'x', '99999999999999999999', '']],
  ['x-tidegate-ack', ['memory', 'journal', 'persisted', 'replicated', 'x', '']],
  ['x-tidegate-meta-a', ['x', 'é', 'x'.repeat(3_000), '']],
  ['x-tidegate-meta-', ['x']],
  ['x-amz-content-sha256', ['UNSIGNED-PAYLOAD', 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD', 'x']],
  ['x-large', ['x'.repeat(20_000), 'x'.repeat(100_000)]],
  ['expect', ['100-continue', 'x']],
]
const CREDENTIALS = [
  'Basic',
  'Basic %%%',
  'Basic Og==',
  'Bearer',
  'Bearer tgt_x',
  'Bearer \u00ff',
  'AWS4-HMAC-SHA256 x',
  'Digest x',
  '',
] as const
/** Built out of whole pieces, so that many come out well formed and wrong in meaning only. */
const JSON_VALUES: readonly ((random: FuzzRandom, depth: number) => unknown)[] = [
  () => null,
  () => true,
  (random) => random.pick([0, 1, -1, 1.5, 1e300, 2 ** 53]),
  (random) =>
    random.pick(['', 'k', 'x'.repeat(2_000), '\u0000', '\ud800', '%', 'AAAA', '9223372036854775808', '__proto__']),
  (random, depth) => Array.from({ length: random.below(4) }, () => jsonValue(random, depth + 1)),
  (random, depth) => jsonObject(random, depth + 1),
]
const MEMBERS =
  'operations op key keys value text delta ttl compare then else target operator operand metadata contentType ifMatch ifNoneMatch made-up __proto__'.split(
    ' ',
  )
const WORDS = ['get', 'put', 'delete', 'exists', 'increment', 'revision', 'etag', 'value', '=', '<'] as const

function jsonValue(random: FuzzRandom, depth: number): unknown {
  return depth > 4 ? random.pick(WORDS) : random.pick(JSON_VALUES)(random, depth)
}

function jsonObject(random: FuzzRandom, depth: number): Record<string, unknown> {
  const object: Record<string, unknown> = {}
  for (let count = random.below(5); count > 0; count--) {
    const value = random.next() < 0.4 ? random.pick(WORDS) : jsonValue(random, depth)
    Object.defineProperty(object, random.pick(MEMBERS), { value, enumerable: true, configurable: true })
  }
  return object
}

function queryOf(random: FuzzRandom): string {
  const count = random.below(4)
  // A watch without an end is a good answer, and no end of a test.
  const bounded = [
    'wait=0',
    ...Array.from({ length: count }, () => `${random.pick(PARAMETERS)}=${random.pick(VALUES)}`),
  ]
  return count === 0 ? '' : `?${bounded.join(random.pick(['&', '&&', '&amp;']))}`
}

function headersOf(random: FuzzRandom, target: HttpFuzzTarget): Record<string, string> {
  const headers: Record<string, string> = { host: 'x', authorization: target.authorization, connection: 'close' }
  if (random.next() < 0.1) headers['authorization'] = random.pick(CREDENTIALS)
  for (let count = random.below(4); count > 0; count--) {
    const [name, values] = random.pick(HEADERS)
    headers[name] = random.pick(values)
  }
  // Without it a watch is a long poll, which `wait=0` ends.
  if (headers['accept'] === 'text/event-stream') delete headers['accept']
  return headers
}

function pathOf(random: FuzzRandom, { bucket }: HttpFuzzTarget): string {
  return random.pick([
    () => `/kv/v1/${bucket}/${random.pick(KEYS)}`,
    () => `/kv/v1/${bucket}:${random.pick(OPERATIONS)}`,
    () => `/kv/v1/${bucket}`,
    () => `/kv/v1/${random.pick(KEYS)}`,
    () =>
      `/${random.pick(['', 'openapi.json', 'docs', 'docs/', 'metrics', 'admin/v1/tokens', 'health', 'kv', 'kv/v1/', 'kv/v2/x', '../kv/v1'])}`,
  ])()
}

function message(method: string, path: string, headers: Record<string, string>, body: Buffer | undefined): Buffer[] {
  const framed = body === undefined ? headers : { ...headers, 'content-length': String(body.length) }
  return [headBytes({ method, target: path, headers: framed }), ...(body === undefined ? [] : [body])]
}

function batchBytes(random: FuzzRandom): Buffer {
  const count = random.below(5)
  const frames = Array.from({ length: count }, () => {
    const value = random.bytes(random.below(300))
    const fields =
      random.next() < 0.5 ? {} : { ifMatch: random.pick(VALUES), ttlMs: random.below(100_000), metadata: { a: 'b' } }
    return [
      encodeBatchFrame({
        code: random.below(6),
        key: random.pick(KEYS).slice(0, 1_030),
        fields,
        valueBytes: value.length,
      }),
      value,
    ]
  })
  return Buffer.concat([encodeBatchHead('request', count), ...frames.flat()])
}

const MAKERS = {
  noise: (random) => ({ pieces: [random.bytes(1 + random.below(2_000))], whole: false, method: 'GET' }),
  request: (random, target) => {
    const method = random.pick(METHODS)
    const body =
      method === 'GET' || method === 'HEAD' || method === 'TRACE' ? undefined : random.bytes(random.below(5_000))
    return {
      pieces: message(method, pathOf(random, target) + queryOf(random), headersOf(random, target), body),
      whole: true,
      method,
    }
  },
  json: (random, target) => {
    const text = JSON.stringify(jsonObject(random, 0))
    const body = Buffer.from(random.next() < 0.3 ? text.slice(0, random.below(text.length + 1)) : text)
    const headers = { ...headersOf(random, target), 'content-type': 'application/json' }
    const path = `/kv/v1/${target.bucket}:${random.pick(OPERATIONS)}`
    return { pieces: message('POST', path, headers, body), whole: true, method: 'POST' }
  },
  batch: (random, target) => {
    const body = batchBytes(random)
    for (let spoiled = random.below(4); spoiled > 0; spoiled--) body[random.below(body.length)] = random.below(256)
    const cut = random.next() < 0.3 ? body.subarray(0, random.below(body.length + 1)) : body
    const headers = { ...headersOf(random, target), 'content-type': BATCH_CONTENT_TYPE }
    return { pieces: message('POST', `/kv/v1/${target.bucket}:batch`, headers, cut), whole: true, method: 'POST' }
  },
  brokenOff: (random, target) => {
    const method = random.pick(['PUT', 'POST'] as const)
    const headers = { ...headersOf(random, target), 'content-length': String(10_000 + random.below(1_000_000)) }
    return {
      pieces: message(method, pathOf(random, target), headers, undefined).concat(random.bytes(random.below(9_000))),
      whole: false,
      method,
    }
  },
  spoiled: (random, target) => {
    const bytes = Buffer.concat(message('PUT', pathOf(random, target), headersOf(random, target), random.bytes(100)))
    for (let spoiled = 1 + random.below(5); spoiled > 0; spoiled--)
      bytes[random.below(bytes.length)] = random.below(256)
    return { pieces: [bytes], whole: false, method: 'PUT' }
  },
} as const satisfies Record<string, Maker>

export function randomHttpRequest(random: FuzzRandom, target: HttpFuzzTarget): HttpFuzzRequest {
  const kind = random.pick(Object.keys(MAKERS) as (keyof typeof MAKERS)[])
  return { kind, ...(MAKERS[kind] as Maker)(random, target) }
}
