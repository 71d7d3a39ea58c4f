import { hash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { describe, expect, it } from 'vitest'
import { ANONYMOUS } from '../../../../src/store/access.ts'
import { send } from '../s3/door-harness.ts'
import { LARGE, ask, byHand, kv, outcome, put } from './value-requests.ts'

describe('PUT and GET', () => {
  it('keep bytes, type, representation headers and metadata', async () => {
    const headers = {
      'content-type': 'text/plain',
      'cache-control': 'max-age=5',
      'content-language': 'de',
      'content-encoding': 'aws-chunked,gzip',
      'x-tidegate-meta-owner': 'me',
      'x-tidegate-meta-name': Buffer.from('Grün €').toString('latin1'),
    }
    const written = await put('/b/a', 'blue', headers)
    expect(written).toMatchObject({ status: 200, text: '' })
    expect(written.headers).toMatchObject({ etag: `"${hash('md5', 'blue')}"`, 'content-length': '0' })
    const read = await ask('GET /b/a')
    expect(read).toMatchObject({ status: 200, text: 'blue' })
    expect(read.headers).toMatchObject({
      'content-type': 'text/plain',
      'content-length': '4',
      'cache-control': 'max-age=5',
      'content-language': 'de',
      'content-encoding': 'gzip',
      'x-tidegate-meta-owner': 'me',
      'x-tidegate-meta-name': '=?UTF-8?B?R3LDvG4g4oKs?=',
      'accept-ranges': 'bytes',
      'last-modified': 'Tue, 14 Nov 2023 22:13:20 GMT',
      etag: written.headers.etag,
      'x-tidegate-revision': written.headers['x-tidegate-revision'],
    })
  })

  it('stream what is large, both ways (C13)', async () => {
    expect((await put('/b/large', LARGE)).headers.etag).toBe(`"${hash('md5', LARGE)}"`)
    const read = await ask('GET /b/large')
    expect(read.headers['content-length']).toBe(String(LARGE.length))
    expect(hash('md5', read.body)).toBe(hash('md5', LARGE))
    expect(kv.outcomes).toMatchObject([
      { operation: 'KvPut', status: 200, bytesIn: LARGE.length, bytesOut: 0 },
      { operation: 'KvGet', status: 200, bytesIn: 0, bytesOut: LARGE.length },
    ])
  })

  it('give any byte back as it came', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    await put('/b/bytes', bytes)
    expect((await ask('GET /b/bytes')).body).toEqual(bytes)
  })

  it('take a body without a length, or none at all', async () => {
    expect(await byHand('/b/chunked', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n')).toMatch(
      /^HTTP\/1.1 200 /,
    )
    expect((await ask('GET /b/chunked')).text).toBe('abc')
    expect(await byHand('/b/empty', '\r\n')).toMatch(/^HTTP\/1.1 200 /)
    expect(await ask('GET /b/empty')).toMatchObject({ status: 200, text: '' })
  })

  it('say octet-stream of what has no type, and let no browser run it (lesson 5.1.17)', async () => {
    await put('/b/a', '<script>')
    expect((await ask('GET /b/a')).headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'x-content-type-options': 'nosniff',
      'content-security-policy': 'sandbox',
    })
  })

  it('answer HEAD with the headers of GET, Range or not', async () => {
    await put('/b/large', LARGE, { 'content-type': 'image/png' })
    const head = await ask('HEAD /b/large', { headers: { range: 'bytes=0-9' } })
    expect(head).toMatchObject({ status: 200, text: '' })
    expect(head.headers).toMatchObject({ 'content-length': String(LARGE.length), 'content-type': 'image/png' })
  })

  it('tell of what is not there', async () => {
    expect(await outcome(ask('GET /b/none'))).toBe('404 NoSuchKey')
    expect(await outcome(ask('HEAD /b/none'))).toBe('404 NoSuchKey')
    expect(await outcome(put('/none/a', 'x'))).toBe('404 NoSuchBucket')
    const problem = await ask('GET /b/none')
    expect(problem.headers['content-type']).toBe('application/problem+json')
    expect(JSON.parse(problem.text)).toMatchObject({ code: 'NoSuchKey', type: 'urn:tidegate:error:NoSuchKey' })
  })
})

describe('keys', () => {
  it.each([
    ['a//b', 'a//b'],
    ['/', '/'],
    ['a/../b/.', 'a/../b/.'],
    ['%2e%2e/x', '../x'],
    ['a%2Fb', 'a/b'],
    ['a+b%20c', 'a+b c'],
    ['%25', '%'],
    ['a%00b', 'a\0b'],
    [encodeURIComponent('ü€'), 'ü€'],
    ['dir/', 'dir/'],
  ])('%j is authorised and stored as %j (lesson 5.1.11, lesson 5.2.11)', async (sent, key) => {
    await put(`/b/${sent}`, 'x')
    expect(kv.asked).toMatchObject([{ action: 's3:PutObject', bucket: 'b', key }])
    expect((await kv.store.objects.head({ bucket: 'b', key }, {})).size).toBe(1)
  })

  it.each([
    ['/b/%', '400 InvalidArgument'],
    ['/b/%C3', '400 InvalidArgument'],
    ['/b/', '400 InvalidKey'],
    [`/b/${'a'.repeat(8 * 1024 + 1)}`, '400 KeyTooLong'],
    ['/../v1/b/a', '404 NoSuchBucket'],
  ])('%s is refused', async (path, expected) => expect(await outcome(ask(`GET ${path}`))).toBe(expected))

  it('are found under the path that was signed only', async () => {
    await put('/b/a', 'x')
    kv.asked.length = 0
    const answer = await send(kv.port, 'GET /kv/%761/b/a')
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(kv.asked).toEqual([])
  })
})

describe('who may', () => {
  it.each([
    ['GET', 's3:GetObject'],
    ['HEAD', 's3:GetObject'],
    ['PUT', 's3:PutObject'],
    ['DELETE', 's3:DeleteObject'],
  ])('%s asks for %s on the key (C35)', async (method, action) => {
    await put('/b/a', 'x')
    kv.asked.length = 0
    kv.deny((asked) => asked.action === action)
    expect(await outcome(ask(`${method} /b/a`))).toBe('403 AccessDenied')
    expect(kv.asked).toMatchObject([{ action, bucket: 'b', key: 'a', principal: { id: 'alice' } }])
    kv.deny(() => false)
    expect((await ask('GET /b/a')).text).toBe('x')
  })

  it('asks somebody unknown for credentials', async () => {
    kv.deny(({ principal }) => principal === ANONYMOUS)
    const answer = await ask('GET /b/a', { headers: { 'x-test-user': 'anonymous' } })
    expect(answer.status).toBe(401)
    expect(answer.headers['www-authenticate']).toContain('Basic')
  })

  it('asks for the body only when it may come (lesson 5.1.14)', async () => {
    kv.deny(({ key }) => key === 'no')
    expect(await expecting('/b/no', 'x')).toEqual({ continued: false, status: 403 })
    expect(await expecting('/none/a', 'x')).toEqual({ continued: false, status: 404 })
    expect(await expecting('/b/a?x=1', 'x')).toEqual({ continued: false, status: 400 })
    expect(await expecting('/b/a', 'x')).toEqual({ continued: true, status: 200 })
    expect(await expecting('/b/large', LARGE)).toEqual({ continued: true, status: 200 })
  })
})

/** Sends the body once it is asked for. */
function expecting(path: string, body: string | Uint8Array): Promise<{ continued: boolean; status: number }> {
  return new Promise((resolve, reject) => {
    let continued = false
    const headers = { expect: '100-continue', 'content-length': String(Buffer.byteLength(body)) }
    const request = httpRequest({ port: kv.port, method: 'PUT', path: `/kv/v1${path}`, headers, agent: false })
    request.on('continue', () => {
      continued = true
      request.end(body)
    })
    request.on('response', (response) => {
      response.resume()
      resolve({ continued, status: response.statusCode ?? 0 })
      if (!continued) request.destroy()
    })
    request.on('error', reject)
    request.flushHeaders()
  })
}

describe('conditions', () => {
  it('compare and swap by ETag or revision', async () => {
    const first = await put('/b/a', 'one')
    const revision = String(first.headers['x-tidegate-revision'])
    expect(await outcome(put('/b/a', 'x', { 'if-match': '"r1"' }))).toBe('412 PreconditionFailed')
    const second = await put('/b/a', 'two', { 'if-match': `"r${revision}"` })
    expect(second.status).toBe(200)
    expect(Number(second.headers['x-tidegate-revision'])).toBeGreaterThan(Number(revision))
    expect(await outcome(put('/b/a', 'x', { 'if-match': String(first.headers.etag) }))).toBe('412 PreconditionFailed')
    expect(await outcome(put('/b/a', 'x', { 'if-match': `${first.headers.etag}, ${second.headers.etag}` }))).toBe('200')
  })

  it('create only', async () => {
    expect(await outcome(put('/b/a', 'one', { 'if-none-match': '*' }))).toBe('200')
    expect(await outcome(put('/b/a', 'two', { 'if-none-match': '*' }))).toBe('412 PreconditionFailed')
    expect((await ask('GET /b/a')).text).toBe('one')
  })

  it.each(['GET', 'HEAD', 'PUT', 'DELETE'])('%s with If-Match of an absent key is 412', async (method) => {
    for (const ifMatch of ['*', '"r1"', '"abc"']) {
      expect(await outcome(ask(`${method} /b/none`, { headers: { 'if-match': ifMatch } }))).toBe(
        '412 PreconditionFailed',
      )
    }
  })

  it.each(['GET', 'HEAD'])('%s says 304 of what the client has', async (method) => {
    const { headers } = await put('/b/a', 'one', { 'cache-control': 'no-cache' })
    for (const tag of [String(headers.etag), `"r${String(headers['x-tidegate-revision'])}"`]) {
      const answer = await ask(`${method} /b/a`, { headers: { 'if-none-match': tag } })
      expect(answer).toMatchObject({ status: 304, text: '' })
      expect(answer.headers).toMatchObject({
        etag: headers.etag,
        'x-tidegate-revision': headers['x-tidegate-revision'],
        'cache-control': 'no-cache',
        'x-tidegate-error': 'NotModified',
      })
    }
    expect(await outcome(ask(`${method} /b/a`, { headers: { 'if-none-match': '"r1"' } }))).toBe('200')
    expect(await outcome(ask(`${method} /b/a`, { headers: { 'if-match': '"r1"' } }))).toBe('412 PreconditionFailed')
  })
})

describe('ranges', () => {
  it('of a small and a large value', async () => {
    await put('/b/small', 'abcdefghij')
    await put('/b/large', LARGE)
    const small = await ask('GET /b/small', { headers: { range: 'bytes=2-4' } })
    expect(small).toMatchObject({ status: 206, text: 'cde' })
    expect(small.headers).toMatchObject({ 'content-range': 'bytes 2-4/10', 'content-length': '3' })
    const large = await ask('GET /b/large', { headers: { range: 'bytes=-1000' } })
    expect(large.body.equals(LARGE.subarray(-1000))).toBe(true)
  })

  it.each([
    [
      'small',
      Buffer.from('abcdefghij'),
      [
        [0, 1],
        [4, 3],
        [9, 1],
      ],
    ],
    [
      'large',
      LARGE,
      [
        [10, 100_000],
        [300_000, 5],
        [699_000, 1000],
      ],
    ],
  ] as const)('several of a %s value come as multipart/byteranges', async (name, bytes, ranges) => {
    await put(`/b/${name}`, bytes, { 'content-type': 'text/plain' })
    const range = `bytes=${ranges.map(([offset, length]) => `${offset}-${offset + length - 1}`).join(', ')}`
    const answer = await ask(`GET /b/${name}`, { headers: { range } })
    expect(answer.status).toBe(206)
    expect(answer.headers['content-length']).toBe(String(answer.body.length))
    const boundary = /^multipart\/byteranges; boundary=(.+)$/.exec(String(answer.headers['content-type']))?.[1] ?? ''
    const parts = answer.body.toString('latin1').split(`--${boundary}`)
    expect(parts).toHaveLength(ranges.length + 2)
    expect([parts[0], parts.at(-1)]).toEqual(['', '--\r\n'])
    ranges.forEach(([offset, length], index) => {
      const told = `bytes ${offset}-${offset + length - 1}/${bytes.length}`
      const body = bytes.subarray(offset, offset + length).toString('latin1')
      expect(parts[index + 1] === `\r\nContent-Type: text/plain\r\nContent-Range: ${told}\r\n\r\n${body}\r\n`).toBe(
        true,
      )
    })
  })

  it('that meet are one', async () => {
    await put('/b/a', 'abcdefghij')
    const answer = await ask('GET /b/a', { headers: { range: 'bytes=0-3,2-5' } })
    expect(answer).toMatchObject({ status: 206, text: 'abcdef' })
    expect(answer.headers['content-range']).toBe('bytes 0-5/10')
  })

  it('outside, or too many, are refused with the size', async () => {
    await put('/b/a', 'abcdefghij')
    const many = Array.from({ length: 17 }, () => '0-0').join(',')
    for (const range of ['bytes=10-', `bytes=${many}`]) {
      const answer = await ask('GET /b/a', { headers: { range } })
      expect(answer).toMatchObject({ status: 416 })
      expect(answer.headers).toMatchObject({ 'x-tidegate-error': 'InvalidRange', 'content-range': 'bytes */10' })
    }
  })

  it('count only while If-Range holds', async () => {
    const { headers } = await put('/b/a', 'abcdefghij')
    const range = 'bytes=0-0'
    expect((await ask('GET /b/a', { headers: { range, 'if-range': String(headers.etag) } })).status).toBe(206)
    expect((await ask('GET /b/a', { headers: { range, 'if-range': '"other"' } })).status).toBe(200)
  })
})

describe('parameters', () => {
  it('give a value a time to live', async () => {
    const written = await put('/b/a?ttl=0.5', 'x')
    expect(written.headers['x-tidegate-expires']).toBe('2023-11-14T22:13:20.500Z')
    expect((await ask('GET /b/a')).headers['x-tidegate-expires']).toBe('2023-11-14T22:13:20.500Z')
    expect((await put('/b/a', 'x')).headers['x-tidegate-expires']).toBeUndefined()
  })

  it('pin a value', async () => {
    expect((await put('/b/large?pin=300', LARGE)).headers['x-tidegate-pinned']).toBe(String(LARGE.length))
    expect(kv.store.pins.get('b/large')).toBe(1_700_000_300_000)
    expect((await ask('HEAD /b/large?pin=0')).headers['x-tidegate-pinned']).toBe('0')
    expect(kv.store.pins.has('b/large')).toBe(false)
    expect((await ask('GET /b/large?pin=60')).headers['x-tidegate-pinned']).toBe(String(LARGE.length))
    await put('/b/small', 'x')
    expect((await ask('GET /b/small?pin=60')).headers['x-tidegate-pinned']).toBe('0')
  })

  it.each([
    'PUT /b/a?ttl=0',
    'PUT /b/a?ttl=-1',
    'PUT /b/a?ttl=1e3',
    'PUT /b/a?ttl=',
    'PUT /b/a?ttl=315360001',
    'PUT /b/a?ttl=1&ttl=2',
    'PUT /b/a?pin=86401',
    'PUT /b/a?pin=1.5',
    'PUT /b/a?TTL=1',
    'GET /b/a?ttl=1',
    'GET /b/a?versionId=null',
    'GET /b/a?%zz=1',
    'GET /b/a?X-Amz-Expires=5',
    'DELETE /b/a?pin=1',
  ])('%s is refused, not ignored (C36)', async (line) => {
    await put('/b/a', 'x')
    expect(await outcome(ask(line))).toBe('400 InvalidArgument')
    expect((await ask('GET /b/a')).text).toBe('x')
  })

  it('of a signature are known where there is one', async () => {
    await put('/b/a', 'x')
    expect((await ask('GET /b/a?X-Amz-Signature=abc&X-Amz-Expires=5')).status).toBe(200)
  })

  it('name a durability, or are refused', async () => {
    expect(await outcome(put('/b/a', 'x', { 'x-tidegate-ack': 'journal' }))).toBe('200')
    expect(await outcome(put('/b/a', 'x', { 'x-tidegate-ack': 'maybe' }))).toBe('400 InvalidArgument')
  })
})

describe('DELETE', () => {
  it('says whether there was a value', async () => {
    const { headers } = await put('/b/a', 'x')
    const first = await ask('DELETE /b/a')
    expect(first).toMatchObject({ status: 204, text: '' })
    expect(first.headers['x-tidegate-existed']).toBe('true')
    expect(Number(first.headers['x-tidegate-revision'])).toBeGreaterThan(Number(headers['x-tidegate-revision']))
    expect((await ask('DELETE /b/a')).headers['x-tidegate-existed']).toBe('false')
  })

  it('compares first', async () => {
    const { headers } = await put('/b/a', 'x')
    expect(await outcome(ask('DELETE /b/a', { headers: { 'if-match': '"r1"' } }))).toBe('412 PreconditionFailed')
    expect((await ask('GET /b/a')).text).toBe('x')
    const ifMatch = `"r${String(headers['x-tidegate-revision'])}"`
    expect(await outcome(ask('DELETE /b/a', { headers: { 'if-match': ifMatch } }))).toBe('204')
  })
})

describe('a versioned bucket', () => {
  it('has its versions named', async () => {
    const { objects } = kv.store
    const stored = { ...objects }
    objects.put = async (request) => ({ ...(await stored.put(request)), versionId: 'v1' })
    objects.head = async (...asked) => ({ ...(await stored.head(...asked)), versionId: 'v1' })
    objects.delete = () => Promise.resolve({ versionId: 'v2', deleteMarker: true, existed: true, revision: 99 })
    expect((await put('/b/a', 'x')).headers['x-tidegate-version-id']).toBe('v1')
    expect((await ask('GET /b/a')).headers['x-tidegate-version-id']).toBe('v1')
    expect((await ask('DELETE /b/a')).headers).toMatchObject({
      'x-tidegate-version-id': 'v2',
      'x-tidegate-revision': '99',
    })
  })
})
