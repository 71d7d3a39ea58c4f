import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseXml, type XmlElement } from '../../../../src/gateway/s3/xml/parse.ts'
import { errorCode, send, startHarness, type Answer, type Harness, type Sent } from './door-harness.ts'

let harness: Harness

function ask(line: string, sent: Sent = {}): Promise<Answer> {
  return send(harness.port, line, sent)
}

beforeAll(async () => {
  harness = await startHarness({ region: 'eu-west-1' })
  await ask('PUT /lst')
  for (const key of ['a', 'd/1', 'd/2', 'e+f%20g', 'n%0An', 'z']) await ask(`PUT /lst/${key}`, { body: key })
})

afterAll(async () => {
  expect(harness.bugs).toEqual([])
  await harness.stop()
})

async function listing(query: string): Promise<XmlElement> {
  const answer = await ask(`GET /lst?${query}`)
  expect(answer.status, answer.text).toBe(200)
  return parseXml(answer.text)
}

function texts(root: XmlElement, path: string): string[] {
  let level = [root]
  for (const name of path.split('.')) level = level.flatMap((at) => at.children.filter((c) => c.name === name))
  return level.map((at) => at.text)
}

describe('ListObjects', () => {
  it('shows keys with owner, marker and NextMarker only with a delimiter', async () => {
    const all = await listing('')
    expect(texts(all, 'Contents.Key')).toEqual(['a', 'd/1', 'd/2', 'e+f g', 'n\nn', 'z'])
    expect(texts(all, 'Contents.Owner.DisplayName')[0]).toBe('name of alice')
    expect(texts(all, 'Contents.ETag')[0]).toMatch(/^"[0-9a-f]{32}"$/)
    expect([texts(all, 'Delimiter'), texts(all, 'Marker'), texts(all, 'MaxKeys')]).toEqual([[], [''], ['1000']])
    const page = await listing('delimiter=/&max-keys=2')
    expect([texts(page, 'Contents.Key'), texts(page, 'CommonPrefixes.Prefix')]).toEqual([['a'], ['d/']])
    expect([texts(page, 'NextMarker'), texts(page, 'IsTruncated')]).toEqual([['d/'], ['true']])
    const next = await listing('delimiter=/&marker=d/')
    expect(texts(next, 'Contents.Key')).toEqual(['e+f g', 'n\nn', 'z'])
    expect(texts(await listing('max-keys=2'), 'NextMarker')).toEqual([])
  })

  it('encodes keys but not its Prefix, as botocore expects', async () => {
    const encoded = await listing('encoding-type=url&prefix=e%2B')
    expect(texts(encoded, 'Contents.Key')).toEqual(['e%2Bf%20g'])
    expect([texts(encoded, 'Prefix'), texts(encoded, 'EncodingType')]).toEqual([['e+'], ['url']])
    expect(errorCode(await ask('GET /lst?encoding-type=x'))).toBe('InvalidArgument')
  })

  it('takes max-keys as AWS does', async () => {
    const none = await listing('max-keys=0')
    expect([texts(none, 'Contents'), texts(none, 'IsTruncated'), texts(none, 'MaxKeys')]).toEqual([
      [],
      ['false'],
      ['0'],
    ])
    expect(texts(await listing('max-keys=5000'), 'MaxKeys')).toEqual(['1000'])
    for (const value of ['blah', '-1', '1.5', '2147483648']) {
      expect(errorCode(await ask(`GET /lst?max-keys=${value}`))).toBe('InvalidArgument')
    }
    expect(errorCode(await ask('GET /other?max-keys=0'))).toBe('NoSuchBucket')
  })

  it('is authorised with its prefix and delimiter', async () => {
    harness.asked.length = 0
    await listing('prefix=d/&delimiter=/')
    expect(harness.asked[0]).toMatchObject({
      action: 's3:ListBucket',
      context: { 's3:prefix': 'd/', 's3:delimiter': '/' },
    })
  })
})

describe('ListObjectsV2', () => {
  it('pages by opaque tokens and echoes what it was given', async () => {
    const first = await listing('list-type=2&max-keys=1&start-after=a')
    expect([texts(first, 'Contents.Key'), texts(first, 'KeyCount'), texts(first, 'StartAfter')]).toEqual([
      ['d/1'],
      ['1'],
      ['a'],
    ])
    const token = texts(first, 'NextContinuationToken')[0] ?? ''
    const second = await listing(`list-type=2&start-after=a&continuation-token=${token}`)
    expect(texts(second, 'Contents.Key')).toEqual(['d/2', 'e+f g', 'n\nn', 'z'])
    expect([texts(second, 'ContinuationToken'), texts(second, 'IsTruncated')]).toEqual([[token], ['false']])
    expect(texts(await listing('list-type=2&continuation-token='), 'ContinuationToken')).toEqual([''])
    expect(errorCode(await ask('GET /lst?list-type=2&continuation-token=%21'))).toBe('InvalidArgument')
    expect(errorCode(await ask('GET /lst?list-type=3'))).toBe('InvalidArgument')
  })

  it('names owners on demand only', async () => {
    expect(texts(await listing('list-type=2'), 'Contents.Owner')).toEqual([])
    expect(texts(await listing('list-type=2&fetch-owner=true'), 'Contents.Owner.ID')[0]).toBe('alice')
  })
})

describe('ListObjectVersions', () => {
  it('shows the null versions of a bucket that was never versioned', async () => {
    const page = await listing('versions&max-keys=2&prefix=d')
    expect(texts(page, 'Version.Key')).toEqual(['d/1', 'd/2'])
    expect([texts(page, 'Version.VersionId'), texts(page, 'Version.IsLatest')]).toEqual([
      ['null', 'null'],
      ['true', 'true'],
    ])
    expect(errorCode(await ask('GET /lst?versions&version-id-marker=x'))).toBe('InvalidArgument')
  })
})

describe('buckets', () => {
  it('are listed in pages', async () => {
    for (const name of ['pg1', 'pg2']) await ask(`PUT /${name}`)
    const first = parseXml((await ask('GET /?max-buckets=1&prefix=pg')).text)
    expect([texts(first, 'Buckets.Bucket.Name'), texts(first, 'Owner.DisplayName')]).toEqual([
      ['pg1'],
      ['name of alice'],
    ])
    const token = texts(first, 'ContinuationToken')[0] ?? ''
    const second = parseXml((await ask(`GET /?max-buckets=1&prefix=pg&continuation-token=${token}`)).text)
    expect([texts(second, 'Buckets.Bucket.Name'), texts(second, 'ContinuationToken')]).toEqual([['pg2'], []])
  })

  it("shows a stranger's buckets to those who may list them", async () => {
    harness.deny((asked) => asked.action === 's3:ListBucket' && asked.bucket === 'lst')
    const mine = parseXml((await ask('GET /', { headers: { 'x-test-user': 'bob' } })).text)
    expect(texts(mine, 'Buckets.Bucket.Name')).toEqual(['pg1', 'pg2'])
    harness.deny(() => false)
  })

  it('are created in our region, once', async () => {
    const body = (region: string): string =>
      `<CreateBucketConfiguration><LocationConstraint>${region}</LocationConstraint></CreateBucketConfiguration>`
    expect(errorCode(await ask('PUT /loc', { body: body('us-west-2') }))).toBe('IllegalLocationConstraintException')
    expect((await ask('PUT /loc', { body: body('EU') })).headers.location).toBe('/loc')
    expect(errorCode(await ask('PUT /loc'))).toBe('BucketAlreadyOwnedByYou')
    expect(errorCode(await ask('PUT /loc', { headers: { 'x-test-user': 'bob' } }))).toBe('BucketAlreadyExists')
    expect(errorCode(await ask('PUT /lOC'))).toBe('InvalidBucketName')
    expect((await ask('GET /loc?location')).text).toContain('>eu-west-1</LocationConstraint>')
    expect((await ask('HEAD /loc')).headers['x-amz-bucket-region']).toBe('eu-west-1')
    expect((await ask('DELETE /loc')).status).toBe(204)
    expect((await ask('HEAD /loc')).status).toBe(404)
    expect(errorCode(await ask('DELETE /lst'))).toBe('BucketNotEmpty')
  })

  it('tell their versioning', async () => {
    expect(parseXml((await ask('GET /pg1?versioning')).text).children).toEqual([])
    const body = (status: string): string =>
      `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${status}</VersioningConfiguration>`
    expect((await ask('PUT /pg1?versioning', { body: body('<Status>Enabled</Status>') })).status).toBe(200)
    expect((await ask('GET /pg1?versioning')).text).toContain('<Status>Enabled</Status>')
    expect(errorCode(await ask('PUT /pg1?versioning', { body: body('<Status>On</Status>') }))).toBe('MalformedXML')
    const mfa = body('<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>')
    expect(errorCode(await ask('PUT /pg1?versioning', { body: mfa }))).toBe('NotImplemented')
    expect(errorCode(await ask('PUT /pg1?versioning'))).toBe('MissingRequestBodyError')
  })

  it('refuse large and non-UTF-8 documents (lesson 5.1.12)', async () => {
    expect(errorCode(await ask('PUT /pg1?versioning', { body: 'x'.repeat(1024 * 1024 + 1) }))).toBe(
      'MaxMessageLengthExceeded',
    )
    expect(errorCode(await ask('PUT /pg1?versioning', { body: Buffer.from([0x3c, 0xff]) }))).toBe('MalformedXML')
  })
})
