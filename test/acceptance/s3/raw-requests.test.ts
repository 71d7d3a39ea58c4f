/** Requests that are odd in their head, their target or their document: what HTTP, S3 and the lessons say of each. */
import { createHash } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { expectSettled, useGateway } from '../../support/gateway-suite.ts'
import { headBytes, outcomeOf, RawConnection } from '../../support/raw-http.ts'
import { sendAlone, sendSigned, signCall, signerOf } from '../../support/signed-calls.ts'
import { presign, uriEncode } from '../../support/sigv4-signer.ts'

const STRANGER = { accessKey: 'AKSTRANGER01', secretKey: 'nobody knows it here' }

const suite = useGateway(() => ({ flags: ['--buckets', 'raw,other', '--idle-timeout', '5s'] }))

beforeAll(async () => {
  await sendSigned(suite.gateway, { method: 'PUT', target: '/raw/present', body: 'present' })
})

const host = (): string => new URL(suite.gateway.s3).host

async function outcome(
  method: string,
  target: string,
  options: { body?: string; headers?: Record<string, string> } = {},
) {
  return outcomeOf(await sendSigned(suite.gateway, { method, target, ...options }))
}

async function listedKeys(bucket: string): Promise<string> {
  return (await sendSigned(suite.gateway, { method: 'GET', target: `/${bucket}?list-type=2` })).body.toString()
}

/** Named by its bytes in the way that the wire has them. */
const percent = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0').toUpperCase()}`).join('')

describe('names', () => {
  it('takes a key of 1,024 bytes and refuses one of 1,025', async () => {
    // An attached bucket's keys have a prefix outside.
    const longest = `/raw/${'k'.repeat(suite.isAttached ? 1_024 - 'raw/'.length : 1_024)}`
    expect(await outcome('PUT', longest, { body: 'x' })).toBe('200')
    expect(await outcome('GET', longest)).toBe('200')
    expect(await outcome('DELETE', longest)).toBe('204')
    expect(await outcome('PUT', `${longest}k`, { body: 'x' })).toBe('400 KeyTooLongError')
    expect(await outcome('GET', `${longest}k`)).toBe('400 KeyTooLongError')
    const inUtf8 = `/raw/${percent(Buffer.from('ü'.repeat(513)))}`
    expect(await outcome('PUT', inUtf8, { body: 'x' })).toBe('400 KeyTooLongError')
  })

  it('refuses names that are not UTF-8, or not escaped well', async () => {
    for (const path of ['%FF', 'a%C3', '%ED%A0%80', '%C0%AF', '%zz', 'a%2']) {
      expect(await outcome('PUT', `/raw/${path}`, { body: 'x' }), path).toBe('400 InvalidURI')
      expect(await outcome('GET', `/raw?list-type=2&prefix=${path}`), path).toBe('400 InvalidURI')
    }
  })

  it('keeps every byte of a key (lessons 5.1.2 and 5.1.11)', async () => {
    const keys = [
      'a//b',
      '/x',
      '.',
      '..',
      './a',
      'a/../b',
      'a\\b',
      'nul\u0000byte',
      'tab\t',
      'line\n',
      '+ %&?#',
      '日本',
      '👋',
    ]
    for (const key of keys) {
      const target = `/raw/odd/${key.split('/').map(uriEncode).join('/')}`
      expect(await outcome('PUT', target, { body: key }), key).toBe('200')
    }
    for (const key of keys) {
      const target = `/raw/odd/${key.split('/').map(uriEncode).join('/')}`
      const got = await sendSigned(suite.gateway, { method: 'GET', target })
      expect(got.body.toString()).toBe(key)
      expect(await outcome('DELETE', target)).toBe('204')
    }
    expect(await listedKeys('raw')).not.toContain('<Key>odd/')
  })

  it('never leaves a bucket by dots in the key (lesson 5.2.11)', async () => {
    await sendSigned(suite.gateway, { method: 'PUT', target: '/other/victim', body: 'secret' })
    for (const path of [
      '../other/victim',
      '..%2Fother%2Fvictim',
      '%2E%2E/other/victim',
      './../other/victim',
      '..%5Cother%5Cvictim',
    ]) {
      expect(await outcome('GET', `/raw/${path}`), path).toBe('404 NoSuchKey')
      expect(await outcome('PUT', `/raw/${path}`, { body: 'mine' }), path).toBe('200')
      expect(await outcome('DELETE', `/raw/${path}`), path).toBe('204')
    }
    const victim = await sendSigned(suite.gateway, { method: 'GET', target: '/other/victim' })
    expect(victim.body.toString()).toBe('secret')
    expect(await outcome('GET', '/../other/victim')).toMatch(/^(?:400|404) /)
    expect(await outcome('GET', '/./raw/present')).toMatch(/^(?:400|404) /)
  })

  it('never leaves a bucket by dots in the copy source (lesson 5.2.12)', async () => {
    await sendSigned(suite.gateway, { method: 'PUT', target: '/other/victim', body: 'secret' })
    for (const source of ['/raw/../other/victim', 'raw/..%2Fother%2Fvictim', '/raw/%2e%2e/other/victim']) {
      const headers = { 'x-amz-copy-source': source }
      expect(await outcome('PUT', '/raw/stolen', { headers }), source).toBe('404 NoSuchKey')
    }
    for (const source of ['', '/', 'raw', 'raw/', '/raw/%zz', '../other', '//victim']) {
      const headers = { 'x-amz-copy-source': source }
      expect(await outcome('PUT', '/raw/stolen', { headers }), source).toMatch(
        /^(?:400 InvalidArgument|404 NoSuch|400 InvalidBucketName)/,
      )
    }
    expect(await outcome('GET', '/raw/stolen')).toBe('404 NoSuchKey')
  })

  it('refuses bucket names that are none', async () => {
    for (const name of ['ab', 'Upper', 'under_score', '-first', 'last-', 'a..b', '10.0.0.1', 'minio', 'x'.repeat(64)])
      expect(await outcome('PUT', `/${name}`, { body: '' }), name).toBe('400 InvalidBucketName')
  })
})

describe('sub-resources', () => {
  const unbuilt = [
    'acl',
    'cors',
    'lifecycle',
    'policy',
    'website',
    'object-lock',
    'encryption',
    'logging',
    'notification',
    'replication',
  ]
  it.each(unbuilt)('answers ?%s with NotImplemented, never with a listing or the object', async (name) => {
    expect(await outcome('GET', `/raw?${name}`)).toBe('501 NotImplemented')
    expect(await outcome('GET', `/raw?${name}=`)).toBe('501 NotImplemented')
    expect(await outcome('PUT', `/raw?${name}`, { body: '<x/>' })).toBe('501 NotImplemented')
    expect(await outcome('DELETE', `/raw?${name}`)).toBe('501 NotImplemented')
    expect(await outcome('GET', `/raw/present?${name}`)).toBe('501 NotImplemented')
  })

  it('does the same for names that nobody knows', async () => {
    for (const target of ['/raw?made-up', '/raw/present?retention', '/raw/present?torrent', '/?made-up'])
      expect(await outcome('GET', target), target).toBe('501 NotImplemented')
    expect(await outcome('DELETE', '/raw/present?made-up')).toBe('501 NotImplemented')
    expect(await outcome('GET', '/raw/present')).toBe('200')
  })

  it('refuses methods that a resource does not have', async () => {
    expect(await outcome('POST', '/', { body: '' })).toMatch(/^(?:405 MethodNotAllowed|501 NotImplemented)$/)
    expect(await outcome('PATCH', '/raw/present', { body: '' })).toBe('405 MethodNotAllowed')
    expect(await outcome('DELETE', '/')).toBe('405 MethodNotAllowed')
  })
})

describe('documents (lesson 5.1.12)', () => {
  const md5 = (text: string): Record<string, string> => ({
    'content-md5': createHash('md5').update(text).digest('base64'),
  })
  const remove = (body: string): Promise<string> => outcome('POST', '/raw?delete', { body, headers: md5(body) })

  const broken: readonly (readonly [string, string])[] = [
    ['a DOCTYPE', '<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>present</Key></Object></Delete>'],
    ['an entity of its own', '<Delete><Object><Key>&a;</Key></Object></Delete>'],
    ['a depth of 1,000', `${'<Delete>'.repeat(1_000)}${'</Delete>'.repeat(1_000)}`],
    ['no end', '<Delete><Object><Key>present</Key>'],
    ['no beginning', 'present'],
    ['two roots', '<Delete/><Delete/>'],
    ['another root', '<Remove><Object><Key>present</Key></Object></Remove>'],
    ['nothing in it', ''],
    ['bytes that are not UTF-8', '<Delete><Object><Key>\u00FF</Key></Object></Delete>'],
    ['a processing instruction', '<Delete><?php 1 ?></Delete>'],
    ['no objects', '<Delete></Delete>'],
    ['an object without a key', '<Delete><Object></Object></Delete>'],
    ['1,001 objects', `<Delete>${'<Object><Key>present</Key></Object>'.repeat(1_001)}</Delete>`],
  ]
  it.each(broken)('refuses one with %s', async (name, text) => {
    const body = name.includes('UTF-8') ? Buffer.from(text, 'latin1') : Buffer.from(text)
    const headers = { 'content-md5': createHash('md5').update(body).digest('base64') }
    const answer = await sendSigned(suite.gateway, { method: 'POST', target: '/raw?delete', body, headers })
    expect(outcomeOf(answer)).toMatch(/^400 (?:MalformedXML|MissingRequestBodyError)$/)
    expect(await outcome('GET', '/raw/present')).toBe('200')
  })

  it('refuses one that is too large, before it is read', async () => {
    const text = `<Delete>${' '.repeat(3 * 1024 * 1024)}</Delete>`
    expect(await remove(text)).toMatch(/^400 (?:MaxMessageLengthExceeded|MalformedXML)$/)
  })

  it('refuses DeleteObjects without a digest', async () => {
    const body = '<Delete><Object><Key>present</Key></Object></Delete>'
    expect(await outcome('POST', '/raw?delete', { body })).toBe('400 InvalidRequest')
    expect(await outcome('GET', '/raw/present')).toBe('200')
  })

  it('refuses an absent part in CompleteMultipartUpload, and lives', async () => {
    const begun = await sendSigned(suite.gateway, { method: 'POST', target: '/raw/absent-part?uploads', body: '' })
    const uploadId = /<UploadId>(?<id>[^<]+)</.exec(begun.body.toString())?.groups?.['id'] ?? ''
    const target = `/raw/absent-part?uploadId=${uploadId}`
    const part = (number: string, etag = 'd41d8cd98f00b204e9800998ecf8427e'): string =>
      `<Part><PartNumber>${number}</PartNumber><ETag>"${etag}"</ETag></Part>`
    const complete = (parts: string): Promise<string> =>
      outcome('POST', target, { body: `<CompleteMultipartUpload>${parts}</CompleteMultipartUpload>` })
    expect(await complete(part('1'))).toBe('400 InvalidPart')
    expect(await complete(part('10000'))).toBe('400 InvalidPart')
    expect(await complete(`${part('2')}${part('1')}`)).toBe('400 InvalidPartOrder')
    expect(await complete('')).toBe('400 MalformedXML')
    for (const number of ['0', '-1', '10001', 'x', '', '1e3', '99999999999999999999'])
      expect(await complete(part(number)), number).toMatch(/^400 (?:InvalidArgument|InvalidPart|MalformedXML)$/)
    expect(await outcome('PUT', `${target}&partNumber=1`, { body: 'part' })).toBe('200')
    expect(await complete(part('1', 'f'.repeat(32)))).toBe('400 InvalidPart')
    for (const number of ['0', '10001', '-1', 'x', ''])
      expect(await outcome('PUT', `${target}&partNumber=${number}`, { body: 'part' }), number).toBe(
        '400 InvalidArgument',
      )
    expect(await outcome('DELETE', target)).toBe('204')
    expect(await complete(part('1'))).toBe('404 NoSuchUpload')
    for (const id of ['', 'x', '..', '%00', 'A'.repeat(2_000)])
      expect(await outcome('PUT', `/raw/absent-part?partNumber=1&uploadId=${id}`, { body: 'x' }), id).toMatch(
        /^(?:404 NoSuchUpload|400 Invalid)/,
      )
  })
})

describe('HTTP (lesson 5.1.13)', () => {
  it('refuses Content-Length with Transfer-Encoding, and closes', async () => {
    const head = signCall(suite.gateway, {
      method: 'PUT',
      target: '/raw/smuggled',
      payload: 'UNSIGNED-PAYLOAD',
      headers: { 'content-length': '4', 'transfer-encoding': 'chunked' },
    })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head), '0\r\n\r\nGET /raw/present HTTP/1.1\r\n\r\n')
    expect((await connection.response()).status).toBe(400)
    await connection.closed()
    expect(connection.isQuiet).toBe(true)
    expect(await outcome('GET', '/raw/smuggled')).toBe('404 NoSuchKey')
  })

  const malformed: readonly (readonly [string, string])[] = [
    ['two lengths', 'PUT /raw/x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde'],
    ['a length that is no number', 'PUT /raw/x HTTP/1.1\r\nHost: h\r\nContent-Length: 4x\r\n\r\nabcd'],
    ['a negative length', 'PUT /raw/x HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n'],
    ['an unknown transfer coding', 'PUT /raw/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['a line feed inside a header', 'GET /raw HTTP/1.1\r\nHost: h\r\nX: a\nb\r\n\r\n'],
    ['a space before the colon', 'GET /raw HTTP/1.1\r\nHost : h\r\n\r\n'],
    ['a NUL in a header', 'GET /raw HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n'],
    ['no host', 'GET /raw HTTP/1.1\r\n\r\n'],
    ['an odd version', 'GET /raw HTTP/3.7\r\nHost: h\r\n\r\n'],
    ['a method that is none', 'G\u00CBT /raw HTTP/1.1\r\nHost: h\r\n\r\n'],
    ['noise', '\u0016\u0003\u0001\u0002\0\u0001\0\u0001\u00FC\u0003\u0003'],
    ['a broken chunk size', 'PUT /raw/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
  ]
  it.each(malformed)('refuses %s, and closes', async (_name, bytes) => {
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(bytes)
    expect((await connection.response()).status).toSatisfy((status: number) => status >= 400 && status < 500)
    await connection.closed()
  })

  it('refuses a head that is too large', async () => {
    const line = `x-amz-meta-a: ${'a'.repeat(80_000)}\r\n`
    const answer = await sendAlone(suite.gateway.s3, [`GET /raw HTTP/1.1\r\nHost: ${host()}\r\n${line}\r\n`])
    expect(outcomeOf(answer)).toBe('400 RequestHeaderSectionTooLarge')
    const longTarget = await sendAlone(suite.gateway.s3, [`GET /raw/${'a'.repeat(70_000)} HTTP/1.1\r\nHost: h\r\n\r\n`])
    expect(outcomeOf(longTarget)).toBe('400 RequestHeaderSectionTooLarge')
  })

  it('refuses more than 2 KiB of user metadata', async () => {
    const headers = { 'x-amz-meta-a': 'a'.repeat(2_048) }
    expect(await outcome('PUT', '/raw/metadata', { body: 'x', headers })).toBe('400 MetadataTooLarge')
  })

  it('answers pipelined requests in order', async () => {
    const gets = ['present', 'absent', 'present'].map((key) =>
      headBytes(signCall(suite.gateway, { method: 'GET', target: `/raw/${key}` })),
    )
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(...gets)
    const statuses: number[] = []
    for (const _get of gets) statuses.push((await connection.response()).status)
    expect(statuses).toEqual([200, 404, 200])
    connection.destroy()
  })

  it('keeps the connection after an error that leaves no doubt where the next request begins', async () => {
    const connection = await RawConnection.open(suite.gateway.s3)
    const put = signCall(suite.gateway, { method: 'PUT', target: '/raw/kept', body: 'x', payload: 'b'.repeat(64) })
    for (const [head, expected] of [
      [headBytes(signCall(suite.gateway, { method: 'GET', target: '/raw/absent' })), 404],
      [Buffer.concat([headBytes(put), put.body]), 400],
      [headBytes(signCall(suite.gateway, { method: 'GET', target: '/raw/present' })), 200],
    ] as const) {
      await connection.send(head)
      expect((await connection.response()).status).toBe(expected)
    }
    connection.destroy()
  })

  it('closes after an error inside a body', async () => {
    const head = signCall(suite.gateway, {
      method: 'PUT',
      target: '/absent-bucket/key',
      payload: 'UNSIGNED-PAYLOAD',
      headers: { 'content-length': '1000000' },
    })
    const connection = await RawConnection.open(suite.gateway.s3)
    await connection.send(headBytes(head), 'GET /raw/present HTTP/1.1\r\nHost: h\r\n\r\n')
    expect(outcomeOf(await connection.response())).toBe('404 NoSuchBucket')
    await connection.closed()
    expect(connection.isQuiet).toBe(true)
  })

  it('sends no body with the errors of HEAD, and keeps the connection in step', async () => {
    const connection = await RawConnection.open(suite.gateway.s3)
    for (const target of ['/raw/absent', '/absent-bucket', '/raw/present?versionId=nonsense', '/raw/present']) {
      await connection.send(headBytes(signCall(suite.gateway, { method: 'HEAD', target })))
      const answer = await connection.response({ bodyless: true })
      expect(answer.status, target).toBe(target === '/raw/present' ? 200 : target.includes('nonsense') ? 400 : 404)
    }
    await connection.send(headBytes(signCall(suite.gateway, { method: 'GET', target: '/raw/present' })))
    expect((await connection.response()).body.toString()).toBe('present')
    connection.destroy()
  })
})

describe('signatures', () => {
  it('says no in the same words for what is not signed, or not rightly', async () => {
    const anonymous = await sendAlone(suite.gateway.s3, [`GET /raw/present HTTP/1.1\r\nHost: h\r\n\r\n`])
    expect(outcomeOf(anonymous)).toBe('403 AccessDenied')
    const as = { accessKey: suite.gateway.root.accessKey, secretKey: 'not the secret' }
    const wrong = await sendSigned(suite.gateway, { method: 'GET', target: '/raw/present', as })
    expect(outcomeOf(wrong)).toBe('403 SignatureDoesNotMatch')
    const unknown = await sendSigned(suite.gateway, { method: 'GET', target: '/raw/present', as: STRANGER })
    expect(outcomeOf(unknown)).toBe('403 InvalidAccessKeyId')
  })

  it('covers the target as it was sent (lesson 5.1.2)', async () => {
    const signed = signCall(suite.gateway, { method: 'GET', target: '/raw/present' })
    for (const target of ['/raw/./present', '/raw//present', '/raw/present?versionId=null', '/other/victim'])
      expect(outcomeOf(await sendAlone(suite.gateway.s3, [headBytes({ ...signed, target })])), target).toBe(
        '403 SignatureDoesNotMatch',
      )
  })

  it('takes a presigned URL as long as it says, and no longer (lesson 5.1.5)', async () => {
    const request = { method: 'GET', target: '/raw/present', headers: { host: host() } }
    const fresh = presign(signerOf(suite.gateway), request, { expiresSeconds: 60 })
    expect((await sendAlone(suite.gateway.s3, [headBytes(fresh)])).status).toBe(200)
    const old = presign({ ...signerOf(suite.gateway), nowMs: Date.now() - 120_000 }, request, { expiresSeconds: 60 })
    expect(outcomeOf(await sendAlone(suite.gateway.s3, [headBytes(old)]))).toBe('403 AccessDenied')
    for (const expiresSeconds of [-1, 604_801, 'x', '1.5', '']) {
      const odd = presign(signerOf(suite.gateway), request, { expiresSeconds })
      expect(outcomeOf(await sendAlone(suite.gateway.s3, [headBytes(odd)])), String(expiresSeconds)).toBe(
        '400 AuthorizationQueryParametersError',
      )
    }
    const none = presign(signerOf(suite.gateway), request, { expiresSeconds: 0 })
    expect((await sendAlone(suite.gateway.s3, [headBytes(none)])).status).toSatisfy((status: number) => status >= 400)
    const twice = { ...fresh, headers: { ...fresh.headers, authorization: 'AWS4-HMAC-SHA256 x' } }
    expect((await sendAlone(suite.gateway.s3, [headBytes(twice)])).status).toBe(400)
  })

  it('refuses a clock that is wrong (lesson 5.1.1)', async () => {
    const head = { 'x-amz-date': '20200101T000000Z' }
    expect(outcomeOf(await sendSigned(suite.gateway, { method: 'GET', target: '/raw/present', headers: head }))).toBe(
      '403 RequestTimeTooSkewed',
    )
  })
})

it('acts on an acknowledgement level, or refuses it (C36)', async () => {
  const ask = async (request: { method: string; target: string; body?: Buffer }, level: string): Promise<string> =>
    outcomeOf(await sendSigned(suite.gateway, { ...request, headers: { 'x-tidegate-ack': level } }))
  const put = { method: 'PUT', target: '/raw/acknowledged', body: Buffer.from('x') }
  for (const level of ['memory', 'journal', 'persisted']) expect(await ask(put, level), level).toBe('200')
  expect(await ask(put, 'replicated')).toBe('400 InvalidArgument')
  expect(await ask(put, 'soon')).toBe('400 InvalidArgument')
  const initiate = { method: 'POST', target: '/raw/acknowledged?uploads' }
  expect(await ask(initiate, 'persisted')).toBe('501 NotImplemented')
  expect(await ask({ method: 'PUT', target: '/never-made' }, 'replicated')).toBe('400 InvalidArgument')
  expect(await ask({ method: 'DELETE', target: '/raw/acknowledged' }, 'journal')).toBe('204')
})

it('holds nothing at the end', async () => {
  await expectSettled(suite.gateway)
  expect(await listedKeys('raw')).toContain('<Key>present</Key>')
})
