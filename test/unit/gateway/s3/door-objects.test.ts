import { createHash } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { computeChecksum } from '../../../../src/common/checksums.ts'
import { errorCode, send, startHarness, type Answer, type Harness, type Sent } from './door-harness.ts'

let harness: Harness

function ask(line: string, sent: Sent = {}): Promise<Answer> {
  return send(harness.port, line, sent)
}

beforeAll(async () => {
  harness = await startHarness({ domains: ['s3.test'] })
  await ask('PUT /b')
})

beforeEach(() => {
  harness.deny(() => false)
  harness.asked.length = 0
  harness.exchanges.length = 0
})

afterAll(async () => {
  expect(harness.bugs).toEqual([])
  expect([harness.store.leases, harness.store.readers, harness.store.openBodies.size]).toEqual([0, 0, 0])
  await harness.stop()
})

const BIG = Buffer.alloc(1_500_000, 'tidegate ')
const ETAG = `"${createHash('md5').update('hello').digest('hex')}"`

describe('PutObject and GetObject', () => {
  it('give back bytes, metadata and headers', async () => {
    const put = await ask('PUT /b/k', {
      body: 'hello',
      headers: {
        'content-type': 'text/x',
        'cache-control': 'no-store',
        'content-encoding': 'gzip, aws-chunked',
        'x-amz-meta-Name': 'v\u00e9',
        'x-amz-tagging': 'a=1&b',
        'x-amz-storage-class': 'STANDARD_IA',
      },
    })
    expect(put.status).toBe(200)
    expect(put.headers.etag).toBe(ETAG)
    expect(put.headers['x-amz-checksum-crc64nvme']).toBe(computeChecksum('CRC64NVME', Buffer.from('hello')))
    expect(put.headers['x-amz-checksum-type']).toBe('FULL_OBJECT')
    const got = await ask('GET /b/k')
    expect(got.text).toBe('hello')
    expect(got.headers).toMatchObject({
      'content-type': 'text/x',
      'cache-control': 'no-store',
      'content-encoding': 'gzip',
      'content-length': '5',
      'last-modified': 'Tue, 14 Nov 2023 22:13:20 GMT',
      'accept-ranges': 'bytes',
      etag: ETAG,
      'x-amz-meta-name': 'v\u00e9',
      'x-amz-tagging-count': '2',
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-request-id': '00112233445566AA',
      'x-amz-id-2': 'tidegate',
      server: 'Tidegate',
    })
    expect(got.headers['x-amz-checksum-crc64nvme']).toBeUndefined()
    expect(harness.exchanges.at(-1)).toMatchObject({ operation: 'GetObject', principalId: 'alice', bytesOut: 5 })
    const head = await ask('HEAD /b/k', { headers: { 'x-amz-checksum-mode': 'ENABLED' } })
    expect(head.headers['content-length']).toBe('5')
    expect(head.headers['x-amz-checksum-crc64nvme']).toBe(put.headers['x-amz-checksum-crc64nvme'])
    expect(head.body).toHaveLength(0)
  })

  it('take metadata as UTF-8, and give it back as Latin-1 or in RFC 2047 words', async () => {
    const utf8 = (text: string): string => Buffer.from(text).toString('latin1')
    const headers = { 'x-amz-meta-narrow': utf8('caf\u00e9'), 'x-amz-meta-wide': utf8('5 \u20ac') }
    await ask('PUT /b/k', { body: 'hello', headers })
    const got = await ask('HEAD /b/k')
    expect(got.headers['x-amz-meta-narrow']).toBe('caf\u00e9')
    expect(got.headers['x-amz-meta-wide']).toBe('=?UTF-8?B?NSDigqw=?=')
  })

  it('stream what is large, both ways (C13)', async () => {
    const put = await ask('PUT /b/big', { body: BIG })
    expect(put.headers.etag).toBe(`"${createHash('md5').update(BIG).digest('hex')}"`)
    expect((await ask('GET /b/big')).body.equals(BIG)).toBe(true)
    const part = await ask('GET /b/big', { headers: { range: 'bytes=100000-899999' } })
    expect(part.status).toBe(206)
    expect(part.headers['content-range']).toBe('bytes 100000-899999/1500000')
    expect(part.body.equals(BIG.subarray(100_000, 900_000))).toBe(true)
  })

  it('address buckets by host name', async () => {
    await ask('PUT /hosted', { body: 'x', headers: { host: 'b.s3.test' } })
    expect((await ask('GET /b/hosted')).text).toBe('x')
  })

  it('keep odd keys apart', async () => {
    for (const key of ['a//b', '..', '%2E', 'a%00b', '%C3%A9', '+', '%20'])
      await ask(`PUT /b/odd/${key}`, { body: key })
    for (const key of ['a//b', '..', 'a%00b', '%C3%A9', '+', '%20'])
      expect((await ask(`GET /b/odd/${key}`)).text).toBe(key)
  })

  it('apply ranges, and answer 416 with the size', async () => {
    await ask('PUT /b/k', { body: 'hello' })
    const suffix = await ask('GET /b/k', { headers: { range: 'bytes=-2' } })
    expect([suffix.status, suffix.text, suffix.headers['content-range']]).toEqual([206, 'lo', 'bytes 3-4/5'])
    const outside = await ask('GET /b/k', { headers: { range: 'bytes=9-' } })
    expect([outside.status, errorCode(outside), outside.headers['content-range']]).toEqual([
      416,
      'InvalidRange',
      'bytes */5',
    ])
    expect((await ask('GET /b/k', { headers: { range: 'bytes=0-0,2-3' } })).status).toBe(200)
    expect((await ask('GET /b/k', { headers: { range: 'bytes=0-1', 'if-range': '"other"' } })).status).toBe(200)
    expect((await ask('GET /b/k', { headers: { range: 'bytes=0-1', 'if-range': ETAG } })).status).toBe(206)
    expect((await ask('HEAD /b/k', { headers: { range: 'bytes=1-2' } })).headers['content-length']).toBe('2')
  })

  it('honour conditions', async () => {
    await ask('PUT /b/k', { body: 'hello' })
    const same = await ask('GET /b/k', { headers: { 'if-none-match': ETAG } })
    expect([same.status, same.headers.etag, same.text]).toEqual([304, ETAG, ''])
    expect((await ask('GET /b/k', { headers: { 'if-match': '"x"' } })).status).toBe(412)
    expect((await ask('HEAD /b/k', { headers: { 'if-modified-since': 'Tue, 14 Nov 2023 22:13:20 GMT' } })).status).toBe(
      304,
    )
    expect((await ask('PUT /b/k', { body: 'x', headers: { 'if-none-match': '*' } })).status).toBe(412)
    const absent = await ask('PUT /b/absent', { body: 'x', headers: { 'if-match': '*' } })
    expect([absent.status, errorCode(absent)]).toEqual([404, 'NoSuchKey'])
    expect((await ask('DELETE /b/k', { headers: { 'if-match': '"x"' } })).status).toBe(412)
  })

  it('override response headers, but not for strangers and not with line breaks (lesson 5.1.5)', async () => {
    await ask('PUT /b/k', { body: 'hello' })
    const query = 'response-content-type=a%2Fb&response-content-disposition=x%20%C3%A9&response-expires=0'
    const got = await ask(`GET /b/k?${query}`)
    expect(got.headers['content-type']).toBe('a/b')
    expect(got.headers['content-disposition']).toBe('x \u00e9')
    expect(errorCode(await ask(`GET /b/k?${query}`, { headers: { 'x-test-user': 'anonymous' } }))).toBe(
      'InvalidRequest',
    )
    expect(errorCode(await ask('GET /b/k?response-content-type=a%0D%0ASet-Cookie:x'))).toBe('InvalidArgument')
    expect(errorCode(await ask('GET /b/k?response-content-type=%E2%82%AC'))).toBe('InvalidArgument')
  })

  it('report a missing key to those who may list only', async () => {
    const missing = await ask('GET /b/none')
    expect([missing.status, errorCode(missing), missing.headers['x-amz-delete-marker']]).toEqual([
      404,
      'NoSuchKey',
      'false',
    ])
    expect(missing.text).toContain('<Key>none</Key>')
    expect(missing.text).toContain('<Resource>/b/none</Resource><RequestId>00112233445566AA</RequestId>')
    harness.deny((asked) => asked.action === 's3:ListBucket')
    expect((await ask('HEAD /b/none')).status).toBe(403)
    expect(harness.asked.at(-1)?.context['s3:prefix']).toBe('none')
  })
})

describe('DeleteObject', () => {
  it('succeeds whether or not there was something', async () => {
    await ask('PUT /b/gone', { body: 'x' })
    expect((await ask('DELETE /b/gone')).status).toBe(204)
    expect((await ask('DELETE /b/gone')).status).toBe(204)
    expect((await ask('GET /b/gone')).status).toBe(404)
  })
})

describe('CopyObject', () => {
  it('copies, replaces metadata on demand, and refuses to copy an object to itself', async () => {
    await ask('PUT /b/src%20%25', { body: 'hello', headers: { 'x-amz-meta-a': '1', 'x-amz-tagging': 't=1' } })
    const headers = { 'x-amz-copy-source': '/b/src%20%25' }
    expect((await ask('PUT /b/dst', { headers })).text).toContain(`<ETag>&quot;${ETAG.slice(1, -1)}&quot;</ETag>`)
    expect((await ask('GET /b/dst')).headers['x-amz-meta-a']).toBe('1')
    await ask('PUT /b/dst', { headers: { ...headers, 'x-amz-metadata-directive': 'REPLACE', 'x-amz-meta-b': '2' } })
    const replaced = await ask('GET /b/dst')
    expect([replaced.headers['x-amz-meta-a'], replaced.headers['x-amz-meta-b']]).toEqual([undefined, '2'])
    expect(replaced.headers['x-amz-tagging-count']).toBe('1')
    expect(errorCode(await ask('PUT /b/src%20%25', { headers }))).toBe('InvalidRequest')
  })

  it('maps a failed source condition to 412', async () => {
    await ask('PUT /b/src', { body: 'hello' })
    const headers = { 'x-amz-copy-source': 'b/src', 'x-amz-copy-source-if-none-match': ETAG }
    expect((await ask('PUT /b/dst', { headers })).status).toBe(412)
  })

  it('authorises both ends, the very key that is read (lesson 5.1.18, lesson 5.2.12, lesson 5.2.16)', async () => {
    await ask('PUT /b/a%2F..%2Fsecret', { body: 'hello' })
    harness.asked.length = 0
    await ask('PUT /b/dst', { headers: { 'x-amz-copy-source': '/b/a/../secret' } })
    expect(harness.asked.map((asked) => [asked.action, asked.key])).toEqual([
      ['s3:GetObject', 'a/../secret'],
      ['s3:PutObject', 'dst'],
      ['s3:GetObjectTagging', 'a/../secret'],
      ['s3:PutObjectTagging', 'dst'],
    ])
    harness.deny((asked) => asked.action === 's3:GetObjectVersion')
    const versioned = await ask('PUT /b/dst', { headers: { 'x-amz-copy-source': '/b/a/../secret?versionId=null' } })
    expect(versioned.status).toBe(403)
  })

  it.each(['s3:GetObjectTagging', 's3:PutObjectTagging'])(
    'copies tags only for those with %s (lesson 5.2.16)',
    async (action) => {
      await ask('PUT /b/src', { body: 'hello', headers: { 'x-amz-tagging': 'a=1' } })
      await ask('PUT /b/bare', { body: 'hello' })
      harness.deny((asked) => asked.action === action)
      expect((await ask('PUT /b/dst', { headers: { 'x-amz-copy-source': 'b/src' } })).status).toBe(403)
      expect((await ask('PUT /b/dst', { headers: { 'x-amz-copy-source': 'b/bare' } })).status).toBe(200)
    },
  )

  it('shows conditions the source that is read, however it is spelled (lesson 5.2.12)', async () => {
    await ask('PUT /b/secret', { body: 'hello' })
    harness.deny((asked) => asked.context['s3:x-amz-copy-source'] === 'b/secret' && asked.action === 's3:PutObject')
    for (const source of ['b/secret', '/b/secret', 'b/%73ecret', 'b/secret?versionId=null']) {
      for (const line of ['PUT /b/dst', 'PUT /b/dst?partNumber=1&uploadId=u']) {
        expect((await ask(line, { headers: { 'x-amz-copy-source': source } })).status, `${line} ${source}`).toBe(403)
      }
    }
  })

  it('holds the source to its expected owner beside an empty one', async () => {
    await ask('PUT /b/src', { body: 'hello' })
    const owners = { 'x-amz-expected-bucket-owner': '', 'x-amz-source-expected-bucket-owner': 'nobody' }
    expect((await ask('PUT /b/dst', { headers: { 'x-amz-copy-source': 'b/src', ...owners } })).status).toBe(403)
  })
})

describe('DeleteObjects', () => {
  const xml = (keys: string[], quiet = ''): string =>
    `<Delete>${quiet}${keys.map((key) => `<Object><Key>${key}</Key></Object>`).join('')}</Delete>`
  const digest = (body: string): Record<string, string> => ({
    'content-md5': createHash('md5').update(body).digest('base64'),
  })

  it('deletes, and authorises each key by itself (lesson 5.1.18)', async () => {
    for (const key of ['d1', 'd2', 'd3']) await ask(`PUT /b/${key}`, { body: 'x' })
    harness.deny((asked) => asked.key === 'd2')
    const body = xml(['d1', 'd2', 'd3', 'never'])
    const answer = await ask('POST /b?delete', { body, headers: digest(body) })
    expect(answer.text.match(/<Deleted><Key>[^<]*/g)).toEqual([
      '<Deleted><Key>d1',
      '<Deleted><Key>d3',
      '<Deleted><Key>never',
    ])
    expect(answer.text).toContain('<Error><Key>d2</Key><Code>AccessDenied</Code>')
    harness.deny(() => false)
    expect((await ask('HEAD /b/d2')).status).toBe(200)
  })

  it('says only what failed when quiet', async () => {
    const body = xml(['q1'], '<Quiet>true</Quiet>')
    const answer = await ask('POST /b?delete', { body, headers: digest(body) })
    expect(answer.text).not.toContain('Deleted>')
  })

  it('wants a digest, at most 1,000 keys, and well-formed XML', async () => {
    const body = xml(['x'])
    expect(errorCode(await ask('POST /b?delete', { body }))).toBe('InvalidRequest')
    expect(errorCode(await ask('POST /b?delete', { body, headers: digest('other') }))).toBe('BadDigest')
    for (const bad of [
      xml(Array.from({ length: 1001 }, (_, i) => `k${i}`)),
      xml([]),
      '<!DOCTYPE a><Delete/>',
      '<X/>',
    ]) {
      expect(errorCode(await ask('POST /b?delete', { body: bad, headers: digest(bad) }))).toBe('MalformedXML')
    }
  })
})

describe('tagging', () => {
  it('is put, read sorted, and deleted', async () => {
    await ask('PUT /b/t', { body: 'x' })
    const body =
      '<Tagging><TagSet><Tag><Key>z</Key><Value>1</Value></Tag><Tag><Key>__proto__</Key><Value/></Tag></TagSet></Tagging>'
    expect((await ask('PUT /b/t?tagging', { body })).status).toBe(200)
    expect((await ask('GET /b/t?tagging')).text).toContain(
      '<TagSet><Tag><Key>__proto__</Key><Value></Value></Tag><Tag><Key>z</Key><Value>1</Value></Tag></TagSet>',
    )
    expect((await ask('DELETE /b/t?tagging')).status).toBe(204)
    expect((await ask('GET /b/t?tagging')).text).toContain('<TagSet></TagSet>')
  })

  it.each([
    'a=1&a=2',
    Array.from({ length: 11 }, (_, i) => `k${i}=v`).join('&'),
    'aws:x=1',
    `${'k'.repeat(129)}=v`,
    'a=%3C',
    '%',
  ])('refuses x-amz-tagging %s', async (header) => {
    expect((await ask('PUT /b/t', { body: 'x', headers: { 'x-amz-tagging': header } })).status).toBe(400)
  })
})

describe('what is not built', () => {
  it.each([
    ['x-amz-server-side-encryption', 'AES256'],
    ['x-amz-server-side-encryption-customer-algorithm', 'AES256'],
    ['x-amz-object-lock-mode', 'GOVERNANCE'],
    ['x-amz-acl', 'everyone'],
    ['x-amz-grant-read', 'id=1'],
    ['x-amz-write-offset-bytes', '0'],
  ])('%s is refused rather than ignored (C36)', async (name, value) => {
    const answer = await ask('PUT /b/feature', { body: 'x', headers: { [name]: value } })
    expect([answer.status, errorCode(answer)]).toEqual([501, 'NotImplemented'])
    expect((await ask('HEAD /b/feature')).status).toBe(404)
  })

  it('accepts what asks for nothing else than what happens', async () => {
    const headers = { 'x-amz-acl': 'private', 'x-amz-request-payer': 'requester' }
    expect((await ask('PUT /b/feature', { body: 'x', headers })).status).toBe(200)
  })
})

describe('access', () => {
  it('tells versions and tags apart', async () => {
    await ask('GET /b/k?versionId=null')
    await ask('PUT /b/k', { body: 'x', headers: { 'x-amz-tagging': 'a=1' } })
    await ask('DELETE /b/k?versionId=null')
    expect(harness.asked.map((asked) => asked.action)).toEqual(
      expect.arrayContaining(['s3:GetObjectVersion', 's3:PutObject', 's3:PutObjectTagging', 's3:DeleteObjectVersion']),
    )
    expect(harness.asked[0]?.context).toMatchObject({ 'aws:sourceip': '192.0.2.7', 's3:versionid': 'null' })
  })

  it('holds a sender to the owner he expects', async () => {
    expect((await ask('GET /b', { headers: { 'x-amz-expected-bucket-owner': 'alice' } })).status).toBe(200)
    expect((await ask('GET /b', { headers: { 'x-amz-expected-bucket-owner': 'bob' } })).status).toBe(403)
  })
})
