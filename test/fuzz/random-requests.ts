/**
 * Requests to throw at the gateway, from a seed: noise, valid requests with a few bytes spoiled, and correctly signed ones
 * with odd content, which get past authentication and so reach the parsers, the decoders and the store behind it.
 */
import { createHash } from 'node:crypto'
import { Random } from '../model/random.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { headBytes } from '../support/raw-http.ts'
import { signCall, type HandMadeCall } from '../support/signed-calls.ts'
import {
  frameSignedChunks,
  frameUnsignedChunks,
  STREAMING_SIGNED,
  STREAMING_SIGNED_TRAILER,
  STREAMING_UNSIGNED_TRAILER,
  UNSIGNED_PAYLOAD,
} from '../support/sigv4-signer.ts'

export class FuzzRandom extends Random {
  /** 0 to `last`, both included. */
  upTo(last: number): number {
    return this.below(last + 1)
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let at = 0; at < length; at++) bytes[at] = this.below(256)
    return bytes
  }
}

export interface FuzzRequest {
  readonly kind: FuzzKind
  /** Sent one after the other, with a turn of the loop between them. */
  readonly pieces: readonly Buffer[]
  /** Well-formed HTTP with all of its body: an answer must come. */
  readonly whole: boolean
  readonly method: string
}

export interface FuzzTarget {
  readonly gateway: GatewayProcess
  readonly bucket: string
  /** Of an upload that lives as long as the run. */
  readonly uploadId: string
}

type Maker = (random: FuzzRandom, target: FuzzTarget) => Omit<FuzzRequest, 'kind'>

const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'PROPFIND', 'TRACE'] as const
const SUBRESOURCES =
  'acl attributes cors delete lifecycle list-type=2 location policy tagging uploads uploadId versioning versions partNumber=1 select torrent made-up'.split(
    ' ',
  )
const PARAMETERS =
  'prefix delimiter marker max-keys continuation-token start-after encoding-type key-marker version-id-marker versionId partNumber uploadId max-parts max-uploads part-number-marker response-content-type X-Amz-Date X-Amz-Expires X-Amz-Signature AWSAccessKeyId'.split(
    ' ',
  )
const VALUES = [
  '',
  '0',
  '1',
  '-1',
  '1000',
  '1001',
  '99999999999999999999',
  '1e9',
  'NaN',
  'null',
  '%00',
  '%FF',
  '%2F',
  '/',
  '..',
  'a',
  '%F0%9F%91%8B',
  'url',
  '+',
  '%zz',
  'x'.repeat(1_100),
  '"',
  '<>',
  '*',
]
const HEADERS: readonly (readonly [string, readonly string[]])[] = [
  [
    'range',
    [
      'bytes=0-',
      'bytes=-0',
      'bytes=5-1',
      'bytes=0-0,2-3',
      'bytes=99999999999999999999-',
      'lines=1-2',
      'bytes=',
      'bytes=-99999999999999999',
    ],
  ],
  ['if-match', ['*', '"x"', 'x', '"', ',', '"a","b"']],
  ['if-none-match', ['*', '""', 'W/"x"']],
  ['if-modified-since', ['yesterday', 'Thu, 01 Jan 1970 00:00:00 GMT', '', '0']],
  ['content-md5', ['x', '', 'AAAAAAAAAAAAAAAAAAAAAA==', '====']],
  ['content-type', ['', 'x', 'multipart/form-data; boundary=x', 'application/json']],
  ['content-encoding', ['aws-chunked', 'aws-chunked,gzip', 'gzip,aws-chunked', ',']],
  ['x-amz-checksum-crc32', ['AAAAAA==', 'x', '', 'AAAAAAAAAA==']],
  ['x-amz-checksum-sha256', ['x', 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=']],
  ['x-amz-checksum-algorithm', ['CRC32', 'MD5', '']],
  ['x-amz-checksum-type', ['COMPOSITE', 'FULL_OBJECT', 'x']],
  ['x-amz-sdk-checksum-algorithm', ['CRC32', 'x']],
  ['x-amz-trailer', ['x-amz-checksum-crc32', 'x', '', 'x-amz-checksum-crc32,x-amz-checksum-crc32c', 'host']],
  ['x-amz-decoded-content-length', ['0', '1', '-1', '99999999999999999999', 'x', '9007199254740991']],
  [
    'x-amz-copy-source',
    [
      '',
      '/',
      'x',
      '/fuzz',
      '/fuzz/control',
      'fuzz/control?versionId=x',
      '/fuzz/..%2F..',
      '%',
      '/%00/%00',
      '/fuzz/control?versionId=',
    ],
  ],
  ['x-amz-copy-source-range', ['bytes=0-1', 'bytes=1-0', 'x', 'bytes=0-99999999999']],
  ['x-amz-copy-source-if-match', ['*', 'x']],
  ['x-amz-metadata-directive', ['REPLACE', 'COPY', 'x']],
  ['x-amz-tagging', ['a=1', 'a=1&a=2', '=', '&&&', '%', `a=${'b'.repeat(300)}`]],
  ['x-amz-tagging-directive', ['REPLACE', 'x']],
  ['x-amz-storage-class', ['STANDARD', 'GLACIER', 'x']],
  ['x-amz-acl', ['private', 'x']],
  ['x-amz-server-side-encryption', ['AES256']],
  ['x-amz-meta-a', ['', '\u00FF\u00FE', 'x'.repeat(2_100), '=?UTF-8?B?////?=']],
  ['x-amz-object-attributes', ['ETag', 'x', ',', 'ETag,ObjectParts,Checksum']],
  ['x-amz-max-parts', ['0', '-1', 'x', '1001']],
  ['x-amz-expected-bucket-owner', ['root', 'x']],
  ['x-amz-mp-object-size', ['0', '-1', 'x']],
  ['x-tidegate-ack', ['memory', 'journal', 'replicated', 'x', '']],
  ['x-forwarded-host', ['evil', '']],
  ['x-amz-security-token', ['x', '']],
  ['expect', ['100-continue', 'x']],
  ['date', ['x', '']],
]
const LIKELY: readonly (readonly [string, string])[] = [
  ['GET', '/'],
  ['GET', '/BUCKET'],
  ['GET', '/BUCKET?list-type=2'],
  ['GET', '/BUCKET?versions'],
  ['GET', '/BUCKET?uploads'],
  ['GET', '/BUCKET?location'],
  ['GET', '/BUCKET?versioning'],
  ['GET', '/BUCKET/control'],
  ['HEAD', '/BUCKET/control'],
  ['GET', '/BUCKET/control?attributes'],
  ['GET', '/BUCKET/control?tagging'],
  ['GET', '/BUCKET/part?uploadId=UPLOAD'],
  ['PUT', '/BUCKET/made/copy'],
  ['PUT', '/BUCKET/part?uploadId=UPLOAD&partNumber=3'],
  ['DELETE', '/BUCKET/made/copy'],
  ['DELETE', '/BUCKET/control?tagging'],
  ['POST', '/BUCKET/other?uploads'],
]
const NAMES = [
  'Delete',
  'Object',
  'Key',
  'VersionId',
  'ETag',
  'Quiet',
  'CompleteMultipartUpload',
  'Part',
  'PartNumber',
  'ChecksumCRC32',
  'Tagging',
  'TagSet',
  'Tag',
  'Value',
  'VersioningConfiguration',
  'Status',
  'CreateBucketConfiguration',
  'LocationConstraint',
  'x:Key',
  'Size',
  'LastModifiedTime',
]
const TEXTS = [
  '',
  'Enabled',
  'Suspended',
  'control',
  '1',
  '0',
  '-1',
  '10000',
  '99999',
  'true',
  '&amp;',
  '&#0;',
  '&#x41;',
  '&lol;',
  '&',
  ']]>',
  '<![CDATA[a]]>',
  '<!-- c -->',
  '<!DOCTYPE x>',
  '<?x?>',
  '\u00FF',
  '"d41d8cd98f00b204e9800998ecf8427e"',
  'us-east-1',
  'x'.repeat(1_100),
  '..',
  '\0',
]

function target(random: FuzzRandom, { bucket, uploadId }: FuzzTarget): string {
  const buckets = [bucket, bucket, bucket, bucket, 'absent', '', '..', 'UPPER', '%00', '%ff', bucket.toUpperCase()]
  const keys = [
    'control',
    'a',
    'a/',
    '/',
    '//',
    '..',
    '../x',
    '%2e%2e/',
    '%00',
    '%FF',
    'k'.repeat(random.upTo(1_100)),
    '%F0%9F%91%8B',
    '+',
    ' ',
    'made/' + random.upTo(50),
  ]
  const path = random.chance(0.7)
    ? `/${random.pick(buckets)}/${random.pick(keys).replaceAll(' ', '%20')}`
    : `/${random.pick(buckets)}`
  const query: string[] = []
  if (random.chance(0.4)) query.push(random.pick(SUBRESOURCES))
  while (random.chance(0.4)) query.push(`${random.pick(PARAMETERS)}=${random.pick(VALUES)}`)
  if (random.chance(0.2)) query.push(`uploadId=${uploadId}`, `partNumber=${random.pick(['1', '2', '10000', '0', 'x'])}`)
  return query.length === 0 ? path : `${path}?${query.join('&')}`
}

function headers(random: FuzzRandom): Record<string, string> {
  const chosen: Record<string, string> = {}
  while (random.chance(0.5)) {
    const [name, values] = random.pick(HEADERS)
    chosen[name] = random.pick(values)
  }
  return chosen
}

function document(random: FuzzRandom, depth = 0): string {
  const count = depth > 4 ? 0 : random.upTo(4)
  const inner = Array.from({ length: count }, () => document(random, depth + 1)).join(random.chance(0.3) ? '\n ' : '')
  const name = random.pick(NAMES)
  const attribute = random.pick(['', '', ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ' a', " a='b'"])
  return `<${name}${attribute}>${inner === '' ? random.pick(TEXTS) : inner}</${random.chance(0.97) ? name : random.pick(NAMES)}>`
}

/** Documents of the right form, with odd values. */
function likelyDocument(random: FuzzRandom): { query: string; text: string } {
  const text = (): string => random.pick(TEXTS)
  const repeated = (make: () => string): string => Array.from({ length: random.upTo(5) }, make).join('')
  switch (random.upTo(4)) {
    case 0:
      return {
        query: 'delete',
        text: `<Delete>${repeated(() => `<Object><Key>${text()}</Key><VersionId>${text()}</VersionId></Object>`)}</Delete>`,
      }
    case 1:
      return {
        query: 'uploadId',
        text: `<CompleteMultipartUpload>${repeated(() => `<Part><PartNumber>${text()}</PartNumber><ETag>${text()}</ETag></Part>`)}</CompleteMultipartUpload>`,
      }
    case 2:
      return {
        query: 'tagging',
        text: `<Tagging><TagSet>${repeated(() => `<Tag><Key>${text()}</Key><Value>${text()}</Value></Tag>`)}</TagSet></Tagging>`,
      }
    case 3:
      return {
        query: 'versioning',
        text: `<VersioningConfiguration><Status>${text()}</Status></VersioningConfiguration>`,
      }
    default:
      return { query: random.pick(SUBRESOURCES), text: document(random) }
  }
}

/** A few bytes changed, taken out, put in or doubled. */
function spoiled(random: FuzzRandom, bytes: Buffer): Buffer {
  let result = bytes
  for (let change = random.upTo(4); change >= 0; change--) {
    const at = random.upTo(Math.max(0, result.length - 1))
    const length = random.upTo(random.chance(0.8) ? 3 : 200)
    const before = result.subarray(0, at)
    switch (random.upTo(4)) {
      case 0:
        result = Buffer.concat([before, random.bytes(length), result.subarray(at + length)])
        break
      case 1:
        result = Buffer.concat([before, result.subarray(at + length)])
        break
      case 2:
        result = Buffer.concat([before, random.bytes(length), result.subarray(at)])
        break
      case 3:
        result = Buffer.concat([
          before,
          Buffer.from(random.pick(['\r\n', '\n', '\0', ':', ' ', '%', '&', '0\r\n\r\n', '<', ';'])),
          result.subarray(at),
        ])
        break
      default:
        result = Buffer.concat([before, result.subarray(at, at + length), result.subarray(at)])
    }
  }
  return result
}

function body(random: FuzzRandom): Buffer {
  return random.bytes(random.pick([0, 1, 100, 4_097, 70_000, random.chance(0.1) ? 400_000 : 10]))
}

/** In one piece, or torn anywhere. */
function torn(random: FuzzRandom, bytes: Buffer): Buffer[] {
  if (random.chance(0.6)) return [bytes]
  const at = random.upTo(bytes.length)
  return [bytes.subarray(0, at), bytes.subarray(at)]
}

function signed(target: FuzzTarget, call: HandMadeCall): Buffer {
  const request = signCall(target.gateway, call)
  return Buffer.concat([headBytes(request), request.body])
}

function validCall(random: FuzzRandom, aim: FuzzTarget): HandMadeCall {
  const calls: readonly HandMadeCall[] = [
    { method: 'PUT', target: `/${aim.bucket}/made/${random.upTo(50)}`, body: body(random) },
    { method: 'GET', target: `/${aim.bucket}/control` },
    { method: 'GET', target: `/${aim.bucket}?list-type=2&prefix=made%2F&delimiter=%2F&max-keys=3` },
    { method: 'GET', target: `/${aim.bucket}?versions` },
    { method: 'DELETE', target: `/${aim.bucket}/made/${random.upTo(50)}` },
    {
      method: 'PUT',
      target: `/${aim.bucket}/part?uploadId=${aim.uploadId}&partNumber=${random.upTo(4) + 1}`,
      body: body(random),
    },
    {
      method: 'PUT',
      target: `/${aim.bucket}/made/copy`,
      headers: { 'x-amz-copy-source': `/${aim.bucket}/control` },
      body: '',
    },
  ]
  return random.pick(calls)
}

const MAKERS = {
  noise: (random) => ({ pieces: [random.bytes(random.upTo(2_000))], whole: false, method: '' }),

  /** The signature no longer fits, or the framing is broken. */
  spoiled: (random, aim) => {
    const call = validCall(random, aim)
    return { pieces: torn(random, spoiled(random, signed(aim, call))), whole: false, method: call.method }
  },

  unsigned: (random, aim) => {
    const lines = Object.entries(headers(random)).map(([name, value]) => `${name}: ${value}\r\n`)
    const head = `${random.pick(METHODS)} ${target(random, aim)} HTTP/1.1\r\nhost: x\r\n${lines.join('')}\r\n`
    return { pieces: torn(random, Buffer.from(head, 'latin1')), whole: false, method: '' }
  },

  odd: (random, aim) => {
    const method = random.pick(METHODS)
    const payload = random.chance(0.3) ? { payload: UNSIGNED_PAYLOAD } : {}
    const content = method === 'GET' || method === 'HEAD' || random.chance(0.3) ? {} : { body: body(random) }
    const call = { method, target: target(random, aim), headers: headers(random), ...payload, ...content }
    // One that waits for 100 Continue has been sent its body already, which is its own affair.
    return { pieces: torn(random, signed(aim, call)), whole: true, method }
  },

  /** An operation of the table, on what is there, with odd parameters and headers. */
  likely: (random, aim) => {
    const [method, place] = random.pick(LIKELY)
    const path = place.replace('BUCKET', aim.bucket).replace('UPLOAD', aim.uploadId)
    const query: string[] = []
    while (random.chance(0.5)) query.push(`${random.pick(PARAMETERS)}=${random.pick(VALUES)}`)
    const joined = query.length === 0 ? path : `${path}${path.includes('?') ? '&' : '?'}${query.join('&')}`
    const call = { method, target: joined, headers: headers(random), ...(method === 'PUT' ? { body: '' } : {}) }
    return { pieces: [signed(aim, call)], whole: true, method }
  },

  document: (random, aim) => {
    const { query, text } = likelyDocument(random)
    const selector = query === 'uploadId' ? `uploadId=${aim.uploadId}` : query
    const method = query === 'tagging' || query === 'versioning' ? 'PUT' : random.pick(['POST', 'PUT'])
    const bytes = Buffer.from(text, random.chance(0.9) ? 'utf8' : 'latin1')
    const content = random.chance(0.7) ? bytes : spoiled(random, bytes)
    const md5 = { 'content-md5': createHash('md5').update(content).digest('base64') }
    const path = random.chance(0.5) || query === 'uploadId' ? `/${aim.bucket}/part` : `/${aim.bucket}-documents`
    return {
      pieces: [signed(aim, { method, target: `${path}?${selector}`, body: content, headers: md5 })],
      whole: true,
      method,
    }
  },

  chunks: (random, aim) => {
    const content = body(random)
    const form = random.pick([STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER])
    const trailers =
      form === STREAMING_SIGNED || random.chance(0.1)
        ? undefined
        : { 'x-amz-checksum-crc32': random.pick(['AAAAAA==', 'x']) }
    const framing = { chunkBytes: random.pick([1_000, 8_192, 65_536]), ...(trailers === undefined ? {} : { trailers }) }
    const spoils = random.chance(0.8)
    // The length announced must be that of the framing, so it is framed once with a signature that is replaced.
    const frame = (seed: Parameters<typeof frameSignedChunks>[0], signature: string): Buffer =>
      form === STREAMING_UNSIGNED_TRAILER
        ? frameUnsignedChunks(content, framing)
        : frameSignedChunks(seed, signature, content, framing)
    const decoded = random.chance(0.9) ? content.length : random.upTo(100_000)
    const call = {
      method: 'PUT',
      target: `/${aim.bucket}/made/${random.upTo(50)}`,
      payload: form,
      headers: {
        'content-length': '0',
        'content-encoding': 'aws-chunked',
        'x-amz-decoded-content-length': String(decoded),
        ...(trailers === undefined ? {} : { 'x-amz-trailer': 'x-amz-checksum-crc32' }),
      },
    }
    const request = signCall(aim.gateway, call)
    const right = frame(request.signer, request.signature)
    const sent = spoils ? spoiled(random, right) : right
    const head = headBytes({ ...request, headers: { ...request.headers, 'content-length': String(sent.length) } })
    return { pieces: torn(random, Buffer.concat([head, sent])), whole: true, method: 'PUT' }
  },

  /** Everything right, and then the client is gone. */
  cut: (random, aim) => {
    const all = signed(aim, {
      method: 'PUT',
      target: `/${aim.bucket}/made/${random.upTo(50)}`,
      body: body(random),
      payload: UNSIGNED_PAYLOAD,
    })
    return { pieces: torn(random, all.subarray(0, random.upTo(all.length))), whole: false, method: 'PUT' }
  },

  pipelined: (random, aim) => {
    const several = Array.from({ length: random.upTo(5) + 1 }, () => signed(aim, validCall(random, aim)))
    const last = random.chance(0.5) ? [spoiled(random, signed(aim, validCall(random, aim)))] : []
    return { pieces: torn(random, Buffer.concat([...several, ...last])), whole: false, method: '' }
  },
} as const satisfies Record<string, Maker>

export type FuzzKind = keyof typeof MAKERS

export function randomRequest(random: FuzzRandom, aim: FuzzTarget): FuzzRequest {
  const kind = random.pick(Object.keys(MAKERS) as FuzzKind[])
  return { kind, ...(MAKERS[kind] as Maker)(random, aim) }
}
