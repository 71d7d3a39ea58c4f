/**
 * Bodies as no client library sends them: every form of aws-chunked, and every way to break one. What is refused must
 * leave nothing behind: no object, no open body, no lease on memory.
 */
import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { expectSettled, readMetrics, useGateway } from '../../support/gateway-suite.ts'
import { errorCodeOf, headBytes, outcomeOf, RawConnection, type RawResponse } from '../../support/raw-http.ts'
import { sendSigned, signCall } from '../../support/signed-calls.ts'
import {
  frameSignedChunks,
  frameUnsignedChunks,
  STREAMING_SIGNED,
  STREAMING_SIGNED_TRAILER,
  STREAMING_UNSIGNED_TRAILER,
  UNSIGNED_PAYLOAD,
} from '../../support/sigv4-signer.ts'

const suite = useGateway(() => ({ flags: ['--buckets', 'raw', '--idle-timeout', '2s'] }))

const KIB = 1024
/** Collected in memory, hashed on workers, and in a segment of its own. */
const SMALL = randomBytes(100 * KIB)
const MIDDLE = randomBytes(700 * KIB)
const LARGE = randomBytes(9 * KIB * KIB)

function crc32Of(body: Uint8Array): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(crc32(body))
  return bytes.toString('base64')
}

interface ChunkedPut {
  readonly form: typeof STREAMING_SIGNED | typeof STREAMING_SIGNED_TRAILER | typeof STREAMING_UNSIGNED_TRAILER
  readonly body: Buffer
  readonly chunkBytes?: number
  readonly trailers?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  /** Spoils the framed bytes. */
  readonly spoil?: (framed: Buffer) => Buffer
}

async function putChunked(key: string, put: ChunkedPut): Promise<RawResponse> {
  const announced = put.trailers === undefined ? {} : { 'x-amz-trailer': Object.keys(put.trailers).join(',') }
  const framing = {
    ...(put.chunkBytes === undefined ? {} : { chunkBytes: put.chunkBytes }),
    ...(put.trailers === undefined ? {} : { trailers: put.trailers }),
  }
  const headers = {
    'content-encoding': 'aws-chunked',
    'x-amz-decoded-content-length': String(put.body.length),
    ...announced,
    ...put.headers,
  }
  const target = `/raw/${key}`
  const head = signCall(suite.gateway, {
    method: 'PUT',
    target,
    payload: put.form,
    headers: { ...headers, 'content-length': '0' },
  })
  const framed =
    put.form === STREAMING_UNSIGNED_TRAILER
      ? frameUnsignedChunks(put.body, framing)
      : frameSignedChunks(head.signer, head.signature, put.body, framing)
  const sent = put.spoil?.(framed) ?? framed
  const connection = await RawConnection.open(suite.gateway.s3)
  try {
    const length = { 'content-length': String(sent.length) }
    await connection.send(headBytes({ ...head, headers: { ...head.headers, ...length } }), sent)
    return await connection.response()
  } finally {
    connection.destroy()
  }
}

async function expectContent(key: string, body: Buffer): Promise<void> {
  const got = await sendSigned(suite.gateway, { method: 'GET', target: `/raw/${key}` })
  expect(got.status).toBe(200)
  expect(got.headers['content-encoding'] ?? '').not.toContain('aws-chunked')
  expect(got.body.equals(body)).toBe(true)
}

async function expectAbsent(key: string): Promise<void> {
  expect(outcomeOf(await sendSigned(suite.gateway, { method: 'GET', target: `/raw/${key}` }))).toBe('404 NoSuchKey')
}

/** Flips one bit of the first byte at which `mark` stands. */
function flipAfter(framed: Buffer, mark: string, behind = 0): Buffer {
  const at = framed.indexOf(mark) + mark.length + behind
  const spoiled = Buffer.from(framed)
  const digit = String.fromCharCode(spoiled[at] ?? 0)
  // A hex digit becomes another one, so that it is the signature that is wrong and not its spelling.
  if (/[0-9a-f]/.test(digit)) spoiled.write(digit === '0' ? '1' : '0', at)
  else spoiled[at] = (spoiled[at] ?? 0) ^ 1
  return spoiled
}

const BODIES = { small: SMALL, middle: MIDDLE, large: LARGE } as const

describe.each(Object.entries(BODIES))('aws-chunked, %s body', (size, body) => {
  const trailers = { 'x-amz-checksum-crc32': crc32Of(body) }
  const forms: readonly (readonly [string, ChunkedPut])[] = [
    ['signed', { form: STREAMING_SIGNED, body }],
    ['signed-odd-chunks', { form: STREAMING_SIGNED, body, chunkBytes: 8_193 }],
    ['signed-one-chunk', { form: STREAMING_SIGNED, body, chunkBytes: body.length }],
    ['signed-trailer', { form: STREAMING_SIGNED_TRAILER, body, trailers }],
    ['unsigned-trailer', { form: STREAMING_UNSIGNED_TRAILER, body, trailers }],
    // AWS takes this form without a trailer, too (lesson 5.1.8).
    ['unsigned-no-trailer', { form: STREAMING_UNSIGNED_TRAILER, body }],
  ]
  it.each(forms)('takes %s', async (name, put) => {
    const key = `${size}-${name}`
    const answer = await putChunked(key, put)
    expect(outcomeOf(answer)).toBe('200')
    expect(answer.headers['etag']).toBe(`"${createHash('md5').update(body).digest('hex')}"`)
    await expectContent(key, body)
  })

  const spoiled: readonly (readonly [string, string, ChunkedPut])[] = [
    [
      'a wrong signature of the first chunk (lesson 5.1.7)',
      '403 SignatureDoesNotMatch',
      { form: STREAMING_SIGNED, body, spoil: (framed) => flipAfter(framed, 'chunk-signature=', 5) },
    ],
    [
      'data that the chunk signature does not cover',
      '403 SignatureDoesNotMatch',
      { form: STREAMING_SIGNED, body, spoil: (framed) => flipAfter(framed, '\r\n', 10) },
    ],
    [
      'a wrong signature of the final chunk',
      '403 SignatureDoesNotMatch',
      { form: STREAMING_SIGNED, body, spoil: (framed) => flipAfter(framed, '\r\n0;chunk-signature=', 3) },
    ],
    [
      'no final chunk',
      '400 IncompleteBody',
      {
        form: STREAMING_SIGNED,
        body,
        spoil: (framed) => framed.subarray(0, framed.indexOf('\r\n0;chunk-signature=') + 2),
      },
    ],
    [
      'a wrong trailer signature (lesson 5.1.8)',
      '403 SignatureDoesNotMatch',
      { form: STREAMING_SIGNED_TRAILER, body, trailers, spoil: (framed) => flipAfter(framed, 'trailer-signature:', 7) },
    ],
    [
      'a checksum trailer that does not fit the data',
      '400 BadDigest',
      { form: STREAMING_UNSIGNED_TRAILER, body, trailers: { 'x-amz-checksum-crc32': crc32Of(Buffer.from('other')) } },
    ],
    [
      'no trailer where one was announced',
      '400 MalformedTrailerError',
      { form: STREAMING_UNSIGNED_TRAILER, body, headers: { 'x-amz-trailer': 'x-amz-checksum-crc32' } },
    ],
    [
      'a decoded length that is too large',
      '400 IncompleteBody',
      { form: STREAMING_SIGNED, body, headers: { 'x-amz-decoded-content-length': String(body.length + 1) } },
    ],
    [
      'a decoded length that is too small',
      '400 IncompleteBody',
      { form: STREAMING_SIGNED, body, headers: { 'x-amz-decoded-content-length': String(body.length - 1) } },
    ],
  ]
  it.each(spoiled)('refuses %s', async (name, outcome, put) => {
    const key = `${size}-refused-${name.replace(/\W+/g, '-')}`
    expect(outcomeOf(await putChunked(key, put))).toBe(outcome)
    await expectAbsent(key)
  })
})

describe('what a body claims', () => {
  const wrong = 'a'.repeat(64)
  const claims: readonly (readonly [string, string, Record<string, string>, string | undefined])[] = [
    ['payload hash', '400 XAmzContentSHA256Mismatch', {}, wrong],
    ['Content-MD5', '400 BadDigest', { 'content-md5': createHash('md5').update('x').digest('base64') }, undefined],
    ['form of Content-MD5', '400 InvalidDigest', { 'content-md5': 'not a digest' }, undefined],
    ['CRC32', '400 BadDigest', { 'x-amz-checksum-crc32': crc32Of(Buffer.from('x')) }, undefined],
    ['form of CRC32', '400 BadDigest', { 'x-amz-checksum-crc32': 'AAAA' }, undefined],
    [
      'SHA-256 checksum',
      '400 BadDigest',
      { 'x-amz-checksum-sha256': createHash('sha256').update('x').digest('base64') },
      UNSIGNED_PAYLOAD,
    ],
  ]
  for (const [size, body] of Object.entries(BODIES)) {
    it.each(claims)(`is compared: ${size} body, wrong %s`, async (name, outcome, headers, payload) => {
      const target = `/raw/${size}-wrong-${name.replaceAll(' ', '-')}`
      const call = { method: 'PUT', target, body, headers, ...(payload === undefined ? {} : { payload }) }
      expect(outcomeOf(await sendSigned(suite.gateway, call))).toBe(outcome)
      expect(outcomeOf(await sendSigned(suite.gateway, { method: 'GET', target }))).toBe('404 NoSuchKey')
    })
  }

  it('is compared before the old object is replaced', async () => {
    const target = '/raw/replaced'
    await sendSigned(suite.gateway, { method: 'PUT', target, body: 'old' })
    await sendSigned(suite.gateway, { method: 'PUT', target, body: MIDDLE, payload: wrong })
    expect((await sendSigned(suite.gateway, { method: 'GET', target })).body.toString()).toBe('old')
  })

  it('wants a known word or a digest in x-amz-content-sha256 (lesson 5.1.6)', async () => {
    const call = { method: 'PUT', target: '/raw/word', body: 'x', payload: 'UNSIGNED' }
    expect(outcomeOf(await sendSigned(suite.gateway, call))).toBe('400 InvalidArgument')
  })

  it('wants a length', async () => {
    const head = signCall(suite.gateway, {
      method: 'PUT',
      target: '/raw/no-length',
      payload: UNSIGNED_PAYLOAD,
      headers: { 'content-length': '1' },
    })
    const { 'content-length': _length, ...headers } = head.headers
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes({ ...head, headers }))
    expect(outcomeOf(await connection.response())).toBe('411 MissingContentLength')
    connection.destroy()
  })
})

describe('a connection that ends inside a body', () => {
  async function cut(key: string, announced: number, sent: Uint8Array): Promise<void> {
    const head = signCall(suite.gateway, {
      method: 'PUT',
      target: `/raw/${key}`,
      payload: UNSIGNED_PAYLOAD,
      headers: { 'content-length': String(announced) },
    })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head), sent)
    connection.destroy()
  }

  it('leaves nothing behind and gives the memory back', async () => {
    const cuts: Promise<void>[] = []
    for (const [size, body] of Object.entries(BODIES)) {
      for (const share of [0, 0.3, 0.99]) {
        cuts.push(cut(`cut-${size}-${share}`, body.length, body.subarray(0, Math.floor(body.length * share))))
      }
    }
    await Promise.all(cuts)
    await expectSettled(suite.gateway)
    for (const size of Object.keys(BODIES))
      for (const share of [0, 0.3, 0.99]) await expectAbsent(`cut-${size}-${share}`)
  })

  it('leaves no part behind', async () => {
    const begun = await sendSigned(suite.gateway, { method: 'POST', target: '/raw/cut-part?uploads', body: '' })
    const uploadId = /<UploadId>(?<id>[^<]+)</.exec(begun.body.toString())?.groups?.['id'] ?? ''
    await cut(`cut-part?partNumber=1&uploadId=${uploadId}`, LARGE.length, LARGE.subarray(0, 6_000_000))
    await expectSettled(suite.gateway)
    const parts = await sendSigned(suite.gateway, { method: 'GET', target: `/raw/cut-part?uploadId=${uploadId}` })
    expect(parts.status).toBe(200)
    expect(parts.body.toString()).not.toContain('<Part>')
    await sendSigned(suite.gateway, { method: 'DELETE', target: `/raw/cut-part?uploadId=${uploadId}` })
  })

  it('gives the memory of a download back that nobody reads on', async () => {
    await sendSigned(suite.gateway, { method: 'PUT', target: '/raw/download', body: LARGE })
    const get = signCall(suite.gateway, { method: 'GET', target: '/raw/download' })
    for (let round = 0; round < 8; round++) {
      const connection = await RawConnection.open(suite.gateway.s3)
      connection.socket.pause()
      await connection.send(headBytes(get))
      await new Promise((resolve) => setTimeout(resolve, 50))
      connection.destroy()
    }
    await expectSettled(suite.gateway)
    await expectContent('download', LARGE)
  })
})

describe('a client that stands still', () => {
  it.each([
    ['small', SMALL],
    ['large', LARGE],
  ])('in the middle of a %s body is given up, and nothing is kept', async (size, body) => {
    const head = signCall(suite.gateway, {
      method: 'PUT',
      target: `/raw/still-${size}`,
      payload: UNSIGNED_PAYLOAD,
      headers: { 'content-length': String(body.length) },
    })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head), body.subarray(0, 30_000))
    const answer = await connection.response()
    expect(outcomeOf(answer)).toBe('400 RequestTimeout')
    await connection.closed()
    await expectSettled(suite.gateway)
    await expectAbsent(`still-${size}`)
  })

  it('and reads nothing of a download is given up', async () => {
    await sendSigned(suite.gateway, { method: 'PUT', target: '/raw/unread', body: LARGE })
    const connection = await RawConnection.open(suite.gateway.s3)
    connection.socket.pause()
    await connection.send(headBytes(signCall(suite.gateway, { method: 'GET', target: '/raw/unread' })))
    await new Promise((resolve) => setTimeout(resolve, 300))
    await expectSettled(suite.gateway)
    connection.destroy()
  })
})

describe('100 Continue (lesson 5.1.14)', () => {
  const expecting = { expect: '100-continue', 'content-length': String(SMALL.length) }

  it('is sent before a body that may come', async () => {
    const head = signCall(suite.gateway, { method: 'PUT', target: '/raw/continue', body: SMALL, headers: expecting })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head))
    expect((await connection.response()).status).toBe(100)
    await connection.send(SMALL)
    expect((await connection.response()).status).toBe(200)
    connection.destroy()
    await expectContent('continue', SMALL)
  })

  const refused: readonly (readonly [string, string, string, Record<string, string>])[] = [
    ['an unknown user', '/raw/refused', '403 InvalidAccessKeyId', {}],
    ['an absent bucket', '/no-such-bucket/refused', '404 NoSuchBucket', {}],
    ['a body that is too large', '/raw/refused', '400 EntityTooLarge', { 'content-length': String(6 * KIB ** 3) }],
  ]
  it.each(refused)('is not sent for %s', async (name, target, outcome, headers) => {
    const as = name === 'an unknown user' ? { as: { accessKey: 'AKNOBODY', secretKey: 'nobody knows it' } } : {}
    const all = { ...expecting, ...headers }
    const head = signCall(suite.gateway, { method: 'PUT', target, payload: UNSIGNED_PAYLOAD, headers: all, ...as })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head))
    const answer = await connection.response()
    expect(outcomeOf(answer)).toBe(outcome)
    expect(errorCodeOf(answer)).not.toBe('')
    connection.destroy()
  })
})

it('shows all of this in the metrics, and holds nothing at the end', async () => {
  await expectSettled(suite.gateway)
  const metrics = await readMetrics(suite.gateway)
  expect(metrics.get('tidegate_bodies_open')).toBe(0)
  expect([...metrics.keys()].some((name) => name.includes('operation="PutObject"'))).toBe(true)
})
