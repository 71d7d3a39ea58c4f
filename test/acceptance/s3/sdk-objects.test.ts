/** Buckets, objects, listings and versions through the AWS SDK with its default settings. */
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  DeleteObjectTaggingCommand,
  GetBucketLocationCommand,
  GetBucketVersioningCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  paginateListObjectsV2,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useGateway } from '../../support/gateway-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'

const Bucket = 'sdk-objects'
const KIB = 1024

const suite = useGateway()
let s3: S3Client

beforeAll(async () => {
  s3 = sdkClient(suite.gateway)
  await suite.makeBucket(Bucket)
})
afterAll(() => s3.destroy())

async function bytesOf(
  Key: string,
  options: { Range?: string; VersionId?: string; bucket?: string } = {},
): Promise<Buffer> {
  const { bucket = Bucket, ...rest } = options
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key, ...rest }))
  return Buffer.from((await Body?.transformToByteArray()) ?? [])
}

/** Every key of a bucket, three or so a page. */
async function keysOf(bucket: string, query: { Prefix?: string; Delimiter?: string } = {}): Promise<string[]> {
  const keys: string[] = []
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 3 }, { Bucket: bucket, ...query })) {
    for (const { Key } of page.Contents ?? []) keys.push(Key ?? '')
    for (const { Prefix } of page.CommonPrefixes ?? []) keys.push(`${Prefix}*`)
  }
  return keys
}

const bytewise = (left: string, right: string): number => Buffer.compare(Buffer.from(left), Buffer.from(right))

/** Attached buckets are made by attaching, and keep no versions: for them there are fewer tests. */
const describeOfOwn = suite.isAttached ? () => undefined : describe

describeOfOwn('buckets', () => {
  it('come and go', async () => {
    await s3.send(new CreateBucketCommand({ Bucket: 'sdk-short-lived' }))
    await s3.send(new HeadBucketCommand({ Bucket: 'sdk-short-lived' }))
    const { Buckets } = await s3.send(new ListBucketsCommand({}))
    expect(Buckets?.map(({ Name }) => Name)).toEqual([Bucket, 'sdk-short-lived'])
    const { LocationConstraint } = await s3.send(new GetBucketLocationCommand({ Bucket }))
    expect(LocationConstraint ?? '').toBe('')
    await s3.send(new DeleteBucketCommand({ Bucket: 'sdk-short-lived' }))
    expect(await refusalOf(s3.send(new HeadBucketCommand({ Bucket: 'sdk-short-lived' })))).toMatch(/^404/)
  })

  it('are not deleted while they hold anything', async () => {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'holds', Body: 'x' }))
    expect(await refusalOf(s3.send(new DeleteBucketCommand({ Bucket })))).toBe('409 BucketNotEmpty')
  })
})

describe('objects', () => {
  const sizes = [0, 1, 4 * KIB, 4 * KIB + 1, 64 * KIB, 256 * KIB + 1, KIB * KIB, 8 * KIB * KIB + 7]
  it.each(sizes)('of %d bytes come back as they went, with the checksum that the SDK sent', async (size) => {
    const body = randomBytes(size)
    const Key = `size/${size}`
    const put = await s3.send(new PutObjectCommand({ Bucket, Key, Body: body }))
    expect(put.ETag).toBe(`"${createHash('md5').update(body).digest('hex')}"`)
    expect(put.ChecksumCRC32).toBeDefined()
    expect((await bytesOf(Key)).equals(body)).toBe(true)
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
    expect(head).toMatchObject({ ContentLength: size, ChecksumCRC32: put.ChecksumCRC32, ETag: put.ETag })
  })

  it('come in as streams with a trailing checksum (aws-chunked)', async () => {
    const body = randomBytes(3 * KIB * KIB + 11)
    const pieces = Array.from({ length: 100 }, (_, index) => body.subarray(index * 40_000, (index + 1) * 40_000))
    await s3.send(
      new PutObjectCommand({
        Bucket,
        Key: 'stream',
        Body: Readable.from(pieces),
        ContentLength: body.length,
        ContentEncoding: 'gzip',
      }),
    )
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'stream', ChecksumMode: 'ENABLED' }))
    expect(head.ContentEncoding).toBe('gzip')
    expect(head.ChecksumCRC32).toBeDefined()
    expect((await bytesOf('stream')).equals(body)).toBe(true)
  })

  it('have any byte range', async () => {
    const body = randomBytes(2 * KIB * KIB + 5)
    await s3.send(new PutObjectCommand({ Bucket, Key: 'ranges', Body: body }))
    const ranges: readonly (readonly [string, number, number])[] = [
      ['bytes=0-0', 0, 1],
      ['bytes=65535-65536', 65_535, 65_537],
      ['bytes=1048570-1048590', 1_048_570, 1_048_591],
      ['bytes=-7', body.length - 7, body.length],
      ['bytes=2097150-', 2_097_150, body.length],
      ['bytes=5-99999999', 5, body.length],
    ]
    for (const [Range, from, to] of ranges)
      expect((await bytesOf('ranges', { Range })).equals(body.subarray(from, to)), Range).toBe(true)
    expect(await refusalOf(bytesOf('ranges', { Range: 'bytes=9999999-' }))).toBe('416 InvalidRange')
  })

  it('carry their headers and metadata, non-ASCII too', async () => {
    const sent = {
      ContentType: 'text/x-odd; charset=utf-8',
      CacheControl: 'max-age=60',
      ContentDisposition: 'attachment; filename="a b.txt"',
      ContentLanguage: 'de',
      Metadata: { plain: 'value', spaced: 'a  b', percent: '%41+%' },
    }
    await s3.send(new PutObjectCommand({ Bucket, Key: 'headers', Body: 'x', ...sent }))
    expect(await s3.send(new HeadObjectCommand({ Bucket, Key: 'headers' }))).toMatchObject(sent)
    // Node sends header values as ISO-8859-1; what S3 returns is Latin-1 or an RFC 2047 word.
    await s3.send(new PutObjectCommand({ Bucket, Key: 'umlaut', Body: 'x', Metadata: { name: 'Grüße' } }))
    const { Metadata } = await s3.send(new HeadObjectCommand({ Bucket, Key: 'umlaut' }))
    expect(Metadata?.['name']).toMatch(/^(?:Grüße|=\?UTF-8\?[BQ]\?.*\?=)$/i)
  })

  it('answer conditions', async () => {
    const { ETag } = await s3.send(new PutObjectCommand({ Bucket, Key: 'conditions', Body: 'one' }))
    const get = (condition: object): Promise<string> =>
      refusalOf(
        s3
          .send(new GetObjectCommand({ Bucket, Key: 'conditions', ...condition }))
          .then(({ Body }) => Body?.transformToString()),
      )
    expect(await get({ IfMatch: ETag })).toBe('200')
    expect(await get({ IfMatch: '"other"' })).toBe('412 PreconditionFailed')
    expect(await get({ IfNoneMatch: ETag })).toMatch(/^304/)
    expect(await get({ IfModifiedSince: new Date(0) })).toBe('200')
    expect(await get({ IfModifiedSince: new Date(Date.now() + 60_000) })).toMatch(/^304/)
    expect(await get({ IfUnmodifiedSince: new Date(0) })).toBe('412 PreconditionFailed')
    const put = (condition: object, Key = 'conditions'): Promise<string> =>
      refusalOf(s3.send(new PutObjectCommand({ Bucket, Key, Body: 'two', ...condition })))
    expect(await put({ IfNoneMatch: '*' })).toBe('412 PreconditionFailed')
    expect(await put({ IfMatch: '"other"' })).toBe('412 PreconditionFailed')
    expect(await put({ IfMatch: ETag }, 'conditions-absent')).toBe('404 NoSuchKey')
    expect(await put({ IfNoneMatch: '*' }, 'conditions-new')).toBe('200')
    expect(await put({ IfMatch: ETag })).toBe('200')
    const remove = (condition: object): Promise<string> =>
      refusalOf(s3.send(new DeleteObjectCommand({ Bucket, Key: 'conditions', ...condition })))
    expect(await remove({ IfMatch: ETag })).toBe('412 PreconditionFailed')
    expect(await remove({ IfMatch: '*' })).toBe('200')
  })

  it('let exactly one of many conditional writers win', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 16 }, (_, index) =>
        refusalOf(s3.send(new PutObjectCommand({ Bucket, Key: 'race', Body: `writer ${index}`, IfNoneMatch: '*' }))),
      ),
    )
    expect(outcomes.filter((outcome) => outcome === '200')).toHaveLength(1)
    expect(new Set(outcomes.filter((outcome) => outcome !== '200'))).toEqual(new Set(['412 PreconditionFailed']))
  })

  it('are copied, with or without new metadata, onto themselves too', async () => {
    const body = randomBytes(300 * KIB)
    await s3.send(new PutObjectCommand({ Bucket, Key: 'source +%', Body: body, Metadata: { of: 'source' } }))
    const CopySource = `${Bucket}/${encodeURIComponent('source +%')}`
    await s3.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource }))
    expect((await bytesOf('copy')).equals(body)).toBe(true)
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'copy' }))
    expect(head.Metadata).toEqual({ of: 'source' })
    expect(await refusalOf(s3.send(new CopyObjectCommand({ Bucket, Key: 'source +%', CopySource })))).toBe(
      '400 InvalidRequest',
    )
    const replaced = { MetadataDirective: 'REPLACE', Metadata: { of: 'copy' } } as const
    await s3.send(new CopyObjectCommand({ Bucket, Key: 'source +%', CopySource, ...replaced }))
    expect((await s3.send(new HeadObjectCommand({ Bucket, Key: 'source +%' }))).Metadata).toEqual({ of: 'copy' })
    const unmatched = { CopySourceIfMatch: '"other"' }
    expect(await refusalOf(s3.send(new CopyObjectCommand({ Bucket, Key: 'x', CopySource, ...unmatched })))).toBe(
      '412 PreconditionFailed',
    )
  })

  it('have tags and attributes', async () => {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'tagged', Body: 'x', Tagging: 'a=1&b=%20two' }))
    const tags = async (): Promise<unknown> =>
      (await s3.send(new GetObjectTaggingCommand({ Bucket, Key: 'tagged' }))).TagSet
    expect(await tags()).toEqual([
      { Key: 'a', Value: '1' },
      { Key: 'b', Value: ' two' },
    ])
    const TagSet = [{ Key: 'ü', Value: '=+-@' }]
    await s3.send(new PutObjectTaggingCommand({ Bucket, Key: 'tagged', Tagging: { TagSet } }))
    expect(await tags()).toEqual(TagSet)
    await s3.send(new DeleteObjectTaggingCommand({ Bucket, Key: 'tagged' }))
    expect(await tags()).toEqual([])
    const ObjectAttributes = ['ETag', 'Checksum', 'ObjectSize', 'StorageClass'] as const
    const attributes = await s3.send(
      new GetObjectAttributesCommand({ Bucket, Key: 'tagged', ObjectAttributes: [...ObjectAttributes] }),
    )
    expect(attributes).toMatchObject({ ObjectSize: 1, ETag: createHash('md5').update('x').digest('hex') })
    expect(attributes.Checksum?.ChecksumCRC32).toBeDefined()
  })

  it('go through presigned URLs', async () => {
    const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: 'presigned ü+' }), { expiresIn: 60 })
    expect((await fetch(put, { method: 'PUT', body: 'by URL' })).status).toBe(200)
    const get = await getSignedUrl(
      s3,
      new GetObjectCommand({ Bucket, Key: 'presigned ü+', ResponseContentType: 'text/x-mine' }),
      { expiresIn: 60 },
    )
    const response = await fetch(get)
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/x-mine',
      'by URL',
    ])
    expect((await fetch(get.replace('x-mine', 'x-other'))).status).toBe(403)
  })

  it.each(['memory', 'journal', 'persisted'])(
    'are written at the level of x-tidegate-ack: %s (C15, C16)',
    async (level) => {
      const command = new PutObjectCommand({ Bucket, Key: `ack-${level}`, Body: level })
      command.middlewareStack.add(
        (next) => (args) => {
          ;(args.request as { headers: Record<string, string> }).headers['x-tidegate-ack'] = level
          return next(args)
        },
        { step: 'build' },
      )
      await s3.send(command)
      expect((await bytesOf(`ack-${level}`)).toString()).toBe(level)
    },
  )
})

describe('listings', () => {
  const odd = [
    'a',
    'a/',
    'a//b',
    'a-b',
    'a/x',
    'a/x/y',
    '/x',
    '//',
    'plus+',
    'per%cent',
    'sp ace',
    'ä',
    '日本/語',
    '👋',
    '\uFB00',
    '&<>"\'',
    '..',
    './.',
    'b/c/d',
  ]
  const listed = 'sdk-listings'

  beforeAll(async () => {
    await suite.makeBucket(listed)
    await Promise.all(odd.map((Key) => s3.send(new PutObjectCommand({ Bucket: listed, Key, Body: Key }))))
  })

  it('hold every odd key in the order of its UTF-8 bytes, page by page', async () => {
    expect(await keysOf(listed)).toEqual([...odd].sort(bytewise))
    for (const key of odd) expect((await bytesOf(key, { bucket: listed })).toString(), key).toBe(key)
  })

  it('roll up at the delimiter', async () => {
    const rolled = new Set(odd.map((key) => (key.includes('/') ? `${key.slice(0, key.indexOf('/') + 1)}*` : key)))
    const names = await keysOf(listed, { Delimiter: '/' })
    expect(new Set(names)).toEqual(rolled)
    expect(names).toHaveLength(rolled.size)
    const below = await keysOf(listed, { Prefix: 'a/', Delimiter: '/' })
    expect(new Set(below)).toEqual(new Set(['a/', 'a//*', 'a/x', 'a/x/*']))
  })

  it('are the same in the first version', async () => {
    const keys: string[] = []
    let Marker: string | undefined
    do {
      const page = await s3.send(
        new ListObjectsCommand({ Bucket: listed, MaxKeys: 4, ...(Marker === undefined ? {} : { Marker }) }),
      )
      for (const { Key } of page.Contents ?? []) keys.push(Key ?? '')
      Marker = page.IsTruncated === true ? (page.NextMarker ?? keys.at(-1)) : undefined
    } while (Marker !== undefined)
    expect(keys).toEqual([...odd].sort(bytewise))
  })

  it('start after a key that need not exist, and show the owner when asked', async () => {
    const page = await s3.send(
      new ListObjectsV2Command({ Bucket: listed, StartAfter: 'a/w', FetchOwner: true, MaxKeys: 2 }),
    )
    expect(page.Contents?.map(({ Key }) => Key)).toEqual(['a/x', 'a/x/y'])
    expect(page.Contents?.[0]?.Owner?.ID).toBeTruthy()
    expect(page).toMatchObject({ KeyCount: 2, IsTruncated: true })
  })

  it('are emptied by DeleteObjects of 1,000 keys', async () => {
    const many = 'sdk-thousand'
    await suite.makeBucket(many)
    const keys = Array.from({ length: 1_000 }, (_, index) => `many/${index % 10}/${index}`)
    for (let at = 0; at < keys.length; at += 50)
      await Promise.all(
        keys.slice(at, at + 50).map((Key) => s3.send(new PutObjectCommand({ Bucket: many, Key, Body: Key }))),
      )
    const Objects = keys.map((Key) => ({ Key }))
    const answer = await s3.send(new DeleteObjectsCommand({ Bucket: many, Delete: { Objects } }))
    expect(answer.Errors ?? []).toEqual([])
    expect(answer.Deleted).toHaveLength(1_000)
    expect(await keysOf(many)).toEqual([])
    if (!suite.isAttached) await s3.send(new DeleteBucketCommand({ Bucket: many }))
  })
})

describeOfOwn('versions', () => {
  const versioned = 'sdk-versions'

  it('are kept, listed, read, hidden by markers and deleted one by one', async () => {
    await s3.send(new CreateBucketCommand({ Bucket: versioned }))
    const on = { Bucket: versioned, VersioningConfiguration: { Status: 'Enabled' } } as const
    await s3.send(new PutObjectCommand({ Bucket: versioned, Key: 'k', Body: 'before' }))
    await s3.send(new PutBucketVersioningCommand(on))
    expect((await s3.send(new GetBucketVersioningCommand({ Bucket: versioned }))).Status).toBe('Enabled')
    const ids: string[] = []
    for (const Body of ['one', 'two'])
      ids.push((await s3.send(new PutObjectCommand({ Bucket: versioned, Key: 'k', Body }))).VersionId ?? '')
    const marker = await s3.send(new DeleteObjectCommand({ Bucket: versioned, Key: 'k' }))
    expect(marker.DeleteMarker).toBe(true)
    expect(await refusalOf(bytesOf('k', { bucket: versioned }))).toBe('404 NoSuchKey')
    const list = await s3.send(new ListObjectVersionsCommand({ Bucket: versioned }))
    expect(list.Versions?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest])).toEqual([
      [ids[1], false],
      [ids[0], false],
      ['null', false],
    ])
    expect(list.DeleteMarkers?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest])).toEqual([
      [marker.VersionId, true],
    ])
    expect((await bytesOf('k', { bucket: versioned, VersionId: ids[0] ?? '' })).toString()).toBe('one')
    expect((await bytesOf('k', { bucket: versioned, VersionId: 'null' })).toString()).toBe('before')
    await s3.send(new DeleteObjectCommand({ Bucket: versioned, Key: 'k', VersionId: marker.VersionId }))
    expect((await bytesOf('k', { bucket: versioned })).toString()).toBe('two')
    expect(await refusalOf(s3.send(new DeleteBucketCommand({ Bucket: versioned })))).toBe('409 BucketNotEmpty')
    const Objects = [...ids, 'null'].map((VersionId) => ({ Key: 'k', VersionId }))
    await s3.send(new DeleteObjectsCommand({ Bucket: versioned, Delete: { Objects, Quiet: true } }))
    await s3.send(new DeleteBucketCommand({ Bucket: versioned }))
  })
})
