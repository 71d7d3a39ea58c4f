import { describe, expect, it, vi } from 'vitest'
import { cryptoCallsOf } from '../../../../support/counted-crypto.ts'
import { presign, STREAMING_UNSIGNED_TRAILER } from '../../../../support/sigv4-signer.ts'
import {
  authenticate,
  createGate,
  EXAMPLE,
  EXAMPLE_MS,
  HOST,
  presigned,
  rawRequest,
  refusal,
  repeatedHeaders,
  signed,
  withHeaders,
} from './support.ts'
import type { RawRequest } from '../../../../../src/gateway/http/auth/authenticator.ts'

vi.mock('node:crypto', async (original) => {
  const { countCrypto } = await import('../../../../support/counted-crypto.ts')
  return countCrypto(await original())
})

const MINUTE_MS = 60_000

function withAuthorization(change: (text: string) => string): RawRequest {
  const request = signed('/b/k')
  return withHeaders(request, { authorization: change(request.headers['authorization'] ?? '') })
}

describe('clock and scope (lesson 5.1.1)', () => {
  it.each([-15, 0, 15])('accepts a header signature %i minutes away', (minutes) => {
    const nowMs = EXAMPLE_MS + 12 * 60 * MINUTE_MS
    const request = signed('/b/k', {}, { signer: { ...EXAMPLE, nowMs: nowMs + minutes * MINUTE_MS } })
    expect(authenticate(rawRequest(request), { nowMs }).principal.kind).toBe('root')
  })

  it.each([-901, 901])('refuses one %i seconds away, and says both times', (seconds) => {
    const request = signed('/b/k', {}, { signer: { ...EXAMPLE, nowMs: EXAMPLE_MS + seconds * 1000 } })
    const error = refusal('RequestTimeTooSkewed', () => authenticate(rawRequest(request)))
    expect(error.status).toBe(403)
    expect(error.details).toMatchObject({
      ServerTime: '2013-05-24T00:00:00Z',
      RequestTime: request.headers['x-amz-date'],
      MaxAllowedSkewMilliseconds: 900_000,
    })
  })

  it('wants the date of the scope to be that of X-Amz-Date', () => {
    refusal('AuthorizationHeaderMalformed', () =>
      authenticate(withAuthorization((text) => text.replace('/20130524/', '/20130525/'))),
    )
  })

  it.each(['', 'yesterday', '20130532T000000Z', '20130524T000000'])('refuses the date %j', (date) => {
    refusal('AccessDenied', () => authenticate(withHeaders(signed('/b/k'), { 'x-amz-date': date })))
  })

  it('takes the Date header where there is no x-amz-date', () => {
    const request = signed(
      '/b/k',
      { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-date': '20130524T000000Z' },
      { unsigned: ['x-amz-date'] },
    )
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => name !== 'x-amz-date'))
    expect(authenticate(rawRequest({ ...request, headers })).form).toBe('header')
  })

  it('names the region that it expects', () => {
    const request = signed('/b/k', {}, { signer: { ...EXAMPLE, region: 'eu-west-1' } })
    const error = refusal('AuthorizationHeaderMalformed', () => authenticate(rawRequest(request)))
    expect(error.details).toEqual({ Region: 'us-east-1' })
  })

  it('refuses a scope of another service, however well signed (lesson 5.2.14)', () => {
    for (const service of ['sts', 'iam', 's3express', 'S3', '']) {
      const request = signed('/b/k', {}, { signer: { ...EXAMPLE, service } })
      refusal('AuthorizationHeaderMalformed', () => authenticate(rawRequest(request)))
    }
  })
})

describe('the raw target is what is signed (lesson 5.1.2)', () => {
  it.each(['/b//k', '/b/./k', '/b/../c/k', '/b/a%2Fb', '/b/a+b', '/b/%E2%82%AC', '/b/a%20b', '/b/%2E%2E/k', '/b/a:b'])(
    'accepts %s as sent',
    (target) => {
      expect(authenticate(rawRequest(signed(target))).principal.kind).toBe('root')
    },
  )

  it.each([
    ['/b/c/../k', '/b/k'],
    ['/b//k', '/b/k'],
    ['/b/a+b', '/b/a%20b'],
    ['/b/a%2Bb', '/b/a+b'],
    ['/b/a%2Fb', '/b/a/b'],
    ['/b/a%252Fb', '/b/a%2Fb'],
    ['/b?prefix=a+b', '/b?prefix=a%20b'],
    ['/b?prefix=a%26x=1', '/b?prefix=a&x=1'],
  ])('a signature of %s is none of %s', (target, other) => {
    refusal('SignatureDoesNotMatch', () => authenticate(rawRequest({ ...signed(target), target: other })))
    refusal('SignatureDoesNotMatch', () => authenticate(rawRequest({ ...signed(other), target })))
  })

  it.each([
    ['/b/a%3Ab', '/b/a:b'],
    ['/b/a%3Ab', '/b/a%3ab'],
    ['/b/~k', '/b/%7Ek'],
    ['/b/%28k%29', '/b/(k)'],
    ['/b?prefix=a%2Fb', '/b?prefix=a/b'],
    ['/b/%C3%A9', '/b/\u00c3\u00a9'],
  ])('signed in canonical spelling as %s, sent as %s: the same bytes', (target, sent) => {
    expect(authenticate(rawRequest({ ...signed(target), target: sent })).principal.kind).toBe('root')
  })

  it('refuses a target that does not begin with a slash', () => {
    for (const target of ['', '*', 'http://other/b/k', 'b/k']) {
      refusal('InvalidURI', () => authenticate(rawRequest({ ...signed('/b/k'), target })))
    }
  })
})

describe('canonical query (lesson 5.1.3)', () => {
  it.each(['/b?x=2&x=1', '/b?uploads', '/b?a=&b', '/b?b=1&a=2', '/b?a=1&a-b=2', '/b?k=a=b', '/b?a=1&&b=2'])(
    'accepts %s',
    (target) => {
      expect(authenticate(rawRequest(signed(target))).principal.kind).toBe('root')
    },
  )

  it('does not let a parameter be added, changed or taken out', () => {
    for (const target of ['/b?a=1&acl', '/b?a=2', '/b', '/b?a=1&a=1', '/b?A=1']) {
      refusal('SignatureDoesNotMatch', () => authenticate(rawRequest({ ...signed('/b?a=1'), target })))
    }
  })

  it('excludes nothing but X-Amz-Signature from a presigned URL', () => {
    const request = presigned('/b/k?response-content-type=text%2Fplain')
    expect(authenticate(rawRequest(request)).form).toBe('presigned')
    const target = request.target.replace('text%2Fplain', 'text%2Fhtml')
    refusal('SignatureDoesNotMatch', () => authenticate(rawRequest({ ...request, target })))
  })
})

describe('what must be signed (lesson 5.1.4)', () => {
  it.each([
    'x-amz-tagging',
    'x-amz-acl',
    'x-amz-meta-a',
    'x-amz-storage-class',
    'x-amz-website-redirect-location',
    'x-amz-copy-source',
    'x-tidegate-ack',
  ])('refuses an unsigned %s, with a header signature and presigned', (name) => {
    for (const request of [signed('/b/k'), presigned()]) {
      const error = refusal('AccessDenied', () => authenticate(withHeaders(request, { [name]: 'v' })))
      expect(error.details).toEqual({ HeadersNotSigned: name })
    }
  })

  it('refuses a signature that leaves out the host', () => {
    const error = refusal('AccessDenied', () => authenticate(rawRequest(signed('/b/k', {}, { unsigned: ['host'] }))))
    expect(error.details).toEqual({ HeadersNotSigned: 'host' })
  })

  it('lets go of Content-Type and the like, which clients do not sign', () => {
    const extra = { 'content-type': 'text/plain', 'user-agent': 'curl', expect: '100-continue', 'x-amzn-trace-id': 'r' }
    expect(authenticate(withHeaders(signed('/b/k'), extra)).form).toBe('header')
    expect(authenticate(withHeaders(presigned(), extra)).form).toBe('presigned')
  })

  it('holds a signed header to its value', () => {
    const request = signed('/b/k', { 'content-type': 'text/plain', 'x-amz-meta-a': '1' })
    expect(authenticate(rawRequest(request)).form).toBe('header')
    refusal('SignatureDoesNotMatch', () => authenticate(withHeaders(request, { 'content-type': 'text/html' })))
    refusal('SignatureDoesNotMatch', () => authenticate(withHeaders(request, { 'x-amz-meta-a': '2' })))
  })

  it.each(['host;;x-amz-date', 'host;x-amz-date;', ';host', 'host;host', 'Host;x-amz-date', 'host; x-amz-date', ''])(
    'refuses the list of signed headers %j',
    (list) => {
      refusal('AuthorizationHeaderMalformed', () =>
        authenticate(withAuthorization((text) => text.replace(/SignedHeaders=[^,]*/, `SignedHeaders=${list}`))),
      )
      const target = presigned().target.replace(
        'X-Amz-SignedHeaders=host',
        `X-Amz-SignedHeaders=${encodeURIComponent(list)}`,
      )
      refusal('AuthorizationQueryParametersError', () => authenticate(rawRequest({ ...presigned(), target })))
    },
  )

  it('is not confused by names that objects inherit', () => {
    for (const name of ['constructor', 'tostring', '__proto__', 'hasownproperty']) {
      refusal('SignatureDoesNotMatch', () =>
        authenticate(withAuthorization((text) => text.replace('=host;', `=host;${name};`))),
      )
    }
  })
})

describe('presigned requests (lesson 5.1.5)', () => {
  it.each([1, 604_800])('accepts X-Amz-Expires=%i', (expiresSeconds) => {
    expect(authenticate(rawRequest(presigned('/b/k', { expiresSeconds }))).form).toBe('presigned')
  })

  it.each(['-1', '604801', '1.5', 'abc', '1e3', '99999999999999999999'])(
    'refuses X-Amz-Expires=%s',
    (expiresSeconds) => {
      const error = refusal('AuthorizationQueryParametersError', () =>
        authenticate(rawRequest(presigned('/b/k', { expiresSeconds }))),
      )
      expect(error.status).toBe(400)
    },
  )

  it('treats X-Amz-Expires=0 as expired', () => {
    const error = refusal('AccessDenied', () => authenticate(rawRequest(presigned('/b/k', { expiresSeconds: 0 }))))
    expect(error.status).toBe(403)
  })

  it('is not valid before its time, but for the skew', () => {
    expect(authenticate(rawRequest(presigned()), { nowMs: EXAMPLE_MS - 15 * MINUTE_MS }).form).toBe('presigned')
    refusal('AccessDenied', () => authenticate(rawRequest(presigned()), { nowMs: EXAMPLE_MS - 16 * MINUTE_MS }))
  })

  it.each(['X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Date', 'X-Amz-Expires', 'X-Amz-SignedHeaders'])(
    'refuses one without %s',
    (name) => {
      refusal('AuthorizationQueryParametersError', () =>
        authenticate(rawRequest(presigned('/b/k', { override: { [name]: undefined } }))),
      )
    },
  )

  it('refuses one without signature, with two, or with one of another case', () => {
    const { target } = presigned()
    for (const changed of [
      target.replace(/&X-Amz-Signature=.*/, ''),
      `${target}&X-Amz-Signature=0`,
      target.replace('X-Amz-Signature', 'x-amz-signature'),
      target.replace('X-Amz-Signature', 'X-Amz-Signatur%65'),
    ]) {
      refusal('AuthorizationQueryParametersError', () =>
        authenticate(rawRequest({ target: changed, headers: { host: HOST } })),
      )
    }
  })

  it('refuses credentials in the query and the header at once (lesson 5.2.2)', () => {
    const request = presigned()
    for (const authorization of [signed('/b/k').headers['authorization'] ?? '', 'Basic x', '']) {
      refusal('InvalidArgument', () => authenticate(withHeaders(request, { authorization })))
    }
    refusal('InvalidArgument', () => authenticate(rawRequest(signed('/b/k?AWSAccessKeyId=a&Signature=b'))))
  })

  it('refuses response overrides that nobody signed', () => {
    for (const name of [
      'response-content-type',
      'response-cache-control',
      'response-content-disposition',
      'Response-Expires',
    ]) {
      refusal('InvalidRequest', () => authenticate(rawRequest({ target: `/b/k?${name}=x`, headers: { host: HOST } })))
    }
  })

  it('takes the payload hash that SDK v3 hoists into the query, and one that is a signed header', () => {
    const sha256 = 'ab'.repeat(32)
    const hoisted = presigned('/b/k', { override: { 'X-Amz-Content-Sha256': sha256 }, payload: sha256 })
    expect(authenticate(rawRequest(hoisted)).payload).toEqual({ kind: 'signed', sha256 })
    const header = presigned('/b/k', { payload: sha256 }, { 'x-amz-content-sha256': sha256 })
    expect(authenticate(rawRequest(header)).payload).toEqual({ kind: 'signed', sha256 })
  })
})

describe('payload forms (lesson 5.1.6)', () => {
  it('requires x-amz-content-sha256', () => {
    const request = signed('/b/k')
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => name !== 'x-amz-content-sha256'),
    )
    expect(refusal('InvalidRequest', () => authenticate(rawRequest({ ...request, headers }))).message).toContain(
      'x-amz-content-sha256',
    )
  })

  it.each([
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD', 'NotImplemented'],
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER', 'NotImplemented'],
    ['STREAMING-SOMETHING', 'InvalidArgument'],
    ['unsigned-payload', 'InvalidArgument'],
    ['abc', 'InvalidArgument'],
    ['', 'InvalidArgument'],
    ['constructor', 'InvalidArgument'],
  ] as const)('refuses %j', (payload, code) => {
    refusal(code, () => authenticate(rawRequest(signed('/b/k', {}, { payload }))))
    refusal(code, () =>
      authenticate(rawRequest({ target: '/b/k', headers: { host: HOST, 'x-amz-content-sha256': payload } })),
    )
  })

  it('wants the decoded length of a chunked body', () => {
    const error = refusal('MissingContentLength', () =>
      authenticate(rawRequest(signed('/b/k', {}, { payload: STREAMING_UNSIGNED_TRAILER }))),
    )
    expect(error.status).toBe(411)
    for (const length of ['-1', '1x', '1e9', '99999999999999999']) {
      const headers = { 'x-amz-decoded-content-length': length }
      refusal('InvalidArgument', () =>
        authenticate(rawRequest(signed('/b/k', headers, { payload: STREAMING_UNSIGNED_TRAILER }))),
      )
    }
  })

  it('knows only checksum trailers, and only of bodies that carry trailers', () => {
    const chunked = { 'x-amz-decoded-content-length': '5' }
    const pass = (trailer: string, payload: string): readonly string[] =>
      authenticate(rawRequest(signed('/b/k', { ...chunked, 'x-amz-trailer': trailer }, { payload }))).trailers
    expect(pass('X-Amz-Checksum-CRC32', STREAMING_UNSIGNED_TRAILER)).toEqual(['x-amz-checksum-crc32'])
    refusal('InvalidRequest', () => pass('x-amz-meta-a', STREAMING_UNSIGNED_TRAILER))
    refusal('InvalidRequest', () => pass('x-amz-checksum-crc32,x-amz-checksum-crc32', STREAMING_UNSIGNED_TRAILER))
    refusal('InvalidRequest', () => pass('x-amz-checksum-crc32', 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD'))
    refusal('InvalidRequest', () => pass('x-amz-checksum-crc32', 'UNSIGNED-PAYLOAD'))
  })

  it('refuses unsigned bodies in every form where they are not allowed', () => {
    const options = { allowUnsignedPayload: false }
    const put = { method: 'PUT' }
    const chunked = { 'x-amz-decoded-content-length': '5' }
    refusal('AccessDenied', () =>
      authenticate(rawRequest(signed('/b/k', {}, { ...put, payload: 'UNSIGNED-PAYLOAD' })), options),
    )
    refusal('AccessDenied', () =>
      authenticate(rawRequest(signed('/b/k', chunked, { ...put, payload: STREAMING_UNSIGNED_TRAILER })), options),
    )
    const upload = presign(EXAMPLE, { method: 'PUT', target: '/b/k', headers: { host: HOST } }, { expiresSeconds: 60 })
    refusal('AccessDenied', () => authenticate(rawRequest(upload), options))
    expect(authenticate(rawRequest(presigned()), options).form).toBe('presigned')
    expect(authenticate(rawRequest(signed('/b/k', {}, put)), options).payload.kind).toBe('signed')
  })
})

describe('keys and secrets (lesson 5.1.10)', () => {
  it('tells an unknown key, and a wrong signature, apart as AWS does', () => {
    const unknown = refusal('InvalidAccessKeyId', () =>
      authenticate(rawRequest(signed('/b/k', {}, { signer: { ...EXAMPLE, accessKey: 'AKIANOBODY' } }))),
    )
    expect(unknown.details).toEqual({ AWSAccessKeyId: 'AKIANOBODY' })
    refusal('SignatureDoesNotMatch', () =>
      authenticate(rawRequest(signed('/b/k', {}, { signer: { ...EXAMPLE, secretKey: 'other' } }))),
    )
  })

  it.each(['0', 'f'.repeat(64), 'F'.repeat(64), '\u00e9'.repeat(64), 'x'.repeat(5000)])(
    'refuses the signature %j',
    (signature) => {
      refusal('SignatureDoesNotMatch', () =>
        authenticate(withAuthorization((text) => text.replace(/Signature=.*/, `Signature=${signature}`))),
      )
    },
  )

  it('refuses a good signature with anything before or after it', () => {
    for (const extra of ['0', ' 0', '\u00e9']) {
      refusal('SignatureDoesNotMatch', () => authenticate(withAuthorization((text) => text + extra)))
    }
  })

  it('computes as much for an unknown key as for a known one', async () => {
    const gate = createGate()
    const computed = async (signer: typeof EXAMPLE): Promise<readonly string[]> => {
      const request = rawRequest(signed('/b/k', {}, { signer }))
      const refused = (): void => expect(() => gate.authenticate(request)).toThrow()
      // The first of a day derives the key of that day.
      refused()
      return await cryptoCallsOf(refused)
    }
    const known = await computed({ ...EXAMPLE, secretKey: 'other' })
    expect(known).toContain('timingSafeEqual 64 64')
    // As long as the known one, so that the texts that are hashed are as long.
    expect(await computed({ ...EXAMPLE, accessKey: 'AKIANOBODY'.padEnd(EXAMPLE.accessKey.length, 'X') })).toEqual(known)
  })

  it('never puts secrets or header values into an error', () => {
    const secret = 'c3NlLWMga2V5IHRoYXQgbm9ib2R5IG1heSBzZWU='
    const request = signed('/b/k', { 'x-amz-server-side-encryption-customer-key': secret })
    const error = refusal('SignatureDoesNotMatch', () => authenticate(rawRequest({ ...request, target: '/b/other' })))
    const shown = `${error.stack} ${JSON.stringify(error)} ${JSON.stringify(error.details)}`
    expect(shown).not.toContain(secret)
    expect(shown).not.toContain(EXAMPLE.secretKey)
    const basic = refusal('InvalidArgument', () =>
      authenticate(rawRequest({ target: '/', headers: { host: HOST, authorization: 'Basic cm9vdDpwdw==' } })),
    )
    expect(JSON.stringify([basic.message, basic.details])).not.toContain('cm9vdDpwdw')
  })

  it('does not accept a session token, since there are none', () => {
    refusal('InvalidToken', () => authenticate(rawRequest(signed('/b/k', { 'x-amz-security-token': 't' }))))
    refusal('InvalidToken', () =>
      authenticate(rawRequest(presigned('/b/k', { override: { 'X-Amz-Security-Token': 't' } }))),
    )
  })
})

describe('forms of authentication (lesson 5.2.1)', () => {
  it.each([
    ['', 'AccessDenied', 403],
    ['AWS HAHAHA', 'InvalidArgument', 400],
    ['AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=', 'InvalidRequest', 400],
    ['Basic cm9vdDpyb290', 'InvalidArgument', 400],
    ['Bearer abc', 'InvalidArgument', 400],
    ['AWS4-HMAC-SHA256', 'AuthorizationHeaderMalformed', 400],
    ['AWS4-HMAC-SHA256 Credential=a', 'AuthorizationHeaderMalformed', 400],
    ['AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00', 'AuthorizationHeaderMalformed', 400],
    ['AWS4-ECDSA-P256-SHA256 Credential=a', 'NotImplemented', 501],
  ] as const)('answers Authorization %j with %s', (authorization, code, status) => {
    const headers = {
      host: HOST,
      authorization,
      'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
      'x-amz-date': '20130524T000000Z',
    }
    expect(refusal(code, () => authenticate(rawRequest({ target: '/b/k', headers }))).status).toBe(status)
  })

  it('takes a request without credentials for anonymous, whatever else it says', () => {
    const passed = authenticate(
      rawRequest({
        target: '/b/k?X-Amz-Date=1&prefix=a',
        headers: { host: HOST, 'x-amz-date': 'x', 'x-amz-acl': 'private' },
      }),
    )
    expect(passed).toMatchObject({ form: 'anonymous', principal: { kind: 'anonymous' }, payload: { kind: 'unsigned' } })
  })

  it('reads how an anonymous body is framed, but lets nobody sign chunks without a key', () => {
    const chunked = { host: HOST, 'x-amz-decoded-content-length': '5' }
    const pass = (headers: Record<string, string>) =>
      authenticate(rawRequest({ target: '/b/k', headers: { ...chunked, ...headers } })).payload
    expect(pass({ 'x-amz-content-sha256': STREAMING_UNSIGNED_TRAILER })).toEqual({
      kind: 'chunked-unsigned-trailer',
      decodedLength: 5,
    })
    expect(pass({ 'content-encoding': 'gzip, AWS-Chunked' })).toEqual({
      kind: 'chunked-unsigned-trailer',
      decodedLength: 5,
    })
    expect(pass({ 'x-amz-content-sha256': 'AB'.repeat(32) })).toEqual({ kind: 'signed', sha256: 'ab'.repeat(32) })
    refusal('AccessDenied', () => pass({ 'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD' }))
  })
})

describe('header values', () => {
  it('collapses blanks and joins repeated headers by a comma', () => {
    const request = signed('/b/k', { 'x-amz-meta-a': '  one   two ', 'x-amz-meta-b': '1,2' })
    const pairs = Object.entries(request.headers).filter(([name]) => name !== 'x-amz-meta-b')
    const repeated = repeatedHeaders([...pairs, ['X-Amz-Meta-B', '1'], ['x-amz-meta-b', ' 2']])
    expect(authenticate({ ...rawRequest(request), ...repeated }).form).toBe('header')
  })

  it.each(['Host', 'Authorization', 'X-Amz-Date', 'X-Amz-Content-Sha256'])('refuses a second %s', (name) => {
    const request = signed('/b/k')
    const repeated = repeatedHeaders([
      ...Object.entries(request.headers),
      [name, request.headers[name.toLowerCase()] ?? ''],
    ])
    refusal('InvalidArgument', () => authenticate({ ...rawRequest(request), ...repeated }))
  })

  it('accepts bytes beyond ASCII, signed as the bytes or as the text that Node shows', () => {
    const asText = signed('/b/k', { 'x-amz-meta-a': '\u00e9' })
    expect(authenticate(rawRequest(asText)).form).toBe('header')
    expect(
      authenticate(withHeaders(signed('/b/k', { 'x-amz-meta-a': '\u20ac' }), { 'x-amz-meta-a': '\u00e2\u0082\u00ac' }))
        .form,
    ).toBe('header')
    refusal('SignatureDoesNotMatch', () => authenticate(withHeaders(asText, { 'x-amz-meta-a': '\u00e8' })))
  })
})
