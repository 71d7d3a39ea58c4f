import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createBodyDecoder } from '../../../../../src/gateway/http/auth/body-decoder.ts'
import { isAuthError } from '../../../../../src/gateway/http/auth/errors.ts'
import { authenticate, EXAMPLE, HOST, rawRequest, refusal } from './support.ts'
import {
  frameSignedChunks,
  frameUnsignedChunks,
  signWithHeader,
  STREAMING_SIGNED,
  STREAMING_SIGNED_TRAILER,
  STREAMING_UNSIGNED_TRAILER,
} from '../../../../support/sigv4-signer.ts'
import type { Authenticated } from '../../../../../src/gateway/http/types.ts'

const CRC = 'x-amz-checksum-crc32'
const TRAILERS = { [CRC]: 'sOO8/Q==' }

interface Upload {
  readonly passed: Authenticated
  readonly framed: Buffer
}

function upload(
  payload: string,
  body: Uint8Array,
  options: { trailers?: Record<string, string>; chunkBytes?: number } = {},
): Upload {
  const headers: Record<string, string> = { host: HOST, 'x-amz-decoded-content-length': String(body.length) }
  if (options.trailers !== undefined) headers['x-amz-trailer'] = Object.keys(options.trailers).join(',')
  const signed = signWithHeader(EXAMPLE, { method: 'PUT', target: '/b/k', headers }, { payload })
  const passed = authenticate(rawRequest(signed))
  const framed =
    payload === STREAMING_UNSIGNED_TRAILER
      ? frameUnsignedChunks(body, options)
      : frameSignedChunks(EXAMPLE, signed.signature, body, options)
  return { passed, framed }
}

function decode(passed: Authenticated, pieces: readonly Uint8Array[], contentLength?: number) {
  const decoder = createBodyDecoder(passed, contentLength)
  const received: Buffer[] = []
  for (const piece of pieces) decoder.write(piece, (bytes) => received.push(Buffer.from(bytes)))
  const { trailers } = decoder.end()
  return { body: Buffer.concat(received), trailers: Object.fromEntries(trailers) }
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end))
}

const FORMS = [
  { payload: STREAMING_SIGNED },
  { payload: STREAMING_SIGNED_TRAILER, trailers: TRAILERS },
  { payload: STREAMING_SIGNED_TRAILER, trailers: {} as Record<string, string>, undeclared: true },
  { payload: STREAMING_UNSIGNED_TRAILER, trailers: TRAILERS },
  { payload: STREAMING_UNSIGNED_TRAILER },
]

function uploadOf(form: (typeof FORMS)[number], body: Uint8Array, chunkBytes = 8192): Upload {
  if (!form.undeclared)
    return upload(form.payload, body, { ...(form.trailers && { trailers: form.trailers }), chunkBytes })
  // A signed trailer section that holds nothing but its signature.
  const headers = { host: HOST, 'x-amz-decoded-content-length': String(body.length) }
  const signed = signWithHeader(EXAMPLE, { method: 'PUT', target: '/b/k', headers }, { payload: form.payload })
  const framed = frameSignedChunks(EXAMPLE, signed.signature, body, { trailers: {}, chunkBytes })
  return { passed: authenticate(rawRequest(signed)), framed }
}

describe.each(FORMS)('$payload with trailers $trailers', (form) => {
  it.each([0, 1, 8191, 8192, 8193, 40_000])('decodes %i bytes', (length) => {
    const body = Buffer.alloc(length, 'x')
    const { passed, framed } = uploadOf(form, body)
    const decoded = decode(passed, [framed], framed.length)
    expect(decoded.body.equals(body)).toBe(true)
    expect(decoded.trailers).toEqual(form.trailers ?? {})
  })

  it('gives the same bytes however the network cuts them', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 30_000, size: 'max' }),
        fc.array(fc.nat(60_000), { maxLength: 40 }),
        (body, places) => {
          const { passed, framed } = uploadOf(form, body)
          expect(decode(passed, cut(framed, places)).body.equals(Buffer.from(body))).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
    const body = Buffer.from('one byte at a time')
    const { passed, framed } = uploadOf(form, body)
    expect(
      decode(
        passed,
        [...framed].map((byte) => Buffer.of(byte)),
      ).body.equals(body),
    ).toBe(true)
  })

  it('refuses every truncation', () => {
    const { passed, framed } = uploadOf(form, Buffer.alloc(9000, 'x'))
    for (let length = 0; length < framed.length; length += length < 200 || length > 8900 ? 1 : 97) {
      expect(() => decode(passed, [framed.subarray(0, length)])).toThrow()
    }
  })

  it('never crashes on a mutation, and lets none through that changes anything (lesson 5.1.7)', () => {
    const body = Buffer.alloc(9000, 'x')
    const mutation = fc.record({ at: fc.nat(), remove: fc.nat(4), insert: fc.uint8Array({ maxLength: 4 }) })
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
        const { passed, framed } = uploadOf(form, body)
        let changed: Buffer = framed
        for (const { at, remove, insert } of mutations) {
          const place = at % (changed.length + 1)
          changed = Buffer.concat([changed.subarray(0, place), insert, changed.subarray(place + remove)])
        }
        let decoded
        try {
          decoded = decode(passed, [changed])
        } catch (error) {
          if (!isAuthError(error)) throw error
          return
        }
        // Without signatures the payload may change unseen by the framing: its length may not. The checksum tells.
        if (form.payload === STREAMING_UNSIGNED_TRAILER) expect(decoded.body.length).toBe(body.length)
        else expect([decoded.body.equals(body), decoded.trailers]).toEqual([true, form.trailers ?? {}])
      }),
      { numRuns: 500 },
    )
  })
})

describe('signed chunks (lesson 5.1.7)', () => {
  const body = Buffer.concat([Buffer.alloc(8192, 'a'), Buffer.alloc(8192, 'b'), Buffer.alloc(8192, 'c')])
  const { passed, framed } = upload(STREAMING_SIGNED, body, { chunkBytes: 8192 })
  const chunkBytes = '2000;chunk-signature='.length + 64 + 2 + 8192 + 2

  it('are bound to their order', () => {
    const swapped = Buffer.concat([
      framed.subarray(chunkBytes, 2 * chunkBytes),
      framed.subarray(0, chunkBytes),
      framed.subarray(2 * chunkBytes),
    ])
    refusal('SignatureDoesNotMatch', () => decode(passed, [swapped]))
    const dropped = Buffer.concat([framed.subarray(0, chunkBytes), framed.subarray(2 * chunkBytes)])
    refusal('SignatureDoesNotMatch', () => decode(passed, [dropped]))
  })

  it('are bound to their request', () => {
    const other = upload(STREAMING_SIGNED, body.subarray(1), { chunkBytes: 8192 })
    const same = {
      ...passed,
      payload: { ...other.passed.payload, decodedLength: body.length } as Authenticated['payload'],
    }
    refusal('SignatureDoesNotMatch', () => decode(same, [framed]))
  })

  it('end in a final chunk whose signature is verified too', () => {
    const lastSignature = framed.lastIndexOf('chunk-signature=') + 'chunk-signature='.length
    const changed = Buffer.from(framed)
    changed[lastSignature] = changed[lastSignature] === 48 ? 49 : 48
    refusal('SignatureDoesNotMatch', () => decode(passed, [changed]))
    refusal('IncompleteBody', () => decode(passed, [framed.subarray(0, framed.lastIndexOf('0;chunk'))]))
  })

  it('hands on views of what came in, before the signature is known', () => {
    const decoder = createBodyDecoder(passed)
    const changed = Buffer.from(framed)
    changed[200] = 0
    let seen = 0
    refusal('SignatureDoesNotMatch', () =>
      decoder.write(changed, (bytes) => {
        expect(bytes.buffer).toBe(changed.buffer)
        seen += bytes.length
      }),
    )
    expect(seen).toBe(8192)
    refusal('SignatureDoesNotMatch', () => decoder.write(framed, () => undefined))
    refusal('SignatureDoesNotMatch', () => decoder.end())
  })

  it('take no trailers when none were announced', () => {
    const trailing = Buffer.concat([framed.subarray(0, -2), Buffer.from(`${CRC}:AAAAAA==\r\n\r\n`)])
    refusal('MalformedTrailerError', () => decode(passed, [trailing]))
  })
})

describe('lengths and bounds', () => {
  const body = Buffer.alloc(20_000, 'x')

  it('holds the body to its decoded length', () => {
    const { passed, framed } = upload(STREAMING_UNSIGNED_TRAILER, body)
    const claim = (decodedLength: number): Authenticated => ({
      ...passed,
      payload: { kind: 'chunked-unsigned-trailer', decodedLength },
    })
    refusal('IncompleteBody', () => decode(claim(19_999), [framed]))
    refusal('IncompleteBody', () => decode(claim(20_001), [framed]))
    refusal('IncompleteBody', () => decode(passed, [framed], framed.length + 1))
    refusal('IncompleteBody', () => decode(passed, [framed], framed.length - 1))
  })

  it.each(['ffffffffffffffff', '4e21', '1fffffffffffff'])('refuses a chunk of 0x%s bytes before any of it', (size) => {
    const { passed } = upload(STREAMING_UNSIGNED_TRAILER, body)
    refusal('IncompleteBody', () => decode(passed, [Buffer.from(`${size}\r\n`)]))
  })

  it('refuses small chunks but for the last', () => {
    const { passed, framed } = upload(STREAMING_UNSIGNED_TRAILER, body, { chunkBytes: 8191 })
    expect(refusal('InvalidChunkSizeError', () => decode(passed, [framed])).status).toBe(403)
  })

  it.each([
    '',
    '-1',
    '+1',
    ' 4e20',
    '4e20 ',
    '0x4e20',
    '4e20;',
    '4e20;chunk-signature=00',
    '4e20\r',
    '0'.repeat(17),
    'z',
  ])('refuses the chunk header %j', (header) => {
    const { passed } = upload(STREAMING_UNSIGNED_TRAILER, body)
    refusal('InvalidRequest', () => decode(passed, [Buffer.from(`${header}\r\n`)]))
  })

  it('caps a chunk header and the trailers while they come', () => {
    const { passed } = upload(STREAMING_UNSIGNED_TRAILER, Buffer.alloc(0), { trailers: TRAILERS })
    refusal('InvalidRequest', () => decode(passed, [Buffer.alloc(100, '0')]))
    refusal('MalformedTrailerError', () => decode(passed, [Buffer.from('0\r\n'), Buffer.alloc(5000, 'a')]))
    refusal('InvalidRequest', () => decode(passed, [Buffer.from('0\n')]))
  })

  it('counts a plain body against Content-Length', () => {
    const { passed } = upload('UNSIGNED-PAYLOAD', body)
    expect(decode(passed, [body], body.length).body.equals(body)).toBe(true)
    refusal('IncompleteBody', () => decode(passed, [body], body.length + 1))
    refusal('IncompleteBody', () => decode(passed, [body], body.length - 1))
  })
})

describe('trailers (lesson 5.1.8)', () => {
  const body = Buffer.from('hello')
  const unsigned = upload(STREAMING_UNSIGNED_TRAILER, body, { trailers: TRAILERS }).passed
  const send = (passed: Authenticated, trailer: string) =>
    decode(passed, [Buffer.from(`5\r\nhello\r\n0\r\n${trailer}`)])

  it.each([
    '\r\n',
    `x-amz-checksum-sha1:AA==\r\n\r\n`,
    `${CRC}:a\r\n${CRC}:a\r\n\r\n`,
    `${CRC}:\r\n\r\n`,
    `${CRC}\r\n\r\n`,
    ':a\r\n\r\n',
    `${CRC}:a\r\nx-amz-trailer-signature:${'0'.repeat(64)}\r\n\r\n`,
    `${CRC}:a\r\n\r\n\r\n\r\n`,
    `${CRC}:a\r\n\r\nGET / HTTP/1.1\r\n`,
  ])('refuses the unsigned trailer %j', (trailer) => {
    refusal('MalformedTrailerError', () => send(unsigned, trailer))
  })

  it.each([`${CRC}:a\r\n\r\n`, `X-Amz-Checksum-CRC32: a\r\n\r\n`, `${CRC}:a\n\r\n`, `${CRC}:a\n\r\n\r\n`])(
    'accepts it as botocore, SDK v3 and minio-go write it: %j',
    (trailer) => {
      expect(send(unsigned, trailer).trailers).toEqual({ [CRC]: 'a' })
    },
  )

  it('accepts an unsigned body that declares no trailer and sends none, and refuses one undeclared', () => {
    const { passed } = upload(STREAMING_UNSIGNED_TRAILER, body)
    expect(send(passed, '\r\n').trailers).toEqual({})
    refusal('MalformedTrailerError', () => send(passed, `${CRC}:a\r\n\r\n`))
  })

  it('verifies the signature of a signed trailer, and wants it', () => {
    const { passed, framed } = upload(STREAMING_SIGNED_TRAILER, body, { trailers: TRAILERS })
    const text = framed.toString('latin1')
    refusal('SignatureDoesNotMatch', () => decode(passed, [Buffer.from(text.replace('sOO8', 'sOO9'))]))
    const without = text.replace(/x-amz-trailer-signature:.*\r\n/, '')
    refusal('IncompleteBody', () => decode(passed, [Buffer.from(without)]))
    refusal('MalformedTrailerError', () => decode(passed, [Buffer.from(`${without}\r\n`)]))
    refusal('MalformedTrailerError', () => decode(passed, [Buffer.from(`${text}\r\n`)]))
    const minio = text.replace('sOO8/Q==\r\n', 'sOO8/Q==\n\r\n')
    expect(decode(passed, [Buffer.from(minio)]).trailers).toEqual(TRAILERS)
  })
})
