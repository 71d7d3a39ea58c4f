import { describe, expect, it } from 'vitest'
import { createBodyDecoder } from '../../../../../src/gateway/http/auth/body-decoder.ts'
import { authenticate, EXAMPLE, HOST, rawRequest, refusal } from './support.ts'
import { frameSignedChunks, presign, signWithHeader } from '../../../../support/sigv4-signer.ts'

/**
 * The examples that AWS publishes with their signatures: "Signature Calculations for the Authorization Header",
 * "Authenticating Requests: Using Query Parameters", "Transferring Payload in Multiple Chunks", "Including Trailing
 * Headers" (Amazon S3 API Reference).
 */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const CREDENTIAL = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request'

function authorization(signedHeaders: string, signature: string): string {
  return `AWS4-HMAC-SHA256 Credential=${CREDENTIAL},SignedHeaders=${signedHeaders},Signature=${signature}`
}

const HEADER_EXAMPLES = [
  {
    title: 'GET object with a range',
    method: 'GET',
    target: '/test.txt',
    headers: { range: 'bytes=0-9', 'x-amz-content-sha256': EMPTY },
    signedHeaders: 'host;range;x-amz-content-sha256;x-amz-date',
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
  {
    title: 'PUT object',
    method: 'PUT',
    target: '/test%24file.text',
    headers: {
      date: 'Fri, 24 May 2013 00:00:00 GMT',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    },
    signedHeaders: 'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
    signature: '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  },
  {
    title: 'GET bucket lifecycle',
    method: 'GET',
    target: '/?lifecycle',
    headers: { 'x-amz-content-sha256': EMPTY },
    signedHeaders: 'host;x-amz-content-sha256;x-amz-date',
    signature: 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  },
  {
    title: 'list objects',
    method: 'GET',
    target: '/?max-keys=2&prefix=J',
    headers: { 'x-amz-content-sha256': EMPTY },
    signedHeaders: 'host;x-amz-content-sha256;x-amz-date',
    signature: '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  },
]

describe('published header examples', () => {
  it.each(HEADER_EXAMPLES)('accepts: $title', (example) => {
    const headers = {
      host: HOST,
      'x-amz-date': '20130524T000000Z',
      ...example.headers,
      authorization: authorization(example.signedHeaders, example.signature),
    }
    const passed = authenticate(rawRequest({ ...example, headers }))
    expect(passed.principal.kind).toBe('root')
    expect(passed.form).toBe('header')
    expect(passed.payload).toEqual({ kind: 'signed', sha256: example.headers['x-amz-content-sha256'] })

    refusal('SignatureDoesNotMatch', () =>
      authenticate(rawRequest({ ...example, target: `${example.target}x`, headers })),
    )
  })
})

describe('published presigned example', () => {
  const target =
    '/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F' +
    'aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=' +
    'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404'

  it('is accepted until it expires', () => {
    const request = rawRequest({ target, headers: { host: HOST } })
    const passed = authenticate(request)
    expect(passed.form).toBe('presigned')
    expect(passed.payload).toEqual({ kind: 'unsigned' })
    expect(authenticate(request, { nowMs: EXAMPLE.nowMs + 86_400_000 }).form).toBe('presigned')
    refusal('AccessDenied', () => authenticate(request, { nowMs: EXAMPLE.nowMs + 86_401_000 }))
  })

  it('is what our signer makes', () => {
    const signed = presign(
      EXAMPLE,
      { method: 'GET', target: '/test.txt', headers: { host: HOST } },
      { expiresSeconds: 86_400 },
    )
    expect(signed.target).toBe(target)
  })
})

describe('published chunked upload examples', () => {
  const body = Buffer.alloc(66_560, 'a')

  it('verifies the signed chunks', () => {
    const seed = '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9'
    const headers = {
      host: 's3.amazonaws.com',
      'x-amz-date': '20130524T000000Z',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': '66560',
      'content-length': '66824',
      authorization: authorization(
        'content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;' +
          'x-amz-storage-class',
        seed,
      ),
    }
    const passed = authenticate(rawRequest({ method: 'PUT', target: '/examplebucket/chunkObject.txt', headers }))
    expect(passed.payload).toMatchObject({ kind: 'chunked-signed', trailer: false, decodedLength: 66_560 })

    const framed = Buffer.concat([
      Buffer.from('10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n'),
      body.subarray(0, 65_536),
      Buffer.from('\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n'),
      body.subarray(65_536),
      Buffer.from('\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n'),
    ])
    const decoder = createBodyDecoder(passed, 66_824)
    const received: Buffer[] = []
    decoder.write(framed, (bytes) => received.push(Buffer.from(bytes)))
    decoder.end()
    expect(Buffer.concat(received).equals(body)).toBe(true)
    expect(frameSignedChunks(EXAMPLE, seed, body).equals(framed)).toBe(true)
  })

  it('verifies the signed trailer', () => {
    const headers = {
      host: 's3.amazonaws.com',
      'x-amz-date': '20130524T000000Z',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': '66560',
      'x-amz-trailer': 'x-amz-checksum-crc32c',
      authorization: authorization(
        'content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;' +
          'x-amz-trailer',
        '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e',
      ),
    }
    const passed = authenticate(rawRequest({ method: 'PUT', target: '/examplebucket/chunkObject.txt', headers }))
    const framed = Buffer.concat([
      Buffer.from('10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n'),
      body.subarray(0, 65_536),
      Buffer.from('\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n'),
      body.subarray(65_536),
      Buffer.from('\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n'),
      Buffer.from('x-amz-checksum-crc32c:sOO8/Q==\n\r\n'),
      Buffer.from('x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n'),
    ])
    const decoder = createBodyDecoder(passed)
    decoder.write(framed, () => undefined)
    expect([...decoder.end().trailers]).toEqual([['x-amz-checksum-crc32c', 'sOO8/Q==']])
  })
})

describe('our signer', () => {
  it('makes the published signature of a GET', () => {
    const signed = signWithHeader(
      EXAMPLE,
      { method: 'GET', target: '/?max-keys=2&prefix=J', headers: { host: HOST } },
      { payload: Buffer.alloc(0) },
    )
    expect(signed.signature).toBe(HEADER_EXAMPLES[3]?.signature)
  })
})
